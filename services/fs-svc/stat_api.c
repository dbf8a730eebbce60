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
    char *after;
    size_t max;
    struct fs_page page;
    sa_error *err;
};

/* A token is "<checksum of the directory>.<last name>" in hexadecimal: names are bytes, tokens are text, and
 * one of another directory is refused. */
static uint32_t checksum(const struct fs_target *t)
{
    uint32_t h = 2166136261u;
    for (const char *p = t->root->name; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    h *= 16777619u;
    for (const char *p = t->path; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return h;
}

static char *make_token(const struct fs_target *t, const char *last)
{
    cleanup_buf struct sa_buf b = {0};
    sa_buf_addf(&b, "%08x.", checksum(t));
    for (; *last; last++)
        sa_buf_addf(&b, "%02x", (uint8_t)*last);
    return sa_arena_strdup(rpc_arena(t->call), sa_buf_string(&b));
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static int parse_token(const struct fs_target *t, const char *token, char **ret_after, sa_error **err)
{
    if (!*token) {
        *ret_after = NULL;
        return 0;
    }
    char start[10];
    snprintf(start, sizeof start, "%08x.", checksum(t));
    size_t n = strlen(token);
    if (strncmp(token, start, 9) || n < 11 || n % 2 == 0 || n > 9 + 2 * 255)
        return sa_fail(err, SA_INVALID_PAGE_TOKEN, "the page token is not one of this directory");
    cleanup_free char *name = sa_calloc(1, n);
    for (size_t i = 9, k = 0; i < n; i += 2, k++) {
        int high = hex(token[i]), low = hex(token[i + 1]);
        if (high < 0 || low < 0 || !(high | low))
            return sa_fail(err, SA_INVALID_PAGE_TOKEN, "the page token is damaged");
        name[k] = (char)(high << 4 | low);
    }
    *ret_after = steal_pointer(&name);
    return 0;
}

static void list_work(void *user)
{
    struct list_job *j = user;
    if (fs_identity_enter(j->target.fs->identity, &j->err) < 0)
        return;
    fs_dir_page(j->target.root, j->target.path, j->after, j->max, &j->page, &j->err);
    fs_identity_leave(j->target.fs->identity);
}

static void list_reply(struct list_job *j)
{
    struct sa_arena *a = rpc_arena(j->target.call);
    ListDirectoryResponse res = LIST_DIRECTORY_RESPONSE__INIT;
    res.n_entries = j->page.n;
    res.entries = sa_arena_alloc(a, (j->page.n + 1) * sizeof *res.entries);
    for (size_t i = 0; i < j->page.n; i++) {
        const struct fs_info *info = &j->page.entries[i];
        res.entries[i] = fs_info_to_proto(a, info, fs_info_join(a, j->target.path, info->name));
    }
    if (j->page.more && j->page.n)
        res.next_page_token = make_token(&j->target, j->page.entries[j->page.n - 1].name);
    list_directory_reply(j->target.call, &res);
}

static void list_done(void *user)
{
    struct list_job *j = user;
    if (j->err)
        rpc_fail(j->target.call, j->err);
    else if (rpc_alive(j->target.call))
        list_reply(j);
    fs_page_fini(&j->page);
    fs_target_fini(&j->target);
    free(j->after);
    free(j);
}

void fs_list_directory(void *api, struct rpc_call *call, const ListDirectoryRequest *req)
{
    sa_error *err = NULL;
    struct fs_target target;
    if (fs_target_init(&target, api, call, req->root, req->path, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    char *after = NULL;
    if (req->page_size < 0)
        sa_fail(&err, SA_INVALID_REQUEST, "page_size is negative");
    else
        parse_token(&target, req->page_token, &after, &err);
    if (err) {
        rpc_fail(call, err);
        fs_target_fini(&target);
        return;
    }
    struct list_job *j = sa_calloc(1, sizeof *j);
    size_t asked = req->page_size ? (size_t)req->page_size : FS_PAGE_DEFAULT;
    j->target = target;
    j->after = after;
    j->max = asked < FS_PAGE_MAX ? asked : FS_PAGE_MAX;
    sa_work(target.fs->loop, list_work, list_done, j);
}
