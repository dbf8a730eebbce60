/* GetUsage, in slices on a worker thread, and ListRoots. */
#include <stdlib.h>
#include <string.h>

#include "services/fs-svc/fs.h"
#include "services/fs-svc/usage.h"

struct usage_job {
    struct fs_target target;
    bool filesystem_only, cancelled;
    int fd, more;
    struct fs_usage usage;
    struct statvfs filesystem;
    sa_error *err;
};

static void usage_free(struct usage_job *j)
{
    if (j->target.call)
        rpc_on_cancel(j->target.call, NULL, NULL);
    sa_close(j->fd);
    fs_usage_fini(&j->usage);
    fs_target_fini(&j->target);
    free(j);
}

static int usage_step(struct usage_job *j, sa_error **err)
{
    struct fs_slice slice = fs_slice_begin();
    if (j->fd < 0) {
        j->fd = fs_path_open(j->target.root, j->target.path, true, err);
        if (j->fd < 0 || fs_usage_filesystem(j->fd, &j->filesystem, err) < 0)
            return -1;
    }
    return j->filesystem_only ? 0 : fs_usage_step(&j->usage, j->fd, &slice, err);
}

static void usage_work(void *user)
{
    struct usage_job *j = user;
    if (fs_identity_enter(j->target.fs->identity, &j->err) < 0)
        return;
    j->more = usage_step(j, &j->err);
    fs_identity_leave(j->target.fs->identity);
}

static void usage_reply(struct usage_job *j)
{
    const struct fs_usage *u = &j->usage;
    const struct statvfs *f = &j->filesystem;
    GetUsageResponse res = GET_USAGE_RESPONSE__INIT;
    res.allocated_bytes = u->allocated;
    res.content_bytes = u->content;
    res.files = u->files;
    res.directories = u->directories;
    res.unreadable = u->unreadable;
    res.filesystem_bytes = (uint64_t)f->f_blocks * f->f_frsize;
    res.available_bytes = (uint64_t)f->f_bavail * f->f_frsize;
    res.filesystem_files = f->f_files;
    res.available_files = f->f_favail;
    get_usage_reply(j->target.call, &res);
}

static void usage_done(void *user)
{
    struct usage_job *j = user;
    if (!j->err && j->more && !j->cancelled) {
        sa_work(j->target.fs->loop, usage_work, usage_done, j);
        return;
    }
    if (j->err)
        rpc_fail(j->target.call, j->err);
    else if (!j->cancelled)
        usage_reply(j);
    usage_free(j);
}

static void usage_cancelled(void *user, struct rpc_call *call)
{
    (void)call;
    struct usage_job *j = user;
    j->cancelled = true;
}

void fs_get_usage(void *api, struct rpc_call *call, const GetUsageRequest *req)
{
    sa_error *err = NULL;
    struct usage_job *j = sa_calloc(1, sizeof *j);
    j->fd = -1;
    j->filesystem_only = req->filesystem_only;
    if (fs_target_init(&j->target, api, call, req->root, req->path, &err) < 0) {
        rpc_fail(call, err);
        usage_free(j);
        return;
    }
    rpc_no_server_deadline(call);
    rpc_on_cancel(call, usage_cancelled, j);
    sa_work(j->target.fs->loop, usage_work, usage_done, j);
}

/* ---- ListRoots ---- */

static ProtobufCBinaryData bytes_of(char *s)
{
    return (ProtobufCBinaryData){s ? strlen(s) : 0, (uint8_t *)s};
}

void fs_list_roots(void *api, struct rpc_call *call, const ListRootsRequest *req)
{
    (void)req;
    const struct fs_service *fs = api;
    struct sa_arena *a = rpc_arena(call);
    ListRootsResponse res = LIST_ROOTS_RESPONSE__INIT;
    res.n_roots = fs_roots_count(fs->roots);
    res.roots = sa_arena_alloc(a, (res.n_roots + 1) * sizeof *res.roots);
    for (size_t i = 0; i < res.n_roots; i++) {
        const struct fs_root *root = fs_roots_at(fs->roots, i);
        res.roots[i] = sa_arena_alloc(a, sizeof *res.roots[i]);
        *res.roots[i] = (Root)ROOT__INIT;
        res.roots[i]->name = root->name;
        res.roots[i]->directory = bytes_of(root->dir);
        res.roots[i]->read_only = root->read_only;
        res.roots[i]->whole_filesystem = root->whole;
        res.roots[i]->home = bytes_of(root->home);
        res.roots[i]->max_write_bytes = root->max_write;
    }
    list_roots_reply(call, &res);
}
