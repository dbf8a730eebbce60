/* PUT /v1/fs/file and POST /v1/fs/upload-batch: bodies of any size go to fs-svc as they come, and no faster
 * than it takes them. A body that breaks off changes nothing: the call ends without its end. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "services/gateway-svc/files.h"

enum { PATHS = 1024 }; /* of an archive that are told */

struct upload {
    struct exchange *x;
    struct file_place place;
    struct rpc_request *rpc;
    bool (*write)(struct upload *u, const void *data, size_t n); /* is there room for more? */
    uint64_t bytes;
    bool full;          /* wait for on_writable */
    struct sa_buf body; /* the answer, once it has come */
};

static void on_writable(void *user)
{
    struct upload *u = user;
    u->full = false;
    http_wake(u->x->http);
}

static size_t on_take(void *user, const void *data, size_t n)
{
    struct upload *u = user;
    if (u->full || !u->rpc)
        return 0;
    u->bytes += n;
    u->full = !u->write(u, data, n);
    return n;
}

static void on_body_end(void *user)
{
    struct upload *u = user;
    if (u->rpc)
        rpc_close_send(u->rpc);
}

static void on_end(void *user, const sa_error *err)
{
    struct upload *u = user;
    u->rpc = NULL;
    if (http_answered(u->x->http))
        return;
    if (!err)
        peer_reply(u->x, &u->body);
    else if (sa_error_is(err, SA_INVALID_ARCHIVE))
        peer_problem(u->x, PEER_STREAM, err->reason, err->message);
    else
        file_fail(u->x, FILE_WRITE, u->place.path, err);
}

static void abandon(struct exchange *x)
{
    struct upload *u = x->state;
    rpc_abandon(u->rpc);
    sa_buf_fini(&u->body);
    free(u);
}

static struct upload *begin(struct exchange *x, const struct file_place *p, const struct http_sink *sink)
{
    struct upload *u = sa_calloc(1, sizeof(*u));
    *u = (struct upload){.x = x, .place = *p};
    x->state = u;
    x->abandon = abandon;
    http_receive(x->http, sink, u);
    return u;
}

/* ---- a file ---- */

static bool write_file(struct upload *u, const void *data, size_t n)
{
    WriteFileRequest req = WRITE_FILE_REQUEST__INIT;
    req.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
    req.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
    return write_file_write(u->rpc, &req);
}

static void on_written(void *user, const WriteFileResponse *res)
{
    struct upload *u = user;
    struct json_writer w = json_writer(&u->body);
    (void)res;
    json_begin_object(&w);
    json_key(&w, "path");
    json_put_string(&w, u->place.path);
    json_key(&w, "bytesWritten");
    json_put_uint(&w, u->bytes);
    json_end_object(&w);
}

void files_put(struct exchange *x)
{
    static const struct http_sink sink = {.take = on_take, .end = on_body_end};
    static const struct write_file_client events = {on_written, on_writable, on_end};
    WriteFileRequest req = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    struct rpc_call_options opt = calls_options(x);
    struct file_place p;
    if (!file_place_of_query(x, &p))
        return;
    struct upload *u = begin(x, &p, &sink);
    opt.deadline_ms = 0;
    opt.wait_for_ready = false;
    open.root = p.root;
    open.path = file_path(&p);
    open.make_parents = true;
    req.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    req.open = &open;
    u->write = write_file;
    u->rpc = write_file_open(x->gw->fs, &opt, &events, u);
    u->full = !write_file_write(u->rpc, &req);
}

/* ---- an archive ---- */

static bool write_archive(struct upload *u, const void *data, size_t n)
{
    UploadArchiveRequest req = UPLOAD_ARCHIVE_REQUEST__INIT;
    req.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_DATA;
    req.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)data};
    return upload_archive_write(u->rpc, &req);
}

static void put_paths(struct upload *u, const UploadArchiveResponse *res)
{
    struct json_writer w = json_writer(&u->body);
    cleanup_buf struct sa_buf path = {0};
    size_t n = strlen(u->place.path);
    bool slash = n > 0 && u->place.path[n - 1] == '/';
    json_begin_object(&w);
    json_key(&w, "paths");
    json_begin_array(&w);
    for (size_t i = 0; i < res->n_paths; i++) {
        path.len = 0;
        sa_buf_addf(&path, "%s%s", u->place.path, slash ? "" : "/");
        sa_buf_add(&path, res->paths[i].data, res->paths[i].len);
        json_put_bytes(&w, path.data, path.len);
    }
    json_end_array(&w);
    json_key(&w, "truncated");
    json_put_bool(&w, res->n_paths < res->entries);
    json_end_object(&w);
}

/* The peer ends at the first entry that it refuses; here the others are in place. */
static void on_unpacked(void *user, const UploadArchiveResponse *res)
{
    struct upload *u = user;
    if (!res->failed) {
        put_paths(u, res);
        return;
    }
    const FailedEntry *f = res->failures[0];
    bool outside = strcmp(f->reason, sa_reason_name(SA_INVALID_PATH)) == 0;
    cleanup_free char *message =
        sa_format("%s%.*s%s%s", outside ? "invalid relative path: " : "entry ", (int)f->name.len,
                  (const char *)f->name.data, outside ? "" : ": ", outside ? "" : f->message);
    peer_problem(u->x, PEER_INVALID, f->reason, message);
}

static bool is_tar(const struct http_request *r)
{
    const char *type = http_header(r, "Content-Type");
    return type && strncasecmp(type, "application/x-tar", 17) == 0;
}

/* Nothing comes: an archive without entries. */
static void on_archive_end(void *user)
{
    struct upload *u = user;
    static const UploadArchiveResponse none = UPLOAD_ARCHIVE_RESPONSE__INIT;
    if (!u->rpc || u->bytes > 0) {
        on_body_end(u);
        return;
    }
    rpc_abandon(steal_pointer(&u->rpc));
    put_paths(u, &none);
    peer_reply(u->x, &u->body);
}

void files_unpack(struct exchange *x)
{
    static const struct http_sink sink = {.take = on_take, .end = on_archive_end};
    static const struct upload_archive_client events = {on_unpacked, on_writable, on_end};
    UploadArchiveRequest req = UPLOAD_ARCHIVE_REQUEST__INIT;
    UploadArchiveOpen open = UPLOAD_ARCHIVE_OPEN__INIT;
    struct rpc_call_options opt = file_long_call(x);
    struct file_place p;
    if (!peer_check_query(x) || !file_place(x, peer_query(x, "path"), &p))
        return;
    if (!is_tar(x->http)) {
        peer_problem(x, PEER_INVALID, NULL, "content-type must be application/x-tar");
        return;
    }
    struct upload *u = begin(x, &p, &sink);
    open.root = p.root;
    open.path = file_path(&p);
    open.overwrite = OVERWRITE_POLICY_REPLACE;
    open.max_paths = PATHS;
    req.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_OPEN;
    req.open = &open;
    u->write = write_archive;
    u->rpc = upload_archive_open(x->gw->fs, &opt, &events, u);
    u->full = !upload_archive_write(u->rpc, &req);
}
