/* The main job, the queue, cancels, what viewers see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    static const char *const extra[] = {"--cancel-timeout-ms", "1000", "--quiet-ms", "300", NULL};
    stack = stack_start(extra);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

static void a_prompt_is_answered_and_the_log_tells_all(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    uint64_t turn = send_prompt(stack, id, "hello world, this is long enough for several chunks");
    struct viewer *v = viewer_open(stack, id);
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_END_TURN);
    assert_true(end->agent_json.len > 0);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "You said: hello world, this is long enough for several chunks\n");
    assert_true(viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK) > 3);
    const Event *accepted = viewer_until(v, 0, EVENT__KIND_PROMPT_ACCEPTED, turn);
    assert_string_equal(accepted->prompt_accepted->author, "tester");
    assert_true(viewer_until(v, 0, EVENT__KIND_TURN_STARTED, turn)->seq < end->seq);
    viewer_state(v, end->seq, SESSION_STATE_IDLE);
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->state, SESSION_STATE_IDLE);
    assert_int_equal(res->session->head_seq, v->n);
    assert_int_equal(res->session->last_turn, turn);
    assert_string_equal(res->session->mode_id, "ask");
    assert_string_equal(res->session->creator, "tester");
    assert_true(*res->session->agent_session_id && *res->session->process_id);
    rpc_message_free(res);
    viewer_close(v);
}

static void early_and_late_viewers_end_with_the_same_bytes(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *early = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "BURST 3000");
    viewer_turn_end(early, turn);
    struct viewer *late = viewer_open(stack, id);
    viewer_turn_end(late, turn);
    while (late->n < early->n)
        viewer_next(late);
    while (early->n < late->n)
        viewer_next(early);
    cleanup_buf struct sa_buf a = viewer_bytes(early), b = viewer_bytes(late);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    assert_int_equal(viewer_count(early, EVENT__KIND_AGENT_MESSAGE_CHUNK), 3000);

    /* Pages tell the same. */
    cleanup_buf struct sa_buf c = {0};
    for (uint64_t after = 0, head = 1; after < head;) {
        ListEventsRequest req = LIST_EVENTS_REQUEST__INIT;
        req.session_id = id;
        req.after_seq = after;
        req.page_size = 700;
        ListEventsResponse *page = list_events_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(page);
        assert_true(page->n_events > 0);
        head = page->head_seq;
        after = page->events[page->n_events - 1]->seq;
        for (size_t i = 0; i < page->n_events; i++)
            c.len +=
                event__pack(page->events[i], sa_buf_reserve(&c, event__get_packed_size(page->events[i])));
        rpc_message_free(page);
    }
    assert_int_equal(a.len, c.len);
    assert_memory_equal(a.data, c.data, a.len);
    viewer_close(early);
    viewer_close(late);
}

static void run_prompt_follows_its_turn_to_the_end_and_no_further(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char[]){"TICK 20"};
    RunPromptRequest req = RUN_PROMPT_REQUEST__INIT;
    req.session_id = id;
    req.content = blocks;
    req.n_content = 1;
    req.request_id = (char[]){"run-1"};
    uint64_t first = 0, last = 0;
    for (int again = 0; again < 2; again++) { /* the second call finds the same turn, over already */
        struct rpc_stream *s = run_prompt_begin(stack->caller.channel, &req, NULL);
        RunPromptResponse *m = NULL;
        Event__KindCase kind = EVENT__KIND__NOT_SET;
        uint64_t seq = 0;
        while (run_prompt_next(s, &m, NULL) == 1) {
            assert_int_equal(m->turn, 1);
            for (size_t i = 0; i < m->n_events; i++) {
                assert_true(!seq || m->events[i]->seq == seq + 1);
                if (!seq) {
                    assert_int_equal(m->events[i]->kind_case, EVENT__KIND_PROMPT_ACCEPTED);
                    assert_true(!again || m->events[i]->seq == first);
                    first = m->events[i]->seq;
                }
                seq = m->events[i]->seq;
                kind = m->events[i]->kind_case;
            }
            rpc_message_free(m);
        }
        assert_int_equal(kind, EVENT__KIND_TURN_ENDED);
        assert_true(!again || seq == last);
        last = seq;
        rpc_stream_free(s);
    }
}

static void prompts_wait_for_their_turn_and_a_waiting_one_can_be_withdrawn(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t first = send_prompt(stack, id, "HANG"), second = send_prompt(stack, id, "second");
    uint64_t third = send_prompt(stack, id, "third");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, first);
    cancel_turn(stack, id, second);
    const Event *withdrawn = viewer_turn_end(v, second);
    assert_int_equal(withdrawn->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    cancel_turn(stack, id, 0);
    assert_int_equal(viewer_turn_end(v, first)->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    assert_int_equal(viewer_turn_end(v, third)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    assert_true(viewer_turn_end(v, first)->seq < viewer_until(v, 0, EVENT__KIND_TURN_STARTED, third)->seq);
    for (size_t i = 0; i < v->n; i++)
        assert_false(v->events[i]->kind_case == EVENT__KIND_TURN_STARTED && v->events[i]->turn == second);
    assert_string_equal(try_cancel(stack, id, 0).text, "NO_TURN_RUNNING");
    assert_string_equal(try_cancel(stack, id, third).text, "NO_TURN_RUNNING");
    assert_string_equal(try_cancel(stack, id, 99).text, "TURN_NOT_FOUND");
    viewer_close(v);
}

static void the_queue_has_a_limit(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    send_prompt(stack, id, "HANG");
    viewer_until(v, 0, EVENT__KIND_TURN_STARTED, 1);
    for (int i = 0; i < 100; i++)
        send_prompt(stack, id, "x");
    assert_string_equal(try_prompt(stack, id, "one too many", "", NULL).text, "TOO_MANY");
    destroy_session(stack, id);
    viewer_turn_end(v, 101); /* each one ends with a reason */
    assert_int_equal(viewer_count(v, EVENT__KIND_TURN_ENDED), 101);
    viewer_close(v);
}

static void a_retried_prompt_runs_once(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = 0;
    for (int i = 0; i < 3; i++) {
        assert_string_equal(try_prompt(stack, id, "once please", "key-1", &turn).text, "");
        assert_int_equal(turn, 1);
    }
    viewer_turn_end(v, 1);
    assert_string_equal(try_prompt(stack, id, "once please", "key-1", &turn).text, "");
    assert_int_equal(turn, 1);
    assert_string_equal(try_prompt(stack, id, "something else", "key-1", &turn).text, "REQUEST_ID_REUSED");
    assert_int_equal(send_prompt(stack, id, "next"), 2);
    viewer_turn_end(v, 2);
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(agent_remembers(stack, res->session->agent_session_id, "once please"),
                     2); /* said, echoed */
    rpc_message_free(res);
    viewer_close(v);
}

static void a_retried_creation_makes_one_session(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"mock"};
    req.request_id = (char[]){"create-1"};
    cleanup_free char *a = NULL, *b = NULL;
    assert_string_equal(try_create(stack, &req, &a).text, "");
    assert_string_equal(try_create(stack, &req, &b).text, "");
    assert_string_equal(a, b);
    req.mode_id = (char[]){"auto"};
    assert_string_equal(try_create(stack, &req, NULL).text, "REQUEST_ID_REUSED");
}

static void an_agent_that_ignores_a_cancel_is_killed_with_its_children(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "CHILD\nIGNORECANCEL");
    viewer_until(v, 0, EVENT__KIND_AGENT_MESSAGE_CHUNK, turn);
    cleanup_free char *text = viewer_text(v, turn);
    int child = 0;
    assert_int_equal(sscanf(text, "child: %d", &child), 1);
    cancel_turn(stack, id, turn);
    const Event *end = viewer_turn_end(v, turn);
    assert_int_equal(end->turn_ended->stop_reason, STOP_REASON_CANCELLED);
    assert_string_equal(end->turn_ended->error_reason, "AGENT_TIMEOUT");
    const Event *suspended = viewer_state(v, end->seq, SESSION_STATE_SUSPENDED);
    assert_string_equal(suspended->state_changed->reason, "AGENT_TIMEOUT");
    /* The next prompt starts it again; by then nothing of the old one is left. */
    turn = send_prompt(stack, id, "still there?");
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    assert_int_equal(viewer_until(v, 0, EVENT__KIND_RESTORED, 0)->restored->method, RESTORE_METHOD_RESUME);
    destroy_session(stack, id);
    assert_int_equal(kill(child, 0), -1);
    viewer_close(v);
}

static void silence_is_told_and_harms_nothing(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "SLOW 700\nafter");
    const Event *quiet = viewer_until(v, 0, EVENT__KIND_QUIET, turn);
    assert_true(quiet->quiet->silent_ms >= 300);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    assert_int_equal(viewer_count(v, EVENT__KIND_QUIET), 1);
    viewer_close(v);
}

static void every_kind_of_update_arrives_typed_and_raw(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn =
        send_prompt(stack, id,
                    "THINK deep\nPLAN do it\nMODE auto\nUSAGE 42\nWRITE /tmp/ignored/x y\nNOTIFY _my/note\n"
                    "ASK craft/unknown\nSTDERR to the log\nGARBAGE\nLATE see you\nSTOP max_tokens");
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_MAX_TOKENS);
    const Event *thought = viewer_until(v, 0, EVENT__KIND_AGENT_THOUGHT_CHUNK, turn);
    assert_string_equal(thought->agent_thought_chunk->content->text, "deep");
    assert_non_null(memmem(thought->agent_json.data, thought->agent_json.len, "agent_thought_chunk", 19));
    assert_int_equal(thought->protocol_version, 1);
    assert_string_equal(viewer_until(v, 0, EVENT__KIND_PLAN, turn)->plan->entries[0]->content, "do it");
    assert_string_equal(viewer_until(v, 0, EVENT__KIND_MODE_CHANGED, turn)->mode_changed->mode_id, "auto");
    const Event *usage = viewer_until(v, 0, EVENT__KIND_USAGE, turn);
    assert_int_equal(usage->usage->used_tokens, 42);
    assert_true(usage->usage->cost > 0.24 && usage->usage->cost < 0.26);
    assert_string_equal(viewer_until(v, 0, EVENT__KIND_TOOL_CALL, turn)->tool_call->tool_call_id, "call-1");
    viewer_until(v, 0, EVENT__KIND_TOOL_CALL_UPDATE, turn);
    const Event *note = viewer_until(v, 0, EVENT__KIND_UNKNOWN, turn);
    assert_string_equal(note->unknown->name, "_my/note");
    assert_non_null(memmem(note->agent_json.data, note->agent_json.len, "12345678901234567890", 20));
    cleanup_free char *text = viewer_text(v, turn);
    assert_non_null(strstr(text, "error: -32601")); /* what nobody knows is answered at once */
    for (size_t at = 0, seen = 0; seen != 3;) {     /* both streams outside the protocol */
        const Event *log = viewer_until(v, at, EVENT__KIND_AGENT_LOG, 0);
        at = log->seq;
        seen |= log->agent_log->stream;
    }
    const Event *late = viewer_until(v, viewer_turn_end(v, turn)->seq, EVENT__KIND_AGENT_MESSAGE_CHUNK, 0);
    assert_string_equal(late->agent_message_chunk->content->text, "see you");
    viewer_close(v);
}

static void a_mode_is_set_before_the_first_prompt(void **state)
{
    (void)state;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"mock"};
    req.mode_id = (char[]){"auto"};
    cleanup_free char *id = NULL, *bad = NULL;
    assert_string_equal(try_create(stack, &req, &id).text, "");
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    GetSessionResponse *res = get_session(stack, id);
    assert_string_equal(res->session->mode_id, "auto");
    rpc_message_free(res);
    viewer_close(v);

    req.mode_id = (char[]){"no such mode"};
    assert_string_equal(try_create(stack, &req, &bad).text, "");
    v = viewer_open(stack, bad);
    viewer_state(v, 0, SESSION_STATE_IDLE); /* it works in its own */
    assert_non_null(strstr(viewer_until(v, 0, EVENT__KIND_ERROR, 0)->error->message, "no such mode"));
    viewer_close(v);
}

static void streams_start_and_end_where_they_are_told_to(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_turn_end(v, send_prompt(stack, id, "one"));
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    req.session_id = id;
    req.after_seq = 2;
    req.until_head = true;
    struct rpc_stream *s = stream_events_begin(stack->caller.channel, &req, NULL);
    StreamEventsResponse *m = NULL;
    assert_int_equal(stream_events_next(s, &m, NULL), 1);
    assert_int_equal(m->kind_case, STREAM_EVENTS_RESPONSE__KIND_OPENED);
    assert_int_equal(m->opened->first_seq, 1);
    uint64_t head = m->opened->head_seq;
    assert_int_equal(strlen(m->opened->epoch), 16);
    rpc_message_free(m);
    assert_int_equal(stream_events_next(s, &m, NULL), 1);
    assert_int_equal(m->batch->prev_seq, 2);
    assert_int_equal(m->batch->events[m->batch->n_events - 1]->seq, head);
    rpc_message_free(m);
    assert_int_equal(stream_events_next(s, &m, NULL), 1);
    assert_string_equal(m->closed->reason, "HEAD_REACHED");
    rpc_message_free(m);
    assert_int_equal(stream_events_next(s, &m, NULL), 0);
    rpc_stream_free(s);

    req.until_head = false;
    req.after_seq = head + 1000;
    s = stream_events_begin(stack->caller.channel, &req, NULL);
    sa_error *err = NULL;
    assert_int_equal(stream_events_next(s, &m, &err), -1);
    assert_string_equal(err->reason, "SEQ_AHEAD");
    sa_error_free(err);
    rpc_stream_free(s);

    destroy_session(stack, id);
    viewer_state(v, 0, SESSION_STATE_DESTROYED);
    while (stream_events_next(v->stream, &m, NULL) == 1 &&
           m->kind_case != STREAM_EVENTS_RESPONSE__KIND_CLOSED)
        rpc_message_free(m);
    assert_string_equal(m->closed->reason, "SESSION_DESTROYED");
    rpc_message_free(m);
    assert_string_equal(try_prompt(stack, id, "more", "", NULL).text, "SESSION_DESTROYED");
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_answered_and_the_log_tells_all),
        cmocka_unit_test(early_and_late_viewers_end_with_the_same_bytes),
        cmocka_unit_test(run_prompt_follows_its_turn_to_the_end_and_no_further),
        cmocka_unit_test(prompts_wait_for_their_turn_and_a_waiting_one_can_be_withdrawn),
        cmocka_unit_test(the_queue_has_a_limit),
        cmocka_unit_test(a_retried_prompt_runs_once),
        cmocka_unit_test(a_retried_creation_makes_one_session),
        cmocka_unit_test(an_agent_that_ignores_a_cancel_is_killed_with_its_children),
        cmocka_unit_test(silence_is_told_and_harms_nothing),
        cmocka_unit_test(every_kind_of_update_arrives_typed_and_raw),
        cmocka_unit_test(a_mode_is_set_before_the_first_prompt),
        cmocka_unit_test(streams_start_and_end_where_they_are_told_to),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
