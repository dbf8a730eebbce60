/* The records of uploads: reading them at the start, and the write sets that change them. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "services/fs-svc/upload_state.h"
#include "services/fs-svc/uploads.h"

enum { PAGE_ROWS = 1000 };

UploadRecord *fs_upload_copy(const UploadRecord *r)
{
    size_t n = upload_record__get_packed_size(r);
    cleanup_free uint8_t *packed = sa_malloc(n);
    upload_record__pack(r, packed);
    return (UploadRecord *)rpc_unpack(&upload_record__descriptor, packed, n, NULL);
}

static struct store_key key_of(const UploadRecord *r)
{
    return store_key_of(r->upload_id.data, r->upload_id.len);
}

static struct store_key request_key(const char *principal, const char *request_id)
{
    struct store_key k = {0};
    store_key_add_string(&k, principal);
    store_key_add_string(&k, request_id);
    return k;
}

/* ---- changes ---- */

int fs_upload_put(struct fs_upload *u, store_done_fn *done, sa_error **err)
{
    struct store_key k = key_of(u->record);
    struct store_set *set = store_set_new();
    store_put(set, FS_TABLE_UPLOADS, &k, &u->record->base);
    return store_commit(fs_records_store(u->fs->records), set, done, u, err);
}

int fs_upload_forget(struct fs_upload *u, store_done_fn *done, sa_error **err)
{
    struct store_key k = key_of(u->record);
    struct store_set *set = store_set_new();
    store_delete(set, FS_TABLE_UPLOADS, &k);
    return store_commit(fs_records_store(u->fs->records), set, done, u, err);
}

/* The row moves to the committed ones, with the file as it is now. */
static uint64_t move_to_done(struct fs_records *records, UploadRecord *r, const struct fs_info *info,
                             struct store_set *set)
{
    struct store_key k = key_of(r), request = request_key(r->principal, r->request_id);
    struct sa_arena *a = sa_arena_new();
    cleanup_free char *path = sa_strndup((const char *)r->path.data, r->path.len);
    FileInfo *file = fs_info_to_proto(a, info, path);
    ProtobufCBinaryData before = r->file;
    r->file.len = file_info__get_packed_size(file);
    r->file.data = sa_arena_alloc(a, r->file.len + 1);
    file_info__pack(file, r->file.data);
    r->time_us = sa_wall_us();
    store_delete(set, FS_TABLE_UPLOADS, &k);
    store_put(set, FS_TABLE_UPLOADS_DONE, &k, &r->base);
    if (*r->request_id)
        store_put(set, FS_TABLE_UPLOAD_REQUESTS, &request, &r->base);
    r->file = before;
    sa_arena_free(a);
    return fs_records_count(records, set, r->root);
}

int fs_upload_finish(struct fs_upload *u, store_done_fn *done, sa_error **err)
{
    struct fs_records *records = u->fs->records;
    struct store_set *set = store_set_new();
    u->seq = move_to_done(records, u->record, &u->info, set);
    int r = store_commit(fs_records_store(records), set, done, u, err);
    if (r < 0)
        fs_records_reload(records);
    return r;
}

/* ---- reading ---- */

int fs_upload_find_done(struct fs_service *fs, struct sa_id id, UploadRecord **ret, sa_error **err)
{
    struct store_key k = store_key_of(id.bytes, sizeof id.bytes);
    return store_get(fs_records_store(fs->records), FS_TABLE_UPLOADS_DONE, &k, ret, err);
}

int fs_upload_find_request(struct fs_service *fs, const char *principal, const char *request_id,
                           UploadRecord **ret, sa_error **err)
{
    struct store_key k = request_key(principal, request_id);
    return store_get(fs_records_store(fs->records), FS_TABLE_UPLOAD_REQUESTS, &k, ret, err);
}

static void sweep_table(struct store *store, int table, struct store_set *set)
{
    struct store_key last;
    int64_t until = sa_wall_us() - (int64_t)FS_REQUEST_KEEP_S * 1000000;
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = table, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(store, &range, &page, NULL) < 0)
            break;
        for (size_t i = 0; i < page.n; i++) {
            cleanup_message UploadRecord *r = store_row_unpack(&page.rows[i], NULL);
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            if (!r || r->time_us < until)
                store_delete(set, table, &last);
        }
        more = page.more;
        store_page_fini(&page);
    }
}

void fs_upload_sweep(void *fs)
{
    struct store *store = fs_records_store(((struct fs_service *)fs)->records);
    struct store_set *set = store_set_new();
    sweep_table(store, FS_TABLE_UPLOADS_DONE, set);
    sweep_table(store, FS_TABLE_UPLOAD_REQUESTS, set);
    store_commit(store, set, NULL, NULL, NULL);
}

/* ---- starting is recovering ---- */

static void recovered(void *user, const sa_error *err)
{
    if (err) {
        sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
        fs_records_reload(user);
    }
}

/* What is there of it: FS_PENDING is what one expects. One that had not begun is undone. */
static int look_at(struct fs_service *fs, const UploadRecord *r, enum fs_outcome *ret,
                   struct fs_info *ret_info, sa_error **err)
{
    cleanup_free char *dir = sa_strndup((const char *)r->directory.data, r->directory.len),
                      *name = sa_strndup((const char *)r->name.data, r->name.len);
    if (fs_identity_enter(fs->identity, err) < 0)
        return -1;
    int found = r->inode ? fs_replace_look(dir, name, r->temp, r->inode, ret, ret_info, err)
                         : fs_replace_undo(dir, name, r->temp, 0, ret, ret_info, err);
    fs_identity_leave(fs->identity);
    return found;
}

static void recover_one(struct fs_service *fs, const struct store_key *key, UploadRecord *r)
{
    cleanup_error sa_error *err = NULL;
    struct fs_info info = {0};
    enum fs_outcome outcome = FS_PENDING;
    struct store_set *set = store_set_new();
    int ok = r ? fs_upload_check(r, &err) : -1;
    if (ok < 0)
        store_delete(set, FS_TABLE_UPLOADS, key);
    else if (look_at(fs, r, &outcome, &info, &err) < 0)
        outcome = FS_PENDING; /* it cannot be told now: those who resume it will see */
    else if (outcome == FS_DONE)
        move_to_done(fs->records, r, &info, set);
    else if (outcome == FS_UNDONE)
        store_delete(set, FS_TABLE_UPLOADS, key);
    sa_log(err ? SA_LOG_WARN : SA_LOG_INFO, "fs.upload_recovered", "temp=%s offset=%llu outcome=%s reason=%s",
           r ? r->temp : "", r ? (unsigned long long)r->offset : 0,
           ok < 0                  ? "dropped"
           : outcome == FS_PENDING ? "goes on"
           : outcome == FS_DONE    ? "done"
                                   : "undone",
           err ? err->reason : "");
    fs_info_fini(&info);
    if (ok == 0 && outcome == FS_PENDING)
        fs_upload_new(fs, r, NULL);
    else
        store_message_free(r);
    if (store_commit(fs_records_store(fs->records), set, recovered, fs->records, &err) < 0)
        sa_log(SA_LOG_ERROR, "fs.recover_failed", "reason=%s", err->reason);
}

static int recover(struct fs_service *fs, sa_error **err)
{
    struct store_key last;
    for (bool more = true, after = false; more; after = true) {
        struct store_page page;
        struct store_range range = {
            .table = FS_TABLE_UPLOADS, .from = after ? &last : NULL, .after = after, .limit = PAGE_ROWS};
        if (store_read_page(fs_records_store(fs->records), &range, &page, err) < 0)
            return -1;
        for (size_t i = 0; i < page.n; i++) {
            last = store_key_of(page.rows[i].key, page.rows[i].key_len);
            recover_one(fs, &last, store_row_unpack(&page.rows[i], NULL));
        }
        more = page.more;
        store_page_fini(&page);
    }
    return 0;
}

static void expire(void *user)
{
    struct fs_service *fs = user;
    int64_t now = sa_wall_us();
    for (struct fs_upload *u = fs->uploads->first, *next; u; u = next) {
        next = u->next;
        if (u->step < UPLOAD_IDLE || u->unwanted || u->committing ||
            now < u->record->time_us + (int64_t)u->record->expire_s * 1000000)
            continue;
        sa_log(SA_LOG_INFO, "fs.upload_expired", "temp=%s offset=%llu", u->record->temp,
               (unsigned long long)u->committed);
        if (u->placed)
            u->committing = true; /* what it lacks is its record */
        else
            u->unwanted = true;
        fs_upload_advance(u);
    }
}

int fs_uploads_open(struct fs_service *fs, sa_error **err)
{
    enum { EXPIRY_MS = 1000, SWEEP_MS = 3600 * 1000 };
    fs->uploads = sa_calloc(1, sizeof *fs->uploads);
    fs->uploads->expiry = sa_timer_new(fs->loop, expire, fs);
    fs->uploads->sweep = sa_timer_new(fs->loop, fs_upload_sweep, fs);
    sa_timer_every(fs->uploads->expiry, EXPIRY_MS);
    sa_timer_every(fs->uploads->sweep, SWEEP_MS);
    fs_upload_sweep(fs);
    return recover(fs, err);
}
