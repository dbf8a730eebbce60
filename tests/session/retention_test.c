/* Logs that are kept to a limit: what is removed, what is not, and what readers are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static int start_short(void **state)
{
    static const char *const words[] = {"--retain-events", "100", NULL};
    (void)state;
    stack = stack_start(words);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* ---- helpers ---- */

static uint64_t first_of(const char *id, uint64_t *ret_head)
{
    GetSessionResponse *res = get_session(stack, id);
    uint64_t first = res->session->first_seq;
    if (ret_head)
        *ret_head = res->session->head_seq;
    rpc_message_free(res);
    return first;
}

static void must_set(const char *id, const Retention *r)
{
    struct reason reason = try_retention(stack, id, r, NULL);
    if (*reason.text)
        fail_msg("SetRetention: %s: %s", reason.text, reason.message);
}

struct wanted {
    const char *id;
    uint64_t events, first;
};

static bool is_short(void *user)
{
    struct wanted *w = user;
    uint64_t head;
    w->first = first_of(w->id, &head);
    return head - w->first + 1 <= w->events + w->events / 10;
}

static bool begins_there(void *user)
{
    struct wanted *w = user;
    return first_of(w->id, NULL) >= w->first;
}

/* The first seq, once the log has at most a tenth more than so many events. */
static uint64_t wait_for_length(const char *id, uint64_t events)
{
    struct wanted w = {id, events, 0};
    wait_until(is_short, &w, "a log that was shortened");
    return w.first;
}

static struct rpc_stream *open_stream(const char *id, uint64_t after, bool until_head)
{
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)id;
    req.after_seq = after;
    req.until_head = until_head;
    return stream_events_begin(stack->caller.channel, &req, NULL);
}

struct told {
    uint64_t gaps, gap, first, last, events;
};

/* Reads to the end, or to this event: between gaps nothing is missing. */
static struct told read_stream(struct rpc_stream *s, uint64_t after, uint64_t head)
{
    struct told t = {.last = after};
    StreamEventsResponse *m = NULL;
    while ((!head || t.last < head) && stream_events_next(s, &m, NULL) == 1) {
        if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_GAP) {
            assert_true(m->gap->first_available_seq > t.last + 1);
            t.gaps++;
            t.gap = m->gap->first_available_seq;
            t.last = t.gap - 1;
        } else if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH) {
            assert_int_equal(m->batch->prev_seq, t.last);
            for (size_t i = 0; i < m->batch->n_events; i++) {
                assert_int_equal(m->batch->events[i]->seq, ++t.last);
                t.first = t.first ? t.first : t.last;
                t.events++;
            }
        }
        rpc_message_free(m);
    }
    rpc_stream_free(s);
    return t;
}

/* ---- limits ---- */

static void old_events_are_removed_and_readers_are_told(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "BURST 2000");
    /* While the turn runs all of it is kept, whatever the limit. */
    viewer_turn_end(v, turn);
    assert_int_equal(viewer_count(v, EVENT__KIND_AGENT_MESSAGE_CHUNK), 2000);
    viewer_state(v, viewer_turn_end(v, turn)->seq, SESSION_STATE_IDLE);
    uint64_t head, first = wait_for_length(id, 100);
    assert_int_equal(first_of(id, &head), first);
    assert_true(head - first + 1 >= 100);
    for (int round = 0; round < 2; round++) {
        struct told t = read_stream(open_stream(id, 0, true), 0, 0);
        assert_int_equal(t.gaps, 1);
        assert_int_equal(t.gap, first);
        assert_int_equal(t.first, first);
        assert_int_equal(t.last, head);
        ListEventsRequest req = LIST_EVENTS_REQUEST__INIT;
        req.session_id = id;
        req.after_seq = 3;
        ListEventsResponse *page = list_events_wait(stack->caller.channel, &req, NULL, NULL);
        assert_int_equal(page->first_seq, first);
        assert_int_equal(page->events[0]->seq, first);
        rpc_message_free(page);
        stack_crash_session(stack); /* and again */
    }
    /* It goes on: numbers, turns, and a transcript of what is left. */
    assert_int_equal(send_prompt(stack, id, "TICK 1"), 2);
    viewer_state(v, viewer_turn_end(v, 2)->seq, SESSION_STATE_IDLE);
    cleanup_buf struct sa_buf transcript = export_session(stack, id);
    struct imported copy = import_session(stack, &transcript, 1 << 20, "");
    assert_string_equal(copy.reason, "");
    assert_true(first_of(copy.session, NULL) >= first);
    viewer_close(v);
}

static void what_a_turn_or_a_question_needs_is_kept(void **state)
{
    (void)state;
    Retention r = RETENTION__INIT;
    r.max_events = 1;
    cleanup_free char *id = create_session(stack, "mock", NULL), *file = sa_format("%s/f", stack->home),
                      *text = sa_format("TICK 30\nPERMISSION %s", file);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    uint64_t turn = send_prompt(stack, id, text);
    const Event *accepted = viewer_until(v, 0, EVENT__KIND_PROMPT_ACCEPTED, turn);
    const Event *asked = viewer_until(v, 0, EVENT__KIND_PERMISSION_REQUESTED, turn);
    must_set(id, &r);
    struct wanted w = {id, 0, accepted->seq};
    wait_until(begins_there, &w, "the log before the turn is removed");
    send_prompt(stack, id, "later"); /* it waits, but is a commit */
    assert_int_equal(first_of(id, NULL), accepted->seq);
    stack_crash_session(stack);
    assert_int_equal(first_of(id, NULL), accepted->seq);
    assert_string_equal(try_answer(stack, id, asked->permission_requested->permission_id, "allow").text, "");
    viewer_state(v, viewer_turn_end(v, turn + 1)->seq, SESSION_STATE_IDLE);
    assert_true(wait_for_length(id, 1) > asked->seq);
    viewer_close(v);
}

/* Of the events that are still there, as the viewer saw them. */
static size_t bytes_kept(const struct viewer *v)
{
    size_t bytes = 0;
    for (size_t i = first_of(v->session, NULL) - 1; i < v->n; i++)
        bytes += event__get_packed_size(v->events[i]);
    return bytes;
}

static bool is_within_bytes(void *viewer)
{
    return bytes_kept(viewer) <= 110000;
}

static void a_session_may_have_its_own_limits(void **state)
{
    (void)state;
    Retention r = RETENTION__INIT;
    r.max_bytes = 100000;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "BURST 2000"))->seq, SESSION_STATE_IDLE);
    uint64_t seq = 0;
    assert_string_equal(try_retention(stack, id, &r, &seq).text, "");
    const Event *e = viewer_until(v, 0, EVENT__KIND_RETENTION_CHANGED, 0);
    assert_int_equal(e->seq, seq);
    assert_int_equal(e->retention_changed->retention->max_bytes, 100000);
    assert_string_equal(e->retention_changed->author, "tester");
    assert_string_equal(try_retention(stack, id, &r, &seq).text, "");
    assert_int_equal(seq, 0); /* no news */
    GetSessionResponse *res = get_session(stack, id);
    assert_int_equal(res->session->retention->max_bytes, 100000);
    rpc_message_free(res);
    wait_until(is_within_bytes, v, "a log within its bytes");
    assert_true(bytes_kept(v) > 50000);
    assert_string_equal(try_retention(stack, "01kb0000000000000000000000", &r, NULL).text,
                        "SESSION_NOT_FOUND");
    viewer_close(v);
}

static bool is_aged(void *user)
{
    struct wanted *w = user;
    uint64_t head;
    send_prompt(stack, w->id, "x");
    return first_of(w->id, &head) > w->first;
}

static void events_that_are_too_old_are_removed(void **state)
{
    (void)state;
    Retention r = RETENTION__INIT;
    r.max_age_s = 1;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "BURST 50"))->seq, SESSION_STATE_IDLE);
    must_set(id, &r);
    struct wanted w = {id, 0, 50};
    wait_until(is_aged, &w, "old events to be removed");
    viewer_close(v);
}

/* ---- readers ---- */

static void a_reader_that_was_overtaken_is_told(void **state)
{
    (void)state;
    Retention r = RETENTION__INIT;
    r.max_events = 50;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    struct rpc_stream *sleeps = open_stream(id, 0, false);
    StreamEventsResponse *m = NULL;
    assert_int_equal(stream_events_next(sleeps, &m, NULL), 1);
    rpc_message_free(m);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "BURST 60000"))->seq, SESSION_STATE_IDLE);
    must_set(id, &r);
    wait_for_length(id, 50);
    uint64_t head, first = first_of(id, &head);
    struct told t = read_stream(sleeps, 0, head);
    assert_true(t.gaps >= 1);
    assert_true(t.gap <= first);
    assert_int_equal(t.last, head);
    viewer_close(v);
}

static void a_turn_that_is_gone_is_not_told_in_half(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL);
    uint64_t turn = 0;
    assert_string_equal(try_prompt(stack, id, "BURST 500", "once", &turn).text, "");
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, turn)->seq, SESSION_STATE_IDLE);
    wait_for_length(id, 100);
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    RunPromptRequest req = RUN_PROMPT_REQUEST__INIT;
    RunPromptResponse *m = NULL;
    sa_error *err = NULL;
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char[]){"BURST 500"};
    req.session_id = id;
    req.request_id = (char[]){"once"};
    req.content = blocks;
    req.n_content = 1;
    struct rpc_stream *s = run_prompt_begin(stack->caller.channel, &req, NULL);
    assert_int_equal(run_prompt_next(s, &m, &err), -1);
    assert_string_equal(err->reason, "EVENTS_REMOVED");
    sa_error_free(err);
    rpc_stream_free(s);
    viewer_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(old_events_are_removed_and_readers_are_told, start_short, stop),
        cmocka_unit_test_setup_teardown(what_a_turn_or_a_question_needs_is_kept, start, stop),
        cmocka_unit_test_setup_teardown(a_session_may_have_its_own_limits, start, stop),
        cmocka_unit_test_setup_teardown(events_that_are_too_old_are_removed, start, stop),
        cmocka_unit_test_setup_teardown(a_reader_that_was_overtaken_is_told, start, stop),
        cmocka_unit_test_setup_teardown(a_turn_that_is_gone_is_not_told_in_half, start_short, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
