/* For the tests of WatchTree: a reader that keeps a copy of a tree's names, as the proto says how, and
 * compares it with the disk. */
#ifndef SERVICES_FS_SVC_WATCH_FIXTURE_H_
#define SERVICES_FS_SVC_WATCH_FIXTURE_H_

#include "services/fs-svc/service_fixture.h"

#include <pthread.h>
#include <search.h>

#include "sandboxagent/fs/v1/watch_service.rpc.h"

/* ---- a copy of a tree ---- */

struct copied {
    char *name; /* first: the tree compares it */
    bool directory;
    void *children;
};

static inline int copied_order(const void *a, const void *b)
{
    return strcmp(((const struct copied *)a)->name, ((const struct copied *)b)->name);
}

static inline void copied_free(void *p)
{
    struct copied *c = p;
    tdestroy(c->children, copied_free);
    free(c->name);
    free(c);
}

static inline struct copied *copied_child(struct copied *dir, const char *name)
{
    struct copied key = {.name = (char *)(uintptr_t)name};
    struct copied **found = tfind(&key, &dir->children, copied_order);
    return found ? *found : NULL;
}

static inline struct copied *copied_put(struct copied *dir, const char *name, bool directory)
{
    struct copied *c = copied_child(dir, name);
    if (!c) {
        c = sa_calloc(1, sizeof *c);
        c->name = sa_strdup(name);
        tsearch(c, &dir->children, copied_order);
    }
    c->directory = directory;
    return c;
}

/* Takes it out; NULL: it is not there. */
static inline struct copied *copied_take(struct copied *dir, const char *name)
{
    struct copied *c = copied_child(dir, name);
    if (c)
        tdelete(c, &dir->children, copied_order);
    return c;
}

static inline void copied_drop(struct copied *dir, const char *name)
{
    struct copied *c = copied_take(dir, name);
    if (c)
        copied_free(c);
}

/* ---- a reader ---- */

struct viewer {
    struct service_fixture *f;
    WatchTreeRequest req;
    const char *dir; /* of the tree, on the disk */
    struct rpc_stream *stream;
    struct copied root;
    char epoch[64];
    uint64_t seq, watched;
    struct sa_buf text;
    char *log; /* of text; events, one a line: "+a", "~a", "!a", "-a", "a>b", "?a" (rescan), "xa reason"; "/"
                  after directories */
    size_t events, gaps, rescans, progress, unwatched;
    char closed[64];
    char failed[64];
    /* A listing may know more than the events that are still to come: until a file that was made after it is
     * told, a directory that moved is listed, not moved. */
    char unsure[32];
    pthread_mutex_t *disk; /* held by who changes it meanwhile, and while it is listed; NULL: nobody does */
};

static inline struct copied *viewer_parent(struct viewer *v, const char *path, const char **ret_name)
{
    struct copied *dir = &v->root;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        cleanup_free char *name = sa_strndup(path, (size_t)(slash - path));
        struct copied *next = copied_child(dir, name);
        dir = next ? next : copied_put(dir, name, true);
    }
    *ret_name = path;
    return dir;
}

/* What is on the disk, into the copy. */
static inline void viewer_list(struct copied *dir, const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        struct copied *c = copied_put(dir, e->d_name, S_ISDIR(st.st_mode));
        cleanup_free char *below = sa_format("%s/%s", path, e->d_name);
        if (c->directory)
            viewer_list(c, below);
    }
    if (d)
        closedir(d);
}

static inline void viewer_list_path(struct viewer *v, const char *path)
{
    cleanup_free char *full = sa_format("%s/%s", v->dir, path);
    const char *name;
    struct copied *parent = viewer_parent(v, path, &name);
    struct stat st;
    copied_drop(parent, name);
    if (lstat(full, &st) == 0)
        viewer_list(copied_put(parent, name, S_ISDIR(st.st_mode)),
                    S_ISDIR(st.st_mode) ? full : "/nonexistent");
}

static inline void viewer_relist(struct viewer *v, const char *path)
{
    static int n;
    if (v->disk)
        pthread_mutex_lock(v->disk);
    if (strcmp(path, ".") != 0) {
        viewer_list_path(v, path);
    } else {
        tdestroy(v->root.children, copied_free);
        v->root.children = NULL;
        viewer_list(&v->root, v->dir);
    }
    snprintf(v->unsure, sizeof v->unsure, ".sync-sure-%d", ++n);
    test_put(v->dir, v->unsure, "");
    if (v->disk)
        pthread_mutex_unlock(v->disk);
}

static inline void viewer_move(struct viewer *v, const char *from, const char *to, bool directory)
{
    const char *old_name, *name;
    struct copied *old_parent = viewer_parent(v, from, &old_name);
    struct copied *c = copied_take(old_parent, old_name), *parent = viewer_parent(v, to, &name);
    copied_drop(parent, name);
    if (c && c->directory == directory && !(directory && *v->unsure)) {
        free(c->name);
        c->name = sa_strdup(name);
        tsearch(c, &parent->children, copied_order);
        return;
    }
    if (c)
        copied_free(c);
    if (directory)
        viewer_relist(v, to);
    else
        copied_put(parent, name, false);
}

static inline void viewer_apply(struct viewer *v, const WatchEvent *e)
{
    cleanup_free char *path = sa_strndup((const char *)e->path.data, e->path.len);
    cleanup_free char *old =
        e->old_path.len ? sa_strndup((const char *)e->old_path.data, e->old_path.len) : sa_strdup("");
    const char *name, *slash = e->directory ? "/" : "";
    static const char marks[] = "?+~>-!?x";
    if (e->kind == WATCH_EVENT_KIND_MOVE)
        sa_buf_addf(&v->text, "%s>%s%s\n", old, path, slash);
    else
        sa_buf_addf(&v->text, "%c%s%s%s%s\n", marks[e->kind], path, slash, *e->reason ? " " : "", e->reason);
    v->log = sa_buf_string(&v->text);
    v->events++;
    switch (e->kind) {
    case WATCH_EVENT_KIND_CREATE:
    case WATCH_EVENT_KIND_MODIFY:
    case WATCH_EVENT_KIND_ATTRIB:
        if (strcmp(path, ".") != 0) {
            struct copied *parent = viewer_parent(v, path, &name);
            if (e->kind == WATCH_EVENT_KIND_CREATE)
                copied_drop(parent, name); /* what is in a directory follows */
            if (e->kind == WATCH_EVENT_KIND_CREATE)
                copied_put(parent, name, e->directory);
            if (e->kind == WATCH_EVENT_KIND_CREATE && !strcmp(path, v->unsure))
                *v->unsure = 0;
        }
        break;
    case WATCH_EVENT_KIND_DELETE:
        if (strcmp(path, ".") != 0) {
            struct copied *parent = viewer_parent(v, path, &name);
            copied_drop(parent, name);
        }
        break;
    case WATCH_EVENT_KIND_MOVE:
        viewer_move(v, old, path, e->directory);
        break;
    case WATCH_EVENT_KIND_RESCAN:
        v->rescans++;
        viewer_relist(v, path);
        break;
    default:
        v->unwatched++;
        break;
    }
}

static inline void viewer_begin(struct viewer *v)
{
    v->stream = watch_tree_begin(v->f->caller.channel, &v->req, &patient);
    v->closed[0] = v->failed[0] = 0;
}

static inline void viewer_take(struct viewer *v, const WatchTreeResponse *m)
{
    switch (m->kind_case) {
    case WATCH_TREE_RESPONSE__KIND_OPENED:
        snprintf(v->epoch, sizeof v->epoch, "%s", m->opened->epoch);
        v->watched = m->opened->watched;
        v->unwatched = m->opened->n_unwatched;
        if (!v->req.resume) {
            v->seq = m->opened->head_seq;
            viewer_relist(v, ".");
        }
        break;
    case WATCH_TREE_RESPONSE__KIND_BATCH:
        assert_int_equal(m->batch->prev_seq, v->seq);
        assert_int_equal(m->batch->last_seq, v->seq + m->batch->n_events);
        for (size_t i = 0; i < m->batch->n_events; i++)
            viewer_apply(v, m->batch->events[i]);
        v->seq = m->batch->last_seq;
        break;
    case WATCH_TREE_RESPONSE__KIND_GAP:
        v->gaps++;
        v->seq = m->gap->first_available_seq - 1;
        viewer_relist(v, ".");
        break;
    case WATCH_TREE_RESPONSE__KIND_PROGRESS:
        v->progress++;
        break;
    case WATCH_TREE_RESPONSE__KIND_CLOSED:
        snprintf(v->closed, sizeof v->closed, "%s", m->closed->reason);
        break;
    default:
        fail_msg("a message without a kind");
    }
}

/* One message; false: the stream has ended. */
static inline bool viewer_next(struct viewer *v)
{
    cleanup_error sa_error *err = NULL;
    WatchTreeResponse *m;
    if (watch_tree_next(v->stream, &m, &err) != 1) {
        snprintf(v->failed, sizeof v->failed, "%s", reason_of(err));
        return false;
    }
    viewer_take(v, m);
    rpc_message_free(m);
    return true;
}

/* Opens, and takes `opened`. */
static inline void viewer_open(struct viewer *v)
{
    viewer_begin(v);
    if (!viewer_next(v))
        fail_msg("not opened: %s", v->failed);
}

static inline struct viewer viewer_of(struct service_fixture *f, const char *root, const char *path,
                                      const char *dir)
{
    struct viewer v = {.f = f, .req = WATCH_TREE_REQUEST__INIT, .dir = dir};
    v.req.root = (char *)(uintptr_t)root;
    v.req.path = bytes(path);
    v.req.recursive = true;
    return v;
}

static inline void viewer_close(struct viewer *v)
{
    rpc_stream_free(v->stream);
    v->stream = NULL;
}

static inline void viewer_free(struct viewer *v)
{
    viewer_close(v);
    tdestroy(v->root.children, copied_free);
    sa_buf_fini(&v->text);
}

/* Forgets what was told so far. */
static inline void viewer_forget(struct viewer *v)
{
    v->text.len = 0;
    v->log = sa_buf_string(&v->text);
    v->events = 0;
}

/* Reads until everything that has happened so far is told: makes a file and waits for it. */
static inline void viewer_sync(struct viewer *v)
{
    static int n;
    cleanup_free char *name = sa_format(".sync-%d", ++n);
    test_put(v->dir, name, "");
    while (!copied_child(&v->root, name))
        if (!viewer_next(v))
            fail_msg("the watch ended: %s%s", v->closed, v->failed);
}

/* ---- is the copy right? ---- */

static inline size_t count_copied(const struct copied *dir);

static inline void count_one(const void *p, VISIT which, void *n)
{
    if (which == leaf || which == postorder)
        *(size_t *)n += 1 + count_copied(*(struct copied *const *)p);
}

static inline size_t count_copied(const struct copied *dir)
{
    size_t n = 0;
    twalk_r(dir->children, count_one, &n);
    return n;
}

static inline size_t compare_with_disk(const struct copied *dir, const char *path, struct sa_buf *wrong)
{
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        struct copied *c = copied_child((struct copied *)(uintptr_t)dir, e->d_name);
        struct stat st;
        assert_int_equal(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        if (!c || c->directory != (bool)S_ISDIR(st.st_mode))
            sa_buf_addf(wrong, "%s/%s %s\n", path, e->d_name, c ? "is of another kind" : "is not known");
        cleanup_free char *below = sa_format("%s/%s", path, e->d_name);
        n += 1 + (c && c->directory ? compare_with_disk(c, below, wrong) : 0);
    }
    if (d)
        closedir(d);
    return n;
}

struct gone {
    const char *path;
    struct sa_buf *wrong;
};

static inline void find_gone(const struct copied *dir, const char *path, struct sa_buf *wrong);

static inline void find_one_gone(const void *p, VISIT which, void *user)
{
    struct gone *g = user;
    const struct copied *c = *(struct copied *const *)p;
    struct stat st;
    if (which != leaf && which != postorder)
        return;
    cleanup_free char *path = sa_format("%s/%s", g->path, c->name);
    if (lstat(path, &st) < 0)
        sa_buf_addf(g->wrong, "%s is not there\n", path);
    else
        find_gone(c, path, g->wrong);
}

static inline void find_gone(const struct copied *dir, const char *path, struct sa_buf *wrong)
{
    struct gone g = {path, wrong};
    twalk_r(dir->children, find_one_gone, &g);
}

static inline bool viewer_is_right(struct viewer *v, struct sa_buf *wrong)
{
    size_t on_disk = compare_with_disk(&v->root, v->dir, wrong), copied = count_copied(&v->root);
    if (on_disk != copied)
        find_gone(&v->root, v->dir, wrong);
    return wrong->len == 0;
}

static inline void viewer_check(struct viewer *v)
{
    cleanup_buf struct sa_buf wrong = {0};
    if (!viewer_is_right(v, &wrong))
        fail_msg("%.2000s\nevents:\n%.4000s", sa_buf_string(&wrong), v->log ? v->log : "");
}

/* The disk is at rest: reads until the copy is right, which must come before the stream's deadline. */
static inline void viewer_settle(struct viewer *v)
{
    viewer_sync(v);
    for (;;) {
        cleanup_buf struct sa_buf wrong = {0};
        if (viewer_is_right(v, &wrong))
            return;
        if (!viewer_next(v))
            fail_msg("%s%s: %.2000s\nevents:\n%.8000s", v->failed, v->closed, sa_buf_string(&wrong),
                     v->log ? v->log : "");
    }
}

#endif
