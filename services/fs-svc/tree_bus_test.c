/* What is told on the bus about changes of names: every change, once, with its kind, in the order of the
 * numbers. */
#include "services/fs-svc/tree_fixture.h"

#include <pthread.h>

#include "adapters/nng/bus.h"

enum { TOLD_MAX = 32 };

struct listener {
    struct sa_loop *loop;
    struct bus_subscriber *bus;
    char told[TOLD_MAX][128];
    int n;
    uint64_t last; /* of the stream fs/ws */
};

static void on_message(void *user, const struct bus_message *m)
{
    struct listener *l = user;
    FileChanged *c = rpc_unpack(&file_changed__descriptor, m->payload, m->payload_len, NULL);
    assert_non_null(c);
    if (!strcmp(c->root, "ws") && m->seq > l->last)
        l->last = m->seq;
    if (l->n < TOLD_MAX)
        snprintf(l->told[l->n++], sizeof l->told[0], "%s %d %.*s%s%s%.*s", m->topic, (int)c->kind,
                 (int)c->file->path.len, (char *)c->file->path.data, *c->old_root ? " from " : "",
                 c->old_root, (int)c->old_path.len, (char *)c->old_path.data);
    file_changed__free_unpacked(c, NULL);
}

static void on_read(void *user, struct bus_read *read, const char *stream, uint64_t after, uint64_t until)
{
    (void)user, (void)stream, (void)after;
    bus_read_gap(read, until + 1);
}

static void on_gap(void *user, const char *stream, uint64_t first_available)
{
    struct listener *l = user;
    if (!strcmp(stream, "fs/ws"))
        l->last = first_available - 1;
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

static bool is_connected(void *user)
{
    struct listener *l = user;
    sa_loop_lock(l->loop);
    bool so = l->last > 0;
    sa_loop_unlock(l->loop);
    return so;
}

static bool has_heard_the_end(void *user)
{
    struct listener *l = user;
    bool so = false;
    sa_loop_lock(l->loop);
    for (int i = 0; i < l->n; i++)
        so |= strstr(l->told[i], "the-end") != NULL;
    sa_loop_unlock(l->loop);
    return so;
}

static void every_change_is_told_once(void **state)
{
    (void)state;
    static const struct bus_subscriber_events events = {
        .message = on_message, .read = on_read, .list_heads = on_heads, .gap = on_gap};
    struct service_fixture f = tree_start();
    struct listener l = {.loop = sa_loop_new(NULL)};
    cleanup_free char *url = sa_format("ipc://%s/run/fs.bus", f.data);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, l.loop), 0);
    struct bus_subscriber_options opt = {.url = url, .events = &events, .user = &l};
    sa_loop_lock(l.loop);
    l.bus = bus_subscriber_new(l.loop, &opt, NULL);
    assert_non_null(l.bus);
    assert_int_equal(bus_follow(l.bus, "fs/ws", 0, 0, NULL), 0);
    sa_loop_unlock(l.loop);
    assert_string_equal(make_dir(&f, ORDER("ws", "first")), "");
    wait_until(is_connected, &l, "the first change is told");
    sa_loop_lock(l.loop);
    l.n = 0;
    sa_loop_unlock(l.loop);

    assert_string_equal(make_dir(&f, ORDER("ws", "first", .parents = true)), ""); /* nothing happens */
    assert_string_equal(make_dir(&f, ORDER("ws", "d")), "");
    struct writer w = {.root = "ws", .path = "d/file"};
    assert_string_equal(write_text(&f, &w, "x"), "");
    assert_string_equal(copy_path(&f, ORDER("ws", "d", .to_path = "c", .recursive = true)), "");
    assert_string_equal(move_path(&f, ORDER("ws", "c", .to_path = "c")), ""); /* nothing happens */
    assert_string_equal(move_path(&f, ORDER("ws", "c", .to_path = "m", .request_id = "1")), "");
    assert_string_equal(move_path(&f, ORDER("ws", "c", .to_path = "m", .request_id = "1")), ""); /* once */
    assert_string_equal(make_link(&f, ORDER("ws", "l", .to_path = "m")), "");
    assert_string_equal(change_mode(&f, ORDER("ws", "m/file", .mode = 0600)), "");
    assert_string_equal(delete_path(&f, ORDER("ws", "l")), "");
    assert_string_equal(delete_path(&f, ORDER("ws", "l", .missing_ok = true)), ""); /* nothing happens */
    assert_string_equal(move_path(&f, ORDER("ws", "m", "other", "o")), "");
    assert_string_equal(make_dir(&f, ORDER("ws", "the-end")), "");
    wait_until(has_heard_the_end, &l, "the last change is told");
    static const char *const expected[] = {
        "fs/ws/create 1 d",        "fs/ws/write 2 d/file", "fs/ws/create 1 c",
        "fs/ws/move 3 m from wsc", "fs/ws/create 1 l",     "fs/ws/change 2 m/file",
        "fs/ws/delete 4 l",        "fs/ws/delete 4 m",     "fs/ws/create 1 the-end"};
    sa_loop_lock(l.loop);
    assert_int_equal(l.n, sizeof expected / sizeof *expected);
    for (int i = 0; i < l.n; i++)
        assert_string_equal(l.told[i], expected[i]);
    bus_subscriber_free(l.bus);
    sa_loop_stop(l.loop);
    sa_loop_unlock(l.loop);
    pthread_join(thread, NULL);
    sa_loop_free(l.loop);
    tree_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_change_is_told_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
