#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lmdb.h>

#include "adapters/lmdb/store_fixture.h"

/* ---- reading ---- */

struct seen {
    uint64_t seq[200];
    int n, stop_after;
};

static bool see(void *user, const struct store_row *row)
{
    struct seen *s = user;
    cleanup_message Head *h = store_row_unpack(row, NULL);
    s->seq[s->n++] = h->seq;
    return s->n != s->stop_after;
}

static void expect_scan(struct fixture *f, struct store_range r, const char *expected)
{
    struct seen s = {0};
    char got[2000] = "";
    sa_loop_lock(f->loop);
    int64_t n = store_scan(f->store, &r, see, &s, NULL);
    sa_loop_unlock(f->loop);
    assert_int_equal(n, s.n);
    for (int i = 0; i < s.n; i++)
        sprintf(got + strlen(got), "%s%d", i ? " " : "", (int)s.seq[i]);
    assert_string_equal(got, expected);
}

static void scans_go_by_prefix_start_direction_and_limit(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 11, 3);
    fill(f, UINT64_MAX, 31, 3); /* a prefix of 0xff bytes has no successor */
    fill(f, 2, 21, 5);
    struct store_key p1 = {0}, p2 = {0}, pff = {0}, p3 = {0};
    store_key_add_u64(&p1, 1);
    store_key_add_u64(&p2, 2);
    store_key_add_u64(&p3, 3);
    store_key_add_u64(&pff, UINT64_MAX);
    struct store_key k23 = key_of(2, 23), k99 = key_of(2, 99), low = key_of(1, 12), high = key_of(3, 0);
    expect_scan(f, (struct store_range){.table = HEADS}, "11 12 13 21 22 23 24 25 31 32 33");
    expect_scan(f, (struct store_range){.table = HEADS, .reverse = true, .limit = 4}, "33 32 31 25");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2}, "21 22 23 24 25");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p3}, "");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p3, .reverse = true}, "");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &pff, .reverse = true}, "33 32 31");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p1, .reverse = true}, "13 12 11");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k23}, "23 24 25");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k23, .after = true}, "24 25");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k23, .reverse = true},
                "23 22 21");
    expect_scan(
        f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k23, .reverse = true, .after = true},
        "22 21");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k99, .after = true}, "");
    expect_scan(
        f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &k99, .reverse = true, .limit = 2},
        "25 24");
    /* a start outside of the prefix */
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &low, .limit = 2}, "21 22");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &low, .reverse = true}, "");
    expect_scan(f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &high}, "");
    expect_scan(
        f, (struct store_range){.table = HEADS, .prefix = &p2, .from = &high, .reverse = true, .limit = 1},
        "25");
}

static void pages_are_copies_and_say_whether_there_is_more(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 1, 10);
    struct store_page page = {0};
    struct store_range r = {.table = HEADS, .limit = 10};
    sa_loop_lock(f->loop);
    assert_int_equal(store_read_page(f->store, &r, &page, NULL), 0);
    assert_int_equal(page.n, 10);
    assert_false(page.more);
    store_page_fini(&page);
    r.limit = 9;
    assert_int_equal(store_read_page(f->store, &r, &page, NULL), 0);
    assert_int_equal(page.n, 9);
    assert_true(page.more);
    struct store_key last = store_key_of(page.rows[8].key, page.rows[8].key_len);
    assert_int_equal(store_u64(page.rows[8].key + 8), 9);
    store_page_fini(&page);
    r = (struct store_range){.table = HEADS, .from = &last, .after = true, .limit_bytes = 1};
    assert_int_equal(store_read_page(f->store, &r, &page, NULL), 0);
    assert_int_equal(page.n, 1);
    assert_false(page.more);
    cleanup_message Head *h = store_row_unpack(&page.rows[0], NULL);
    assert_int_equal(h->seq, 10);
    store_page_fini(&page);
    sa_loop_unlock(f->loop);
}

static bool read_inside(void *user, const struct store_row *row)
{
    struct fixture *f = user;
    (void)row;
    struct store_key k = key_of(1, 1);
    Head *h = NULL;
    assert_int_equal(store_get(f->store, HEADS, &k, &h, NULL), -1);
    assert_int_equal(store_commit(f->store, store_set_new(), NULL, NULL, NULL), -1);
    return true;
}

static void a_scan_refuses_calls_from_inside(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 1, 2);
    sa_loop_lock(f->loop);
    assert_int_equal(store_scan(f->store, &(struct store_range){.table = HEADS}, read_inside, f, NULL), 2);
    sa_loop_unlock(f->loop);
    assert_int_equal(stored(f, 1, 1), 1);
}

static void ranges_are_deleted_by_prefix_and_bounds(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 11, 3);
    fill(f, 2, 21, 9);
    fill(f, 3, 31, 2);
    struct store_key p2 = {0}, from = key_of(2, 23), until = key_of(2, 26);
    store_key_add_u64(&p2, 2);
    struct store_set *set = store_set_new();
    store_delete_range(set, HEADS, &p2, &from, &until);
    assert_string_equal(commit_wait(f, set), "");
    expect_scan(f, (struct store_range){.table = HEADS}, "11 12 13 21 22 26 27 28 29 31 32");
    set = store_set_new();
    store_delete_range(set, HEADS, &p2, NULL, NULL);
    assert_string_equal(commit_wait(f, set), "");
    expect_scan(f, (struct store_range){.table = HEADS}, "11 12 13 31 32");
    set = store_set_new();
    store_delete_range(set, HEADS, NULL, NULL, NULL);
    assert_string_equal(commit_wait(f, set), "");
    expect_scan(f, (struct store_range){.table = HEADS}, "");
}

/* ---- limits, versions, damage ---- */

static void a_full_store_says_so_and_still_deletes(void **state)
{
    struct fixture *f = *state;
    for (int mode = 0; mode < 2; mode++) {
        reopen(f, mode ? STORE_NOSYNC : STORE_NOMETASYNC, 1 << 20);
        char value[3000];
        memset(value, 'x', sizeof value);
        const char *reason = "";
        uint64_t n = 0;
        for (; n < 10000 && !*reason; n++) {
            struct store_set *set = store_set_new();
            struct store_key k = key_of(1, n);
            store_put_bytes(set, BLOBS, &k, value, sizeof value);
            reason = commit_wait(f, set);
        }
        assert_string_equal(reason, "STORE_FULL");
        assert_true(n > 100);
        for (uint64_t i = 0; i < n; i++) {
            struct store_set *set = store_set_new();
            struct store_key k = key_of(1, i);
            store_delete(set, BLOBS, &k);
            put_head(set, key_of(1, 0), i); /* as its owner notes what it did */
            assert_string_equal(commit_wait(f, set), "");
        }
        sa_loop_lock(f->loop);
        assert_false(store_degraded(f->store));
        sa_loop_unlock(f->loop);
        fill(f, 5, 1, 100); /* the room can be used again */
    }
}

static void a_newer_programs_store_is_refused(void **state)
{
    struct fixture *f = *state;
    fill(f, 1, 1, 1);
    store_free(f->store);
    struct store_table newer[N_TABLES] = {{"heads", 2, HEAD_TYPE}, {"blobs", 1, NULL}};
    f->store = open_store(f, STORE_NOMETASYNC, 0, newer, NULL);
    assert_int_equal(stored(f, 1, 1), 1); /* older records are read */
    store_free(f->store);
    cleanup_error sa_error *err = NULL;
    f->store = open_store(f, STORE_NOMETASYNC, 0, tables, &err);
    assert_null(f->store);
    assert_true(sa_error_is(err, SA_STORE_SCHEMA_NEWER));
    assert_non_null(strstr(err->message, "heads"));
}

/* Puts raw bytes where a record of `heads` is expected. */
static void damage(struct fixture *f, struct store_key key, const void *p, size_t n)
{
    store_free(f->store);
    f->store = NULL;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    assert_int_equal(mdb_env_create(&env), 0);
    mdb_env_set_maxdbs(env, 4);
    assert_int_equal(mdb_env_open(env, f->dir, 0, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "heads", 0, &dbi), 0);
    MDB_val k = {key.len, key.data}, v = {n, (void *)p};
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    reopen(f, STORE_NOMETASYNC, 0);
}

static void damaged_records_are_errors(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *bytes;
        size_t n;
        enum sa_reason reason;
    } cases[] = {
        {"", 0, SA_STORE_CORRUPT},
        {"\0", 1, SA_STORE_CORRUPT},
        {"\0\1\x0a\x7f", 4, SA_STORE_CORRUPT}, /* a length beyond the end */
        {"\0\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, SA_STORE_CORRUPT},
        {"\0\2", 2, SA_STORE_SCHEMA_NEWER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_key k = key_of(1, 1);
        damage(f, k, cases[i].bytes, cases[i].n);
        sa_error *err = NULL;
        Head *h = NULL;
        sa_loop_lock(f->loop);
        assert_int_equal(store_get(f->store, HEADS, &k, &h, &err), -1);
        sa_loop_unlock(f->loop);
        assert_true(sa_error_is(err, cases[i].reason));
        sa_error_free(err);
    }
}

static void a_file_that_is_no_store_is_refused(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    char path[100], junk[8192];
    memset(junk, 'j', sizeof junk);
    snprintf(path, sizeof path, "%s/data.mdb", f->dir);
    assert_int_equal(sa_write_file(path, junk, sizeof junk, 0600, NULL), 0);
    cleanup_error sa_error *err = NULL;
    f->store = open_store(f, STORE_NOMETASYNC, 0, tables, &err);
    assert_null(f->store);
    assert_true(sa_error_is(err, SA_STORE_CORRUPT));
    assert_non_null(strstr(err->message, f->dir));
}

/* Readers of a service's facts start over when the store is another one, and only then. */
static void the_epoch_stays_with_the_store_and_a_new_store_has_another(void **state)
{
    struct fixture *f = *state;
    uint64_t first = store_epoch(f->store);
    assert_true(first != 0);
    reopen(f, STORE_FSYNC, 0);
    assert_true(store_epoch(f->store) == first);
    store_free(f->store);
    sa_remove_tree(f->dir, NULL);
    f->store = open_store(f, STORE_NOMETASYNC, 0, tables, NULL);
    assert_non_null(f->store);
    assert_true(store_epoch(f->store) != 0 && store_epoch(f->store) != first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(the_epoch_stays_with_the_store_and_a_new_store_has_another),
        T(scans_go_by_prefix_start_direction_and_limit),
        T(pages_are_copies_and_say_whether_there_is_more),
        T(a_scan_refuses_calls_from_inside),
        T(ranges_are_deleted_by_prefix_and_bounds),
        T(a_full_store_says_so_and_still_deletes),
        T(a_newer_programs_store_is_refused),
        T(damaged_records_are_errors),
        T(a_file_that_is_no_store_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
