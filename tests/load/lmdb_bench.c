/* Appends to the store: grouped against one by one, in each durability setting, and against bare LMDB in
 * batches of 100.
 *
 * A record is an event of 300 bytes under (session, seq), as session-svc writes them. "One by one" waits for
 * each completion before the next set is queued; "grouped" keeps up to 1000 sets queued, as many busy
 * sessions do. Usage: lmdb_bench [records] (default 20000). */
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { VALUE = 300, QUEUED = 1000, BATCH = 100 };

static const struct store_table tables[] = {{"events", 1, NULL}};

struct bench {
    struct sa_loop *loop;
    struct store *store;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint64_t queued, done;
};

static void on_done(void *user, const sa_error *err)
{
    struct bench *b = user;
    if (err) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    pthread_mutex_lock(&b->mutex);
    b->done++;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->mutex);
}

static void append(struct bench *b, uint64_t seq)
{
    char value[VALUE] = "";
    struct store_key key = store_key_of("0123456789abcdef", 16);
    struct store_set *set = store_set_new();
    store_key_add_u64(&key, seq);
    store_put_bytes(set, 0, &key, value, sizeof value);
    sa_loop_lock(b->loop);
    store_commit(b->store, set, on_done, b, NULL);
    sa_loop_unlock(b->loop);
}

static void wait_until_queued(struct bench *b, uint64_t at_most)
{
    pthread_mutex_lock(&b->mutex);
    while (b->queued - b->done > at_most)
        pthread_cond_wait(&b->cond, &b->mutex);
    pthread_mutex_unlock(&b->mutex);
}

/* Records a second. */
static double run_store(const char *dir, enum store_durability durability, uint64_t n, uint64_t depth)
{
    struct bench b = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct store_options opt = {.dir = dir, .tables = tables, .n_tables = 1, .durability = durability};
    sa_error *err = NULL;
    sa_remove_tree(dir, NULL);
    b.loop = sa_loop_new(NULL);
    b.store = store_open(b.loop, &opt, &err);
    if (!b.store) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    uint64_t start = sa_now_ns();
    for (uint64_t seq = 0; seq < n; seq++) {
        wait_until_queued(&b, depth - 1);
        b.queued++;
        append(&b, seq);
    }
    wait_until_queued(&b, 0);
    double seconds = (double)(sa_now_ns() - start) / 1e9;
    store_free(b.store);
    sa_loop_free(b.loop);
    sa_remove_tree(dir, NULL);
    return (double)n / seconds;
}

static double run_bare(const char *dir, unsigned flags, uint64_t n)
{
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;
    char value[VALUE] = "";
    uint8_t key[24] = "0123456789abcdef";
    sa_remove_tree(dir, NULL);
    sa_mkdirs(dir, 0700, NULL);
    int rc = mdb_env_create(&env);
    rc = rc ? rc : mdb_env_set_mapsize(env, 1ull << 30);
    rc = rc ? rc : mdb_env_open(env, dir, flags, 0600);
    uint64_t start = sa_now_ns();
    for (uint64_t seq = 0; !rc && seq < n;) {
        rc = mdb_txn_begin(env, NULL, 0, &txn);
        rc = rc ? rc : mdb_dbi_open(txn, NULL, 0, &dbi);
        for (int i = 0; !rc && i < BATCH && seq < n; i++, seq++) {
            for (int k = 0; k < 8; k++)
                key[16 + k] = (uint8_t)(seq >> (56 - 8 * k));
            MDB_val k = {sizeof key, key}, v = {sizeof value, value};
            rc = mdb_put(txn, dbi, &k, &v, 0);
        }
        rc = rc ? rc : mdb_txn_commit(txn);
    }
    double seconds = (double)(sa_now_ns() - start) / 1e9;
    mdb_env_close(env);
    sa_remove_tree(dir, NULL);
    if (rc) {
        fprintf(stderr, "%s\n", mdb_strerror(rc));
        exit(1);
    }
    return (double)n / seconds;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        enum store_durability durability;
        unsigned flags;
    } settings[] = {
        {"fsync", STORE_FSYNC, 0},
        {"nometasync", STORE_NOMETASYNC, MDB_NOMETASYNC},
        {"nosync", STORE_NOSYNC, MDB_NOSYNC},
    };
    const char *base = getenv("TEST_TMPDIR");
    char dir[512];
    snprintf(dir, sizeof dir, "%s/lmdb_bench.%d", base ? base : "/var/tmp", (int)getpid());
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    printf("appends of %d bytes, records/s\n%-12s %12s %12s %8s %16s %8s\n", VALUE, "durability",
           "one by one", "grouped", "ratio", "bare LMDB x100", "ratio");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        bool syncs = settings[i].durability != STORE_NOSYNC;
        double one = run_store(dir, settings[i].durability, syncs ? n / 10 : n, 1);
        double grouped = run_store(dir, settings[i].durability, n, QUEUED);
        double bare = run_bare(dir, settings[i].flags, n);
        printf("%-12s %12.0f %12.0f %8.1f %16.0f %8.2f\n", settings[i].name, one, grouped, grouped / one,
               bare, grouped / bare);
    }
    return 0;
}
