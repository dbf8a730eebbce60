/* Reads: one cached read transaction, renewed for each call and reset at its end, so that no page of the
 * store is pinned while the service does something else. LMDB cannot nest read transactions, hence `reading`.
 */
#include <stdlib.h>
#include <string.h>

#include "adapters/lmdb/store_internal.h"

void store_reader_close(struct store *s)
{
    if (s->reader)
        mdb_txn_abort(s->reader);
    s->reader = NULL;
}

static MDB_txn *begin(struct store *s, int table, sa_error **err)
{
    if (table < 0 || (size_t)table >= s->n_tables) {
        sa_fail(err, SA_INVALID_REQUEST, "store %s: there is no table %d", s->dir, table);
        return NULL;
    }
    if (s->reading) {
        sa_fail(err, SA_STORE_ERROR, "store %s: read from inside a scan", s->dir);
        return NULL;
    }
    if (!s->env) {
        sa_fail(err, SA_STORE_ERROR, "store %s: could not be opened again after an I/O error", s->dir);
        return NULL;
    }
    int rc = s->reader ? mdb_txn_renew(s->reader) : mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    if (rc) {
        store_fail_mdb(err, rc, "begin a read");
        return NULL;
    }
    s->reading = true;
    return s->reader;
}

static void end(struct store *s)
{
    mdb_txn_reset(s->reader);
    s->reading = false;
}

/* Takes the schema number off a value. */
static int open_value(const struct store_table *t, const MDB_val *v, const uint8_t **ret, size_t *ret_n,
                      sa_error **err)
{
    const uint8_t *p = v->mv_data;
    if (v->mv_size < STORE_SCHEMA_SIZE)
        return sa_fail(err, SA_STORE_CORRUPT, "table %s has a record of %zu bytes", t->name, v->mv_size);
    unsigned schema = (unsigned)p[0] << 8 | p[1];
    if (schema > t->schema)
        return sa_fail(err, SA_STORE_SCHEMA_NEWER,
                       "table %s has a record of schema %u; this program knows up to %u: start a newer one",
                       t->name, schema, t->schema);
    *ret = p + STORE_SCHEMA_SIZE;
    *ret_n = v->mv_size - STORE_SCHEMA_SIZE;
    return 0;
}

static void *unpack(const struct store_table *t, const uint8_t *p, size_t n, sa_error **err)
{
    void *m = t->type ? protobuf_c_message_unpack(t->type, NULL, n, p) : NULL;
    if (!m)
        sa_fail(err, SA_STORE_CORRUPT, "table %s has a record of %zu bytes that is no %s", t->name, n,
                t->type ? t->type->name : "message");
    return m;
}

void *store_row_unpack(const struct store_row *row, sa_error **err)
{
    return unpack(row->table, row->value, row->value_len, err);
}

void store_message_free(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

void store_cleanup_message(void *pp)
{
    store_message_free(*(void **)pp);
}

/* 1, 0 or -1; on 1 the value points into the map until end(). */
static int lookup(struct store *s, int table, const struct store_key *key, const uint8_t **ret, size_t *ret_n,
                  sa_error **err)
{
    if (!key->len || key->len > STORE_KEY_MAX)
        return 0;
    MDB_val k = {key->len, (void *)key->data}, v;
    int rc = mdb_get(s->reader, s->dbi[table], &k, &v);
    if (rc == MDB_NOTFOUND)
        return 0;
    if (rc)
        return store_fail_mdb(err, rc, "read a record");
    return open_value(&s->tables[table], &v, ret, ret_n, err) ? -1 : 1;
}

int store_get(struct store *s, int table, const struct store_key *key, void *ret_message, sa_error **err)
{
    const uint8_t *p;
    size_t n;
    if (!begin(s, table, err))
        return -1;
    int r = lookup(s, table, key, &p, &n, err);
    void *m = r == 1 ? unpack(&s->tables[table], p, n, err) : NULL;
    end(s);
    if (r == 1 && !m)
        return -1;
    if (m)
        *(void **)ret_message = m;
    return r;
}

int store_get_bytes(struct store *s, int table, const struct store_key *key, struct sa_buf *ret,
                    sa_error **err)
{
    const uint8_t *p;
    size_t n;
    if (!begin(s, table, err))
        return -1;
    int r = lookup(s, table, key, &p, &n, err);
    if (r == 1)
        sa_buf_add(ret, p, n);
    end(s);
    return r;
}

/* ---- scans ---- */

static int compare(const struct store_key *a, const struct store_key *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->data, b->data, n);
    return c ? c : (int)a->len - (int)b->len;
}

bool store_has_prefix(const MDB_val *key, const struct store_key *prefix)
{
    return !prefix || (key->mv_size >= prefix->len && !memcmp(key->mv_data, prefix->data, prefix->len));
}

/* The first key after all keys that begin with the prefix; false: there is none (all 0xff). */
static bool successor(const struct store_key *prefix, struct store_key *ret)
{
    *ret = *prefix;
    while (ret->len && ret->data[ret->len - 1] == 0xff)
        ret->len--;
    if (!ret->len)
        return false;
    ret->data[ret->len - 1]++;
    return true;
}

/* Puts the cursor on the first key >= bound (NULL: the first of all). */
static int seek_up(MDB_cursor *c, const struct store_key *bound, MDB_val *k, MDB_val *v)
{
    if (!bound || !bound->len)
        return mdb_cursor_get(c, k, v, MDB_FIRST);
    *k = (MDB_val){bound->len, (void *)bound->data};
    return mdb_cursor_get(c, k, v, MDB_SET_RANGE);
}

/* Puts the cursor on the last key < bound, or <= bound (NULL: the last of all). */
static int seek_down(MDB_cursor *c, const struct store_key *bound, bool inclusive, MDB_val *k, MDB_val *v)
{
    if (!bound)
        return mdb_cursor_get(c, k, v, MDB_LAST);
    int rc = seek_up(c, bound, k, v);
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(c, k, v, MDB_LAST);
    if (!rc && inclusive && k->mv_size == bound->len && !memcmp(k->mv_data, bound->data, bound->len))
        return 0;
    return rc ? rc : mdb_cursor_get(c, k, v, MDB_PREV);
}

static int seek(MDB_cursor *c, const struct store_range *r, MDB_val *k, MDB_val *v)
{
    const struct store_key *prefix = r->prefix && r->prefix->len ? r->prefix : NULL;
    if (!r->reverse) {
        const struct store_key *start = r->from;
        if (!start || (prefix && compare(start, prefix) < 0))
            start = prefix;
        int rc = seek_up(c, start, k, v);
        if (!rc && r->after && start == r->from && start && k->mv_size == start->len &&
            !memcmp(k->mv_data, start->data, start->len))
            rc = mdb_cursor_get(c, k, v, MDB_NEXT);
        return rc;
    }
    struct store_key end_key;
    const struct store_key *limit = prefix && successor(prefix, &end_key) ? &end_key : NULL;
    if (r->from && (!limit || compare(r->from, limit) < 0))
        return seek_down(c, r->from, !r->after, k, v);
    return seek_down(c, limit, false, k, v);
}

static int64_t scan(struct store *s, const struct store_range *r, store_row_fn *fn, void *user,
                    sa_error **err)
{
    const struct store_table *t = &s->tables[r->table];
    MDB_cursor *c;
    int rc = mdb_cursor_open(s->reader, s->dbi[r->table], &c);
    if (rc)
        return store_fail_mdb(err, rc, "open a cursor");
    MDB_val k, v;
    int64_t n = 0;
    size_t bytes = 0;
    for (rc = seek(c, r, &k, &v); !rc && store_has_prefix(&k, r->prefix);
         rc = mdb_cursor_get(c, &k, &v, r->reverse ? MDB_PREV : MDB_NEXT)) {
        struct store_row row = {.key = k.mv_data, .key_len = k.mv_size, .table = t};
        if (open_value(t, &v, &row.value, &row.value_len, err)) {
            mdb_cursor_close(c);
            return -1;
        }
        n++;
        bytes += k.mv_size + v.mv_size;
        if (!fn(user, &row) || (r->limit && n >= r->limit) || (r->limit_bytes && bytes >= r->limit_bytes))
            break;
    }
    mdb_cursor_close(c);
    return rc && rc != MDB_NOTFOUND ? store_fail_mdb(err, rc, "scan a table") : n;
}

int64_t store_scan(struct store *s, const struct store_range *range, store_row_fn *fn, void *user,
                   sa_error **err)
{
    if (!begin(s, range->table, err))
        return -1;
    int64_t n = scan(s, range, fn, user, err);
    end(s);
    return n;
}

/* ---- pages ---- */

struct copy {
    const struct store_range *range;
    struct store_page *page;
    struct sa_buf rows;
    size_t bytes;
};

static bool copy_row(void *user, const struct store_row *row)
{
    struct copy *c = user;
    const struct store_range *r = c->range;
    /* One row beyond the limit only tells that there is more. */
    if ((r->limit && c->page->n >= r->limit) || (r->limit_bytes && c->bytes >= r->limit_bytes)) {
        c->page->more = true;
        return false;
    }
    struct store_row mine = *row;
    mine.key = sa_arena_memdup(c->page->arena, row->key, row->key_len);
    mine.value = sa_arena_memdup(c->page->arena, row->value, row->value_len);
    sa_buf_add(&c->rows, &mine, sizeof mine);
    c->bytes += row->key_len + STORE_SCHEMA_SIZE + row->value_len;
    c->page->n++;
    return true;
}

int store_read_page(struct store *s, const struct store_range *range, struct store_page *ret, sa_error **err)
{
    struct store_page page = {.arena = sa_arena_new()};
    struct copy c = {.range = range, .page = &page};
    struct store_range all = *range;
    all.limit = 0;
    all.limit_bytes = 0;
    int64_t n = store_scan(s, &all, copy_row, &c, err);
    if (n < 0) {
        sa_buf_fini(&c.rows);
        sa_arena_free(page.arena);
        return -1;
    }
    page.rows = sa_arena_memdup(page.arena, c.rows.data, c.rows.len);
    sa_buf_fini(&c.rows);
    *ret = page;
    return 0;
}

void store_page_fini(struct store_page *page)
{
    sa_arena_free(page->arena);
    *page = (struct store_page){0};
}
