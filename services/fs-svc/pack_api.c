/* DownloadArchive: a walk that is packed on a thread of its own; what libarchive writes is sent in messages,
 * each when the stream takes more. */
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/filter.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/pack.h"
#include "services/fs-svc/task.h"

enum { PATHS_MAX = 1000, FAILURES_MAX = 100 };

struct downloading {
    struct fs_task task;
    struct fs_globs globs;
    struct fs_walk_options walk;
    enum archive_format format;
    char **paths;
    size_t n_paths;
    /* on the thread */
    struct sa_buf chunk;
    struct pack_result result;
    struct sa_arena *arena; /* of the failures */
    FailedEntry *failures[FAILURES_MAX];
    size_t n_failures;
};

static bool stop(void *user)
{
    struct downloading *d = user;
    return fs_task_left(&d->task);
}

static bool flush(struct downloading *d)
{
    DownloadArchiveResponse res = DOWNLOAD_ARCHIVE_RESPONSE__INIT;
    res.kind_case = DOWNLOAD_ARCHIVE_RESPONSE__KIND_DATA;
    res.data = (ProtobufCBinaryData){d->chunk.len, d->chunk.data};
    if (!fs_task_lock_to_send(&d->task))
        return false;
    d->task.room = download_archive_send(d->task.target.call, &res);
    fs_task_unlock(&d->task);
    d->chunk.len = 0;
    return true;
}

static bool sink(void *user, const void *p, size_t n)
{
    struct downloading *d = user;
    for (const uint8_t *at = p; n;) {
        size_t room = FS_CHUNK_MAX - d->chunk.len, take = n < room ? n : room;
        sa_buf_add(&d->chunk, at, take);
        at += take;
        n -= take;
        if (d->chunk.len == FS_CHUNK_MAX && !flush(d))
            return false;
    }
    return !fs_task_left(&d->task);
}

static void failed(void *user, const char *name, const sa_error *err)
{
    struct downloading *d = user;
    if (d->n_failures == FAILURES_MAX)
        return;
    FailedEntry *f = sa_arena_alloc(d->arena, sizeof *f);
    *f = (FailedEntry)FAILED_ENTRY__INIT;
    f->name = (ProtobufCBinaryData){strlen(name), sa_arena_memdup(d->arena, name, strlen(name))};
    f->reason = sa_arena_strdup(d->arena, err->reason);
    f->message = rpc_utf8(d->arena, err->message, strlen(err->message));
    d->failures[d->n_failures++] = f;
}

static int pack_paths(struct downloading *d, struct archive_out *out, sa_error **err)
{
    const struct fs_target *t = &d->task.target;
    const struct pack_events events = {.failed = failed, .stop = stop, .user = d};
    if (!d->n_paths)
        return pack(out, t->root, t->path, NULL, &d->walk, &events, &d->result, err);
    for (size_t i = 0; i < d->n_paths; i++) {
        struct sa_arena *a = sa_arena_new();
        const char *path = fs_info_join(a, t->path, d->paths[i]);
        int r = pack(out, t->root, path, d->paths[i], &d->walk, &events, &d->result, err);
        sa_arena_free(a);
        if (r < 0)
            return -1;
    }
    return 0;
}

static void send_summary(struct downloading *d)
{
    DownloadArchiveResponse res = DOWNLOAD_ARCHIVE_RESPONSE__INIT;
    DownloadSummary summary = DOWNLOAD_SUMMARY__INIT;
    summary.entries = d->result.entries;
    summary.bytes = d->result.bytes;
    summary.skipped = d->result.skipped;
    summary.padded = d->result.padded;
    summary.n_failures = d->n_failures;
    summary.failures = d->failures;
    res.kind_case = DOWNLOAD_ARCHIVE_RESPONSE__KIND_SUMMARY;
    res.summary = &summary;
    if (fs_task_lock_to_send(&d->task)) {
        download_archive_send(d->task.target.call, &res);
        fs_task_unlock(&d->task);
    }
}

static void run(struct fs_task *t)
{
    struct downloading *d = (struct downloading *)t;
    struct archive_locale *locale = archive_begin_thread();
    struct archive_out *out = archive_out_new(d->format, sink, d, &t->err);
    if (out && pack_paths(d, out, &t->err) == 0 && archive_out_finish(out, &t->err) == 0 &&
        (!d->chunk.len || flush(d)))
        send_summary(d);
    archive_out_free(out);
    archive_end_thread(locale);
}

static void downloading_free(struct downloading *d)
{
    for (size_t i = 0; i < d->n_paths; i++)
        free(d->paths[i]);
    free(d->paths);
    fs_globs_fini(&d->globs);
    sa_buf_fini(&d->chunk);
    sa_arena_free(d->arena);
    sa_error_free(d->task.err);
    fs_target_fini(&d->task.target);
    free(d);
}

static void done(struct fs_task *t)
{
    if (!t->err && !fs_task_left(t))
        rpc_end(t->target.call);
    downloading_free((struct downloading *)t);
}

/* A name in the archive as well: relative, without "..". */
static int take_path(struct downloading *d, ProtobufCBinaryData bytes, sa_error **err)
{
    char *path = fs_path_from_bytes(bytes.data, bytes.len, err);
    if (!path)
        return -1;
    d->paths[d->n_paths++] = path;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = 0;
    for (const char *at = path; *at;) {
        size_t part = strcspn(at, "/");
        bool bad = part == 0 || (*at == '.' && (part == 1 || (part == 2 && at[1] == '.')));
        if (bad)
            return sa_fail(err, SA_INVALID_PATH, "`%.200s` is not a plain relative path", path);
        at += part + (at[part] == '/');
    }
    return 0;
}

static int start(struct downloading *d, struct fs_service *fs, struct rpc_call *call,
                 const DownloadArchiveRequest *req, sa_error **err)
{
    static const struct rpc_call_events events = {.on_writable = fs_task_on_writable,
                                                  .on_cancel = fs_task_on_cancel};
    if (req->n_paths > PATHS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "there are %zu paths, the limit is %d", req->n_paths,
                       PATHS_MAX);
    d->paths = sa_calloc(req->n_paths + 1, sizeof *d->paths);
    for (size_t i = 0; i < req->n_paths; i++)
        if (take_path(d, req->paths[i], err) < 0)
            return -1;
    d->format = req->format == ARCHIVE_FORMAT_TAR        ? ARCHIVE_TAR
                : req->format == ARCHIVE_FORMAT_TAR_ZSTD ? ARCHIVE_TAR_ZSTD
                : req->format == ARCHIVE_FORMAT_ZIP      ? ARCHIVE_ZIP
                                                         : ARCHIVE_TAR_GZIP;
    if (fs_filter(req->filter, &d->globs, &d->walk, err) < 0 ||
        fs_target_init(&d->task.target, fs, call, req->root, req->path, err) < 0)
        return -1;
    d->arena = sa_arena_new();
    d->walk.hidden = true;
    d->walk.no_ignore = d->walk.vcs = !req->obey_ignore;
    d->walk.stop = stop;
    d->walk.user = d;
    d->task.run = run;
    d->task.done = done;
    download_archive_on(call, &events, &d->task);
    return fs_task_start(&d->task, err);
}

void fs_download_archive(void *api, struct rpc_call *call, const DownloadArchiveRequest *req)
{
    sa_error *err = NULL;
    struct downloading *d = sa_calloc(1, sizeof *d);
    if (start(d, api, call, req, &err) == 0)
        return;
    rpc_fail(call, err);
    downloading_free(d);
}
