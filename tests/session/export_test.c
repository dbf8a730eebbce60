/* Transcripts: what is exported can be verified anywhere, is imported as it was, and no forged one is taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/transcript/transcript.h"
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

/* ---- calls ---- */

static VerifySessionResponse *verify(const char *session)
{
    VerifySessionRequest req = VERIFY_SESSION_REQUEST__INIT;
    sa_error *err = NULL;
    req.session_id = (char *)(uintptr_t)session;
    VerifySessionResponse *res = verify_session_wait(stack->caller.channel, &req, NULL, &err);
    if (!res)
        fail_msg("VerifySession: %s", err->message);
    return res;
}

static size_t count_sessions(void)
{
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    ListSessionsResponse *res = list_sessions_wait(stack->caller.channel, &req, NULL, NULL);
    assert_non_null(res);
    size_t n = res->n_sessions;
    rpc_message_free(res);
    return n;
}

/* ---- what a transcript is ---- */

/* A session with a bit of everything, and what a viewer has of it. */
static struct viewer *live(const char *const *env, const char *text)
{
    cleanup_free char *id = create_session(stack, "mock", env);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, 0, SESSION_STATE_IDLE);
    uint64_t turn = send_prompt(stack, id, text);
    viewer_state(v, viewer_turn_end(v, turn)->seq, SESSION_STATE_IDLE);
    return v;
}

static Event *event_of(struct sa_arena *a, struct json v)
{
    static const struct json_mapping mapping = {.bytes = json_bytes_by_name};
    sa_error *err = NULL;
    Event *e = (Event *)json_read_message(a, v, &event__descriptor, &mapping, &err);
    if (!e)
        fail_msg("%.*s: %s", (int)v.n, v.p, err->message);
    return e;
}

/* Every event of the transcript, packed one after the other, as viewer_bytes gives them. */
static struct sa_buf events_of(const struct sa_buf *transcript)
{
    struct sa_buf all = {0};
    struct transcript_reader r;
    struct transcript_line line;
    sa_error *err = NULL;
    int got;
    transcript_reader_init(&r);
    transcript_feed(&r, transcript->data, transcript->len);
    while ((got = transcript_next(&r, &line, &err)) == 1) {
        struct sa_arena *a = sa_arena_new();
        if (line.kind == TRANSCRIPT_EVENT) {
            Event *e = event_of(a, line.content);
            all.len += event__pack(e, sa_buf_reserve(&all, event__get_packed_size(e)));
        }
        sa_arena_free(a);
    }
    if (got < 0 || transcript_complete(&r, &err))
        fail_msg("%s", err->message);
    transcript_reader_fini(&r);
    return all;
}

static void assert_same(const struct sa_buf *a, const struct sa_buf *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->data, b->data, a->len);
}

static void an_export_tells_what_a_viewer_saw_and_verifies(void **state)
{
    (void)state;
    struct viewer *v =
        live(NULL, "TICK 3\nTHINK hm\nPLAN a\nUSAGE 5\nGARBAGE\nSTDERR x\nNOTIFY new/thing\nBIG 600000");
    cleanup_buf struct sa_buf first = export_session(stack, v->session),
                              again = export_session(stack, v->session), seen = viewer_bytes(v),
                              told = events_of(&first);
    assert_same(&first, &again); /* the same log, the same bytes */
    assert_same(&seen, &told);
    VerifySessionResponse *res = verify(v->session);
    assert_int_equal(res->broken_seq, 0);
    assert_int_equal(res->head_seq, v->n);
    assert_int_equal(res->first_seq, 1);
    /* Its hash is that of the last line. */
    const char *last = memrchr(first.data, '\n', first.len - 1);
    assert_memory_equal(last + strlen("\n{\"hash\":\""), res->hash, 64);
    rpc_message_free(res);
    viewer_close(v);
}

static void an_imported_session_is_read_like_any_other(void **state)
{
    (void)state;
    static const size_t cuts[] = {1 << 20, 997};
    struct viewer *v = live(NULL, "BURST 3000\nBIG 600000");
    cleanup_buf struct sa_buf transcript = export_session(stack, v->session), seen = viewer_bytes(v);
    for (int i = 0; i < 2; i++) {
        struct imported r = import_session(stack, &transcript, cuts[i], "");
        assert_string_equal(r.reason, "");
        assert_int_equal(r.events, v->n);
        assert_int_equal(r.head, v->n + 1);
        struct viewer *copy = viewer_open(stack, r.session);
        const Event *end = viewer_state(copy, v->n, SESSION_STATE_DESTROYED);
        assert_int_equal(end->seq, r.head);
        assert_string_equal(end->state_changed->reason, "IMPORTED");
        assert_non_null(strstr(end->state_changed->message, v->session));
        assert_non_null(strstr(end->state_changed->message, r.hash));
        copy->n--;
        cleanup_buf struct sa_buf copied = viewer_bytes(copy);
        assert_same(&seen, &copied);
        viewer_close(copy);
        GetSessionResponse *got = get_session(stack, r.session);
        assert_int_equal(got->session->state, SESSION_STATE_DESTROYED);
        assert_string_equal(got->session->agent, "mock");
        assert_int_equal(got->session->last_turn, 1);
        assert_int_equal(got->session->n_labels, 1);
        rpc_message_free(got);
        assert_string_equal(try_prompt(stack, r.session, "x", "", NULL).text, "SESSION_DESTROYED");
        VerifySessionResponse *checked = verify(r.session);
        assert_int_equal(checked->broken_seq, 0);
        rpc_message_free(checked);
    }
    viewer_close(v);
}

static void a_transcript_that_was_changed_is_refused_by_its_line(void **state)
{
    (void)state;
    struct viewer *v = live(NULL, "TICK 20");
    cleanup_buf struct sa_buf good = export_session(stack, v->session), bad = {0};
    size_t before = count_sessions();
    sa_buf_add(&bad, good.data, good.len);
    char *tick = memmem(bad.data, bad.len, "tick 10", 7);
    assert_non_null(tick);
    unsigned line = 1;
    for (const char *p = (char *)bad.data; p < tick; p++)
        line += *p == '\n';
    tick[5] = '2';
    struct imported r = import_session(stack, &bad, 1000, "");
    char expected[32];
    snprintf(expected, sizeof expected, "line %u is broken", line);
    assert_string_equal(r.reason, "INVALID_TRANSCRIPT");
    assert_non_null(strstr(r.message, expected));
    tick[5] = '1';
    bad.len -= 100; /* cut off */
    r = import_session(stack, &bad, 1000, "");
    assert_string_equal(r.reason, "INVALID_TRANSCRIPT");
    bad.len = 0;
    r = import_session(stack, &bad, 1000, "");
    assert_string_equal(r.reason, "INVALID_TRANSCRIPT");
    assert_int_equal(count_sessions(), before);
    viewer_close(v);
}

/* The chain of a forged transcript fits; what it says does not. */
static void events_that_are_none_are_refused_by_their_line(void **state)
{
    (void)state;
    static const char *const events[] = {
        "{\"seq\":\"1\",\"time\":\"2026-01-01T00:00:00Z\"}",
        "{\"seq\":\"1\",\"quiet\":{}}",
        "{\"seq\":\"1\",\"time\":\"2026-01-01T00:00:00Z\",\"quiet\":{\"silentMs\":true}}",
        "{\"seq\":\"1\",\"time\":\"2026-01-01T00:00:00Z\",\"other\":{}}",
        "{\"seq\":\"2\",\"time\":\"2026-01-01T00:00:00Z\",\"quiet\":{}}",
    };
    static const char header[] = "{\"version\":1,\"sessionId\":\"x\",\"agent\":\"mock\",\"createTime\":"
                                 "\"2026-01-01T00:00:00Z\",\"firstSeq\":\"1\"}";
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct transcript_writer w;
        cleanup_buf struct sa_buf out = {0};
        struct sa_buf content = {.data = (uint8_t *)(uintptr_t)header, .len = strlen(header)};
        transcript_writer_init(&w);
        transcript_write(&w, TRANSCRIPT_HEADER, &content, &out);
        content = (struct sa_buf){.data = (uint8_t *)(uintptr_t)events[i], .len = strlen(events[i])};
        transcript_write(&w, TRANSCRIPT_EVENT, &content, &out);
        struct imported r = import_session(stack, &out, 1000, "");
        assert_string_equal(r.reason, "INVALID_TRANSCRIPT");
        assert_non_null(strstr(r.message, "line 2: "));
    }
}

static void a_repeated_import_is_the_first_one(void **state)
{
    (void)state;
    struct viewer *v = live(NULL, "TICK 2");
    cleanup_buf struct sa_buf one = export_session(stack, v->session);
    destroy_session(stack, v->session);
    cleanup_buf struct sa_buf two = export_session(stack, v->session);
    struct imported first = import_session(stack, &one, 1 << 20, "once");
    struct imported again = import_session(stack, &one, 100, "once");
    assert_string_equal(first.reason, "");
    assert_string_equal(again.session, first.session);
    assert_string_equal(import_session(stack, &two, 1 << 20, "once").reason, "REQUEST_ID_REUSED");
    assert_string_not_equal(import_session(stack, &one, 1 << 20, "twice").session, first.session);
    viewer_close(v);
}

/* ---- and when we die ---- */

static int start_faulty(void **state)
{
    stack = stack_start_faulty(NULL, *state);
    return 0;
}

/* Killed at each step of an import: it is there whole, or not at all, and the next one works. */
static void a_death_leaves_no_half_of_an_import(void **state)
{
    (void)state;
    struct viewer *v = live(NULL, "BURST 6000");
    cleanup_buf struct sa_buf transcript = export_session(stack, v->session);
    size_t before = count_sessions();
    struct imported r = import_session(stack, &transcript, 1 << 20, "once");
    assert_true(*r.reason);
    stack_revive(stack);
    size_t there = count_sessions() - before;
    assert_true(there <= 1);
    r = import_session(stack, &transcript, 1 << 20, "once");
    assert_string_equal(r.reason, "");
    assert_int_equal(count_sessions(), before + 1);
    VerifySessionResponse *res = verify(r.session);
    assert_int_equal(res->broken_seq, 0);
    assert_int_equal(res->head_seq, v->n + 1);
    rpc_message_free(res);
    viewer_close(v);
}

#define DEATH(point)                                                                                         \
    {                                                                                                        \
        point, a_death_leaves_no_half_of_an_import, start_faulty, stop, (void *)(uintptr_t)(point)           \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_export_tells_what_a_viewer_saw_and_verifies, start, stop),
        cmocka_unit_test_setup_teardown(an_imported_session_is_read_like_any_other, start, stop),
        cmocka_unit_test_setup_teardown(a_transcript_that_was_changed_is_refused_by_its_line, start, stop),
        cmocka_unit_test_setup_teardown(events_that_are_none_are_refused_by_their_line, start, stop),
        cmocka_unit_test_setup_teardown(a_repeated_import_is_the_first_one, start, stop),
        DEATH("import.portion:1"),
        DEATH("import.finish:1"),
        DEATH("import.made:1"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
