/* Design notes
 *
 * Every directory is a node with a watch of its own. A new one waits in a queue; a job on a worker takes up
 * to WATCH_WALK_MAX of them, sets the watch and then lists. What happens in such a directory before the
 * answer is taken comes with a descriptor that nobody knows yet: it is parked. When the answer comes, the
 * kernel's queue is read to its end first, so that all events that are older than the listing are parked;
 * then entries are told as creates, and the parked events are taken on top of them, without what the listing
 * told already.
 *
 * A directory is told as new when it is watched, not before: a reader may have listed it by itself meanwhile,
 * and what was deleted in it before it was watched is told by nobody. So readers forget what they know of it,
 * and what the listing has follows.
 *
 * A descriptor stands for an inode, a node for a name. A worker resolves names, so a rename at the wrong
 * moment can give a node the descriptor of another directory. Whoever resolved it last has it; the other node
 * is walked again. One that is in two places (a bind mount) is unwatched in one of them after STOLEN_MAX.
 *
 * Whatever cannot be followed exactly (the kernel's queue overflowed, two directories changed places, a
 * filesystem was unmounted, a move where ignoring depends on the place) sets `lost`: all nodes are walked
 * again, and when everything is watched readers are told to list anew. Not before: what is made in a
 * directory that is not watched yet would be in neither. */
#include "services/fs-svc/watch_tree_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "services/runtime/service.h"

enum { STOLEN_MAX = 3 };

void watch_spec_fini(struct watch_spec *s)
{
    free(s->path);
    fs_globs_fini(&s->ignore);
    sa_buf_fini(&s->key);
    *s = (struct watch_spec){0};
}

/* ---- telling ---- */

/* A directory that has left has its old path until it arrives, and somebody else may take that. So it is
 * dropped as soon as its other half cannot be the next. */
void watch_end_leave(struct watch_tree *t)
{
    struct watch_node *gone = t->leaving ? watch_node_leaving(&t->nodes, t->leaving) : NULL;
    if (gone)
        watch_node_drop(&t->nodes, gone);
    t->leaving = 0;
}

static void on_change(void *user, const struct watch_change *w)
{
    struct watch_tree *t = user;
    if (w->cookie && w->cookie == t->leaving)
        watch_end_leave(t);
    watch_ring_add(&t->ring, w);
}

void watch_flush(struct watch_tree *t)
{
    uint64_t before = t->ring.head;
    coalesce_flush(t->coalesce, on_change, t);
    if (coalesce_pending(t->coalesce))
        sa_timer_start(t->window, WATCH_WINDOW_MS);
    if (t->ring.head != before)
        t->events->changed(t->user);
    watch_advance(t); /* descriptors may have become free */
}

static void on_window(void *user)
{
    struct watch_tree *t = user;
    watch_read_events(t); /* the second half of a move may be there */
    if (t->state != WATCH_ENDED)
        watch_flush(t);
}

void watch_note(struct watch_tree *t)
{
    if (coalesce_pending(t->coalesce) && !sa_timer_active(t->window))
        sa_timer_start(t->window, WATCH_WINDOW_MS);
}

void watch_tell(struct watch_tree *t, enum watch_kind kind, const char *path, bool directory,
                const char *reason)
{
    struct watch_change w = {.kind = kind, .directory = directory, .path = path, .reason = reason};
    coalesce_add(t->coalesce, &w);
    watch_note(t);
}

static void end(struct watch_tree *t, sa_error *err)
{
    if (t->state == WATCH_ENDED) {
        sa_error_free(err);
        return;
    }
    bool was_open = t->state == WATCH_OPEN;
    t->state = WATCH_ENDED;
    t->err = err;
    sa_io_set(t->io, 0);
    sa_timer_stop(t->window);
    sa_timer_stop(t->check);
    if (was_open) {
        struct watch_change w = {.kind = WATCH_DELETE, .directory = true, .path = "."};
        coalesce_flush(t->coalesce, on_change, t); /* leaves of this window wait */
        coalesce_flush(t->coalesce, on_change, t);
        watch_ring_add(&t->ring, &w);
    }
    t->events->changed(t->user);
}

/* ---- is it still there? ---- */

struct check_job {
    struct watch_tree *tree;
    bool same;
};

static void job_ended(struct watch_tree *t)
{
    struct fs_service *fs = t->fs;
    t->jobs--;
    if (t->freed && !t->jobs)
        watch_tree_free(t);
    service_release(fs->svc);
}

static void job_begins(struct watch_tree *t)
{
    t->jobs++;
    service_hold(t->fs->svc);
}

static void check_work(void *user)
{
    struct check_job *j = user;
    const struct watch_tree *t = j->tree;
    cleanup_error sa_error *err = NULL;
    if (fs_identity_enter(t->fs->identity, &err) < 0)
        return;
    j->same = watch_walk_same(t->spec.root, t->spec.path, t->dev, t->ino);
    fs_identity_leave(t->fs->identity);
}

static void check_done(void *user)
{
    struct check_job *j = user;
    struct watch_tree *t = j->tree;
    t->checking = false;
    if (!j->same && !t->freed && t->state != WATCH_ENDED) {
        sa_error *err = NULL;
        watch_read_events(t);
        sa_fail(&err, SA_FILE_NOT_FOUND, "the watched directory `%.200s` was deleted, moved or unmounted",
                t->spec.path);
        end(t, err);
    }
    free(j);
    job_ended(t);
}

void watch_check(struct watch_tree *t)
{
    if (t->checking || t->state != WATCH_OPEN)
        return;
    struct check_job *j = sa_calloc(1, sizeof *j);
    j->tree = t;
    j->same = true;
    t->checking = true;
    job_begins(t);
    sa_work(t->fs->loop, check_work, check_done, j);
}

static void on_check(void *user)
{
    watch_check(user);
}

/* ---- the kernel's events ---- */

static void on_readable(void *user, int fd, int events)
{
    (void)fd;
    (void)events;
    struct watch_tree *t = user;
    watch_read_events(t);
    watch_advance(t);
}

/* ---- walking ---- */

static void walk_work(void *user)
{
    struct walk_job *j = user;
    if (fs_identity_enter(j->tree->fs->identity, &j->err) < 0)
        return;
    watch_walk_run(&j->walk);
    fs_identity_leave(j->tree->fs->identity);
}

/* What is below the tree's directory, told as new, or not told. */
static void take_listing(struct watch_tree *t, struct walk_job *j, struct watch_item *i,
                         struct watch_node *node)
{
    if (i->gitignore.len) {
        fs_globs_fini(&node->globs);
        fs_globs_add_lines(&node->globs, (const char *)i->gitignore.data, i->gitignore.len);
        t->place_matters |= node->globs.n > 0;
    }
    for (size_t k = 0; k < i->n_found; k++) {
        struct watch_found *f = &i->found[k];
        cleanup_free char *path = watch_node_path(node, f->name);
        if (watch_ignored(t, node, f->name, path, f->directory))
            continue;
        if (node->fresh && !(f->directory && t->spec.recursive))
            watch_tell(t, WATCH_CREATE, path, f->directory, NULL);
        struct watch_node *child =
            f->directory && t->spec.recursive ? watch_node_child(&t->nodes, node, f->name) : NULL;
        if (child && t->rewalk)
            watch_node_queue(&t->nodes, child);
        else if (f->directory && t->spec.recursive && !child)
            watch_node_add(&t->nodes, node, f->name, node->fresh, j->number);
    }
    node->fresh = false;
    struct watch_node *next;
    for (struct watch_node *c = LIST_FIRST(&node->children); c; c = next) {
        next = LIST_NEXT(c, sibling);
        struct watch_found key = {.name = c->name}, *f = watch_listed(t, node, key.name);
        if (!c->cookie && c->born < j->number && (!f || !f->directory))
            watch_node_drop(&t->nodes, c);
    }
}

static void cannot_watch(struct watch_tree *t, struct watch_node *node, const char *reason)
{
    cleanup_free char *path = watch_node_path(node, NULL);
    if (node->fresh)
        watch_tell(t, WATCH_CREATE, path, true, NULL);
    node->fresh = false;
    node->unwatched = reason;
    watch_node_set_wd(&t->nodes, node, -1);
    while (!LIST_EMPTY(&node->children))
        watch_node_drop(&t->nodes, LIST_FIRST(&node->children));
    watch_tell(t, WATCH_UNWATCHED, path, true, reason);
}

/* False: the answer is of no use for this node. */
static bool take_descriptor(struct watch_tree *t, struct watch_item *i, struct watch_node *node)
{
    struct watch_node *other = watch_node_by_wd(&t->nodes, i->wd);
    if (other && other != node && !other->cookie && other->stolen >= STOLEN_MAX) {
        cannot_watch(t, node, sa_reason_name(SA_ALREADY_EXISTS));
        return false;
    }
    other = watch_node_set_wd(&t->nodes, node, i->wd);
    node->unwatched = NULL;
    if (other && !other->cookie) {
        other->stolen++;
        other->fresh = true;
        t->lost = true;
        watch_node_queue(&t->nodes, other);
    }
    return true;
}

static void take_item(struct watch_tree *t, struct walk_job *j, struct watch_item *i)
{
    struct watch_node *node = watch_node_by_id(&t->nodes, i->id);
    cleanup_free char *now = node ? watch_node_path(node, NULL) : NULL;
    bool root = node && node == t->nodes.root;
    i->id = 0; /* until it is known to be of this node */
    if (!node || node->queued)
        return;
    if (root && i->err) {
        end(t, steal_pointer(&i->err));
    } else if (root && t->state != WATCH_STARTING && (i->dev != t->dev || i->ino != t->ino)) {
        watch_check(t);
    } else if (strcmp(now, i->path)) {
        watch_node_queue(&t->nodes, node);
    } else if (i->gone) {
        watch_node_drop(&t->nodes, node);
    } else if (i->unwatched) {
        cannot_watch(t, node, i->unwatched);
    } else if (take_descriptor(t, i, node)) {
        if (root) {
            t->dev = i->dev;
            t->ino = i->ino;
        }
        i->id = node->id;
        if (node->fresh)
            watch_tell(t, WATCH_CREATE, now, true, NULL);
        take_listing(t, j, i, node);
    }
}

static void take_answer(struct watch_tree *t, struct walk_job *j)
{
    watch_read_events(t);
    t->job = NULL;
    t->listing = j;
    for (size_t i = 0; i < j->walk.n && t->state != WATCH_ENDED; i++)
        take_item(t, j, &j->walk.items[i]);
    for (size_t i = 0; i < j->walk.n; i++) {
        int wd = j->walk.items[i].wd;
        if (wd >= 0 && !watch_node_by_wd(&t->nodes, wd))
            sa_buf_add(&t->nodes.dropped, &wd, sizeof wd);
    }
    struct sa_buf parked = t->parked;
    t->parked = (struct sa_buf){0};
    watch_take_all(t, parked.data, parked.len);
    sa_buf_fini(&parked);
    t->listing = NULL;
}

static void walk_done(void *user)
{
    struct walk_job *j = user;
    struct watch_tree *t = j->tree;
    if (!t->freed && t->state != WATCH_ENDED) {
        if (j->err)
            end(t, steal_pointer(&j->err));
        else
            take_answer(t, j);
    }
    t->job = NULL;
    if (!t->freed && t->state != WATCH_ENDED)
        watch_advance(t);
    watch_walk_fini(&j->walk);
    sa_error_free(j->err);
    free(j);
    job_ended(t);
}

static void count_watches(struct watch_tree *t)
{
    t->budget->used += t->nodes.n_watched - t->counted;
    t->counted = t->nodes.n_watched;
}

/* Descriptors that have found another node meanwhile stay. */
static void take_dropped(struct watch_tree *t, struct watch_walk *w)
{
    const int *wds = (const int *)(void *)t->nodes.dropped.data;
    size_t n = t->nodes.dropped.len / sizeof *wds;
    w->remove = sa_calloc(n, sizeof *w->remove);
    for (size_t i = 0; i < n; i++)
        if (!watch_node_by_wd(&t->nodes, wds[i]))
            w->remove[w->n_remove++] = wds[i];
    t->nodes.dropped.len = 0;
}

static void walk_begin(struct watch_tree *t)
{
    struct walk_job *j = sa_calloc(1, sizeof *j);
    struct watch_walk *w = &j->walk;
    j->tree = t;
    j->number = ++t->walks;
    w->root = t->spec.root;
    w->base = t->spec.path;
    w->inotify = t->inotify;
    w->list = t->spec.recursive;
    w->gitignore = t->spec.gitignore;
    w->room = t->budget->max > t->budget->used ? t->budget->max - t->budget->used : 0;
    take_dropped(t, w);
    for (struct watch_node *n; w->n < WATCH_WALK_MAX && (n = TAILQ_FIRST(&t->nodes.queue));) {
        TAILQ_REMOVE(&t->nodes.queue, n, queue_link);
        n->queued = false;
        w->items[w->n++] = (struct watch_item){
            .id = n->id, .path = watch_node_path(n, NULL), .watched = n->wd >= 0, .wd = -1};
    }
    t->job = j;
    job_begins(t);
    sa_work(t->fs->loop, walk_work, walk_done, j);
}

static void opened(struct watch_tree *t)
{
    t->state = WATCH_OPEN;
    sa_timer_every(t->check, WATCH_CHECK_MS);
    t->events->changed(t->user);
}

/* Walks what waits; when nothing does, says so. */
void watch_advance(struct watch_tree *t)
{
    count_watches(t);
    if (t->job || t->listing || t->state == WATCH_ENDED)
        return;
    if (TAILQ_EMPTY(&t->nodes.queue) && t->rewalk) {
        t->rewalk = false;
        watch_tell(t, WATCH_RESCAN, ".", true, NULL);
    }
    if (t->lost && !t->rewalk) {
        t->lost = false;
        t->rewalk = true;
        watch_node_queue(&t->nodes, t->nodes.root);
    }
    if (!TAILQ_EMPTY(&t->nodes.queue) || t->nodes.dropped.len)
        walk_begin(t);
    else if (t->state == WATCH_STARTING)
        opened(t);
}

/* ---- life ---- */

static bool has_place(const struct fs_globs *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->glob[i].anchored)
            return true;
    return false;
}

struct watch_tree *watch_tree_new(struct fs_service *fs, struct watch_spec *spec, struct watch_budget *budget,
                                  const struct watch_tree_events *events, void *user, sa_error **err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (fd < 0) {
        int saved = errno;
        watch_spec_fini(spec);
        if (saved == EMFILE || saved == ENFILE)
            sa_fail(err, SA_TOO_MANY, "the kernel gives no more watches (fs.inotify.max_user_instances)");
        else
            sa_fail_errno(err, saved, "watch");
        return NULL;
    }
    struct watch_tree *t = sa_calloc(1, sizeof *t);
    *t = (struct watch_tree){.fs = fs,
                             .spec = *spec,
                             .budget = budget,
                             .events = events,
                             .user = user,
                             .inotify = fd,
                             .arrived_wd = -1,
                             .coalesce = coalesce_new()};
    *spec = (struct watch_spec){0};
    sa_id_format(sa_id_new(), t->epoch);
    watch_ring_init(&t->ring);
    watch_nodes_init(&t->nodes);
    t->place_matters = has_place(&t->spec.ignore);
    t->io = sa_io_new(fs->loop, fd, on_readable, t);
    t->window = sa_timer_new(fs->loop, on_window, t);
    t->check = sa_timer_new(fs->loop, on_check, t);
    sa_io_set(t->io, SA_IO_READ);
    watch_node_add(&t->nodes, NULL, ".", false, 0);
    watch_advance(t);
    return t;
}

/* The kernel takes its time to end many watches. */
static void close_work(void *user)
{
    sa_close(*(int *)user);
}

static void free_later(struct watch_tree *t)
{
    sa_io_free(steal_pointer(&t->io));
    sa_timer_free(steal_pointer(&t->window));
    sa_timer_free(steal_pointer(&t->check));
    t->budget->used -= t->counted;
    t->counted = 0;
    t->freed = true;
}

void watch_tree_free(struct watch_tree *t)
{
    if (!t)
        return;
    if (!t->freed)
        free_later(t);
    if (t->jobs)
        return;
    int *fd = sa_memdup(&t->inotify, sizeof t->inotify);
    sa_work(t->fs->loop, close_work, free, fd);
    coalesce_free(t->coalesce);
    watch_ring_fini(&t->ring);
    watch_nodes_fini(&t->nodes);
    watch_spec_fini(&t->spec);
    sa_buf_fini(&t->parked);
    sa_error_free(t->err);
    free(t);
}

/* ---- what cannot be watched ---- */

/* The next node in an order of parents before children; NULL: it was the last. */
static const struct watch_node *next_node(const struct watch_node *n)
{
    if (!LIST_EMPTY(&n->children))
        return LIST_FIRST(&n->children);
    while (n && !LIST_NEXT(n, sibling))
        n = n->parent;
    return n ? LIST_NEXT(n, sibling) : NULL;
}

size_t watch_tree_unwatched(const struct watch_tree *t, struct watch_change *ret, size_t max,
                            struct sa_arena *a)
{
    size_t n = 0;
    for (const struct watch_node *at = t->nodes.root; at && n < max; at = next_node(at)) {
        if (!at->unwatched)
            continue;
        cleanup_free char *path = watch_node_path(at, NULL);
        ret[n++] = (struct watch_change){.kind = WATCH_UNWATCHED,
                                         .directory = true,
                                         .path = sa_arena_strdup(a, path),
                                         .reason = at->unwatched};
    }
    return n;
}
