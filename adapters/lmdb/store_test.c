#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/wait.h>

#include "adapters/lmdb/store_fixture.h"

/* ---- writing ---- */

static void what_was_told_can_be_read_and_survives_reopening(void **state)
{
    struct fixture *f = *state;
    struct store_set *set = store_set_new();
    put_head(set, key_of(1, 1), 77);
    struct store_key k = store_key_of("blob", 4);
    store_put_bytes(set, BLOBS, &k, "a\0b", 3);
    assert_string_equal(commit_wait(f, set), "");
    reopen(f, STORE_FSYNC, 0);
    assert_int_equal(stored(f, 1, 1), 77);
    assert_int_equal(stored(f, 1, 2), -1);
    cleanup_buf struct sa_buf b = {0};
    sa_loop_lock(f->loop);
    assert_int_equal(store_get_bytes(f->store, BLOBS, &k, &b, NULL), 1);
    sa_loop_unlock(f->loop);
    assert_int_equal(b.len, 3);
    assert_memory_equal(b.data, "a\0b", 3);
    set = store_set_new();
    store_delete(set, BLOBS, &k);
    store_delete(set, BLOBS, &k);
    assert_string_equal(commit_wait(f, set), "");
    sa_loop_lock(f->loop);
    assert_int_equal(store_get_bytes(f->store, BLOBS, &k, &b, NULL), 0);
    sa_loop_unlock(f->loop);
}

static void completions_come_in_order_and_in_groups(void **state)
{
    struct fixture *f = *state;
    struct told t;
    told_init(&t, f);
    set_fault(f, 0, true);
    sa_loop_lock(f->loop);
    commit_one(f, 1, 0, &t, 0);
    sa_loop_unlock(f->loop);
    wait_held(f);
    sa_loop_lock(f->loop);
    for (int i = 1; i < 500; i++)
        commit_one(f, 1, (uint64_t)i, &t, i);
    struct store_stats stats;
    store_stats(f->store, &stats);
    assert_int_equal(stats.queued_sets, 500);
    sa_loop_unlock(f->loop);
    set_fault(f, 0, false);
    wait_told(&t, 500);
    for (int i = 0; i < 500; i++)
        assert_int_equal(t.order[i], i);
    assert_false(t.unlocked);
    sa_loop_lock(f->loop);
    store_stats(f->store, &stats);
    sa_loop_unlock(f->loop);
    assert_int_equal(stats.commits, 2);
    assert_int_equal(stats.sets, 500);
    assert_int_equal(stats.rows, 500);
    assert_int_equal(stats.queued_sets + stats.queued_bytes, 0);
}

static void nothing_is_visible_before_the_commit(void **state)
{
    struct fixture *f = *state;
    struct told t;
    told_init(&t, f);
    set_fault(f, 0, true);
    sa_loop_lock(f->loop);
    commit_one(f, 1, 1, &t, 0);
    sa_loop_unlock(f->loop);
    wait_held(f);
    assert_int_equal(stored(f, 1, 1), -1);
    set_fault(f, 0, false);
    wait_told(&t, 1);
    assert_int_equal(stored(f, 1, 1), 1);
}

static void a_failed_commit_fails_everything_queued_meanwhile_then_goes_on(void **state)
{
    struct fixture *f = *state;
    struct told t;
    told_init(&t, f);
    set_fault(f, EIO, true);
    sa_loop_lock(f->loop);
    commit_one(f, 1, 0, &t, 0);
    sa_loop_unlock(f->loop);
    wait_held(f);
    sa_loop_lock(f->loop);
    for (int i = 1; i < 10; i++)
        commit_one(f, 1, (uint64_t)i, &t, i);
    sa_loop_unlock(f->loop);
    set_fault(f, EIO, false);
    wait_told(&t, 10);
    assert_int_equal(t.n_failed, 10);
    for (int i = 0; i < 10; i++)
        assert_int_equal(t.order[i], i);
    assert_string_equal(t.reason, "STORE_ERROR");
    sa_loop_lock(f->loop);
    assert_true(store_degraded(f->store));
    sa_loop_unlock(f->loop);
    assert_int_equal(stored(f, 1, 0), -1);
    set_fault(f, 0, false);
    fill(f, 2, 1, 1);
    sa_loop_lock(f->loop);
    assert_false(store_degraded(f->store));
    sa_loop_unlock(f->loop);
    assert_int_equal(stored(f, 2, 1), 1);
}

static void an_io_error_that_stops_lmdb_is_recovered_by_opening_again(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 1, 10);
    set_fault(f, MDB_PANIC, false);
    struct store_set *set = store_set_new();
    put_head(set, key_of(1, 11), 11);
    assert_string_equal(commit_wait(f, set), "STORE_ERROR");
    set_fault(f, 0, false);
    assert_int_equal(stored(f, 1, 10), 10);
    fill(f, 1, 11, 1);
    assert_int_equal(stored(f, 1, 11), 11);
}

struct again {
    struct fixture *f;
    struct told *t;
    int r;
    char reason[48];
};

static void commit_again(void *user, const sa_error *err)
{
    struct again *a = user;
    cleanup_error sa_error *mine = NULL;
    assert_non_null(err);
    struct store_set *set = store_set_new();
    put_head(set, key_of(1, 1), 1);
    a->r = store_commit(a->f->store, set, NULL, NULL, &mine);
    strcpy(a->reason, mine ? mine->reason : "");
    struct ticket *k = sa_calloc(1, sizeof *k);
    *k = (struct ticket){a->t, 0};
    on_done(k, err);
}

static void a_completion_that_is_told_of_a_failure_cannot_write(void **state)
{
    struct fixture *f = *state;
    for (int mode = 0; mode < 2; mode++) {
        struct told t;
        told_init(&t, f);
        set_fault(f, 0, false);
        reopen(f, mode ? STORE_NOSYNC : STORE_NOMETASYNC, 0);
        set_fault(f, ENOSPC, false);
        struct again a = {.f = f, .t = &t};
        struct store_set *set = store_set_new();
        put_head(set, key_of(1, 1), 1);
        sa_loop_lock(f->loop);
        assert_int_equal(store_commit(f->store, set, commit_again, &a, NULL), 0);
        sa_loop_unlock(f->loop);
        wait_told(&t, 1);
        assert_string_equal(t.reason, "NO_SPACE");
        assert_int_equal(a.r, -1);
        assert_string_equal(a.reason, "STORE_ERROR");
    }
    set_fault(f, 0, false);
    fill(f, 1, 1, 1);
}

static void bad_sets_are_refused_before_they_are_queued(void **state)
{
    struct fixture *f = *state;
    sa_error *err = NULL;
    sa_loop_lock(f->loop);

    struct store_set *set = store_set_new();
    put_head(set, (struct store_key){0}, 1);
    assert_int_equal(store_commit(f->store, set, NULL, NULL, &err), -1);
    assert_true(sa_error_is(err, SA_INVALID_REQUEST));

    struct store_key longest = {0};
    for (int i = 0; i < STORE_KEY_MAX; i++)
        store_key_add(&longest, "k", 1);
    set = store_set_new();
    put_head(set, longest, 1);
    assert_int_equal(store_commit(f->store, set, NULL, NULL, NULL), 0);
    store_key_add(&longest, "k", 1);
    set = store_set_new();
    put_head(set, longest, 1);
    assert_int_equal(store_commit(f->store, set, NULL, NULL, &err), -1);

    struct store_key k = key_of(1, 1);
    set = store_set_new();
    store_put_bytes(set, HEADS, &k, "x", 1); /* bytes into a table of messages */
    assert_int_equal(store_commit(f->store, set, NULL, NULL, &err), -1);
    assert_non_null(strstr(err->message, "StreamHead"));
    set = store_set_new();
    store_put_bytes(set, N_TABLES, &k, "x", 1);
    assert_int_equal(store_commit(f->store, set, NULL, NULL, &err), -1);

    char *big = sa_calloc(1, STORE_SET_MAX / 2);
    set = store_set_new();
    store_put_bytes(set, BLOBS, &k, big, STORE_SET_MAX / 2);
    store_put_bytes(set, BLOBS, &k, big, STORE_SET_MAX / 2);
    assert_int_equal(store_commit(f->store, set, NULL, NULL, &err), -1);
    assert_true(sa_error_is(err, SA_MESSAGE_TOO_LARGE));
    sa_error_free(err);
    free(big);
    struct store_stats stats;
    store_stats(f->store, &stats);
    assert_true(stats.queued_sets <= 1);
    sa_loop_unlock(f->loop);
}

static void a_queue_that_is_full_refuses(void **state)
{
    struct fixture *f = *state;
    sa_error *err = NULL;
    enum { PIECE = 30 << 20 };
    char *big = sa_calloc(1, PIECE);
    set_fault(f, 0, true);
    sa_loop_lock(f->loop);
    int accepted = 0;
    for (; accepted < 20; accepted++) {
        struct store_key k = key_of(1, (uint64_t)accepted);
        struct store_set *set = store_set_new();
        store_put_bytes(set, BLOBS, &k, big, PIECE);
        if (store_commit(f->store, set, NULL, NULL, &err))
            break;
    }
    sa_loop_unlock(f->loop);
    assert_int_equal(accepted, STORE_QUEUE_MAX / PIECE);
    assert_true(sa_error_is(err, SA_TOO_MANY));
    sa_error_free(err);
    free(big);
    set_fault(f, EIO, false);
}

static void store_free_commits_what_is_queued(void **state)
{
    struct fixture *f = *state;
    struct told t;
    told_init(&t, f);
    sa_loop_lock(f->loop);
    for (int i = 0; i < 100; i++)
        commit_one(f, 1, (uint64_t)i, &t, i);
    sa_loop_unlock(f->loop);
    reopen(f, STORE_NOMETASYNC, 0);
    assert_int_equal(t.n, 100);
    assert_int_equal(stored(f, 1, 99), 99);
}

/* ---- nosync: inline commits ---- */

struct chain {
    struct fixture *f;
    int left, running, deepest, done;
};

static void chain_step(void *user, const sa_error *err)
{
    struct chain *c = user;
    assert_null(err);
    c->done++;
    c->running++;
    c->deepest = c->running > c->deepest ? c->running : c->deepest;
    if (c->left-- > 0) {
        struct store_set *set = store_set_new();
        put_head(set, key_of(9, (uint64_t)c->left), 1);
        assert_int_equal(store_commit(c->f->store, set, chain_step, c, NULL), 0);
    }
    c->running--;
}

static void nosync_commits_small_sets_at_once_and_without_recursion(void **state)
{
    struct fixture *f = *state;
    reopen(f, STORE_NOSYNC, 0);
    struct told t;
    told_init(&t, f);
    sa_loop_lock(f->loop);
    commit_one(f, 1, 1, &t, 7);
    assert_int_equal(t.n, 1);
    struct chain c = {.f = f, .left = 1000};
    struct store_set *set = store_set_new();
    assert_int_equal(store_commit(f->store, set, chain_step, &c, NULL), 0);
    sa_loop_unlock(f->loop);
    assert_int_equal(c.done, 1001);
    assert_int_equal(c.deepest, 1);
    assert_int_equal(stored(f, 1, 1), 1);
}

static void nosync_keeps_the_order_behind_a_large_set(void **state)
{
    struct fixture *f = *state;
    reopen(f, STORE_NOSYNC, 0);
    struct told t;
    told_init(&t, f);
    sa_loop_lock(f->loop);
    struct store_set *set = store_set_new();
    for (uint64_t i = 0; i < 5000; i++)
        put_head(set, key_of(1, i), i);
    assert_int_equal(commit(f, set, &t, 0, NULL), 0);
    for (int i = 1; i < 20; i++)
        commit_one(f, 2, (uint64_t)i, &t, i);
    assert_int_equal(t.n, 0);
    sa_loop_unlock(f->loop);
    wait_told(&t, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(t.order[i], i);
}

/* ---- kill -9 ---- */

static int tell_fd;

static void tell(void *user, const sa_error *err)
{
    uint64_t seq = (uint64_t)(uintptr_t)user;
    if (!err && write(tell_fd, &seq, sizeof seq) != (ssize_t)sizeof seq)
        _exit(1);
}

/* The program with arguments: writes for ever and tells each number that was committed. */
static void write_until_killed(const char *dir, enum store_durability d, uint64_t from)
{
    struct fixture f = {0};
    strcpy(f.dir, dir);
    pthread_mutex_init(&f.mutex, NULL);
    pthread_cond_init(&f.cond, NULL);
    f.loop = sa_loop_new(NULL);
    f.store = open_store(&f, d, 0, tables, NULL);
    tell_fd = STDOUT_FILENO;
    for (uint64_t seq = from; f.store; seq++) {
        sa_loop_lock(f.loop);
        struct store_set *set = store_set_new();
        put_head(set, key_of(1, seq), seq);
        put_head(set, key_of(2, 0), seq); /* the head, in the same set */
        store_commit(f.store, set, tell, (void *)(uintptr_t)seq, NULL);
        struct store_stats stats;
        store_stats(f.store, &stats);
        sa_loop_unlock(f.loop);
        while (stats.queued_sets > 100) {
            sa_loop_lock(f.loop);
            store_stats(f.store, &stats);
            sa_loop_unlock(f.loop);
        }
    }
}

static pid_t start_writer(const char *dir, enum store_durability d, uint64_t from, int *ret_fd)
{
    int fds[2];
    char mode[24], first[24];
    snprintf(mode, sizeof mode, "%d", (int)d);
    snprintf(first, sizeof first, "%llu", (unsigned long long)from);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (!pid) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "store_test", dir, mode, first, NULL);
        _exit(127);
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

static void what_was_told_is_there_after_kill_9(void **state)
{
    struct fixture *f = *state;
    uint64_t told = 0;
    for (int round = 0; round < 9; round++) {
        enum store_durability d = (enum store_durability)(round % 3);
        store_free(f->store);
        f->store = NULL;
        int fd;
        pid_t pid = start_writer(f->dir, d, told + 1, &fd);
        uint64_t seq = 0;
        for (int i = 0; i < 50 + 37 * round && read(fd, &seq, sizeof seq) == (ssize_t)sizeof seq; i++)
            told = seq;
        kill(pid, SIGKILL);
        while (read(fd, &seq, sizeof seq) == (ssize_t)sizeof seq)
            told = seq;
        close(fd);
        waitpid(pid, NULL, 0);
        reopen(f, STORE_NOMETASYNC, 0);
        int64_t head = stored(f, 2, 0);
        assert_true(head >= (int64_t)told);
        assert_int_equal(stored(f, 1, (uint64_t)head), head);
        assert_int_equal(stored(f, 1, (uint64_t)head + 1), -1);
        assert_int_equal(stored(f, 1, told), told);
        told = (uint64_t)head;
    }
}

int main(int argc, char **argv)
{
    if (argc == 4)
        write_until_killed(argv[1], (enum store_durability)atoi(argv[2]), strtoull(argv[3], NULL, 10));
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(what_was_told_can_be_read_and_survives_reopening),
        T(completions_come_in_order_and_in_groups),
        T(nothing_is_visible_before_the_commit),
        T(a_failed_commit_fails_everything_queued_meanwhile_then_goes_on),
        T(an_io_error_that_stops_lmdb_is_recovered_by_opening_again),
        T(a_completion_that_is_told_of_a_failure_cannot_write),
        T(bad_sets_are_refused_before_they_are_queued),
        T(a_queue_that_is_full_refuses),
        T(store_free_commits_what_is_queued),
        T(nosync_commits_small_sets_at_once_and_without_recursion),
        T(nosync_keeps_the_order_behind_a_large_set),
        T(what_was_told_is_there_after_kill_9),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
