/* GET /v1/fs/entries: one JSON array, written page by page, so that a list costs a page whatever the
 * directory holds. Links are told as what they point to, as the peer does; each costs a call. */
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/files.h"

enum { PAGE = 1000 };

struct list {
    struct exchange *x;
    struct file_place place;
    struct peer_out out;
    struct json_writer w;
    struct rpc_request *rpc;
    char *token; /* of the next page; "": there is none */
    bool started, failed;
};

static void put_entry(struct list *l, const FileInfo *f)
{
    cleanup_buf struct sa_buf path = {0};
    size_t n = strlen(l->place.path);
    bool slash = n > 0 && l->place.path[n - 1] == '/';
    sa_buf_addf(&path, "%s%s", l->place.path, slash ? "" : "/");
    sa_buf_add(&path, f->name.data, f->name.len);
    json_begin_object(&l->w);
    json_key(&l->w, "name");
    json_put_bytes(&l->w, f->name.data, f->name.len);
    json_key(&l->w, "path");
    json_put_bytes(&l->w, path.data, path.len);
    file_put_info(&l->w, f);
    json_end_object(&l->w);
}

static const struct http_stream stream;

static void on_page(void *user, const ListDirectoryResponse *res, const sa_error *err)
{
    struct list *l = user;
    l->rpc = NULL;
    if (err && !l->started) {
        file_fail(l->x, FILE_LIST, l->place.path, err);
        return;
    }
    l->failed = err != NULL;
    if (!err) {
        for (size_t i = 0; i < res->n_entries; i++)
            put_entry(l, res->entries[i]);
        free(l->token);
        l->token = sa_strdup(res->next_page_token);
        if (!*l->token)
            json_end_array(&l->w);
    }
    if (l->started) {
        http_wake(l->x->http);
        return;
    }
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    l->started = true;
    http_stream(l->x->http, 200, "application/json", headers, &stream, l);
}

static void fetch(struct list *l)
{
    ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(l->x);
    req.root = l->place.root;
    req.path = file_path(&l->place);
    req.page_size = PAGE;
    req.page_token = l->token;
    l->rpc = list_directory_call(l->x->gw->fs, &req, &opt, on_page, l);
}

static ssize_t on_fill(void *user, char *buf, size_t max)
{
    struct list *l = user;
    if (l->failed)
        return HTTP_STREAM_ABORT; /* a broken list must not look like a whole one */
    if (l->out.buf.len)
        return peer_take(&l->out, buf, max);
    if (!*l->token)
        return HTTP_STREAM_END;
    if (!l->rpc)
        fetch(l);
    return 0;
}

static const struct http_stream stream = {.fill = on_fill};

/* ---- the request ---- */

static void abandon(struct exchange *x)
{
    struct list *l = x->state;
    rpc_abandon(l->rpc);
    sa_buf_fini(&l->out.buf);
    free(l->token);
    free(l);
}

void files_list(struct exchange *x)
{
    struct file_place p;
    if (!peer_check_query(x) || !file_place(x, peer_query(x, "path"), &p))
        return;
    struct list *l = sa_calloc(1, sizeof(*l));
    *l = (struct list){.x = x, .place = p, .token = sa_strdup("")};
    l->w = json_writer(&l->out.buf);
    json_begin_array(&l->w);
    x->state = l;
    x->abandon = abandon;
    fetch(l);
}
