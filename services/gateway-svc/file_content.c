/* GET /v1/fs/file: the content of a file, whole or a range of it, as it is read. Whoever reads slowly slows
 * the reading down: one message of it is in memory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/files.h"
#include "services/gateway-svc/range.h"

enum { TRIES = 3 }; /* of a file that is replaced between the look at it and its reading */

struct download {
    struct exchange *x;
    struct file_place place;
    struct rpc_request *rpc;
    struct peer_out out;
    char etag[80]; /* quoted */
    uint64_t size; /* of the file */
    uint64_t from, left;
    int tries;
    bool part, started, paused, ended, failed;
};

static void look(struct download *d);

/* ---- the stream ---- */

static ssize_t on_fill(void *user, char *buf, size_t max)
{
    struct download *d = user;
    ssize_t n = peer_take(&d->out, buf, max);
    if (n > 0)
        return n;
    if (d->failed || d->ended || http_peer_gone(d->x->http))
        return HTTP_STREAM_ABORT; /* the file was cut meanwhile: what was announced cannot be kept */
    if (d->paused)
        rpc_pause_response(d->rpc, false);
    d->paused = false;
    return 0;
}

static void answer_head(struct download *d)
{
    static const struct http_stream stream = {.fill = on_fill};
    char range[80];
    const char *headers[] = {"ETag", d->etag, "Accept-Ranges", "bytes", "Cache-Control", "no-cache", NULL,
                             NULL,   NULL};
    d->started = true;
    if (d->part) {
        snprintf(range, sizeof(range), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, d->from,
                 d->from + d->left - 1, d->size);
        headers[6] = "Content-Range";
        headers[7] = range;
    }
    http_stream_sized(d->x->http, d->part ? 206 : 200, "application/octet-stream", headers, d->left, &stream,
                      d);
}

static void set_etag(struct download *d, const FileInfo *f)
{
    snprintf(d->etag, sizeof(d->etag), "\"%.70s\"", f->etag);
}

/* Is it still the file that was looked at? */
static bool is_same(const struct download *d, const FileInfo *f)
{
    struct download now = {0};
    set_etag(&now, f);
    return strcmp(now.etag, d->etag) == 0;
}

static void on_data(void *user, const ReadFileResponse *res)
{
    struct download *d = user;
    if (!d->started) {
        if (res->file && !is_same(d, res->file) && ++d->tries < TRIES) {
            rpc_abandon(steal_pointer(&d->rpc));
            look(d);
            return;
        }
        answer_head(d);
    }
    size_t n = res->data.len < d->left ? res->data.len : (size_t)d->left;
    if (n == 0)
        return;
    d->left -= n;
    sa_buf_add(&d->out.buf, res->data.data, n);
    d->paused = true;
    rpc_pause_response(d->rpc, true);
    http_wake(d->x->http);
}

static void on_end(void *user, const sa_error *err)
{
    struct download *d = user;
    d->rpc = NULL;
    d->paused = false;
    d->ended = true;
    d->failed = err != NULL;
    if (err && !d->started)
        file_fail(d->x, FILE_READ, d->place.path, err);
    else
        http_wake(d->x->http);
}

static void read_content(struct download *d)
{
    static const struct read_file_client events = {.on_message = on_data, .on_end = on_end};
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(d->x);
    opt.deadline_ms = 0;
    opt.wait_for_ready = false;
    req.root = d->place.root;
    req.path = file_path(&d->place);
    req.offset = d->from;
    req.length = d->left;
    d->rpc = read_file_open(d->x->gw->fs, &req, &opt, &events, d);
}

/* ---- what is asked for ---- */

static void answer_outside(struct download *d)
{
    char range[40];
    snprintf(range, sizeof(range), "bytes */%" PRIu64, d->size);
    const char *headers[] = {"Content-Range", range, "ETag", d->etag, NULL};
    http_reply(d->x->http, 416, NULL, NULL, 0, headers);
}

/* All of it, or a range if the client has the same file in mind. */
static bool choose(struct download *d)
{
    const struct http_request *r = d->x->http;
    const char *only_if = http_header(r, "If-Range");
    const char *header = only_if && strcmp(only_if, d->etag) != 0 ? NULL : http_header(r, "Range");
    enum range_result result = range_parse(header, d->size, &d->from, &d->left);
    if (result == RANGE_OUTSIDE) {
        answer_outside(d);
        return false;
    }
    d->part = result == RANGE_PART;
    if (!d->part) {
        d->from = 0;
        d->left = d->size;
    }
    return true;
}

static void on_look(void *user, const StatFileResponse *res, const sa_error *err)
{
    struct download *d = user;
    struct http_request *r = d->x->http;
    d->rpc = NULL;
    if (err) {
        file_fail(d->x, FILE_READ, d->place.path, err);
        return;
    }
    const char *known = http_header(r, "If-None-Match");
    set_etag(d, res->file);
    d->size = res->file->size;
    bool is_file = res->file->kind == FILE_KIND_REGULAR;
    if (is_file && known && (strcmp(known, "*") == 0 || strstr(known, d->etag))) {
        const char *headers[] = {"ETag", d->etag, "Cache-Control", "no-cache", NULL};
        http_reply(r, 304, NULL, NULL, 0, headers);
    } else if (!is_file || choose(d)) {
        read_content(d); /* of what is no file: to be told so */
    }
}

static void look(struct download *d)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(d->x);
    req.root = d->place.root;
    req.path = file_path(&d->place);
    d->rpc = stat_file_call(d->x->gw->fs, &req, &opt, on_look, d);
}

static void abandon(struct exchange *x)
{
    struct download *d = x->state;
    rpc_abandon(d->rpc);
    sa_buf_fini(&d->out.buf);
    free(d);
}

void files_get(struct exchange *x)
{
    struct file_place p;
    if (!file_place_of_query(x, &p))
        return;
    struct download *d = sa_calloc(1, sizeof(*d));
    *d = (struct download){.x = x, .place = p};
    x->state = d;
    x->abandon = abandon;
    look(d);
}
