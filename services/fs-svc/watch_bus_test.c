/* What a watch tells, as facts on the bus. */
#include "services/fs-svc/watch_fixture.h"

#include "adapters/nng/bus.h"

struct listener {
    struct sa_loop *loop;
    struct sa_buf heard; /* paths that were told */
};

static void on_message(void *user, const struct bus_message *m)
{
    struct listener *l = user;
    WatchEventBatch *b = rpc_unpack(&watch_event_batch__descriptor, m->payload, m->payload_len, NULL);
    assert_non_null(b);
    assert_int_equal(b->prev_seq, m->prev_seq);
    assert_int_equal(b->last_seq, m->seq);
    for (size_t i = 0; i < b->n_events; i++) {
        sa_buf_add(&l->heard, b->events[i]->path.data, b->events[i]->path.len);
        sa_buf_add(&l->heard, "\n", 1);
    }
    protobuf_c_message_free_unpacked(&b->base, NULL);
}

/* The test's reader is another one: it has nothing to read from. */
static void on_read(void *user, struct bus_read *read, const char *stream, uint64_t after, uint64_t until)
{
    (void)user;
    (void)stream;
    (void)after;
    bus_read_gap(read, until + 1);
}

static void on_heads(void *user, struct bus_list *list)
{
    (void)user;
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_UNAVAILABLE, "not listed");
    bus_list_done(list, 0, err);
}

static void *run_loop(void *loop)
{
    sa_loop_run(loop);
    return NULL;
}

struct hearing {
    struct service_fixture *f;
    struct listener *l;
    int n;
};

/* The first ones may come before the bus is connected. */
static bool heard_one(void *user)
{
    struct hearing *h = user;
    cleanup_free char *name = sa_format("told-%d", h->n++);
    test_put(h->f->ws, name, "");
    sa_loop_lock(h->l->loop);
    bool heard = strstr(sa_buf_string(&h->l->heard), "told-");
    sa_loop_unlock(h->l->loop);
    return heard;
}

static void events_are_told_on_the_bus_too(void **state)
{
    (void)state;
    static const struct bus_subscriber_events events = {
        .message = on_message, .read = on_read, .list_heads = on_heads};
    struct service_fixture f = service_new(NULL);
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = root;
    service_up(&f);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    struct listener l = {.loop = sa_loop_new(NULL)};
    pthread_t thread;
    viewer_open(&v);
    cleanup_free char *url = sa_format("ipc://%s/run/fs.bus", f.data),
                      *stream = sa_format("fs/ws/watch/%s", v.epoch);
    assert_int_equal(pthread_create(&thread, NULL, run_loop, l.loop), 0);
    struct bus_subscriber_options opt = {.url = url, .events = &events, .user = &l};
    sa_loop_lock(l.loop);
    struct bus_subscriber *bus = bus_subscriber_new(l.loop, &opt, NULL);
    assert_non_null(bus);
    assert_int_equal(bus_follow(bus, stream, 0, 0, NULL), 0);
    sa_loop_unlock(l.loop);
    struct hearing h = {&f, &l, 0};
    wait_until(heard_one, &h, "an event is told on the bus");
    sa_loop_lock(l.loop);
    bus_subscriber_free(bus);
    sa_loop_stop(l.loop);
    sa_loop_unlock(l.loop);
    pthread_join(thread, NULL);
    sa_loop_free(l.loop);
    sa_buf_fini(&l.heard);
    viewer_free(&v);
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(events_are_told_on_the_bus_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
