/* UploadArchive: on a thread of its own, which goes through these steps and waits in each for what it needs,
 * the store or more of the stream:
 *
 *     locate ▶ record ▶ make the scratch directory ▶ unpack ▶ (swap) ▶ remove it ▶ finish the record ▶ reply
 *                                 any failure:                          remove it ▶ drop the record ▶ fail
 *
 * The record is there before the scratch directory is, and goes after it: whatever a crash leaves is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/nng/bus.h"
#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/roots.h"
#include "services/fs-svc/scratch.h"
#include "services/fs-svc/task.h"
#include "services/fs-svc/unpack.h"
#include "services/runtime/service.h"

enum { FAILURES_MAX = 100, PATHS_MAX = 10000, PATHS_BYTES = 1 << 20 };
#define ZIP "zip"

struct uploading {
    struct fs_task task;
    struct fs_service *fs;
    struct rpc_call *call;
    struct unpack_options opt;
    bool beside, replace;   /* the directory as a whole */
    struct sa_arena *arena; /* of the record and the answer */
    struct sa_id id;
    WriteRecord record;
    /* under the lock */
    struct sa_buf pending;
    bool ended, paused;
    bool stored; /* the store has answered */
    sa_error *store_err;
    /* on the thread */
    struct sa_buf chunk;
    bool opened;     /* libarchive has the first chunk */
    uint64_t packed; /* bytes that came */
    struct fs_scratch scratch;
    struct unpack_result result;
    uint64_t seq;
    struct fs_info info;
    FailedEntry *failures[FAILURES_MAX];
    size_t n_failures;
    ProtobufCBinaryData *paths; /* of the first entries in place, as many as were asked for */
    size_t n_paths, max_paths, paths_bytes;
};

static void uploading_free(struct uploading *u)
{
    sa_buf_fini(&u->pending);
    sa_buf_fini(&u->chunk);
    sa_error_free(u->store_err);
    sa_error_free(u->task.err);
    fs_scratch_fini(&u->scratch);
    fs_info_fini(&u->info);
    sa_arena_free(u->arena);
    fs_target_fini(&u->task.target);
    rpc_call_unref(u->call);
    free(u);
}

/* ---- the stream, on the thread ---- */

static void hold_stream(struct uploading *u, bool paused)
{
    if (u->paused != paused)
        rpc_pause_request(u->call, paused);
    u->paused = paused;
}

/* More bytes in u->chunk; 0: the end; -1: the caller has left. */
static ssize_t next_chunk(struct uploading *u)
{
    fs_task_lock(&u->task);
    while (!u->pending.len && !u->ended && !fs_task_left(&u->task))
        fs_task_wait(&u->task);
    struct sa_buf empty = u->chunk;
    u->chunk = u->pending;
    u->pending = empty;
    u->pending.len = 0;
    hold_stream(u, false);
    fs_task_unlock(&u->task);
    u->packed += u->chunk.len;
    return fs_task_left(&u->task) ? -1 : (ssize_t)u->chunk.len;
}

static ssize_t source(void *user, const void **ret)
{
    struct uploading *u = user;
    /* What was read to see its kind comes first. */
    ssize_t n = u->opened ? next_chunk(u) : (ssize_t)u->chunk.len;
    u->opened = true;
    *ret = u->chunk.data;
    return n;
}

static uint64_t packed(void *user)
{
    struct uploading *u = user;
    SA_FAULT("fs.archive.entry");
    return fs_task_left(&u->task) ? UINT64_MAX : u->packed;
}

static void failed(void *user, const char *name, const sa_error *err)
{
    struct uploading *u = user;
    if (u->n_failures == FAILURES_MAX)
        return;
    FailedEntry *f = sa_arena_alloc(u->arena, sizeof *f);
    size_t n = strlen(name) < FS_PATH_MAX ? strlen(name) : FS_PATH_MAX;
    *f = (FailedEntry)FAILED_ENTRY__INIT;
    f->name = (ProtobufCBinaryData){n, sa_arena_memdup(u->arena, name, n)};
    f->reason = sa_arena_strdup(u->arena, err->reason);
    f->message = rpc_utf8(u->arena, err->message, strlen(err->message));
    u->failures[u->n_failures++] = f;
}

static void placed(void *user, const char *path)
{
    struct uploading *u = user;
    size_t n = strlen(path);
    if (u->n_paths == u->max_paths || u->paths_bytes + n > PATHS_BYTES)
        return;
    u->paths[u->n_paths++] = (ProtobufCBinaryData){n, sa_arena_memdup(u->arena, path, n)};
    u->paths_bytes += n;
}

/* ---- the store, on the thread ---- */

static void stored(void *user, const sa_error *err)
{
    struct uploading *u = user;
    service_degraded(u->fs->svc, err ? err->message : NULL);
    u->store_err = sa_error_copy(err);
    u->stored = true;
    fs_task_wake(&u->task);
}

enum record_step { PUT, DROP, FINISH };

static int record(struct uploading *u, enum record_step step, sa_error **err)
{
    struct fs_records *r = u->fs->records;
    fs_task_lock(&u->task);
    u->stored = false;
    int begun = step == PUT    ? fs_records_put(r, u->id, &u->record, stored, u, err)
                : step == DROP ? fs_records_drop(r, u->id, stored, u, err)
                               : fs_records_finish(r, u->id, &u->record, &u->seq, stored, u, err);
    while (begun == 0 && !u->stored)
        fs_task_wait(&u->task);
    if (u->store_err && step == FINISH)
        fs_records_reload(r);
    sa_error *failure = steal_pointer(&u->store_err);
    fs_task_unlock(&u->task);
    return begun < 0 ? -1 : failure ? sa_pass(err, failure) : 0;
}

static ProtobufCBinaryData keep(struct uploading *u, const char *s)
{
    return (ProtobufCBinaryData){strlen(s), sa_arena_memdup(u->arena, s, strlen(s))};
}

/* ---- the steps ---- */

/* A zip tells at its end what its entries are: it is kept until it is all there. */
static int spool_zip(struct uploading *u, sa_error **err)
{
    cleanup_close int fd =
        openat(u->scratch.fd, ZIP, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 || unlinkat(u->scratch.fd, ZIP, 0) < 0)
        return sa_fail_errno(err, errno, "make a file");
    ssize_t n = (ssize_t)u->chunk.len;
    for (; n > 0; n = next_chunk(u)) {
        if (u->packed > u->opt.max_bytes)
            return sa_fail(err, SA_ARCHIVE_TOO_LARGE,
                           "the archive has more than %llu bytes, that is the limit",
                           (unsigned long long)u->opt.max_bytes);
        for (size_t at = 0; at < u->chunk.len;) {
            ssize_t w = write(fd, u->chunk.data + at, u->chunk.len - at);
            if (w < 0 && errno != EINTR)
                return sa_fail_errno(err, errno, "write");
            at += w > 0 ? (size_t)w : 0;
        }
    }
    if (n < 0)
        return sa_fail(err, SA_CANCELLED, "the caller has left");
    return steal_fd(&fd);
}

/* Reads until the kind can be seen. */
static int read_start(struct uploading *u, sa_error **err)
{
    enum { ENOUGH = 4 };
    cleanup_buf struct sa_buf start = {0};
    for (ssize_t n = 1; n > 0 && start.len < ENOUGH;) {
        n = next_chunk(u);
        if (n < 0)
            return sa_fail(err, SA_CANCELLED, "the caller has left");
        sa_buf_add(&start, u->chunk.data, u->chunk.len);
    }
    struct sa_buf t = u->chunk;
    u->chunk = start;
    start = t;
    return u->chunk.len ? 0 : sa_fail(err, SA_INVALID_ARCHIVE, "the archive is empty");
}

static int unpack_stream(struct uploading *u, sa_error **err)
{
    const struct unpack_events events = {.failed = failed, .placed = placed, .packed = packed, .user = u};
    if (read_start(u, err) < 0)
        return -1;
    bool is_zip = archive_is_zip(u->chunk.data, u->chunk.len);
    cleanup_close int zip = is_zip ? spool_zip(u, err) : -1;
    if (is_zip && zip < 0)
        return -1;
    struct archive_in *in =
        is_zip ? archive_in_zip(zip, u->opt.max_entries, err) : archive_in_stream(source, u, err);
    if (!in)
        return -1;
    int r =
        unpack(in, u->task.target.root, u->scratch.tree, u->scratch.fd, &u->opt, &events, &u->result, err);
    archive_in_free(in);
    /* What follows an archive is not looked at, but a stream that breaks off is none. */
    for (ssize_t n; r == 0 && (n = next_chunk(u)) != 0;)
        if (n < 0)
            return sa_fail(err, SA_CANCELLED, "the caller has left");
    return r;
}

static int work(struct uploading *u, bool *ret_recorded, bool *ret_swapped, sa_error **err)
{
    const struct fs_target *t = &u->task.target;
    char id[SA_ID_TEXT + 1];
    sa_id_format(u->id, id);
    if (fs_root_check_change(t->root, err) < 0 ||
        fs_scratch_locate(t->root, t->path, u->beside, u->replace, id, &u->scratch, err) < 0)
        return -1;
    u->record.directory = keep(u, u->scratch.dir);
    u->record.name = keep(u, u->scratch.name ? u->scratch.name : ".");
    u->record.temp = sa_arena_strdup(u->arena, u->scratch.temp);
    if (record(u, PUT, err) < 0)
        return -1;
    *ret_recorded = true;
    SA_FAULT("fs.archive.recorded");
    if (fs_scratch_make(&u->scratch, err) < 0)
        return -1;
    SA_FAULT("fs.archive.made");
    if (unpack_stream(u, err) < 0)
        return -1;
    SA_FAULT("fs.archive.unpacked");
    if (u->beside && fs_scratch_swap(&u->scratch, u->replace, err) < 0)
        return -1;
    *ret_swapped = u->beside;
    SA_FAULT("fs.archive.swapped");
    return 0;
}

static void run(struct fs_task *t)
{
    struct uploading *u = (struct uploading *)t;
    bool recorded = false, swapped = false;
    cleanup_error sa_error *err = NULL, *left = NULL;
    struct archive_locale *locale = archive_begin_thread();
    int r = work(u, &recorded, &swapped, &err);
    archive_end_thread(locale);
    if (fs_scratch_remove(&u->scratch, &left) < 0) {
        /* The record stays: the next start tries again. */
        sa_log(SA_LOG_WARN, "fs.scratch_not_removed", "temp=%s reason=%s", u->scratch.temp, left->reason);
        recorded = false;
    }
    SA_FAULT("fs.archive.removed");
    const char *slash = strrchr(t->target.path, '/'), *name = slash && slash[1] ? slash + 1 : t->target.path;
    if (r == 0)
        r = fs_scratch_info(&u->scratch, name, &u->info, &err);
    bool changed = u->beside ? swapped : u->result.entries > 0;
    if (recorded && record(u, changed ? FINISH : DROP, r == 0 ? &err : NULL) < 0)
        r = -1;
    SA_FAULT("fs.archive.finished");
    if (r < 0)
        t->err = steal_pointer(&err);
}

/* ---- its end, under the lock ---- */

static void publish(struct uploading *u, FileInfo *directory)
{
    FileChanged m = FILE_CHANGED__INIT;
    m.root = u->record.root;
    m.file = directory;
    size_t n = file_changed__get_packed_size(&m);
    cleanup_free uint8_t *bytes = sa_malloc(n);
    file_changed__pack(&m, bytes);
    cleanup_free char *stream = sa_format("fs/%s", u->record.root), *topic = sa_format("%s/write", stream);
    bus_publish(u->fs->bus, topic, stream, u->seq, u->seq - 1, bytes, n);
}

static void done(struct fs_task *t)
{
    struct uploading *u = (struct uploading *)t;
    FileInfo *directory = u->info.name ? fs_info_to_proto(u->arena, &u->info, t->target.path) : NULL;
    if (u->seq && directory)
        publish(u, directory);
    if (!t->err && !fs_task_left(t)) {
        UploadArchiveResponse res = UPLOAD_ARCHIVE_RESPONSE__INIT;
        res.entries = u->result.entries;
        res.bytes = u->result.bytes;
        res.skipped = u->result.skipped;
        res.failed = u->result.failed;
        res.n_failures = u->n_failures;
        res.failures = u->failures;
        res.directory = directory;
        res.n_paths = u->n_paths;
        res.paths = u->paths;
        upload_archive_reply(u->call, &res);
    }
    uploading_free(u);
}

/* ---- its beginning, under the lock ---- */

static int take_options(struct uploading *u, const UploadArchiveOpen *open, sa_error **err)
{
    if (open->strip_components > UNPACK_STRIP_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "strip_components is more than %d", UNPACK_STRIP_MAX);
    if (open->max_entries > UNPACK_ENTRIES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "max_entries is more than %d", UNPACK_ENTRIES_MAX);
    if (open->all_or_nothing && open->overwrite == OVERWRITE_POLICY_SKIP)
        return sa_fail(err, SA_INVALID_REQUEST, "all_or_nothing does not skip");
    u->max_paths = open->max_paths < PATHS_MAX ? open->max_paths : PATHS_MAX;
    u->paths = sa_arena_alloc(u->arena, (u->max_paths + 1) * sizeof *u->paths);
    u->beside = open->all_or_nothing;
    u->replace = open->overwrite == OVERWRITE_POLICY_REPLACE;
    u->opt = (struct unpack_options){
        .strip = open->strip_components,
        /* Beside the directory there is only what the archive has brought: then its last word counts. */
        .policy = u->beside || u->replace                    ? UNPACK_REPLACE
                  : open->overwrite == OVERWRITE_POLICY_SKIP ? UNPACK_SKIP
                                                             : UNPACK_FAIL,
        .strict = open->all_or_nothing,
        .ignore_modes = open->ignore_modes,
        .ignore_times = open->ignore_times,
        .max_entries = open->max_entries ? open->max_entries : UNPACK_ENTRIES_DEFAULT,
        .max_bytes = open->max_bytes ? open->max_bytes : (uint64_t)64 << 30,
        .max_file_bytes = open->max_file_bytes ? open->max_file_bytes : UINT64_MAX / 4,
        .max_ratio = open->max_ratio ? open->max_ratio : UNPACK_RATIO_DEFAULT,
    };
    return 0;
}

static int begin(struct uploading *u, const UploadArchiveOpen *open, sa_error **err)
{
    if (u->task.run)
        return sa_fail(err, SA_INVALID_REQUEST, "`open` comes once, as the first message");
    if (take_options(u, open, err) < 0 ||
        fs_target_init(&u->task.target, u->fs, u->call, open->root, open->path, err) < 0)
        return -1;
    u->record.request_id = sa_arena_strdup(u->arena, "");
    u->record.principal = sa_arena_strdup(u->arena, rpc_principal(u->call));
    u->record.root = sa_arena_strdup(u->arena, open->root);
    u->record.path = keep(u, u->task.target.path);
    u->record.a_tree = true;
    u->task.run = run;
    u->task.done = done;
    if (fs_task_start(&u->task, err) == 0)
        return 0;
    u->task.run = NULL;
    return -1;
}

static int take(struct uploading *u, const UploadArchiveRequest *msg, sa_error **err)
{
    if (msg->kind_case == UPLOAD_ARCHIVE_REQUEST__KIND_OPEN)
        return begin(u, msg->open, err);
    if (msg->kind_case != UPLOAD_ARCHIVE_REQUEST__KIND_DATA || !u->task.run)
        return sa_fail(err, SA_INVALID_REQUEST, "the first message is `open`, the others are `data`");
    if (msg->data.len > FS_MESSAGE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a message has %zu bytes of data, the limit is %d",
                       msg->data.len, FS_MESSAGE_MAX);
    sa_buf_add(&u->pending, msg->data.data, msg->data.len);
    if (u->pending.len >= FS_PENDING_MAX)
        hold_stream(u, true);
    fs_task_wake(&u->task);
    return 0;
}

/* Ends the call. The thread, if it runs, sees a caller that has left. */
static void refuse(struct uploading *u, sa_error *err)
{
    rpc_fail(u->call, err);
    if (u->task.run)
        fs_task_on_cancel(&u->task, u->call);
    else
        uploading_free(u);
}

static void on_message(void *user, struct rpc_call *call, const UploadArchiveRequest *msg)
{
    (void)call;
    struct uploading *u = user;
    sa_error *err = NULL;
    if (take(u, msg, &err) < 0)
        refuse(u, err);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)call;
    struct uploading *u = user;
    sa_error *err = NULL;
    u->ended = true;
    if (u->task.run) {
        fs_task_wake(&u->task);
        return;
    }
    sa_fail(&err, SA_INVALID_REQUEST, "the stream ended before `open`");
    refuse(u, err);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    struct uploading *u = user;
    if (u->task.run)
        fs_task_on_cancel(&u->task, call);
    else
        uploading_free(u);
}

void fs_upload_archive(void *api, struct rpc_call *call)
{
    static const struct upload_archive_events events = {
        .on_message = on_message, .on_end = on_end, .on_cancel = on_cancel};
    struct uploading *u = sa_calloc(1, sizeof *u);
    u->fs = api;
    u->call = rpc_call_ref(call);
    u->id = sa_id_new();
    u->arena = sa_arena_new();
    u->record = (WriteRecord)WRITE_RECORD__INIT;
    u->scratch = (struct fs_scratch){.dir_fd = -1, .fd = -1, .tree = -1};
    upload_archive_accept(call, &events, u);
}
