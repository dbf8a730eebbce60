/* The kernel's events, one after the other: what they make of the nodes, and of the coalescer. */
#include "services/fs-svc/watch_tree_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* ---- what is ignored ---- */

bool watch_ignored(const struct watch_tree *t, const struct watch_node *parent, const char *name,
                   const char *path, bool directory)
{
    size_t n = strlen(path), at = n - strlen(name);
    const struct fs_glob *g = fs_globs_decide(&t->spec.ignore, path, n, at, directory, false);
    if (g && !g->negated)
        return true;
    if (!t->spec.gitignore)
        return false;
    if (!strcmp(name, ".git"))
        return true;
    /* The file that is nearest decides. */
    for (const struct watch_node *dir = parent; dir; dir = dir->parent) {
        g = dir->globs.n ? fs_globs_decide(&dir->globs, path + at, n - at, strlen(path + at) - strlen(name),
                                           directory, false)
                         : NULL;
        if (g)
            return !g->negated;
        if (dir->parent)
            at -= strlen(dir->name) + 1;
    }
    return false;
}

/* ---- the kernel's events ---- */

/* What the listing told of a name, while its answer is being taken. */
struct watch_found *watch_listed(struct watch_tree *t, const struct watch_node *dir, const char *name)
{
    for (size_t i = 0; t->listing && i < t->listing->walk.n; i++) {
        const struct watch_item *item = &t->listing->walk.items[i];
        if (item->id != dir->id)
            continue;
        size_t low = 0, high = item->n_found;
        while (low < high) {
            size_t mid = (low + high) / 2;
            int c = strcmp(item->found[mid].name, name);
            if (!c)
                return &item->found[mid];
            if (c < 0)
                low = mid + 1;
            else
                high = mid;
        }
    }
    return NULL;
}

static void add_directory(struct watch_tree *t, struct watch_node *parent, const char *name)
{
    struct watch_node *old = watch_node_child(&t->nodes, parent, name);
    if (old)
        watch_node_drop(&t->nodes, old);
    watch_node_add(&t->nodes, parent, name, true, t->walks);
}

static void created(struct watch_tree *t, struct watch_node *dir, const char *name, const char *path,
                    bool directory)
{
    struct watch_found *f = watch_listed(t, dir, name);
    bool told = f && !f->absent && f->directory == directory;
    if (f)
        f->absent = false;
    if (told)
        return;
    if (directory && t->spec.recursive)
        add_directory(t, dir, name);
    else
        watch_tell(t, WATCH_CREATE, path, directory, NULL);
}

static void deleted(struct watch_tree *t, struct watch_node *dir, const char *name, const char *path,
                    bool directory)
{
    struct watch_found *f = watch_listed(t, dir, name);
    struct watch_node *child = watch_node_child(&t->nodes, dir, name);
    if (f)
        f->absent = true;
    if (child)
        watch_node_drop(&t->nodes, child);
    watch_tell(t, WATCH_DELETE, path, directory || child, NULL);
}

static void moved_away(struct watch_tree *t, struct watch_node *dir, const char *name, const char *path,
                       uint32_t cookie, bool directory)
{
    struct watch_found *f = watch_listed(t, dir, name);
    struct watch_node *child = watch_node_child(&t->nodes, dir, name);
    if (f)
        f->absent = true;
    if (child)
        watch_node_detach(&t->nodes, child, cookie);
    t->leaving = cookie;
    coalesce_leave(t->coalesce, cookie, path, directory);
    watch_note(t);
}

static bool is_in(const struct watch_node *dir, const struct watch_node *node)
{
    while (dir && dir != node)
        dir = dir->parent;
    return dir;
}

/* A directory that readers know of and that comes from where they know it. */
static bool is_known_move(const struct watch_tree *t, const struct watch_node *node, uint32_t cookie)
{
    return t->leaving == cookie && node && !node->fresh;
}

static void directory_moved_here(struct watch_tree *t, struct watch_node *dir, const char *name,
                                 const char *path, uint32_t cookie, bool told)
{
    struct watch_node *node = watch_node_leaving(&t->nodes, cookie),
                      *old = watch_node_child(&t->nodes, dir, name);
    /* Names that are wrong since an exchange; all is walked again anyway. */
    bool below = node && is_in(dir, node), above = node && old && is_in(node, old);
    bool known = is_known_move(t, node, cookie) && !below && !above;
    t->lost |= below || above;
    if (!known || !coalesce_arrive(t->coalesce, cookie, path, true)) {
        coalesce_end_leave(t->coalesce);
        if (node)
            watch_node_drop(&t->nodes, node);
        /* With a listing that knew it, it waits under this name already. */
        if (!below && !(told && watch_node_child(&t->nodes, dir, name)))
            add_directory(t, dir, name);
        return;
    }
    if (old)
        watch_node_drop(&t->nodes, old);
    watch_node_attach(&t->nodes, node, dir, name);
    node->born = t->walks; /* a listing that is under way may be older */
    if (t->rewalk)
        watch_node_queue(&t->nodes, node);
    t->lost |= t->place_matters;
}

static void moved_here(struct watch_tree *t, struct watch_node *dir, const char *name, const char *path,
                       uint32_t cookie, bool directory)
{
    struct watch_found *f = watch_listed(t, dir, name);
    bool told = f && !f->absent;
    if (f)
        f->absent = false;
    if (directory && t->spec.recursive) {
        directory_moved_here(t, dir, name, path, cookie, told);
    } else {
        struct watch_node *old = watch_node_child(&t->nodes, dir, name);
        if (old)
            watch_node_drop(&t->nodes, old);
        coalesce_arrive(t->coalesce, cookie, path, directory);
        watch_end_leave(t); /* half of an exchange with a directory: nobody will ask for that */
    }
    t->leaving = 0;
    watch_note(t);
}

static void attributes(struct watch_tree *t, struct watch_node *dir, const char *name, const char *path,
                       bool directory)
{
    watch_tell(t, WATCH_ATTRIB, path, directory, NULL);
    struct watch_node *child = directory ? watch_node_child(&t->nodes, dir, name) : NULL;
    if (child && child->unwatched && !child->queued) { /* it may be allowed now */
        child->fresh = true;
        watch_node_queue(&t->nodes, child);
    }
}

/* What has just arrived leaves again: it was moved twice, or two paths changed places (renameat2 with
 * RENAME_EXCHANGE) and something else is there now. Nothing in the events tells the one from the other. */
static void note_move(struct watch_tree *t, const struct inotify_event *e)
{
    if (e->mask & IN_MOVED_FROM && e->wd == t->arrived_wd && !strcmp(e->name, t->arrived))
        t->lost = true;
    t->arrived_wd = e->mask & IN_MOVED_TO ? e->wd : -1;
    snprintf(t->arrived, sizeof t->arrived, "%s", e->mask & IN_MOVED_TO ? e->name : "");
}

static void self_event(struct watch_tree *t, struct watch_node *node, uint32_t mask)
{
    bool root = node == t->nodes.root;
    if (mask & IN_UNMOUNT)
        t->lost = true;
    if (mask & IN_IGNORED)
        watch_node_forget_wd(&t->nodes, node);
    if (root && mask & IN_ATTRIB)
        watch_tell(t, WATCH_ATTRIB, ".", true, NULL);
    if (root && mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED | IN_ATTRIB))
        watch_check(t);
}

static void take(struct watch_tree *t, const struct inotify_event *e)
{
    if (e->mask & IN_Q_OVERFLOW)
        t->lost = true;
    if (e->mask & (IN_MOVED_FROM | IN_MOVED_TO) && !t->listing) /* else it was seen when it came */
        note_move(t, e);
    if (e->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) && e->cookie != t->leaving)
        watch_end_leave(t);
    struct watch_node *node = e->wd < 0 ? NULL : watch_node_by_wd(&t->nodes, e->wd);
    if (!node) {
        if (e->mask & IN_MOVED_TO)
            watch_end_leave(t);
        if (e->wd >= 0 && t->job) {
            if (t->parked.len < WATCH_PARKED_MAX)
                sa_buf_add(&t->parked, e, sizeof *e + e->len);
            else
                t->lost = true;
        }
        return;
    }
    if (!e->len) {
        self_event(t, node, e->mask);
        return;
    }
    bool directory = e->mask & IN_ISDIR;
    cleanup_free char *path = watch_node_path(node, e->name);
    if (watch_ignored(t, node, e->name, path, directory))
        return;
    if (e->mask & IN_CREATE)
        created(t, node, e->name, path, directory);
    if (e->mask & IN_MODIFY)
        watch_tell(t, WATCH_MODIFY, path, directory, NULL);
    if (e->mask & IN_ATTRIB)
        attributes(t, node, e->name, path, directory);
    if (e->mask & IN_MOVED_FROM)
        moved_away(t, node, e->name, path, e->cookie, directory);
    if (e->mask & IN_MOVED_TO)
        moved_here(t, node, e->name, path, e->cookie, directory);
    if (e->mask & IN_DELETE)
        deleted(t, node, e->name, path, directory);
}

void watch_take_all(struct watch_tree *t, const uint8_t *p, size_t n)
{
    while (n >= sizeof(struct inotify_event)) {
        struct inotify_event *e = (struct inotify_event *)(uintptr_t)p;
        size_t size = sizeof *e + e->len;
        take(t, e);
        p += size;
        n -= size;
    }
}

void watch_read_events(struct watch_tree *t)
{
    _Alignas(struct inotify_event) uint8_t chunk[64 << 10];
    ssize_t n;
    while ((n = read(t->inotify, chunk, sizeof chunk)) > 0) {
        watch_take_all(t, chunk, (size_t)n);
        if (coalesce_pending(t->coalesce) >= WATCH_PENDING_MAX)
            watch_flush(t);
    }
}
