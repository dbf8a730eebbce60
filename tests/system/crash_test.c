/* kill -9 of one service in the middle of a turn: whoever watches the turn sees all of it, once, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "tests/harness/harness.h"

enum { TICKS = 60 };
#define PROMPT "TICK 60 30" /* 1.8 s */

static char *new_session(struct caller *c)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    cleanup_error sa_error *err = NULL;
    req.agent = (char *)(uintptr_t) "mock";
    CreateSessionResponse *res = create_session_wait(c->channel, &req, &opt, &err);
    if (!res)
        fail_msg("%s", err->message);
    char *id = sa_strdup(res->session->session_id);
    rpc_message_free(res);
    return id;
}

/* A viewer that only keeps its position: reconnects as often as needed. */
struct view {
    struct caller *caller;
    const char *session_id;
    uint64_t seq;
    int ticks;
    int ended; /* turn_ended events */
    StopReason stop_reason;
};

static void see(struct view *v, const Event *e)
{
    assert_int_equal(e->seq, v->seq + 1); /* no event lost, none doubled */
    v->seq = e->seq;
    if (e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK &&
        e->agent_message_chunk->content->kind_case == CONTENT_BLOCK__KIND_TEXT) {
        int n = 0;
        if (sscanf(e->agent_message_chunk->content->text, "tick %d", &n) == 1)
            assert_int_equal(n, ++v->ticks);
    }
    if (e->kind_case == EVENT__KIND_TURN_ENDED) {
        v->ended++;
        v->stop_reason = e->turn_ended->stop_reason;
    }
}

/* Reads on until `ticks` ticks were seen, or (0) the turn has ended. */
static void view_until(struct view *v, int ticks)
{
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    while (ticks ? v->ticks < ticks : !v->ended) {
        StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
        struct rpc_call_options opt = {.wait_for_ready = true, .deadline_ms = PATIENCE_MS};
        StreamEventsResponse *m;
        cleanup_error sa_error *err = NULL;
        req.session_id = (char *)(uintptr_t)v->session_id;
        req.after_seq = v->seq;
        struct rpc_stream *stream = stream_events_begin(v->caller->channel, &req, &opt);
        while ((ticks ? v->ticks < ticks : !v->ended) && stream_events_next(stream, &m, &err) == 1) {
            if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH)
                for (size_t i = 0; i < m->batch->n_events; i++)
                    see(v, m->batch->events[i]);
            rpc_message_free(m);
        }
        rpc_stream_free(stream);
        if (err && err->code != SA_CODE_UNAVAILABLE)
            fail_msg("the stream broke: %s: %s", err->reason, err->message);
        if (sa_now_ms() > deadline)
            fail_msg("the turn did not go on: %d ticks, seq %" PRIu64, v->ticks, v->seq);
    }
}

static uint64_t send_text(struct caller *c, const char *id, const char *text, const char *request_id)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    cleanup_error sa_error *err = NULL;
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    req.session_id = (char *)(uintptr_t)id;
    req.content = blocks;
    req.n_content = 1;
    req.request_id = (char *)(uintptr_t)request_id;
    SendPromptResponse *res = send_prompt_wait(c->channel, &req, &opt, &err);
    if (!res)
        fail_msg("%s", err->message);
    uint64_t turn = res->turn;
    rpc_message_free(res);
    return turn;
}

/* A turn during which `service` is killed so often. */
static void kill_in_a_turn(struct system *s, const char *const *killed)
{
    struct caller c = system_caller(s);
    cleanup_free char *id = new_session(&c);
    struct view v = {.caller = &c, .session_id = id};
    uint64_t turn = send_text(&c, id, PROMPT, "the-prompt");
    for (int i = 0; killed[i]; i++) {
        view_until(&v, 10 * (i + 1));
        pid_t pid = system_service_pid(s, killed[i]);
        assert_int_equal(kill(pid, SIGKILL), 0);
    }
    /* A caller that does not know what became of its prompt sends it again: it runs once. */
    assert_int_equal(send_text(&c, id, PROMPT, "the-prompt"), turn);
    view_until(&v, 0);
    assert_int_equal(v.ticks, TICKS);
    assert_int_equal(v.stop_reason, STOP_REASON_END_TURN);

    /* One that comes late sees the same. */
    struct view late = {.caller = &c, .session_id = id};
    view_until(&late, 0);
    assert_int_equal(late.ticks, TICKS);
    /* And the session is as good as before. */
    v.ended = v.ticks = 0;
    send_text(&c, id, "TICK 3 1", "");
    view_until(&v, 0);
    assert_int_equal(v.ticks, 3);
    caller_close(&c);
}

static void session_svc_is_killed(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("session"));
    system_stop(&s);
    system_free(&s);
}

static void process_svc_is_killed(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("process"));
    system_stop(&s);
    system_free(&s);
}

static void all_are_killed_one_after_the_other(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("process", "session", "fs", "gateway", "provider"));
    system_stop(&s);
    system_free(&s);
}

static void the_command_line_sees_the_whole_turn(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", s.data);
    struct program_options opt = {.home = s.home, .env = WORDS(data)};
    struct program p = program_start(WORDS("sandbox-agent", "prompt", PROMPT), &opt);
    program_wait_for(&p, "tick 5");
    kill(system_service_pid(&s, "session"), SIGKILL);
    program_wait_for(&p, "tick 30");
    kill(system_service_pid(&s, "process"), SIGKILL);
    program_wait_for(&p, "turn ended: end_turn");
    if (program_wait(&p) != 0)
        fail_msg("it failed:\n%s", program_output(&p));
    const char *at = program_output(&p);
    for (int i = 1; i <= TICKS; i++) {
        char tick[16];
        snprintf(tick, sizeof tick, "tick %d", i);
        at = strstr(at, tick);
        if (!at)
            fail_msg("%s is missing:\n%s", tick, program_output(&p));
        at += strlen(tick);
    }
    assert_null(strstr(at, "tick"));
    program_free(&p);
    system_stop(&s);
    system_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_svc_is_killed),
        cmocka_unit_test(process_svc_is_killed),
        cmocka_unit_test(all_are_killed_one_after_the_other),
        cmocka_unit_test(the_command_line_sees_the_whole_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
