#include "services/fs-svc/records.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/change_records.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/replace.h"
#include "services/fs-svc/roots.h"
#include "services/fs-svc/scratch.h"

enum {
    WRITES,
    REQUESTS,
    HEADS,
    CHANGES = FS_TABLE_CHANGES,
    CHANGE_REQUESTS,
    UPLOADS,
    UPLOADS_DONE,
    UPLOAD_REQUESTS,
    MARKS = FS_TABLE_MARKS,
    N_TABLES
};

/* Keys: WRITES the write's id; REQUESTS principal NUL request_id NUL; HEADS the root's name NUL; UPLOADS and
 * UPLOADS_DONE the upload's id; UPLOAD_REQUESTS as REQUESTS.
 */
static const struct store_table tables[N_TABLES] = {
    [WRITES] = {"writes", 1, &write_record__descriptor},
    [REQUESTS] = {"requests", 1, &write_record__descriptor},
    [HEADS] = {"heads", 1, &root_head__descriptor},
    [CHANGES] = {"t_changes", 1, &change_record__descriptor},
    [CHANGE_REQUESTS] = {"t_requests", 1, &change_record__descriptor},
    [UPLOADS] = {"u_uploads", 1, &upload_record__descriptor},
    [UPLOADS_DONE] = {"u_done", 1, &upload_record__descriptor},
    [UPLOAD_REQUESTS] = {"u_requests", 1, &upload_record__descriptor},
    [MARKS] = {"w_marks", 1, &mark_record__descriptor},
};

struct head {
    char *root;
    uint64_t seq;
};

struct fs_records {
    struct sa_loop *loop;
    struct store *store;
    struct head heads[FS_ROOTS_MAX];
    size_t n_heads;
    struct sa_timer *sweep;
};

static struct store_key request_key(const char *principal, const char *request_id)
{
    struct store_key k = {0};
    store_key_add_string(&k, principal);
    store_key_add_string(&k, request_id);
    return k;
}

static struct store_key root_key(const char *root)
{
    struct store_key k = {0};
    store_key_add_string(&k, root);
    return k;
}

/* ---- the number of a root's last change ---- */

static uint64_t read_head(struct fs_records *r, const char *root)
{
    struct store_key k = root_key(root);
    cleanup_message RootHead *h = NULL;
    return store_get(r->store, HEADS, &k, &h, NULL) > 0 ? h->seq : 0;
}

static struct head *head_of(struct fs_records *r, const char *root)
{
    for (size_t i = 0; i < r->n_heads; i++)
        if (!strcmp(r->heads[i].root, root))
            return &r->heads[i];
    /* There are no more roots than FS_ROOTS_MAX, but the names of earlier starts may be among the records. */
    if (r->n_heads == FS_ROOTS_MAX)
        free(r->heads[--r->n_heads].root);
    r->heads[r->n_heads] = (struct head){sa_strdup(root), read_head(r, root)};
    return &r->heads[r->n_heads++];
}

void fs_records_reload(struct fs_records *r)
{
    for (size_t i = 0; i < r->n_heads; i++)
        r->heads[i].seq = read_head(r, r->heads[i].root);
}

/* ---- writes ---- */

int fs_records_find(struct fs_records *r, const char *principal, const char *request_id, WriteRecord **ret,
                    sa_error **err)
{
    struct store_key k = request_key(principal, request_id);
    return store_get(r->store, REQUESTS, &k, ret, err);
}

int fs_records_put(struct fs_records *r, struct sa_id id, const WriteRecord *w, store_done_fn *done,
                   void *user, sa_error **err)
{
    struct store_key k = store_key_of(id.bytes, sizeof id.bytes);
    struct store_set *set = store_set_new();
    store_put(set, WRITES, &k, &w->base);
    return store_commit(r->store, set, done, user, err);
}

int fs_records_drop(struct fs_records *r, struct sa_id id, store_done_fn *done, void *user, sa_error **err)
{
    struct store_key k = store_key_of(id.bytes, sizeof id.bytes);
    struct store_set *set = store_set_new();
    store_delete(set, WRITES, &k);
    return store_commit(r->store, set, done, user, err);
}

uint64_t fs_records_count(struct fs_records *r, struct store_set *set, const char *root)
{
    struct store_key k = root_key(root);
    RootHead row = ROOT_HEAD__INIT;
    row.seq = ++head_of(r, root)->seq;
    store_put(set, HEADS, &k, &row.base);
    return row.seq;
}

int fs_records_finish(struct fs_records *r, struct sa_id id, WriteRecord *w, uint64_t *ret_seq,
                      store_done_fn *done, void *user, sa_error **err)
{
    struct store_key k = store_key_of(id.bytes, sizeof id.bytes);
    struct store_set *set = store_set_new();
    uint64_t seq = fs_records_count(r, set, w->root);
    w->time_us = sa_wall_us();
    store_delete(set, WRITES, &k);
    if (*w->request_id) {
        struct store_key request = request_key(w->principal, w->request_id);
        store_put(set, REQUESTS, &request, &w->base);
    }
    *ret_seq = seq;
    int result = store_commit(r->store, set, done, user, err);
    if (result < 0)
        fs_records_reload(r);
    return result;
}

/* ---- starting is recovering ---- */

static char *text_of(ProtobufCBinaryData b)
{
    return sa_strndup((const char *)b.data, b.len);
}

static void recovered(void *user, const sa_error *err)
{
    if (err) {
        sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
        fs_records_reload(user);
    }
}

/* The write of a crashed run: removes its temporary file, or finds that it was in place already. */
static void recover_one(struct fs_records *r, const struct fs_identity *identity, struct sa_id id,
                        WriteRecord *w)
{
    cleanup_error sa_error *err = NULL;
    cleanup_free char *dir = text_of(w->directory), *name = text_of(w->name);
    enum fs_outcome outcome = FS_UNDONE;
    struct fs_info info = {0};
    int ok = fs_identity_enter(identity, &err);
    if (ok == 0) {
        ok = w->a_tree ? fs_scratch_undo(dir, name, w->temp, &outcome, &info, &err)
                       : fs_replace_undo(dir, name, w->temp, w->inode, &outcome, &info, &err);
        fs_identity_leave(identity);
    }
    if (ok < 0) {
        sa_log(SA_LOG_WARN, "fs.write_not_undone", "temp=%s reason=%s", w->temp, err->reason);
        return;
    }
    uint64_t seq;
    if (outcome == FS_UNDONE) {
        ok = fs_records_drop(r, id, recovered, r, &err);
    } else {
        struct sa_arena *a = sa_arena_new();
        cleanup_free char *path = text_of(w->path);
        FileInfo *file = fs_info_to_proto(a, &info, path);
        ProtobufCBinaryData packed = {file_info__get_packed_size(file), NULL}, before = w->file;
        cleanup_free uint8_t *bytes = packed.data = sa_malloc(packed.len);
        file_info__pack(file, bytes);
        w->file = packed;
        ok = fs_records_finish(r, id, w, &seq, recovered, r, &err);
        w->file = before;
        sa_arena_free(a);
    }
    fs_info_fini(&info);
    sa_log(SA_LOG_INFO, "fs.write_recovered", "temp=%s outcome=%s", w->temp,
           outcome == FS_DONE ? "done" : "undone");
    if (ok < 0)
        sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
}

/* Pages, because the store must not be called from inside a scan. */
enum { PAGE_ROWS = 1000 };

static int recover(struct fs_records *r, const struct fs_identity *identity, sa_error **err)
{
    struct store_key last;
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = WRITES, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(r->store, &range, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            struct sa_id id;
            cleanup_message WriteRecord *w = store_row_unpack(&page.rows[i], NULL);
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            if (!w || page.rows[i].key_len != sizeof id.bytes)
                continue;
            memcpy(id.bytes, page.rows[i].key, sizeof id.bytes);
            recover_one(r, identity, id, w);
        }
        more = page.more;
        store_page_fini(&page);
    }
    return 0;
}

/* Forgets requests that are too old to be repeated. */
static void sweep(void *user)
{
    struct fs_records *r = user;
    struct store_key last;
    int64_t until = sa_wall_us() - (int64_t)FS_REQUEST_KEEP_S * 1000000;
    struct store_set *set = store_set_new();
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = REQUESTS, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(r->store, &range, &page, NULL) < 0)
            break;
        for (size_t i = 0; i < page.n; i++) {
            cleanup_message WriteRecord *w = store_row_unpack(&page.rows[i], NULL);
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            if (!w || w->time_us < until)
                store_delete(set, REQUESTS, &last);
        }
        more = page.more;
        store_page_fini(&page);
    }
    store_commit(r->store, set, NULL, NULL, NULL);
    fs_changes_sweep(r, until);
}

struct fs_records *fs_records_open(struct sa_loop *loop, const char *dir, enum store_durability durability,
                                   const struct fs_identity *identity, sa_error **err)
{
    enum { SWEEP_MS = 3600 * 1000 };
    struct fs_records *r = sa_calloc(1, sizeof *r);
    r->loop = loop;
    cleanup_free char *path = sa_format("%s/store", dir);
    struct store_options opt = {
        .dir = path, .tables = tables, .n_tables = N_TABLES, .durability = durability};
    r->store = store_open(loop, &opt, err);
    if (!r->store || recover(r, identity, err) < 0 || fs_changes_recover(r, identity, err) < 0) {
        /* The writer thread may want the lock before it ends. */
        sa_loop_unlock(loop);
        fs_records_free(r);
        sa_loop_lock(loop);
        return NULL;
    }
    sweep(r);
    r->sweep = sa_timer_new(loop, sweep, r);
    sa_timer_every(r->sweep, SWEEP_MS);
    return r;
}

void fs_records_free(struct fs_records *r)
{
    if (!r)
        return;
    sa_loop_lock(r->loop);
    sa_timer_free(r->sweep);
    sa_loop_unlock(r->loop);
    store_free(r->store);
    for (size_t i = 0; i < r->n_heads; i++)
        free(r->heads[i].root);
    free(r);
}

struct store *fs_records_store(struct fs_records *r)
{
    return r->store;
}

uint64_t fs_records_epoch(const struct fs_records *r)
{
    return store_epoch(r->store);
}
