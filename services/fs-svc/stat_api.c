/* StatFile and ListDirectory: one job on a worker thread, then the reply. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/dir.h"
#include "services/fs-svc/fs.h"

/* ---- StatFile ---- */

struct stat_job {
    struct fs_target target;
    bool follow;
    struct fs_info info;
    sa_error *err;
};

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void stat_work(void *user)
{
    struct stat_job *j = user;
    if (fs_identity_enter(j->target.fs->identity, &j->err) < 0)
        return;
    cleanup_close int fd = fs_path_open(j->target.root, j->target.path, j->follow, &j->err);
    if (fd >= 0)
        fs_info_of(fd, last_part(j->target.path), &j->info, &j->err);
    fs_identity_leave(j->target.fs->identity);
}

static void stat_done(void *user)
{
    struct stat_job *j = user;
    if (j->err) {
        rpc_fail(j->target.call, j->err);
    } else if (rpc_alive(j->target.call)) {
        StatFileResponse res = STAT_FILE_RESPONSE__INIT;
        res.file = fs_info_to_proto(rpc_arena(j->target.call), &j->info, j->target.path);
        stat_file_reply(j->target.call, &res);
    }
    fs_info_fini(&j->info);
    fs_target_fini(&j->target);
    free(j);
}

void fs_stat_file(void *api, struct rpc_call *call, const StatFileRequest *req)
{
    sa_error *err = NULL;
    struct fs_target target;
    if (fs_target_init(&target, api, call, req->root, req->path, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct stat_job *j = sa_calloc(1, sizeof *j);
    j->target = target;
    j->follow = !req->no_follow;
    sa_work(target.fs->loop, stat_work, stat_done, j);
}

/* ---- ListDirectory ---- */

struct list_job {
    struct fs_target target;
    struct fs_list list;
    struct fs_cursor after;
    struct fs_page page;
    sa_error *err;
};

/* A token is "<checksum of the request>." and the cursor: one of another request is refused. */
static uint32_t checksum(const struct list_job *j)
{
    uint32_t h = 2166136261u;
    for (const char *p = j->target.root->name; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    h *= 16777619u;
    for (const char *p = j->target.path; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    uint32_t form = (uint32_t)j->list.order | (uint32_t)j->list.descending << 2 |
                    (uint32_t)j->list.hide_hidden << 3 | (uint32_t)j->list.depth << 4;
    return (h ^ form) * 16777619u;
}

static char *make_token(const struct list_job *j)
{
    cleanup_buf struct sa_buf b = {0};
    sa_buf_addf(&b, "%08x.", checksum(j));
    fs_cursor_print(&j->page.last, &b);
    return sa_arena_strdup(rpc_arena(j->target.call), sa_buf_string(&b));
}

static int parse_token(struct list_job *j, const char *token, sa_error **err)
{
    char start[10];
    if (!*token)
        return 0;
    snprintf(start, sizeof start, "%08x.", checksum(j));
    if (strncmp(token, start, 9) != 0)
        return sa_fail(err, SA_INVALID_PAGE_TOKEN, "the page token is not one of this request");
    if (!fs_cursor_parse(token + 9, j->list.depth, &j->after))
        return sa_fail(err, SA_INVALID_PAGE_TOKEN, "the page token is damaged");
    return 0;
}

static int read_list(const ListDirectoryRequest *req, struct fs_list *ret, sa_error **err)
{
    static const enum fs_order orders[] = {[LIST_ORDER_UNSPECIFIED] = FS_ORDER_NAME,
                                           [LIST_ORDER_NAME] = FS_ORDER_NAME,
                                           [LIST_ORDER_SIZE] = FS_ORDER_SIZE,
                                           [LIST_ORDER_MODIFY_TIME] = FS_ORDER_TIME};
    if (req->page_size < 0)
        return sa_fail(err, SA_INVALID_REQUEST, "page_size is negative");
    if ((size_t)req->order >= sizeof orders / sizeof *orders)
        return sa_fail(err, SA_INVALID_REQUEST, "order %d is not known", (int)req->order);
    if (req->depth < 0 || req->depth > FS_DEPTH_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "depth is from 0 to %d", FS_DEPTH_MAX);
    size_t asked = req->page_size ? (size_t)req->page_size : FS_PAGE_DEFAULT;
    size_t max = req->names_only ? FS_PAGE_MAX : FS_PAGE_WHOLE_MAX;
    *ret = (struct fs_list){.order = orders[req->order],
                            .descending = req->descending,
                            .hide_hidden = req->hide_hidden,
                            .names_only = req->names_only,
                            .depth = req->depth ? (size_t)req->depth : 1,
                            .max = asked < max ? asked : max};
    return 0;
}

static void list_work(void *user)
{
    struct list_job *j = user;
    if (fs_identity_enter(j->target.fs->identity, &j->err) < 0)
        return;
    fs_dir_page(j->target.root, j->target.path, &j->list, j->after.n ? &j->after : NULL, &j->page, &j->err);
    fs_identity_leave(j->target.fs->identity);
}

static void list_reply(struct list_job *j)
{
    struct sa_arena *a = rpc_arena(j->target.call);
    const struct fs_page *p = &j->page;
    ListDirectoryResponse res = LIST_DIRECTORY_RESPONSE__INIT;
    res.n_entries = p->n;
    res.entries = sa_arena_alloc(a, (p->n + 1) * sizeof *res.entries);
    for (size_t i = 0; i < p->n; i++) {
        char *path = fs_info_join(a, j->target.path, p->paths[i]);
        res.entries[i] = j->list.names_only ? fs_info_brief(a, &p->entries[i], path)
                                            : fs_info_to_proto(a, &p->entries[i], path);
    }
    res.n_unreadable = p->n_unreadable;
    res.unreadable = sa_arena_alloc(a, (p->n_unreadable + 1) * sizeof *res.unreadable);
    for (size_t i = 0; i < p->n_unreadable; i++) {
        char *path = fs_info_join(a, j->target.path, p->unreadable[i]);
        res.unreadable[i] = (ProtobufCBinaryData){strlen(path), (uint8_t *)path};
    }
    if (p->more && p->last.n)
        res.next_page_token = make_token(j);
    list_directory_reply(j->target.call, &res);
}

static void list_free(struct list_job *j)
{
    fs_page_fini(&j->page);
    fs_cursor_fini(&j->after);
    fs_target_fini(&j->target);
    free(j);
}

static void list_done(void *user)
{
    struct list_job *j = user;
    if (j->err)
        rpc_fail(j->target.call, j->err);
    else if (rpc_alive(j->target.call))
        list_reply(j);
    list_free(j);
}

void fs_list_directory(void *api, struct rpc_call *call, const ListDirectoryRequest *req)
{
    sa_error *err = NULL;
    struct list_job *j = sa_calloc(1, sizeof *j);
    if (fs_target_init(&j->target, api, call, req->root, req->path, &err) < 0 ||
        read_list(req, &j->list, &err) < 0 || parse_token(j, req->page_token, &err) < 0) {
        rpc_fail(call, err);
        list_free(j);
        return;
    }
    sa_work(j->target.fs->loop, list_work, list_done, j);
}
