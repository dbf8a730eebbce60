/* A bus with an owner and a checking reader, for the tests. Included once per test program. */
#ifndef ADAPTERS_NNG_BUS_FIXTURE_H_
#define ADAPTERS_NNG_BUS_FIXTURE_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/nng/bus.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"

/* The owner is a counter per stream: message n of a stream says "<stream>#<n>". The reader checks that what
 * it gets is that, in order. The loop runs in the test's own thread, until `until` is true. */

enum { STREAMS = 4, DEADLINE_MS = 30000 };

struct reader_stream {
    uint64_t position;
    uint64_t gaps, first_after_gap;
};

struct fixture {
    char dir[64], url[100];
    struct sa_loop *loop;
    struct bus_publisher *pub;
    struct bus_subscriber *sub;
    uint64_t epoch;
    uint64_t head[STREAMS];  /* of the owner */
    uint64_t first[STREAMS]; /* not compacted */
    struct reader_stream seen[STREAMS];
    int reads_fail;   /* so many reads */
    bool reads_later; /* answer from sa_defer */
    bool hold_reads;  /* do not answer */
    struct bus_read *held;
    uint64_t held_after, held_until;
    int held_stream;
    uint64_t read_page; /* messages in one answer; 0: all */
    bool list_fails;
    int lists, epochs;
    bool follow_in_epoch;
    bool free_in_message;
    uint64_t limit_ms;
    bool (*until)(struct fixture *f);
    struct sa_timer *tick;
};

static const char *stream_name(int i)
{
    static const char *const names[STREAMS] = {"session/a", "session/b", "session/bb", "process/c"};
    return names[i];
}

static int stream_number(const char *id)
{
    for (int i = 0; i < STREAMS; i++) {
        if (strcmp(id, stream_name(i)) == 0)
            return i;
    }
    fail_msg("unknown stream %s", id);
    return -1;
}

static void on_message(void *user, const struct bus_message *m)
{
    struct fixture *f = user;
    int i = stream_number(m->stream_id);
    char expected[100];
    snprintf(expected, sizeof expected, "%s#%llu", m->stream_id, (unsigned long long)m->seq);
    assert_int_equal(m->prev_seq, f->seen[i].position);
    assert_int_equal(m->seq, f->seen[i].position + 1);
    assert_true(m->payload_len >= strlen(expected));
    assert_memory_equal(m->payload, expected, strlen(expected));
    f->seen[i].position = m->seq;
    if (f->free_in_message) {
        bus_subscriber_free(f->sub);
        f->sub = NULL;
    }
}

static void answer(struct fixture *f, struct bus_read *read, int i, uint64_t after)
{
    char text[100];
    if (f->reads_fail > 0) {
        f->reads_fail--;
        sa_error *err = NULL;
        sa_fail(&err, SA_UNAVAILABLE, "the owner is away");
        bus_read_done(read, err);
        sa_error_free(err);
        return;
    }
    if (after + 1 < f->first[i]) {
        bus_read_gap(read, f->first[i]);
        return;
    }
    uint64_t last = f->read_page && f->head[i] > after + f->read_page ? after + f->read_page : f->head[i];
    for (uint64_t seq = after + 1; seq <= last; seq++) {
        int n = snprintf(text, sizeof text, "%s#%llu", stream_name(i), (unsigned long long)seq);
        bus_read_add(read, seq, seq - 1, text, (size_t)n);
    }
    bus_read_done(read, NULL);
}

struct later {
    struct fixture *f;
    struct bus_read *read;
    int stream;
    uint64_t after;
};

static void answer_later(void *user)
{
    struct later *l = user;
    answer(l->f, l->read, l->stream, l->after);
    free(l);
}

static void on_read(void *user, struct bus_read *read, const char *stream_id, uint64_t after, uint64_t until)
{
    struct fixture *f = user;
    int i = stream_number(stream_id);
    assert_true(until > after && until <= f->head[i]);
    if (f->hold_reads) {
        assert_null(f->held);
        f->held = read;
        f->held_stream = i;
        f->held_after = after;
        f->held_until = until;
    } else if (f->reads_later) {
        struct later *l = sa_calloc(1, sizeof *l);
        *l = (struct later){f, read, i, after};
        sa_defer(f->loop, answer_later, l);
    } else {
        answer(f, read, i, after);
    }
}

static void on_list(void *user, struct bus_list *list)
{
    struct fixture *f = user;
    f->lists++;
    sa_error *err = NULL;
    if (f->list_fails)
        sa_fail(&err, SA_UNAVAILABLE, "the owner is away");
    for (int i = 0; !err && i < STREAMS; i++) {
        if (f->head[i])
            bus_list_add(list, stream_name(i), f->head[i]);
    }
    bus_list_done(list, f->epoch, err);
    sa_error_free(err);
}

static void on_gap(void *user, const char *stream_id, uint64_t first)
{
    struct fixture *f = user;
    int i = stream_number(stream_id);
    f->seen[i].gaps++;
    f->seen[i].first_after_gap = first;
    f->seen[i].position = first - 1;
}

static void on_epoch(void *user, uint64_t old_epoch, uint64_t new_epoch)
{
    struct fixture *f = user;
    assert_true(old_epoch != new_epoch);
    assert_int_equal(new_epoch, f->epoch);
    f->epochs++;
    if (f->follow_in_epoch) {
        f->seen[0].position = 0;
        assert_int_equal(bus_follow(f->sub, stream_name(0), 0, 0, NULL), 0);
    }
}

static const struct bus_subscriber_events events = {on_message, on_read, on_list, on_gap, on_epoch};

/* ---- running ---- */

static void on_tick(void *user)
{
    struct fixture *f = user;
    if (f->until(f) || sa_now_ms() > f->limit_ms)
        sa_loop_stop(f->loop);
}

static void run_until(struct fixture *f, bool (*until)(struct fixture *f))
{
    f->until = until;
    f->limit_ms = sa_now_ms() + DEADLINE_MS;
    sa_loop_lock(f->loop);
    sa_timer_every(f->tick, 2);
    sa_loop_unlock(f->loop);
    sa_loop_run(f->loop);
    sa_loop_lock(f->loop);
    sa_timer_stop(f->tick);
    sa_loop_unlock(f->loop);
    assert_true(until(f));
}

static struct bus_subscriber_stats stats(struct fixture *f)
{
    struct bus_subscriber_stats s;
    bus_subscriber_stats(f->sub, &s);
    return s;
}

static bool caught_up(struct fixture *f)
{
    for (int i = 0; i < STREAMS; i++) {
        uint64_t at;
        if (f->sub && bus_position(f->sub, stream_name(i), &at) && at != f->head[i])
            return false;
    }
    return true;
}

static bool heard_a_beat(struct fixture *f)
{
    return stats(f).beats > 0;
}

static void start_publisher(struct fixture *f, uint32_t drop)
{
    sa_error *err = NULL;
    struct bus_publisher_options opt = {.url = f->url, .epoch = f->epoch, .drop_percent = drop};
    f->pub = bus_publisher_new(f->loop, &opt, &err);
    if (!f->pub)
        fail_msg("%s", err->message);
}

static void start_subscriber(struct fixture *f)
{
    struct bus_subscriber_options opt = {.url = f->url, .events = &events, .user = f};
    f->sub = bus_subscriber_new(f->loop, &opt, NULL);
    assert_non_null(f->sub);
}

static void connect_both(struct fixture *f)
{
    sa_loop_lock(f->loop);
    start_publisher(f, 0);
    start_subscriber(f);
    sa_loop_unlock(f->loop);
    run_until(f, heard_a_beat);
}

/* Under the lock. */
static void publish(struct fixture *f, int i)
{
    char text[100];
    uint64_t seq = ++f->head[i];
    int n = snprintf(text, sizeof text, "%s#%llu", stream_name(i), (unsigned long long)seq);
    char topic[100];
    snprintf(topic, sizeof topic, "%s/event", stream_name(i));
    if (f->pub)
        bus_publish(f->pub, topic, stream_name(i), seq, seq - 1, text, (size_t)n);
}

static void publish_many(struct fixture *f, int i, int n)
{
    sa_loop_lock(f->loop);
    for (int k = 0; k < n; k++)
        publish(f, i);
    sa_loop_unlock(f->loop);
}

static void follow(struct fixture *f, int i, uint64_t after)
{
    sa_loop_lock(f->loop);
    f->seen[i].position = after;
    assert_int_equal(bus_follow(f->sub, stream_name(i), after, 0, NULL), 0);
    sa_loop_unlock(f->loop);
}

static int setup(void **state)
{
    struct fixture *f = sa_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/bus.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->url, sizeof f->url, "ipc://%s/bus", f->dir);
    f->epoch = 7;
    f->loop = sa_loop_new(NULL);
    f->tick = sa_timer_new(f->loop, on_tick, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    bus_publisher_free(f->pub);
    bus_subscriber_free(f->sub);
    sa_timer_free(f->tick);
    sa_loop_unlock(f->loop);
    sa_loop_free(f->loop);
    sa_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

#endif
