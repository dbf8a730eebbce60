/* ReadFile: one chunk at a time. A chunk is read on a worker thread, sent, and the next one is read once
 * there is room: memory per call is one chunk, whatever the size of the file and the pace of the reader. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/fs-svc/fs.h"
#include "services/fs-svc/info.h"

struct reading {
    struct fs_target target;
    uint64_t at, left;
    int fd;
    struct fs_info info;
    bool told; /* the first message is out */
    bool busy; /* a worker has it */
    bool room, cancelled;
    uint8_t *chunk;
    size_t cap, n;
    sa_error *err;
};

static void reading_free(struct reading *r)
{
    sa_close(r->fd);
    fs_info_fini(&r->info);
    sa_error_free(r->err);
    free(r->chunk);
    fs_target_fini(&r->target);
    free(r);
}

/* ---- on a worker ---- */

static int open_file(struct reading *r)
{
    cleanup_close int at = fs_path_open(r->target.root, r->target.path, true, &r->err);
    const char *slash = strrchr(r->target.path, '/'), *name = slash && slash[1] ? slash + 1 : r->target.path;
    if (at < 0 || fs_info_of(at, name, &r->info, &r->err) < 0)
        return -1;
    if (S_ISDIR(r->info.st.st_mode))
        return sa_fail(&r->err, SA_IS_A_DIRECTORY, "`%.200s` is a directory", r->target.path);
    if (!S_ISREG(r->info.st.st_mode))
        return sa_fail(&r->err, SA_NOT_A_REGULAR_FILE, "`%.200s` is not a regular file", r->target.path);
    r->fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    if (r->fd < 0)
        return sa_fail_errno(&r->err, errno, "read `%.200s`", r->target.path);
    /* One byte more than is there finds the end in the same job; files of /proc tell no size. */
    enum { CHUNK_MIN = 16 << 10 };
    uint64_t size = (uint64_t)r->info.st.st_size, rest = size > r->at ? size - r->at : 0;
    r->cap = rest >= FS_CHUNK_MAX ? FS_CHUNK_MAX : rest < CHUNK_MIN ? CHUNK_MIN : (size_t)rest + 1;
    r->chunk = sa_malloc(r->cap);
    return 0;
}

static void read_chunk(struct reading *r)
{
    size_t want = r->left < r->cap ? (size_t)r->left : r->cap;
    for (r->n = 0; r->n < want;) {
        ssize_t got = pread(r->fd, r->chunk + r->n, want - r->n, (off_t)(r->at + r->n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            sa_fail_errno(&r->err, errno, "read `%.200s`", r->target.path);
        if (got <= 0)
            return;
        r->n += (size_t)got;
    }
}

static void work(void *user)
{
    struct reading *r = user;
    if (fs_identity_enter(r->target.fs->identity, &r->err) < 0)
        return;
    if (r->fd >= 0 || open_file(r) == 0)
        read_chunk(r);
    fs_identity_leave(r->target.fs->identity);
}

/* ---- under the lock ---- */

static void advance(struct reading *r);

static void tell(struct reading *r)
{
    ReadFileResponse res = READ_FILE_RESPONSE__INIT;
    if (!r->told) {
        struct sa_arena *a = sa_arena_new();
        res.file = fs_info_to_proto(a, &r->info, r->target.path);
        res.offset = r->at;
        r->room = read_file_send(r->target.call, &res);
        sa_arena_free(a);
        res.file = NULL;
        r->told = true;
    }
    if (r->n == 0)
        return;
    res.offset = r->at;
    res.data = (ProtobufCBinaryData){r->n, r->chunk};
    r->room = read_file_send(r->target.call, &res);
    r->at += r->n;
    r->left -= r->n;
}

static void done(void *user)
{
    struct reading *r = user;
    r->busy = false;
    if (r->cancelled || !rpc_alive(r->target.call)) {
        reading_free(r);
        return;
    }
    if (r->err) {
        rpc_fail(r->target.call, steal_pointer(&r->err));
        reading_free(r);
        return;
    }
    bool last = r->n < r->cap || r->left == r->n;
    tell(r);
    if (last) {
        rpc_end(r->target.call);
        reading_free(r);
        return;
    }
    advance(r);
}

static void advance(struct reading *r)
{
    if (r->busy || !r->room)
        return;
    r->busy = true;
    sa_work(r->target.fs->loop, work, done, r);
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct reading *r = user;
    r->room = true;
    advance(r);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct reading *r = user;
    r->cancelled = true;
    if (!r->busy)
        reading_free(r);
}

void fs_read_file(void *api, struct rpc_call *call, const ReadFileRequest *req)
{
    static const struct rpc_call_events events = {.on_writable = on_writable, .on_cancel = on_cancel};
    sa_error *err = NULL;
    struct fs_target target;
    if (fs_target_init(&target, api, call, req->root, req->path, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct reading *r = sa_calloc(1, sizeof *r);
    r->target = target;
    r->at = req->offset;
    r->left = req->length ? req->length : UINT64_MAX;
    r->fd = -1;
    r->room = true;
    read_file_on(call, &events, r);
    advance(r);
}
