/* ReadFile: one chunk at a time. A chunk is read on a worker thread, sent, and the next one is read once
 * there is room: memory per call is one chunk, whatever the size of the file and the pace of the reader. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/fs-svc/fs.h"
#include "services/fs-svc/info.h"

enum { CHUNK_MIN = 4 << 10, CHUNK_SMALL = 16 << 10 };

struct reading {
    struct fs_target target;
    char *if_match, *if_none_match;
    uint64_t at, left;
    uint64_t data_end; /* there is no hole before it; with `holes` */
    int fd;
    struct fs_info info;
    struct stat end;   /* at the end */
    bool holes;        /* are told, and the file has some */
    bool told;         /* the first message is out */
    bool not_modified; /* nothing else is told */
    bool last;         /* the chunk is the last one */
    bool busy;         /* a worker has it */
    bool room, cancelled;
    uint8_t *chunk;
    size_t cap, n;
    uint64_t hole; /* bytes of zeros before the chunk */
    sa_error *err;
};

static void reading_free(struct reading *r)
{
    sa_close(r->fd);
    fs_info_fini(&r->info);
    sa_error_free(r->err);
    free(r->chunk);
    free(r->if_match);
    free(r->if_none_match);
    fs_target_fini(&r->target);
    free(r);
}

/* ---- on a worker ---- */

static int check_etag(struct reading *r)
{
    char etag[FS_ETAG_TEXT];
    fs_etag(&r->info.st, etag);
    r->not_modified = !strcmp(r->if_none_match, etag);
    if (*r->if_match && strcmp(r->if_match, etag) != 0)
        return sa_fail(&r->err, SA_ETAG_MISMATCH, "`%.200s` is no longer the file that was meant",
                       r->target.path);
    return 0;
}

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
    if (check_etag(r) < 0)
        return -1;
    /* One byte more than is there finds the end in the same job; files of /proc tell no size. */
    uint64_t size = (uint64_t)r->info.st.st_size, rest = size > r->at ? size - r->at : 0;
    if (rest < r->cap)
        r->cap = rest < CHUNK_SMALL ? CHUNK_SMALL : (size_t)rest + 1;
    r->holes = r->holes && (uint64_t)r->info.st.st_blocks * 512 < size;
    r->chunk = sa_malloc(r->cap);
    return 0;
}

/* Bytes of zeros from `at` on that need not be read; *want is cut to what comes before the next hole. */
static uint64_t skip_hole(struct reading *r, uint64_t at, uint64_t left, uint64_t *want)
{
    if (!r->holes)
        return 0;
    uint64_t hole = 0, size = (uint64_t)r->info.st.st_size;
    if (at >= r->data_end) {
        off_t data = lseek(r->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO && at < size)
            data = (off_t)size; /* a hole up to the end */
        hole = data > (off_t)at ? (uint64_t)data - at : 0;
        if (hole > left)
            hole = left;
        off_t end = lseek(r->fd, (off_t)(at + hole), SEEK_HOLE);
        r->data_end = end < 0 ? UINT64_MAX : (uint64_t)end;
    }
    if (r->data_end > at + hole && *want > r->data_end - at - hole)
        *want = r->data_end - at - hole;
    return hole;
}

/* Whatever is at hand, until the chunk is full. */
static void read_chunk(struct reading *r)
{
    uint64_t want = r->left < r->cap ? r->left : r->cap;
    r->hole = skip_hole(r, r->at, r->left, &want);
    if (want > r->left - r->hole)
        want = r->left - r->hole;
    for (r->n = 0; r->n < want;) {
        ssize_t got = pread(r->fd, r->chunk + r->n, want - r->n, (off_t)(r->at + r->hole + r->n));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            sa_fail_errno(&r->err, errno, "read `%.200s`", r->target.path);
            return;
        }
        if (got == 0)
            break;
        r->n += (size_t)got;
    }
    r->last = r->n < want || r->left == r->hole + r->n;
    if (r->last && fstat(r->fd, &r->end) < 0)
        sa_fail_errno(&r->err, errno, "stat `%.200s`", r->target.path);
}

static void work(void *user)
{
    struct reading *r = user;
    if (fs_identity_enter(r->target.fs->identity, &r->err) < 0)
        return;
    if ((r->fd >= 0 || open_file(r) == 0) && !r->not_modified)
        read_chunk(r);
    fs_identity_leave(r->target.fs->identity);
}

/* ---- under the lock ---- */

static void advance(struct reading *r);

static void tell_file(struct reading *r, bool changed)
{
    ReadFileResponse res = READ_FILE_RESPONSE__INIT;
    struct sa_arena *a = sa_arena_new();
    res.file = fs_info_to_proto(a, &r->info, r->target.path);
    res.offset = r->at;
    res.not_modified = r->not_modified;
    res.changed = changed;
    r->room = read_file_send(r->target.call, &res);
    sa_arena_free(a);
    r->told = true;
}

static void tell_chunk(struct reading *r)
{
    ReadFileResponse res = READ_FILE_RESPONSE__INIT;
    if (r->hole) {
        res.offset = r->at;
        res.hole_bytes = r->hole;
        r->room = read_file_send(r->target.call, &res);
        r->at += r->hole;
        res.hole_bytes = 0;
    }
    if (r->n) {
        res.offset = r->at;
        res.data = (ProtobufCBinaryData){r->n, r->chunk};
        r->room = read_file_send(r->target.call, &res);
        r->at += r->n;
    }
    r->left -= r->hole + r->n;
}

/* Did somebody write to it since the first message? Replaced as a whole, it stays what it was for us. */
static bool has_changed(const struct reading *r)
{
    const struct stat *a = &r->info.st, *b = &r->end;
    return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

static void end(struct reading *r)
{
    if (!r->not_modified && has_changed(r)) {
        if (*r->if_match) {
            sa_fail(&r->err, SA_FILE_CHANGED, "`%.200s` was changed while it was read", r->target.path);
            rpc_fail(r->target.call, steal_pointer(&r->err));
            return;
        }
        r->info.st = r->end;
        tell_file(r, true);
    }
    rpc_end(r->target.call);
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
    if (!r->told)
        tell_file(r, false);
    tell_chunk(r);
    if (r->last || r->not_modified) {
        end(r);
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
    r->cap = req->chunk_bytes == 0               ? FS_CHUNK_MAX
             : req->chunk_bytes < CHUNK_MIN      ? CHUNK_MIN
             : req->chunk_bytes > FS_MESSAGE_MAX ? FS_MESSAGE_MAX
                                                 : req->chunk_bytes;
    r->holes = req->holes;
    r->if_match = sa_strdup(req->if_match);
    r->if_none_match = sa_strdup(req->if_none_match);
    r->left = req->length ? req->length : UINT64_MAX;
    r->fd = -1;
    r->room = true;
    read_file_on(call, &events, r);
    advance(r);
}
