/* What an upload does next. Like a write (write_api.c) it goes step by step, each elsewhere:
 *
 *     LOCATE ▶ RECORD ▶ CREATE ▶ NOTE ▶ reply of the beginning      (worker, store, worker, store)
 *     IDLE ──data──▶ OPEN ▶ WRITE ◀─┐ data                          (worker, worker)
 *                             └─────┘
 *     IDLE ──commit──▶ TURN ▶ OPEN ▶ FINISH ▶ RESULT ▶ reply        (-, worker, worker, store)
 *     IDLE ──abort, expiry, no beginning──▶ REMOVE ▶ FORGET         (worker, store)
 *
 * Beside WRITE runs the sync: what was written by then goes to the disk, then the position and the digest
 * into the record, then it is acknowledged. A crash costs what was not recorded, and never more. */
#include "services/fs-svc/uploads.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/fs-svc/upload_state.h"
#include "services/runtime/service.h"

/* ---- life ---- */

struct fs_upload *fs_upload_new(struct fs_service *fs, UploadRecord *record, struct rpc_call *begin)
{
    struct fs_upload *u = sa_calloc(1, sizeof *u), **at = &fs->uploads->first;
    u->fs = fs;
    u->record = record;
    memcpy(u->id.bytes, record->upload_id.data, sizeof u->id.bytes);
    u->begin = begin ? rpc_call_ref(begin) : NULL;
    u->step = begin ? UPLOAD_LOCATE : UPLOAD_IDLE;
    u->root = fs_roots_find(fs->roots, record->root, NULL);
    u->file = (struct fs_replace){.dir_fd = -1, .fd = -1};
    u->at = u->committed = record->offset;
    fs_upload_load(record, &u->digest);
    u->committed_digest = u->digest;
    while (*at)
        at = &(*at)->next;
    *at = u;
    fs->uploads->n++;
    return u;
}

static void upload_free(struct fs_upload *u)
{
    struct fs_upload **at = &u->fs->uploads->first;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    u->fs->uploads->n--;
    fs_turn_leave(&u->fs->turns, &u->turn);
    fs_replace_fini(&u->file);
    store_message_free(u->record);
    sa_error_free(u->failed);
    sa_error_free(u->sync_failed);
    sa_error_free(u->reason);
    fs_info_fini(&u->info);
    sa_buf_fini(&u->pending);
    sa_buf_fini(&u->chunk);
    rpc_call_unref(u->begin);
    rpc_call_unref(u->commit);
    rpc_call_unref(u->abort);
    free(u->want.data);
    free(u);
}

void fs_uploads_free(struct fs_service *fs)
{
    if (!fs->uploads)
        return;
    while (fs->uploads->first)
        upload_free(fs->uploads->first);
    sa_timer_free(fs->uploads->expiry);
    sa_timer_free(fs->uploads->sweep);
    free(fs->uploads);
    fs->uploads = NULL;
}

struct fs_upload *fs_upload_find(struct fs_service *fs, const char *id, sa_error **err)
{
    struct sa_id want;
    if (sa_id_parse(id, &want))
        for (struct fs_upload *u = fs->uploads->first; u; u = u->next)
            if (sa_id_equal(u->id, want) && u->step >= UPLOAD_IDLE && !u->unwanted)
                return u;
    sa_fail(err, SA_UPLOAD_NOT_FOUND, "there is no upload `%.40s`", id);
    return NULL;
}

static Google__Protobuf__Timestamp *time_to_proto(struct sa_arena *a, int64_t us)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = us / 1000000;
    t->nanos = (int32_t)(us % 1000000 * 1000);
    return t;
}

Upload *fs_upload_to_proto(struct sa_arena *a, const UploadRecord *r, uint64_t committed)
{
    Upload *to = sa_arena_alloc(a, sizeof *to);
    struct sa_id id;
    *to = (Upload)UPLOAD__INIT;
    memcpy(id.bytes, r->upload_id.data, sizeof id.bytes);
    to->upload_id = sa_arena_alloc(a, SA_ID_TEXT + 1);
    sa_id_format(id, to->upload_id);
    to->root = sa_arena_strdup(a, r->root);
    to->path = (ProtobufCBinaryData){r->path.len, sa_arena_memdup(a, r->path.data, r->path.len)};
    to->committed_offset = committed;
    if (r->_size_case == UPLOAD_RECORD___SIZE_SIZE) {
        to->_size_case = UPLOAD___SIZE_SIZE;
        to->size = r->size;
    }
    to->create_time = time_to_proto(a, r->create_us);
    to->expire_time = time_to_proto(a, r->time_us + (int64_t)r->expire_s * 1000000);
    return to;
}

/* ---- on a worker ---- */

static struct fs_replace_options options_of(const struct fs_upload *u)
{
    const UploadRecord *r = u->record;
    return (struct fs_replace_options){.mode = (mode_t)r->mode,
                                       .make_parents = u->make_parents,
                                       .create_only = r->create_only,
                                       .durable = true,
                                       .if_match = r->if_match};
}

static bool is_text(ProtobufCBinaryData b, const char *text)
{
    return strlen(text) == b.len && !memcmp(text, b.data, b.len);
}

static int locate(struct fs_upload *u, const struct fs_replace_options *opt, sa_error **err)
{
    char id[SA_ID_TEXT + 1];
    cleanup_free char *path = sa_strndup((const char *)u->record->path.data, u->record->path.len);
    sa_id_format(u->id, id);
    return fs_replace_locate(u->root, path, opt, id, &u->file, err);
}

/* The path is followed anew: what was allowed when it began may not be any more. What the target must be is
 * asked again when it is put in place. */
static int open_again(struct fs_upload *u, sa_error **err)
{
    struct fs_replace_options opt = {.durable = true};
    if (!u->root)
        return sa_fail(err, SA_ROOT_NOT_FOUND, "the root `%s` is no longer offered", u->record->root);
    if (locate(u, &opt, err) < 0)
        return -1;
    u->open = is_text(u->record->directory, u->file.dir) && is_text(u->record->name, u->file.name);
    if (!u->open)
        sa_fail(err, SA_FILE_CHANGED, "the path of the upload leads elsewhere now");
    u->open = u->open && fs_replace_reopen(&u->file, u->record->inode, u->at, err) == 0;
    if (!u->open) {
        fs_replace_fini(&u->file);
        return -1;
    }
    u->file.opt = options_of(u);
    uint64_t size = fs_upload_size(u->record);
    return size == UINT64_MAX ? 0 : fs_replace_reserve(&u->file, size, err);
}

static int create(struct fs_upload *u, sa_error **err)
{
    uint64_t size = fs_upload_size(u->record);
    if (fs_replace_create(&u->file, err) < 0)
        return -1;
    u->open = true;
    return size == UINT64_MAX ? 0 : fs_replace_reserve(&u->file, size, err);
}

static void remove_file(struct fs_upload *u)
{
    cleanup_free char *dir = sa_strndup((const char *)u->record->directory.data, u->record->directory.len),
                      *name = sa_strndup((const char *)u->record->name.data, u->record->name.len);
    enum fs_outcome outcome;
    fs_replace_undo(dir, name, u->record->temp, 0, &outcome, NULL, &u->failed);
    SA_FAULT("upload.removed");
}

static void work(void *user)
{
    struct fs_upload *u = user;
    if (fs_identity_enter(u->fs->identity, &u->failed) < 0)
        return;
    struct fs_replace_options opt = options_of(u);
    switch (u->step) {
    case UPLOAD_LOCATE:
        locate(u, &opt, &u->failed);
        break;
    case UPLOAD_CREATE:
        create(u, &u->failed);
        break;
    case UPLOAD_OPEN:
        open_again(u, &u->failed);
        break;
    case UPLOAD_WRITE:
        if (fs_replace_write(&u->file, u->chunk.data, u->chunk.len, &u->failed) == 0)
            sa_sha256_add(&u->digest, u->chunk.data, u->chunk.len);
        break;
    case UPLOAD_FINISH:
        fs_replace_finish(&u->file, &u->info, &u->failed);
        break;
    case UPLOAD_REMOVE:
        remove_file(u);
        break;
    default:
        break;
    }
    fs_identity_leave(u->fs->identity);
}

static void step_done(struct fs_upload *u)
{
    u->busy = false;
    service_release(u->fs->svc);
    fs_upload_advance(u);
}

static void work_done(void *user)
{
    step_done(user);
}

static void run(struct fs_upload *u, enum fs_upload_step step)
{
    u->step = step;
    u->busy = true;
    service_hold(u->fs->svc);
    sa_work(u->fs->loop, work, work_done, u);
}

/* ---- in the store; a completion may come from inside the call that queues it ---- */

static void stored(void *user, const sa_error *err)
{
    struct fs_upload *u = user;
    service_degraded(u->fs->svc, err ? err->message : NULL);
    u->failed = sa_error_copy(err);
    if (err && u->step == UPLOAD_RESULT)
        fs_records_reload(u->fs->records);
    SA_FAULT("upload.stored");
    step_done(u);
}

static void store(struct fs_upload *u, enum fs_upload_step step)
{
    u->step = step;
    u->busy = true;
    service_hold(u->fs->svc);
    int r = step == UPLOAD_FORGET   ? fs_upload_forget(u, stored, &u->failed)
            : step == UPLOAD_RESULT ? fs_upload_finish(u, stored, &u->failed)
                                    : fs_upload_put(u, stored, &u->failed);
    if (r < 0)
        step_done(u);
}

/* ---- the sync ---- */

static void sync_over(struct fs_upload *u)
{
    u->syncing = false;
    service_release(u->fs->svc);
    fs_upload_advance(u);
}

static void sync_stored(void *user, const sa_error *err)
{
    struct fs_upload *u = user;
    service_degraded(u->fs->svc, err ? err->message : NULL);
    SA_FAULT("upload.synced");
    u->sync_failed = sa_error_copy(err);
    if (!err) {
        u->committed = u->sync_to;
        u->committed_digest = u->sync_digest;
        if (u->feed)
            fs_feed_acknowledge(u->feed, u->committed);
    }
    sync_over(u);
}

static void sync_work(void *user)
{
    struct fs_upload *u = user;
    fs_replace_sync(&u->file, &u->sync_failed);
}

static void sync_done(void *user)
{
    struct fs_upload *u = user;
    if (u->sync_failed) {
        u->lost = true; /* a second sync would succeed and mean nothing */
        sync_over(u);
        return;
    }
    fs_upload_save(u->record, u->sync_to, &u->sync_digest);
    u->record->time_us = sa_wall_us();
    if (fs_upload_put(u, sync_stored, &u->sync_failed) < 0)
        sync_over(u);
}

/* Of what is written now; no write is under way. */
static void start_sync(struct fs_upload *u)
{
    u->syncing = true;
    u->sync_to = u->at;
    u->sync_digest = u->digest;
    service_hold(u->fs->svc);
    sa_work(u->fs->loop, sync_work, sync_done, u);
}

/* ---- its ends ---- */

/* Those who wait for data to be taken, or for the commit, are told; the upload stays. Takes err. */
static void tell_failed(struct fs_upload *u, sa_error *err)
{
    if (u->feed)
        fs_feed_end(u->feed, sa_error_copy(err));
    if (u->commit)
        rpc_fail(u->commit, sa_error_copy(err));
    rpc_call_unref(steal_pointer(&u->commit));
    fs_turn_leave(&u->fs->turns, &u->turn);
    u->committing = false;
    u->pending.len = 0;
    sa_error_free(err);
}

static void begun(struct fs_upload *u)
{
    u->step = UPLOAD_IDLE;
    BeginUploadResponse res = BEGIN_UPLOAD_RESPONSE__INIT;
    if (rpc_alive(u->begin)) {
        res.upload = fs_upload_to_proto(rpc_arena(u->begin), u->record, 0);
        begin_upload_reply(u->begin, &res);
    }
    rpc_call_unref(steal_pointer(&u->begin));
    u->make_parents = false;
    u->file.opt.make_parents = false;
}

/* The beginning has failed: nothing is left of it. Takes err. */
static void not_begun(struct fs_upload *u, sa_error *err)
{
    if (u->begin)
        rpc_fail(u->begin, err);
    upload_free(u);
}

static void complete(struct fs_upload *u)
{
    struct sa_arena *a = sa_arena_new();
    cleanup_free char *path = sa_strndup((const char *)u->record->path.data, u->record->path.len);
    CommitUploadResponse res = COMMIT_UPLOAD_RESPONSE__INIT;
    res.file = fs_info_to_proto(a, &u->info, path);
    fs_tell_written(u->fs, u->record->root, res.file, u->seq);
    if (u->commit && rpc_alive(u->commit))
        commit_upload_reply(u->commit, &res);
    sa_arena_free(a);
    upload_free(u);
}

static void removed(struct fs_upload *u)
{
    AbortUploadResponse res = ABORT_UPLOAD_RESPONSE__INIT;
    if (u->reason) {
        not_begun(u, steal_pointer(&u->reason));
        return;
    }
    if (u->abort && rpc_alive(u->abort))
        abort_upload_reply(u->abort, &res);
    upload_free(u);
}

/* Takes err. */
static void not_removed(struct fs_upload *u, sa_error *err)
{
    enum { AGAIN_S = 3600 };
    sa_log(SA_LOG_WARN, "fs.upload_not_removed", "temp=%s reason=%s", u->record->temp, err->reason);
    if (u->reason) {
        /* The record says where it is: the next start tries again. */
        sa_error_free(err);
        not_begun(u, steal_pointer(&u->reason));
        return;
    }
    if (u->abort)
        rpc_fail(u->abort, sa_error_copy(err));
    sa_error_free(err);
    rpc_call_unref(steal_pointer(&u->abort));
    u->record->time_us += (int64_t)AGAIN_S * 1000000;
    u->unwanted = false;
    u->step = UPLOAD_IDLE;
}

/* ---- what comes next ---- */

static void finish(void *user)
{
    run(user, UPLOAD_FINISH);
}

static int check_data(const struct fs_upload *u, sa_error **err)
{
    uint64_t size = fs_upload_size(u->record);
    uint8_t digest[SA_SHA256_SIZE];
    struct sa_sha256 state = u->digest;
    if (size != UINT64_MAX && u->at != size)
        return sa_fail(err, SA_INVALID_REQUEST, "%llu bytes came, %llu were announced",
                       (unsigned long long)u->at, (unsigned long long)size);
    sa_sha256_end(&state, digest);
    const ProtobufCBinaryData *wants[] = {&u->want, &u->record->sha256};
    for (size_t i = 0; i < 2; i++)
        if (wants[i]->len && memcmp(wants[i]->data, digest, sizeof digest) != 0)
            return sa_fail(err, SA_DIGEST_MISMATCH, "the SHA-256 of what came is another");
    return 0;
}

/* Everything that came is on the disk and in the record. */
static void commit(struct fs_upload *u)
{
    sa_error *err = NULL;
    if (u->placed) {
        store(u, UPLOAD_RESULT);
    } else if (check_data(u, &err) < 0) {
        tell_failed(u, err);
        fs_upload_advance(u);
    } else {
        u->step = UPLOAD_TURN;
        u->turn = (struct fs_turn){.dir = u->file.dir, .name = u->file.name, .go = finish, .user = u};
        if (fs_turn_take(&u->fs->turns, &u->turn))
            finish(u);
    }
}

static void write_chunk(struct fs_upload *u)
{
    struct sa_buf empty = u->chunk;
    u->chunk = u->pending;
    u->pending = empty;
    u->pending.len = 0;
    if (u->feed)
        fs_feed_pause(u->feed, false);
    run(u, UPLOAD_WRITE);
}

static void close_file(struct fs_upload *u)
{
    fs_replace_fini(&u->file);
    u->open = false;
}

/* The disk or the store has failed the sync. */
static void sync_has_failed(struct fs_upload *u)
{
    tell_failed(u, steal_pointer(&u->sync_failed));
    fs_upload_save(u->record, u->committed, &u->committed_digest);
    if (!u->lost)
        return; /* the next sync tells the store again */
    u->lost = false;
    close_file(u);
    u->at = u->committed;
    u->digest = u->committed_digest;
}

static sa_error *not_found(const struct fs_upload *u)
{
    sa_error *err = NULL;
    sa_fail(&err, SA_UPLOAD_NOT_FOUND, "the upload has %s", u->abort ? "been aborted" : "expired");
    return err;
}

/* No step runs. */
static void idle(struct fs_upload *u)
{
    u->step = UPLOAD_IDLE;
    if (!u->syncing && u->sync_failed)
        sync_has_failed(u);
    if (u->unwanted) {
        if (u->feed)
            fs_feed_end(u->feed, not_found(u));
        if (u->syncing)
            return;
        close_file(u);
        run(u, UPLOAD_REMOVE);
        return;
    }
    bool flush = !u->feed || u->feed->ended || u->committing;
    if (u->at > u->committed && !u->syncing &&
        (u->at - u->committed >= FS_UPLOAD_SYNC || (flush && !u->pending.len)))
        start_sync(u);
    if (u->pending.len && u->open) {
        write_chunk(u);
    } else if (u->pending.len || (u->committing && !u->placed && !u->open)) {
        run(u, UPLOAD_OPEN);
    } else if (u->syncing || u->at > u->committed) {
        return;
    } else {
        if (u->feed && u->feed->ended)
            fs_feed_end(u->feed, NULL);
        if (u->committing)
            commit(u);
        else if (!u->feed && u->open)
            close_file(u);
    }
}

/* A step that could not be done. */
static void failed(struct fs_upload *u, sa_error *err)
{
    switch (u->step) {
    case UPLOAD_LOCATE:
    case UPLOAD_RECORD:
        not_begun(u, err);
        break;
    case UPLOAD_CREATE:
    case UPLOAD_NOTE:
        u->reason = err;
        u->unwanted = true;
        idle(u);
        break;
    case UPLOAD_REMOVE:
        not_removed(u, err);
        break;
    case UPLOAD_FORGET: /* the record says where nothing is: the next start drops it */
        sa_log(SA_LOG_WARN, "fs.forget_failed", "reason=%s", err->reason);
        sa_error_free(err);
        removed(u);
        break;
    default:
        if (u->step == UPLOAD_FINISH)
            close_file(u);
        tell_failed(u, err);
        idle(u);
        break;
    }
}

static void located(struct fs_upload *u)
{
    UploadRecord *r = u->record;
    r->directory = (ProtobufCBinaryData){strlen(u->file.dir), (uint8_t *)sa_strdup(u->file.dir)};
    r->name = (ProtobufCBinaryData){strlen(u->file.name), (uint8_t *)sa_strdup(u->file.name)};
    r->temp = sa_strdup(u->file.temp);
    store(u, UPLOAD_RECORD);
}

void fs_upload_advance(struct fs_upload *u)
{
    if (u->busy || u->step == UPLOAD_TURN)
        return;
    sa_error *err = steal_pointer(&u->failed);
    if (err) {
        failed(u, err);
        return;
    }
    switch (u->step) {
    case UPLOAD_LOCATE:
        if (u->file.dir)
            located(u);
        else
            run(u, UPLOAD_LOCATE);
        return;
    case UPLOAD_RECORD:
        run(u, UPLOAD_CREATE);
        return;
    case UPLOAD_CREATE:
        u->record->inode = u->file.inode;
        store(u, UPLOAD_NOTE);
        return;
    case UPLOAD_NOTE:
        begun(u);
        break;
    case UPLOAD_WRITE:
        u->at = u->file.written;
        break;
    case UPLOAD_FINISH:
        fs_turn_leave(&u->fs->turns, &u->turn);
        u->placed = true;
        store(u, UPLOAD_RESULT);
        return;
    case UPLOAD_RESULT:
        complete(u);
        return;
    case UPLOAD_REMOVE:
        store(u, UPLOAD_FORGET);
        return;
    case UPLOAD_FORGET:
        removed(u);
        return;
    default:
        break;
    }
    idle(u);
}
