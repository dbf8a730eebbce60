/* The environment and the writer.
 *
 * Design notes
 *
 * Who may touch the environment: readers under the service lock; the writer thread for one write transaction
 * at a time, without the lock; whoever commits inline, under the lock and only while the writer is idle.
 * Remapping or reopening needs the lock and no open transaction: the writer does it between its transactions.
 *
 * Order: sets are committed in the order of store_commit, and completions run in that order. A small set in
 * nosync mode is committed inline only when nothing is queued and the writer's last completions have run.
 * When a completion commits inline again, its own completion waits until the outer one has returned: no
 * recursion.
 *
 * Full: LMDB needs free pages to delete. When a group that deletes meets a full map, the map is made larger
 * by a reserve for that one transaction and put back to its size after it, so that other sets cannot live on
 * the reserve. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/lmdb/store_internal.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Sanitizers' shadow memory leaves little room for maps. */
#ifdef SANITIZED
static const uint64_t default_map_size = 1ull << 30;
#else
static const uint64_t default_map_size = 64ull << 30;
#endif

enum {
    GROUP_BYTES = 32 << 20, /* a group ends after the set that passes it */
    INLINE_BYTES = 64 << 10,
    INLINE_OPS = 64,
    TYPES_MAX = 256,
};
static const char schema_table[] =
    "sa.schema";                            /* table name -> schema of the newest program that wrote here */
static const char epoch_key[] = "sa.epoch"; /* no table has a dot in its name */

int store_fail_mdb(sa_error **err, int rc, const char *what)
{
    enum sa_reason reason = SA_STORE_ERROR;
    if (rc == MDB_MAP_FULL)
        reason = SA_STORE_FULL;
    else if (rc == ENOSPC || rc == EDQUOT)
        reason = SA_NO_SPACE;
    else if (rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID)
        reason = SA_STORE_CORRUPT;
    return sa_fail(err, reason, "store: %s: %s", what, mdb_strerror(rc));
}

/* ---- opening ---- */

/* protobuf-c unpacks recursively: a type that contains itself could be nested without bound. */
static bool is_recursive(const ProtobufCMessageDescriptor *d, const ProtobufCMessageDescriptor **path,
                         size_t depth, const ProtobufCMessageDescriptor **seen, size_t *n_seen)
{
    for (size_t i = 0; i < depth; i++) {
        if (path[i] == d)
            return true;
    }
    for (size_t i = 0; i < *n_seen; i++) {
        if (seen[i] == d)
            return false;
    }
    if (*n_seen >= TYPES_MAX)
        return true;
    path[depth] = d;
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (f->type == PROTOBUF_C_TYPE_MESSAGE && is_recursive(f->descriptor, path, depth + 1, seen, n_seen))
            return true;
    }
    seen[(*n_seen)++] = d;
    return false;
}

static int check_tables(const struct store_options *opt, sa_error **err)
{
    if (opt->n_tables > STORE_TABLES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "store %s: %zu tables; the limit is %d", opt->dir,
                       opt->n_tables, STORE_TABLES_MAX);
    for (size_t i = 0; i < opt->n_tables; i++) {
        const struct store_table *t = &opt->tables[i];
        const ProtobufCMessageDescriptor *path[TYPES_MAX + 1], *seen[TYPES_MAX];
        size_t n_seen = 0;
        if (!t->name || !t->name[0] || !t->schema)
            return sa_fail(err, SA_INVALID_REQUEST, "store %s: table %zu has no name or no schema number",
                           opt->dir, i);
        if (t->type && is_recursive(t->type, path, 0, seen, &n_seen))
            return sa_fail(err, SA_INVALID_REQUEST, "store %s: table %s has the recursive type %s", opt->dir,
                           t->name, t->type->name);
    }
    return 0;
}

static int open_epoch(struct store *s, MDB_txn *txn, MDB_dbi meta)
{
    MDB_val k = {sizeof epoch_key - 1, (void *)(uintptr_t)epoch_key}, v;
    int rc = mdb_get(txn, meta, &k, &v);
    if (!rc && v.mv_size == sizeof s->epoch) {
        memcpy(&s->epoch, v.mv_data, sizeof s->epoch);
        return 0;
    }
    while (!s->epoch)
        sa_random(&s->epoch, sizeof s->epoch);
    v = (MDB_val){sizeof s->epoch, &s->epoch};
    return rc == MDB_NOTFOUND ? mdb_put(txn, meta, &k, &v, 0) : rc ? rc : MDB_CORRUPTED;
}

/* Opens the tables, and checks and raises their schema numbers. */
static int open_tables(struct store *s, MDB_txn *txn, sa_error **err)
{
    MDB_dbi meta;
    int rc = mdb_dbi_open(txn, schema_table, MDB_CREATE, &meta);
    if (!rc)
        rc = open_epoch(s, txn, meta);
    for (size_t i = 0; !rc && i < s->n_tables; i++) {
        const struct store_table *t = &s->tables[i];
        if ((rc = mdb_dbi_open(txn, t->name, MDB_CREATE, &s->dbi[i])))
            break;
        MDB_val k = {strlen(t->name), (void *)t->name}, v;
        uint8_t mine[2] = {(uint8_t)(t->schema >> 8), (uint8_t)t->schema};
        rc = mdb_get(txn, meta, &k, &v);
        if (rc && rc != MDB_NOTFOUND)
            break;
        unsigned stored =
            !rc && v.mv_size == 2 ? (unsigned)((uint8_t *)v.mv_data)[0] << 8 | ((uint8_t *)v.mv_data)[1] : 0;
        if (stored > t->schema)
            return sa_fail(
                err, SA_STORE_SCHEMA_NEWER,
                "%s was written by a newer program (table %s has schema %u, this program knows %u)", s->dir,
                t->name, stored, t->schema);
        rc = 0;
        if (stored < t->schema) {
            v = (MDB_val){sizeof mine, mine};
            rc = mdb_put(txn, meta, &k, &v, 0);
        }
    }
    return rc ? store_fail_mdb(err, rc, "open the tables") : 0;
}

static int open_env(struct store *s, sa_error **err)
{
    unsigned flags = MDB_NOTLS;
    if (s->durability == STORE_NOSYNC)
        flags |= MDB_NOSYNC;
    else if (s->durability == STORE_NOMETASYNC)
        flags |= MDB_NOMETASYNC;
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    int rc = mdb_env_create(&env), dead;
    if (!rc)
        rc = mdb_env_set_mapsize(env, s->map_size);
    if (!rc)
        rc = mdb_env_set_maxdbs(env, (MDB_dbi)s->n_tables + 1);
    if (!rc)
        rc = mdb_env_open(env, s->dir, flags, 0600);
    if (!rc)
        rc = mdb_reader_check(env, &dead);
    if (!rc)
        rc = mdb_txn_begin(env, NULL, 0, &txn);
    int r = rc ? store_fail_mdb(err, rc, s->dir) : open_tables(s, txn, err);
    if (r && txn)
        mdb_txn_abort(txn);
    else if (!r && (rc = mdb_txn_commit(txn)))
        r = store_fail_mdb(err, rc, s->dir);
    if (r) {
        mdb_env_close(env);
        return -1;
    }
    s->env = env;
    return 0;
}

static void *run_writer(void *arg);

enum store_durability store_durability_of(const char *name)
{
    if (!strcmp(name, "nosync"))
        return STORE_NOSYNC;
    return strcmp(name, "fsync") ? STORE_NOMETASYNC : STORE_FSYNC;
}

struct store *store_open(struct sa_loop *loop, const struct store_options *opt, sa_error **err)
{
    if (check_tables(opt, err) || sa_mkdirs(opt->dir, 0700, err))
        return NULL;
    struct store *s = sa_calloc(1, sizeof *s);
    s->loop = loop;
    s->tables = opt->tables;
    s->n_tables = opt->n_tables;
    s->dir = sa_strdup(opt->dir);
    s->map_size = opt->map_size ? opt->map_size : default_map_size;
    s->durability = opt->durability;
    s->before_commit = opt->before_commit;
    s->before_commit_user = opt->before_commit_user;
    s->queue.tail = &s->queue.head;
    s->told_later.tail = &s->told_later.head;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->cond, NULL);
    int r = open_env(s, err);
    if (!r && (r = pthread_create(&s->writer, NULL, run_writer, s))) {
        mdb_env_close(s->env);
        r = sa_fail_errno(err, r, "store %s: start the writer thread", s->dir);
    }
    if (r) {
        pthread_cond_destroy(&s->cond);
        pthread_mutex_destroy(&s->mutex);
        free(s->dir);
        free(s);
        return NULL;
    }
    return s;
}

void store_free(struct store *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->mutex);
    s->closing = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->writer, NULL);
    store_reader_close(s);
    if (s->env) {
        mdb_env_sync(s->env, 1);
        mdb_env_close(s->env);
    }
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->mutex);
    free(s->dir);
    free(s);
}

uint64_t store_epoch(const struct store *s)
{
    return s->epoch;
}

bool store_degraded(const struct store *s)
{
    return s->degraded;
}

void store_stats(struct store *s, struct store_stats *ret)
{
    struct store_stats stats = s->stats;
    MDB_envinfo info;
    MDB_stat stat;
    if (s->env && !mdb_env_info(s->env, &info) && !mdb_env_stat(s->env, &stat)) {
        stats.used_bytes = (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
        stats.map_bytes = s->map_size;
    }
    pthread_mutex_lock(&s->mutex);
    stats.queued_sets = s->queued_sets;
    stats.queued_bytes = s->queued_bytes;
    pthread_mutex_unlock(&s->mutex);
    *ret = stats;
}

/* ---- one transaction ---- */

static int delete_range(struct store *s, MDB_txn *txn, const struct store_op *op)
{
    struct store_key pair[2], prefix = store_key_of(op->key, op->key_len);
    memcpy(pair, op->value, sizeof pair);
    const struct store_key *start = pair[0].len ? &pair[0] : &prefix;
    MDB_val k = {start->len, (void *)start->data}, v, until = {pair[1].len, pair[1].data};
    MDB_cursor *c;
    int rc = mdb_cursor_open(txn, s->dbi[op->table], &c);
    if (rc)
        return rc;
    MDB_val p = {prefix.len, prefix.data};
    if (start != &prefix && mdb_cmp(txn, s->dbi[op->table], &k, &p) < 0)
        k = p;
    rc = mdb_cursor_get(c, &k, &v, k.mv_size ? MDB_SET_RANGE : MDB_FIRST);
    while (!rc && store_has_prefix(&k, &prefix) &&
           (!until.mv_size || mdb_cmp(txn, s->dbi[op->table], &k, &until) < 0)) {
        rc = mdb_cursor_del(c, 0);
        if (!rc)
            rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int apply_op(struct store *s, MDB_txn *txn, const struct store_op *op)
{
    MDB_dbi dbi = s->dbi[op->table];
    MDB_val k = {op->key_len, op->key}, v = {op->value_len, op->value};
    int rc = 0;
    switch (op->kind) {
    case STORE_OP_APPEND:
        rc = mdb_put(txn, dbi, &k, &v, MDB_APPEND);
        return rc == MDB_KEYEXIST ? mdb_put(txn, dbi, &k, &v, 0) : rc;
    case STORE_OP_PUT:
        return mdb_put(txn, dbi, &k, &v, 0);
    case STORE_OP_DELETE:
        rc = mdb_del(txn, dbi, &k, NULL);
        return rc == MDB_NOTFOUND ? 0 : rc;
    case STORE_OP_DELETE_RANGE:
        return delete_range(s, txn, op);
    }
    return EINVAL;
}

/* Puts the sets into one transaction and commits it. 0, an errno value or an MDB_ code. */
static int commit_sets(struct store *s, struct store_set *sets)
{
    MDB_txn *txn;
    if (!s->env)
        return MDB_PANIC;
    int rc = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rc)
        return rc;
    for (struct store_set *set = sets; set && !rc; set = set->next) {
        struct store_op op;
        for (size_t at = 0; !rc && store_set_next(set, &at, &op);)
            rc = apply_op(s, txn, &op);
    }
    if (!rc && s->before_commit)
        rc = s->before_commit(s->before_commit_user);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* Under the service lock: no read is open, and the caller has no transaction. */
static int resize(struct store *s, uint64_t size)
{
    store_reader_close(s);
    return mdb_env_set_mapsize(s->env, size);
}

/* The same with the reserve; under the service lock. */
static int commit_with_reserve(struct store *s, struct store_set *sets)
{
    uint64_t reserve = s->map_size / 64 > 16 << 20 ? s->map_size / 64 : 16 << 20;
    int rc = resize(s, s->map_size + reserve);
    if (!rc)
        rc = commit_sets(s, sets);
    int back = resize(s, s->map_size); /* LMDB keeps it large enough for what is used */
    return rc ? rc : back;
}

static bool any_reclaims(const struct store_set *sets)
{
    for (; sets; sets = sets->next) {
        if (store_set_reclaims(sets))
            return true;
    }
    return false;
}

/* ---- completions: under the service lock ---- */

static void finish(struct store_set *set, const sa_error *err)
{
    if (set->done)
        set->done(set->user, err);
    store_set_free(set);
}

static void count(struct store *s, const struct store_set *sets, int rc)
{
    s->degraded = rc != 0;
    if (rc) {
        s->stats.failures++;
        return;
    }
    s->stats.commits++;
    for (; sets; sets = sets->next) {
        s->stats.sets++;
        s->stats.rows += sets->n_ops;
    }
}

/* After LMDB has met an I/O error while writing its meta page it refuses everything until opened again. */
static void reopen_after_panic(struct store *s, int rc)
{
    if (rc != MDB_PANIC)
        return;
    store_reader_close(s);
    if (s->env)
        mdb_env_close(s->env);
    s->env = NULL;
    cleanup_error sa_error *err = NULL;
    (void)open_env(s, &err); /* without it every commit fails with MDB_PANIC and comes here again */
}

static void tell_failure(struct store *s, struct store_set_list *sets, int rc)
{
    cleanup_error sa_error *err = NULL;
    store_fail_mdb(&err, rc, "commit");
    reopen_after_panic(s, rc);
    s->failing = true;
    for (struct store_set *set; (set = store_list_pop(sets));)
        finish(set, err);
    s->failing = false;
}

/* ---- the writer thread ---- */

/* Under the mutex. */
static size_t take_group(struct store *s, struct store_set_list *ret)
{
    size_t bytes = 0;
    *ret = (struct store_set_list){NULL, &ret->head};
    while (s->queue.head && bytes < GROUP_BYTES) {
        struct store_set *set = store_list_pop(&s->queue);
        bytes += set->ops.len;
        store_list_push(ret, set);
    }
    return bytes;
}

/* Returns with the service lock held. */
static void write_group(struct store *s, struct store_set_list *group, size_t bytes)
{
    size_t sets = 0;
    for (struct store_set *set = group->head; set; set = set->next)
        sets++;
    int rc = commit_sets(s, group->head);
    sa_loop_lock(s->loop);
    if (rc == MDB_MAP_FULL && any_reclaims(group->head))
        rc = commit_with_reserve(s, group->head);
    count(s, group->head, rc);
    if (!rc) {
        for (struct store_set *set; (set = store_list_pop(group));)
            finish(set, NULL);
        pthread_mutex_lock(&s->mutex);
        s->queued_sets -= sets;
        s->queued_bytes -= bytes;
        pthread_mutex_unlock(&s->mutex);
    } else {
        pthread_mutex_lock(&s->mutex);
        for (struct store_set *set; (set = store_list_pop(&s->queue));)
            store_list_push(group, set);
        s->queued_sets = s->queued_bytes = 0;
        pthread_mutex_unlock(&s->mutex);
        tell_failure(s, group, rc);
    }
}

static void *run_writer(void *arg)
{
    struct store *s = arg;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->queue.head && !s->closing)
            pthread_cond_wait(&s->cond, &s->mutex);
        if (!s->queue.head)
            break;
        struct store_set_list group;
        size_t bytes = take_group(s, &group);
        s->busy = true;
        pthread_mutex_unlock(&s->mutex);
        write_group(s, &group, bytes);
        pthread_mutex_lock(&s->mutex);
        s->busy = false;
        pthread_mutex_unlock(&s->mutex);
        sa_loop_unlock(s->loop);
        pthread_mutex_lock(&s->mutex);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* ---- committing ---- */

static int check_set(struct store *s, struct store_set *set, sa_error **err)
{
    if (s->reading)
        return sa_fail(err, SA_STORE_ERROR, "store %s: write from inside a scan", s->dir);
    if (s->failing)
        return sa_fail(err, SA_STORE_ERROR, "store %s: a failed commit is being told; write again after it",
                       s->dir);
    if (set->too_large)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "store %s: a write set is over the limit of %d bytes",
                       s->dir, STORE_SET_MAX);
    if (set->bad_key)
        return sa_fail(err, SA_INVALID_REQUEST, "store %s: a key is empty or over %d bytes", s->dir,
                       STORE_KEY_MAX);
    struct store_op op;
    for (size_t at = 0; store_set_next(set, &at, &op);) {
        if (op.table < 0 || (size_t)op.table >= s->n_tables)
            return sa_fail(err, SA_INVALID_REQUEST, "store %s: there is no table %d", s->dir, op.table);
        const struct store_table *t = &s->tables[op.table];
        if (op.kind == STORE_OP_DELETE || op.kind == STORE_OP_DELETE_RANGE)
            continue;
        if (op.type != t->type)
            return sa_fail(err, SA_INVALID_REQUEST, "store %s: table %s holds %s, not %s", s->dir, t->name,
                           t->type ? t->type->name : "bytes", op.type ? op.type->name : "bytes");
        op.value[0] = (uint8_t)(t->schema >> 8);
        op.value[1] = (uint8_t)t->schema;
    }
    return 0;
}

static void commit_inline(struct store *s, struct store_set *set)
{
    set->next = NULL;
    set->rc = commit_sets(s, set);
    if (set->rc == MDB_MAP_FULL && store_set_reclaims(set))
        set->rc = commit_with_reserve(s, set);
    count(s, set, set->rc);
    s->failing = set->rc != 0; /* nothing more until it was told */
    store_list_push(&s->told_later, set);
    if (s->telling)
        return;
    s->telling = true;
    while (s->told_later.head) {
        struct store_set_list one = {NULL, &one.head};
        store_list_push(&one, store_list_pop(&s->told_later));
        if (one.head->rc)
            tell_failure(s, &one, one.head->rc);
        else
            finish(one.head, NULL);
    }
    s->telling = false;
}

int store_commit(struct store *s, struct store_set *set, store_done_fn *done, void *user, sa_error **err)
{
    if (check_set(s, set, err)) {
        store_set_free(set);
        return -1;
    }
    set->done = done;
    set->user = user;
    pthread_mutex_lock(&s->mutex);
    bool small = set->ops.len <= INLINE_BYTES && set->n_ops <= INLINE_OPS && !set->has_range;
    bool at_once = s->durability == STORE_NOSYNC && small && !s->busy && !s->queue.head;
    bool room = set->ops.len <= STORE_QUEUE_MAX - s->queued_bytes;
    if (!at_once && room) {
        store_list_push(&s->queue, set);
        s->queued_sets++;
        s->queued_bytes += set->ops.len;
        pthread_cond_signal(&s->cond);
    }
    pthread_mutex_unlock(&s->mutex);
    if (at_once) {
        commit_inline(s, set);
    } else if (!room) {
        store_set_free(set);
        return sa_fail(err, SA_TOO_MANY, "store %s: %d bytes wait to be written already", s->dir,
                       STORE_QUEUE_MAX);
    }
    return 0;
}
