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
    FileInfo **links; /* of the page, still to be looked at; in `page` */
    size_t n_links, at_link;
    struct sa_arena *page;
    char *token; /* of the next page; "": there is none */
    bool started, failed;
};

static char *path_of(struct list *l, const FileInfo *f)
{
    size_t n = strlen(l->place.path);
    bool slash = n > 0 && l->place.path[n - 1] == '/';
    return sa_arena_format(l->page, "%s%s%.*s", l->place.path, slash ? "" : "/", (int)f->name.len,
                           (const char *)f->name.data);
}

static void put_entry(struct list *l, const FileInfo *name, const FileInfo *what)
{
    json_begin_object(&l->w);
    json_key(&l->w, "name");
    json_put_bytes(&l->w, name->name.data, name->name.len);
    json_key(&l->w, "path");
    json_put_string(&l->w, path_of(l, name));
    file_put_info(&l->w, what);
    json_end_object(&l->w);
}

/* ---- links ---- */

static void next_link(struct list *l);

static void on_target(void *user, const StatFileResponse *res, const sa_error *err)
{
    struct list *l = user;
    const FileInfo *link = l->links[l->at_link++];
    l->rpc = NULL;
    put_entry(l, link, err ? link : res->file); /* what points nowhere is told as itself */
    next_link(l);
}

static void next_link(struct list *l)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(l->x);
    if (l->at_link == l->n_links) {
        if (!*l->token)
            json_end_array(&l->w);
        http_wake(l->x->http);
        return;
    }
    struct file_place p = {l->place.root, path_of(l, l->links[l->at_link])};
    req.root = p.root;
    req.path = file_path(&p);
    l->rpc = stat_file_call(l->x->gw->fs, &req, &opt, on_target, l);
}

/* ---- pages ---- */

static FileInfo *keep(struct list *l, const FileInfo *f)
{
    FileInfo *k = sa_arena_alloc(l->page, sizeof(*k));
    *k = (FileInfo)FILE_INFO__INIT;
    k->name = (ProtobufCBinaryData){f->name.len, sa_arena_memdup(l->page, f->name.data, f->name.len)};
    k->kind = f->kind;
    k->size = f->size;
    if (f->modify_time)
        k->modify_time = sa_arena_memdup(l->page, f->modify_time, sizeof(*f->modify_time));
    return k;
}

static void put_page(struct list *l, const ListDirectoryResponse *res)
{
    sa_arena_reset(l->page);
    l->token = sa_arena_strdup(l->page, res->next_page_token);
    l->links = sa_arena_alloc(l->page, (res->n_entries + 1) * sizeof(*l->links));
    l->n_links = l->at_link = 0;
    for (size_t i = 0; i < res->n_entries; i++)
        if (res->entries[i]->kind == FILE_KIND_SYMLINK)
            l->links[l->n_links++] = keep(l, res->entries[i]);
        else
            put_entry(l, res->entries[i], res->entries[i]);
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
    if (l->failed) {
        http_wake(l->x->http);
        return;
    }
    put_page(l, res);
    next_link(l);
    if (!l->started) {
        static const char *const headers[] = {"Cache-Control", "no-store", NULL};
        l->started = true;
        http_stream(l->x->http, 200, "application/json", headers, &stream, l);
    }
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
    if (l->rpc)
        return 0;
    if (l->out.buf.len)
        return peer_take(&l->out, buf, max);
    if (!*l->token)
        return HTTP_STREAM_END;
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
    sa_arena_free(l->page);
    free(l);
}

void files_list(struct exchange *x)
{
    struct file_place p;
    if (!peer_check_query(x) || !file_place(x, peer_query(x, "path"), &p))
        return;
    struct list *l = sa_calloc(1, sizeof(*l));
    *l = (struct list){.x = x, .place = p, .page = sa_arena_new()};
    l->token = sa_arena_strdup(l->page, "");
    l->w = json_writer(&l->out.buf);
    json_begin_array(&l->w);
    x->state = l;
    x->abandon = abandon;
    fetch(l);
}
