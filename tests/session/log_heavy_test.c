/* A session with a million events, from an agent that writes as fast as it can: nothing is lost, memory stays
 * bounded, and neither a restart nor a reader minds the length. Prints what it took. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/transcript/transcript.h"
#include "tests/session/stack.h"

enum { EVENTS = 1000000, MEMORY_MAX_MIB = 64 };

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

/* Most private memory that session-svc was seen with, MiB: pages of the store are the kernel's cache. */
static unsigned peak;

static unsigned look_at_memory(void)
{
    cleanup_free char *path = sa_format("/proc/%d/status", (int)stack->session.pid);
    cleanup_buf struct sa_buf text = {0};
    unsigned kib = 0;
    assert_int_equal(sa_read_file(path, 65536, &text, NULL), 0);
    const char *at = strstr(sa_buf_string(&text), "RssAnon:");
    assert_true(at && sscanf(at, "RssAnon: %u", &kib) == 1);
    if (kib / 1024 > peak)
        peak = kib / 1024;
    return kib / 1024;
}

static double since(uint64_t ns)
{
    return (double)(sa_now_ns() - ns) / 1e9;
}

/* Follows from the beginning until a turn ends; counts its chunks. Nothing may be missing. */
static uint64_t follow(const char *id, uint64_t turn, uint64_t *ret_chunks)
{
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    StreamEventsResponse *m = NULL;
    uint64_t last = 0, messages = 0;
    bool ended = false;
    req.session_id = (char *)(uintptr_t)id;
    *ret_chunks = 0;
    struct rpc_stream *s = stream_events_begin(stack->caller.channel, &req, NULL);
    while (!ended && stream_events_next(s, &m, NULL) == 1) {
        for (size_t i = 0; m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH && i < m->batch->n_events;
             i++) {
            const Event *e = m->batch->events[i];
            assert_int_equal(e->seq, last + 1);
            last = e->seq;
            *ret_chunks += e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK;
            ended = ended || (e->kind_case == EVENT__KIND_TURN_ENDED && e->turn == turn);
        }
        rpc_message_free(m);
        if (++messages % 64 == 0)
            look_at_memory();
    }
    assert_true(ended);
    rpc_stream_free(s);
    return last;
}

/* A transcript that is checked and thrown away. */
static uint64_t export_and_check(const char *id)
{
    ExportSessionRequest req = EXPORT_SESSION_REQUEST__INIT;
    ExportSessionResponse *m = NULL;
    struct transcript_reader r;
    struct transcript_line line;
    uint64_t bytes = 0;
    req.session_id = (char *)(uintptr_t)id;
    transcript_reader_init(&r);
    struct rpc_stream *s = export_session_begin(stack->caller.channel, &req, NULL);
    while (export_session_next(s, &m, NULL) == 1) {
        if (bytes / (64 << 20) != (bytes + m->data.len) / (64 << 20))
            look_at_memory();
        bytes += m->data.len;
        transcript_feed(&r, m->data.data, m->data.len);
        while (transcript_next(&r, &line, NULL) == 1)
            ;
        rpc_message_free(m);
    }
    assert_int_equal(transcript_complete(&r, NULL), 0);
    transcript_reader_fini(&r);
    rpc_stream_free(s);
    return bytes;
}

static uint64_t search_all(const char *id, uint64_t *ret_calls)
{
    uint64_t events = 0;
    cleanup_free char *token = sa_strdup("");
    *ret_calls = 0;
    do {
        SearchEventsRequest req = SEARCH_EVENTS_REQUEST__INIT;
        req.session_id = (char *)(uintptr_t)id;
        req.text = (char[]){"not in it"};
        req.page_token = token;
        SearchEventsResponse *res = search_events_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        events += res->events;
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
        ++*ret_calls;
    } while (*token);
    return events;
}

static bool is_trimmed(void *id)
{
    GetSessionResponse *res = get_session(stack, id);
    bool done = res->session->head_seq - res->session->first_seq < 1100;
    rpc_message_free(res);
    return done;
}

static void a_million_events(void **state)
{
    (void)state;
    cleanup_free char *id = create_session(stack, "mock", NULL), *text = sa_format("BURST %d", EVENTS);
    uint64_t chunks, calls, at = sa_now_ns();
    uint64_t head = follow(id, send_prompt(stack, id, text), &chunks);
    double s = since(at);
    assert_int_equal(chunks, EVENTS);
    print_message("append and follow: %.0f events/s, peak %u MiB\n", (double)head / s, peak);
    assert_true(peak < MEMORY_MAX_MIB);
    at = sa_now_ns();
    stack_crash_session(stack);
    print_message("killed and ready again: %.3f s, %u MiB\n", since(at), look_at_memory());
    assert_true(since(at) < 5);
    at = sa_now_ns();
    follow(id, 1, &chunks);
    assert_int_equal(chunks, EVENTS);
    print_message("read from the beginning: %.0f events/s\n", (double)head / since(at));
    at = sa_now_ns();
    uint64_t bytes = export_and_check(id);
    print_message("export: %.0f events/s, %.0f MB\n", (double)head / since(at), (double)bytes / 1e6);
    at = sa_now_ns();
    assert_true(search_all(id, &calls) >= head);
    print_message("search: %.0f events/s in %d calls\n", (double)head / since(at), (int)calls);
    at = sa_now_ns();
    Retention r = RETENTION__INIT;
    r.max_events = 1000;
    assert_string_equal(try_retention(stack, id, &r, NULL).text, "");
    wait_until(is_trimmed, id, "a log of a thousand events");
    print_message("removed by retention: %.0f events/s; peak of all %u MiB\n", (double)head / since(at),
                  peak);
    assert_true(peak < MEMORY_MAX_MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(a_million_events, start, stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
