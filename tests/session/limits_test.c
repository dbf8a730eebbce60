/* What happens at limits: a full store, readers that do not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/session/stack.h"

static struct stack *stack;

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* ---- a full store ---- */

static const char *words[] = {"--store-mib", "4", NULL};

static int start_small(void **state)
{
    (void)state;
    words[1] = "4";
    stack = stack_start(words);
    return 0;
}

static struct reason refused;

static bool is_refused(void *session)
{
    refused = try_prompt(stack, session, "x", "", NULL);
    return *refused.text != '\0';
}

static void a_full_store_is_told_and_nothing_is_lost(void **state)
{
    (void)state;
    enum { TICKS = 20000 };
    cleanup_free char *other = create_session(stack, "mock", NULL), *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "BURST 20000");
    wait_until(is_refused, other, "a full store");
    assert_true(!strcmp(refused.text, "STORE_FULL") || !strcmp(refused.text, "UNAVAILABLE") ||
                !strcmp(refused.text, "STORE_ERROR"));
    /* What is committed can be read. */
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->state, SESSION_STATE_RUNNING);
    uint64_t head = res->session->head_seq;
    rpc_message_free(res);
    assert_true(head > 100 && head < TICKS);
    while (v->n < head)
        viewer_next(v);
    /* With room it goes on where it stood: nothing was told that is not so, no number is missing. */
    words[1] = "64";
    stack_crash_session(stack);
    assert_int_equal(viewer_turn_end(v, turn)->turn_ended->stop_reason, STOP_REASON_END_TURN);
    assert_int_equal(viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK), TICKS);
    cleanup_free char *text = viewer_text(v, turn);
    assert_non_null(strstr(text, "tick 19999\ntick 20000\n"));
    viewer_close(v);
}

/* ---- readers that do not read ---- */

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static struct rpc_stream *open_reader(const char *id, SlowReaderPolicy policy)
{
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.slow_reader_policy = policy;
    struct rpc_stream *s = stream_events_begin(stack->caller.channel, &req, NULL);
    StreamEventsResponse *m = NULL;
    assert_int_equal(stream_events_next(s, &m, NULL), 1); /* it is there, and then it sleeps */
    assert_int_equal(m->kind_case, STREAM_EVENTS_RESPONSE__KIND_OPENED);
    rpc_message_free(m);
    return s;
}

/* Reads to the head; what it was told on the way. */
struct told {
    uint64_t events, skipped, lagging;
    char reason[64];
};

static struct told read_on(struct rpc_stream *s, uint64_t head)
{
    struct told t = {0};
    uint64_t last = 0;
    while (last < head) {
        StreamEventsResponse *m = NULL;
        sa_error *err = NULL;
        if (stream_events_next(s, &m, &err) != 1) {
            strncpy(t.reason, err ? err->reason : "OK", sizeof t.reason - 1);
            sa_error_free(err);
            return t;
        }
        if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH) {
            assert_int_equal(m->batch->prev_seq, last);
            t.events += m->batch->n_events;
            last = m->batch->events[m->batch->n_events - 1]->seq;
        } else if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_LAGGING) {
            t.lagging++;
            t.skipped += m->lagging->skipped;
            last = m->lagging->next_seq - 1;
        }
        rpc_message_free(m);
    }
    return t;
}

static void a_reader_that_sleeps_gets_the_verdict_it_asked_for(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    struct rpc_stream *patient = open_reader(id, SLOW_READER_POLICY_PAUSE);
    struct rpc_stream *skips = open_reader(id, SLOW_READER_POLICY_SKIP);
    struct rpc_stream *leaves = open_reader(id, SLOW_READER_POLICY_DISCONNECT);
    uint64_t turn = send_prompt(stack, id, "BURST 100000");
    viewer_turn_end(v, turn); /* they slow nobody */
    assert_int_equal(viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK), 100000);
    uint64_t head = viewer_state(v, viewer_turn_end(v, turn)->seq, SESSION_STATE_IDLE)->seq;
    struct told t = read_on(patient, head);
    assert_int_equal(t.events, head);
    assert_int_equal(t.lagging, 0);
    t = read_on(skips, head);
    assert_true(t.lagging > 0);
    assert_int_equal(t.events + t.skipped, head);
    t = read_on(leaves, head);
    assert_string_equal(t.reason, "SLOW_READER");
    rpc_stream_free(patient);
    rpc_stream_free(skips);
    rpc_stream_free(leaves);
    viewer_close(v);
}

static void many_viewers_of_a_burst_all_see_all(void **state)
{
    (void)state;
    enum { VIEWERS = 20 };
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v[VIEWERS];
    for (int i = 0; i < VIEWERS; i++)
        v[i] = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "BURST 5000");
    for (int i = 0; i < VIEWERS; i++) {
        viewer_turn_end(v[i], turn);
        assert_int_equal(viewer_count(v[i], EVENT__KIND_AGENT_MESSAGE_CHUNK), 5000);
        viewer_close(v[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_full_store_is_told_and_nothing_is_lost, start_small, stop),
        cmocka_unit_test_setup_teardown(a_reader_that_sleeps_gets_the_verdict_it_asked_for, start, stop),
        cmocka_unit_test_setup_teardown(many_viewers_of_a_burst_all_see_all, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
