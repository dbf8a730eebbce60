#include "services/session-svc/blob_api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/session-svc/api.h"

enum { MESSAGE_MAX = 1 << 20, PENDING_MAX = 1 << 20 };

/* ---- write ---- */

struct upload {
    struct sessions *all;
    struct rpc_call *call;
    struct sa_id session;
    bool known; /* the session was named */
    struct blob_file file;
    struct sa_buf pending, chunk;
    bool busy, ended, complete, paused, cancelled;
    sa_error *err;
};

static void upload_free(struct upload *u)
{
    blob_file_drop(&u->file);
    sa_buf_fini(&u->pending);
    sa_buf_fini(&u->chunk);
    sa_error_free(u->err);
    rpc_call_unref(u->call);
    free(u);
}

static void work(void *user)
{
    struct upload *u = user;
    if (!u->file.path && blob_file_open(&u->file, blobs_directory(u->all->blobs), &u->err))
        return;
    if (u->chunk.len)
        blob_file_add(&u->file, u->chunk.data, u->chunk.len, &u->err);
    else
        u->complete = !blob_file_complete(&u->file, &u->err);
    u->chunk.len = 0;
}

static void stored(void *user, const sa_error *err)
{
    struct upload *u = user;
    struct service *svc = u->all->svc;
    char name[SA_SHA256_TEXT + 1];
    blob_id_format(u->file.id, name);
    WriteBlobResponse res = WRITE_BLOB_RESPONSE__INIT;
    res.sha256 = name;
    res.size = u->file.size;
    blobs_committed(u->all->blobs, u->file.id);
    if (u->cancelled)
        ;
    else if (err)
        api_fail_copy(u->call, err);
    else
        write_blob_reply(u->call, &res);
    upload_free(u);
    service_release(svc);
}

static void keep(struct upload *u)
{
    sa_error *err = NULL;
    struct store_set *set = store_set_new();
    if (blobs_keep(u->all->blobs, &u->file, &err)) {
        store_set_free(set);
        rpc_fail(u->call, err);
        upload_free(u);
        return;
    }
    blobs_put(u->all->blobs, set, u->session, u->file.id, u->file.size, 0);
    u->busy = true;
    service_hold(u->all->svc);
    if (store_commit(u->all->store, set, stored, u, &err)) {
        stored(u, err);
        sa_error_free(err);
    }
}

static void advance(struct upload *u);

static void work_done(void *user)
{
    struct upload *u = user;
    struct service *svc = u->all->svc;
    u->busy = false;
    advance(u);
    service_release(svc);
}

static void advance(struct upload *u)
{
    if (u->busy)
        return;
    if (u->cancelled || u->err) {
        if (!u->cancelled)
            rpc_fail(u->call, steal_pointer(&u->err));
        upload_free(u);
        return;
    }
    if (u->complete) {
        keep(u);
        return;
    }
    if (!u->pending.len && !u->ended)
        return;
    struct sa_buf empty = u->chunk;
    u->chunk = u->pending;
    u->pending = empty;
    u->pending.len = 0;
    if (u->paused)
        rpc_pause_request(u->call, u->paused = false);
    u->busy = true;
    service_hold(u->all->svc);
    sa_work(u->all->loop, work, work_done, u);
}

static int take(struct upload *u, const WriteBlobRequest *msg, sa_error **err)
{
    if (!u->known) {
        cleanup_message StoredSession *row = sessions_read(u->all, msg->session_id, &u->session, err);
        if (!row)
            return -1;
        u->known = true;
    }
    if (msg->data.len > MESSAGE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a message has %zu bytes of data, the limit is %d",
                       msg->data.len, MESSAGE_MAX);
    sa_buf_add(&u->pending, msg->data.data, msg->data.len);
    if (u->pending.len >= PENDING_MAX && !u->paused)
        rpc_pause_request(u->call, u->paused = true);
    return 0;
}

static void refuse(struct upload *u, sa_error *err)
{
    rpc_fail(u->call, err);
    u->cancelled = true;
    advance(u);
}

static void on_message(void *user, struct rpc_call *call, const WriteBlobRequest *msg)
{
    (void)call;
    struct upload *u = user;
    sa_error *err = NULL;
    if (take(u, msg, &err))
        refuse(u, err);
    else
        advance(u);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)call;
    struct upload *u = user;
    sa_error *err = NULL;
    u->ended = true;
    if (!u->known && sa_fail(&err, SA_INVALID_REQUEST, "session_id: is empty"))
        refuse(u, err);
    else
        advance(u);
}

static void on_upload_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct upload *u = user;
    u->cancelled = true;
    advance(u);
}

void api_write_blob(void *api, struct rpc_call *call)
{
    static const struct write_blob_events events = {on_message, on_end, on_upload_cancel};
    struct upload *u = sa_calloc(1, sizeof *u);
    u->all = api;
    u->call = rpc_call_ref(call);
    write_blob_accept(call, &events, u);
}

/* ---- read ---- */

struct download {
    struct sessions *all;
    struct rpc_call *call;
    char *path;
    int fd;
    uint8_t *piece;
    ssize_t n; /* bytes of the piece; 0: the end */
    uint64_t at;
    bool busy, no_room, cancelled;
    sa_error *err;
};

static void download_free(struct download *d)
{
    sa_close(d->fd);
    free(d->path);
    free(d->piece);
    sa_error_free(d->err);
    rpc_call_unref(d->call);
    free(d);
}

static void read_work(void *user)
{
    struct download *d = user;
    if (d->fd < 0)
        d->fd = open(d->path, O_RDONLY | O_CLOEXEC);
    if (d->fd < 0) {
        sa_fail_errno(&d->err, errno, "open a blob");
        return;
    }
    do
        d->n = pread(d->fd, d->piece, BLOB_PIECE, (off_t)d->at);
    while (d->n < 0 && errno == EINTR);
    if (d->n < 0)
        sa_fail_errno(&d->err, errno, "read a blob");
}

static void read_next(struct download *d);

static void read_done(void *user)
{
    struct download *d = user;
    struct service *svc = d->all->svc;
    d->busy = false;
    if (d->cancelled) {
        download_free(d);
    } else if (d->err) {
        rpc_fail(d->call, steal_pointer(&d->err));
        download_free(d);
    } else if (!d->n) {
        rpc_end(d->call);
        download_free(d);
    } else {
        ReadBlobResponse m = READ_BLOB_RESPONSE__INIT;
        m.data = (ProtobufCBinaryData){(size_t)d->n, d->piece};
        d->at += (uint64_t)d->n;
        d->no_room = !read_blob_send(d->call, &m);
        read_next(d);
    }
    service_release(svc);
}

static void read_next(struct download *d)
{
    if (d->busy || d->no_room)
        return;
    d->busy = true;
    service_hold(d->all->svc);
    sa_work(d->all->loop, read_work, read_done, d);
}

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct download *d = user;
    d->no_room = false;
    read_next(d);
}

static void on_download_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct download *d = user;
    d->cancelled = true;
    if (!d->busy)
        download_free(d);
}

void api_read_blob(void *api, struct rpc_call *call, const ReadBlobRequest *req)
{
    static const struct rpc_call_events events = {on_writable, on_download_cancel};
    struct sessions *all = api;
    struct sa_id session;
    struct blob_id id;
    uint64_t size;
    sa_error *err = NULL;
    cleanup_message StoredSession *row = sessions_read(all, req->session_id, &session, &err);
    if (!row || blob_id_parse(req->sha256, &id, &err) || blobs_find(all->blobs, session, id, &size, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct download *d = sa_calloc(1, sizeof *d);
    d->all = all;
    d->call = rpc_call_ref(call);
    d->path = blobs_path(all->blobs, id);
    d->piece = sa_malloc(BLOB_PIECE);
    d->fd = -1;
    read_blob_on(call, &events, d);
    read_next(d);
}
