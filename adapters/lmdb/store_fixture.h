/* What the tests of the store share. Included once per test program. */
#ifndef ADAPTERS_LMDB_STORE_FIXTURE_H_
#define ADAPTERS_LMDB_STORE_FIXTURE_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/lmdb/store.h"
#include "adapters/os/file.h"
#include "sandboxagent/broker/v1/envelope.pb-c.h"

typedef Sandboxagent__Broker__V1__StreamHead Head;
#define HEAD_TYPE &sandboxagent__broker__v1__stream_head__descriptor

enum { HEADS, BLOBS, N_TABLES };
static const struct store_table tables[N_TABLES] = {
    {"heads", 1, HEAD_TYPE},
    {"blobs", 1, NULL},
};

struct fixture {
    char dir[64];
    struct sa_loop *loop;
    pthread_t thread;
    struct store *store;
    int fail_with; /* what before_commit answers */
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool hold; /* before_commit waits while set */
    bool held;
};

static inline void *run_loop(void *loop)
{
    sa_loop_run(loop);
    return NULL;
}

static inline int before_commit(void *user)
{
    struct fixture *f = user;
    pthread_mutex_lock(&f->mutex);
    f->held = true;
    pthread_cond_broadcast(&f->cond);
    while (f->hold)
        pthread_cond_wait(&f->cond, &f->mutex);
    f->held = false;
    int rc = f->fail_with;
    pthread_mutex_unlock(&f->mutex);
    return rc;
}

static inline void set_fault(struct fixture *f, int rc, bool hold)
{
    pthread_mutex_lock(&f->mutex);
    f->fail_with = rc;
    f->hold = hold;
    pthread_cond_broadcast(&f->cond);
    pthread_mutex_unlock(&f->mutex);
}

static inline void wait_held(struct fixture *f)
{
    pthread_mutex_lock(&f->mutex);
    while (!f->held)
        pthread_cond_wait(&f->cond, &f->mutex);
    pthread_mutex_unlock(&f->mutex);
}

static struct store *open_store(struct fixture *f, enum store_durability d, uint64_t map,
                                const struct store_table *t, sa_error **err)
{
    struct store_options opt = {
        .dir = f->dir, .tables = t, .n_tables = N_TABLES, .map_size = map, .durability = d};
    opt.before_commit = before_commit;
    opt.before_commit_user = f;
    return store_open(f->loop, &opt, err);
}

static inline void reopen(struct fixture *f, enum store_durability d, uint64_t map)
{
    sa_error *err = NULL;
    store_free(f->store);
    f->store = open_store(f, d, map, tables, &err);
    if (err)
        print_error("%s\n", err->message);
    assert_non_null(f->store);
}

static inline int setup(void **state)
{
    struct fixture *f = sa_calloc(1, sizeof *f);
    strcpy(f->dir, "/tmp/store.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->cond, NULL);
    f->loop = sa_loop_new(NULL);
    pthread_create(&f->thread, NULL, run_loop, f->loop);
    reopen(f, STORE_NOMETASYNC, 0);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    store_free(f->store);
    sa_loop_lock(f->loop);
    sa_loop_stop(f->loop);
    sa_loop_unlock(f->loop);
    pthread_join(f->thread, NULL);
    sa_loop_free(f->loop);
    pthread_cond_destroy(&f->cond);
    pthread_mutex_destroy(&f->mutex);
    sa_remove_tree(f->dir, NULL);
    free(f);
    return 0;
}

/* ---- helpers ---- */

static inline struct store_key key_of(uint64_t session, uint64_t seq)
{
    struct store_key k = {0};
    store_key_add_u64(&k, session);
    store_key_add_u64(&k, seq);
    return k;
}

static inline void put_head(struct store_set *set, struct store_key key, uint64_t seq)
{
    Head h = SANDBOXAGENT__BROKER__V1__STREAM_HEAD__INIT;
    h.seq = seq;
    store_put(set, HEADS, &key, &h.base);
}

/* What completions report: in the order of their calls. */
struct told {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    struct sa_loop *loop;
    int n, n_failed;
    int order[1000];
    char reason[48];
    bool unlocked; /* a completion ran without the service lock */
};

struct ticket {
    struct told *told;
    int number;
};

static inline void told_init(struct told *t, struct fixture *f)
{
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->cond, NULL);
    t->loop = f->loop;
}

static inline void on_done(void *user, const sa_error *err)
{
    struct ticket *k = user;
    struct told *t = k->told;
    pthread_mutex_lock(&t->mutex);
    t->order[t->n++] = k->number;
    t->unlocked = t->unlocked || !sa_loop_held(t->loop);
    if (err) {
        t->n_failed++;
        strcpy(t->reason, err->reason);
    }
    pthread_cond_broadcast(&t->cond);
    pthread_mutex_unlock(&t->mutex);
    free(k);
}

static inline void wait_told(struct told *t, int n)
{
    pthread_mutex_lock(&t->mutex);
    while (t->n < n)
        pthread_cond_wait(&t->cond, &t->mutex);
    pthread_mutex_unlock(&t->mutex);
}

/* Under the lock. */
static inline int commit(struct fixture *f, struct store_set *set, struct told *t, int number, sa_error **err)
{
    struct ticket *k = sa_calloc(1, sizeof *k);
    *k = (struct ticket){t, number};
    int r = store_commit(f->store, set, on_done, k, err);
    if (r)
        free(k);
    return r;
}

static inline void commit_one(struct fixture *f, uint64_t session, uint64_t seq, struct told *t, int number)
{
    struct store_set *set = store_set_new();
    put_head(set, key_of(session, seq), seq);
    assert_int_equal(commit(f, set, t, number, NULL), 0);
}

/* Takes the lock, commits, waits. The reason of the failure, or "". */
static const char *commit_wait(struct fixture *f, struct store_set *set)
{
    static struct told t;
    told_init(&t, f);
    sa_loop_lock(f->loop);
    assert_int_equal(commit(f, set, &t, 0, NULL), 0);
    sa_loop_unlock(f->loop);
    wait_told(&t, 1);
    assert_false(t.unlocked);
    return t.reason;
}

static inline int64_t stored(struct fixture *f, uint64_t session, uint64_t seq)
{
    Head *h = NULL;
    struct store_key k = key_of(session, seq);
    sa_loop_lock(f->loop);
    int r = store_get(f->store, HEADS, &k, &h, NULL);
    sa_loop_unlock(f->loop);
    int64_t value = r == 1 ? (int64_t)h->seq : r - 1;
    store_message_free(h);
    return value; /* -1: absent, -2: failed */
}

static inline void fill(struct fixture *f, uint64_t session, uint64_t from, uint64_t n)
{
    struct store_set *set = store_set_new();
    for (uint64_t i = from; i < from + n; i++) {
        struct store_key k = key_of(session, i);
        Head h = SANDBOXAGENT__BROKER__V1__STREAM_HEAD__INIT;
        h.seq = i;
        store_append(set, HEADS, &k, &h.base);
    }
    assert_string_equal(commit_wait(f, set), "");
}

#endif
