/* kill -9 of session-svc and of process-svc in the middle of turns: no event is lost or doubled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* The text that n ticks make. */
static char *ticks(int n)
{
    struct sa_buf b = {0};
    for (int i = 1; i <= n; i++)
        sa_buf_addf(&b, "tick %d\n", i);
    sa_buf_addf(&b, "%s", "");
    char *s = sa_strdup(sa_buf_string(&b));
    sa_buf_fini(&b);
    return s;
}

static unsigned below(unsigned n)
{
    uint32_t r;
    sa_random(&r, sizeof r);
    return r % n;
}

static bool has_ended(const struct viewer *v, uint64_t turn)
{
    for (size_t i = v->n; i-- > 0 && v->n - i < 8;)
        if (v->events[i]->kind_case == EVENT__KIND_TURN_ENDED && v->events[i]->turn == turn)
            return true;
    return false;
}

/* Runs `prompt`, which makes n ticks, and lets `crash` happen when a random number of events was seen. */
static void crash_in_turn(const char *session, const char *prompt, int n, void (*crash)(struct stack *t),
                          int times)
{
    struct viewer *v = viewer_open(stack, session);
    uint64_t turn = send_prompt(stack, session, prompt);
    viewer_until(v, 0, EVENT__KIND_PROMPT_ACCEPTED, turn);
    for (int i = 0; i < times; i++) {
        size_t wait_for = v->n + below((unsigned)n / (unsigned)times + 1);
        while (v->n < wait_for && !has_ended(v, turn))
            viewer_next(v);
        crash(stack);
    }
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_END_TURN);
    cleanup_free char *text = viewer_text(v, turn), *expected = ticks(n);
    assert_string_equal(text, expected);
    viewer_close(v);
}

static void session_svc_dies_in_a_burst(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    for (int i = 0; i < 12; i++)
        crash_in_turn(id, "BURST 5000", 5000, stack_crash_session, 1 + i % 3);
}

static void session_svc_dies_between_ticks(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    for (int i = 0; i < 12; i++)
        crash_in_turn(id, "TICK 60 2", 60, stack_crash_session, 2);
}

static void process_svc_dies_in_a_burst_and_between_ticks(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    for (int i = 0; i < 6; i++) {
        crash_in_turn(id, "BURST 5000", 5000, stack_crash_process, 2);
        crash_in_turn(id, "TICK 60 2", 60, stack_crash_process, 2);
    }
}

static void crash_both(struct stack *t)
{
    stack_crash_process(t);
    stack_crash_session(t);
}

static void both_die(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    for (int i = 0; i < 4; i++)
        crash_in_turn(id, i % 2 ? "BURST 3000" : "TICK 60 2", i % 2 ? 3000 : 60, crash_both, 2);
}

/* At every moment of a session's birth. */
static void session_svc_dies_while_a_session_starts(void **state)
{
    (void)state;
    for (int i = 0; i < 15; i++) {
        cleanup_free char *id = create_session(stack, "mock", NULL);
        uint64_t turn = 0, until = sa_now_ns() + below(6000000);
        struct viewer *v = viewer_open(stack, id);
        if (i % 2)
            turn = send_prompt(stack, id, "hello");
        while (sa_now_ns() < until)
            ;
        stack_crash_session(stack);
        if (!turn)
            turn = send_prompt(stack, id, "hello");
        assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
        cleanup_free char *text = viewer_text(v, turn);
        assert_string_equal(text, "You said: hello\n");
        assert_int_equal(viewer_count(v, EVENT__KIND_RESTORED), 0); /* the one process served all along */
        GetSessionResponse *res = get_session(stack, id);
        assert_int_equal(agent_remembers(stack, res->session->agent_session_id, "user \"hello\""), 1);
        rpc_message_free(res);
        viewer_close(v);
    }
}

static void prompts_in_the_queue_survive_and_each_runs_once(void **state)
{
    (void)state;
    enum { PROMPTS = 20 };
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    for (int i = 1; i <= PROMPTS; i++) {
        char text[64];
        snprintf(text, sizeof text, "TICK 5 2\nprompt number %d.", i);
        send_prompt(stack, id, text);
    }
    for (int i = 0; i < 6; i++) {
        viewer_until(v, 0, EVENT__KIND_TURN_STARTED, (uint64_t)(3 * i + 1));
        stack_crash_session(stack);
    }
    viewer_turn_end(v, PROMPTS);
    GetSessionResponse *res = get_session(stack, id);
    for (int i = 1; i <= PROMPTS; i++) {
        char text[64];
        snprintf(text, sizeof text, "user \"TICK 5 2\\nprompt number %d.\"", i);
        assert_int_equal(agent_remembers(stack, res->session->agent_session_id, text), 1);
        cleanup_free char *said = viewer_text(v, (uint64_t)i);
        char expected[128];
        snprintf(expected, sizeof expected,
                 "tick 1\ntick 2\ntick 3\ntick 4\ntick 5\nYou said: prompt number %d.\n", i);
        assert_string_equal(said, expected);
    }
    rpc_message_free(res);
    viewer_close(v);
}

static void a_pending_permission_survives_and_is_answered_once(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    cleanup_free char *file = sa_format("%s/permitted", stack->home),
                      *prompt = sa_format("PERMISSION %s yes", file);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, prompt);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    stack_crash_session(stack);
    stack_crash_process(stack);
    stack_crash_session(stack);
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->state, SESSION_STATE_WAITING);
    assert_int_equal(res->session->pending_permissions, 1);
    rpc_message_free(res);
    assert_string_equal(try_answer(stack, id, asked->permission_requested->permission_id, "allow").text, "");
    stack_crash_session(stack); /* the answer is committed, and so given once */
    assert_string_equal(try_answer(stack, id, asked->permission_requested->permission_id, "reject").text,
                        "PERMISSION_ALREADY_ANSWERED");
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "permission: allow\n");
    assert_int_equal(viewer_count(v, EVENT__KIND_PERMISSION_REQUESTED), 1);
    assert_int_equal(viewer_count(v, EVENT__KIND_PERMISSION_RESOLVED), 1);
    viewer_close(v);
}

static void a_cancel_survives(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    for (int i = 0; i < 5; i++) {
        uint64_t turn = send_prompt(stack, id, "HANG");
        viewer_until(v, 0, EVENT__KIND_TURN_STARTED, turn);
        cancel_turn(stack, id, turn);
        stack_crash_session(stack);
        assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    }
    viewer_close(v);
}

static void an_agent_that_ends_while_nobody_looks_is_told(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "TICK 3\nSLOW 100\nTICK 2\nEXIT 7");
    viewer_until(v, 0, EVENT__KIND_AGENT_MESSAGE_CHUNK, turn);
    stack_crash_session(stack);
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_AGENT_EXITED);
    assert_non_null(strstr(end->turn_ended->message, "code 7"));
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "tick 1\ntick 2\ntick 3\ntick 1\ntick 2\n");
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_svc_dies_in_a_burst),
        cmocka_unit_test(session_svc_dies_between_ticks),
        cmocka_unit_test(process_svc_dies_in_a_burst_and_between_ticks),
        cmocka_unit_test(both_die),
        cmocka_unit_test(session_svc_dies_while_a_session_starts),
        cmocka_unit_test(prompts_in_the_queue_survive_and_each_runs_once),
        cmocka_unit_test(a_pending_permission_survives_and_is_answered_once),
        cmocka_unit_test(a_cancel_survives),
        cmocka_unit_test(an_agent_that_ends_while_nobody_looks_is_told),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
