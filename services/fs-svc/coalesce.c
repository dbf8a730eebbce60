/* Design notes
 *
 * Entries are a list in the order of their changes. `spots` knows for each path the last entry that it can
 * still merge into. `generation` rises with each barrier; an entry of an older one is closed.
 *
 * The kernel tells both halves of a move together, but for changes of contents, and unless one of them has to
 * wait for its directory to be known. So a leave is open until something else happens; a move takes its
 * place.
 *
 * A create and a delete in one window are told as the delete, not as nothing: a reader may have listed
 * between the two. */
#include "services/fs-svc/coalesce.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "adapters/os/mem.h"

struct waiting {
    TAILQ_ENTRY(waiting) link;
    enum watch_kind kind;
    bool modified, attributes; /* with WATCH_MODIFY: which of the two */
    bool directory;
    bool aged; /* a leave that has seen the end of a window */
    uint32_t cookie;
    uint64_t generation;
    char *path, *old_path;
    const char *reason;
};

struct spot {
    char *path; /* first: the tree compares it */
    struct waiting *last;
};

TAILQ_HEAD(entries, waiting);

struct coalesce {
    struct entries entries;
    struct waiting *leave; /* the other half may come; nothing but contents has changed since */
    size_t n;
    void *spots;
    uint64_t generation;
};

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct spot *)a)->path, ((const struct spot *)b)->path);
}

static void spot_free(void *p)
{
    free(((struct spot *)p)->path);
    free(p);
}

static struct spot *spot_of(struct coalesce *c, const char *path)
{
    struct spot key = {.path = (char *)(uintptr_t)path};
    struct spot **found = tfind(&key, &c->spots, by_path);
    return found ? *found : NULL;
}

/* The entry that a change of this path may merge into. */
static struct waiting *open_entry(struct coalesce *c, const char *path)
{
    struct spot *s = spot_of(c, path);
    return s && s->last && s->last->generation == c->generation ? s->last : NULL;
}

static void set_last(struct coalesce *c, const char *path, struct waiting *e)
{
    struct spot *s = spot_of(c, path);
    if (!s) {
        s = sa_calloc(1, sizeof *s);
        s->path = sa_strdup(path);
        tsearch(s, &c->spots, by_path);
    }
    s->last = e;
}

static struct waiting *append(struct coalesce *c, enum watch_kind kind, const char *path, bool directory)
{
    struct waiting *e = sa_calloc(1, sizeof *e);
    if (kind != WATCH_MODIFY)
        c->leave = NULL;
    e->kind = kind;
    e->directory = directory;
    e->generation = c->generation;
    e->path = sa_strdup(path);
    TAILQ_INSERT_TAIL(&c->entries, e, link);
    c->n++;
    set_last(c, path, e);
    return e;
}

static void entry_free(struct coalesce *c, struct waiting *e)
{
    TAILQ_REMOVE(&c->entries, e, link);
    if (e == c->leave)
        c->leave = NULL;
    c->n--;
    free(e->path);
    free(e->old_path);
    free(e);
}

/* Takes an entry out that the path's next change makes void. */
static void take_back(struct coalesce *c, struct waiting *e)
{
    set_last(c, e->path, NULL);
    entry_free(c, e);
}

static void change(struct coalesce *c, const struct watch_change *w)
{
    struct waiting *e = open_entry(c, w->path);
    if (e && e->kind == WATCH_CREATE)
        return;
    if (!e || e->kind != WATCH_MODIFY)
        e = append(c, WATCH_MODIFY, w->path, w->directory);
    e->modified |= w->kind == WATCH_MODIFY;
    e->attributes |= w->kind == WATCH_ATTRIB;
}

static void gone(struct coalesce *c, const struct watch_change *w)
{
    if (w->directory)
        c->generation++;
    struct waiting *e = open_entry(c, w->path);
    if (e && e->kind == WATCH_DELETE)
        return;
    if (e && (e->kind == WATCH_CREATE || e->kind == WATCH_MODIFY))
        take_back(c, e);
    append(c, WATCH_DELETE, w->path, w->directory);
}

void coalesce_add(struct coalesce *c, const struct watch_change *w)
{
    struct waiting *e = open_entry(c, w->path);
    switch (w->kind) {
    case WATCH_CREATE:
        if (w->directory)
            c->generation++;
        if (w->directory || !e || e->kind != WATCH_CREATE || e->directory)
            append(c, WATCH_CREATE, w->path, w->directory);
        break;
    case WATCH_MODIFY:
    case WATCH_ATTRIB:
        change(c, w);
        break;
    case WATCH_DELETE:
        gone(c, w);
        break;
    case WATCH_MOVE: /* is a leave and an arrive */
        break;
    case WATCH_RESCAN:
    case WATCH_UNWATCHED:
        c->generation++;
        append(c, w->kind, w->path, true)->reason = w->reason;
        break;
    }
}

void coalesce_leave(struct coalesce *c, uint32_t cookie, const char *path, bool directory)
{
    if (directory)
        c->generation++;
    struct waiting *e = append(c, WATCH_DELETE, path, directory);
    e->cookie = cookie;
    c->leave = e;
}

bool coalesce_arrive(struct coalesce *c, uint32_t cookie, const char *path, bool directory)
{
    struct waiting *e = c->leave;
    if (directory)
        c->generation++;
    if (!e || e->cookie != cookie) {
        append(c, WATCH_CREATE, path, directory);
        return false;
    }
    c->leave = NULL;
    e->cookie = 0;
    e->kind = WATCH_MOVE;
    e->old_path = e->path;
    e->path = sa_strdup(path);
    set_last(c, path, e);
    return true;
}

void coalesce_end_leave(struct coalesce *c)
{
    c->leave = NULL;
}

size_t coalesce_pending(const struct coalesce *c)
{
    return c->n;
}

static void tell(const struct waiting *e, coalesce_fn *fn, void *user)
{
    struct watch_change w = {.kind = e->kind,
                             .directory = e->directory,
                             .path = e->path,
                             .old_path = e->old_path,
                             .reason = e->reason,
                             .cookie = e->cookie};
    if (e->kind != WATCH_MODIFY || e->modified)
        fn(user, &w);
    if (e->kind == WATCH_MODIFY && e->attributes) {
        w.kind = WATCH_ATTRIB;
        fn(user, &w);
    }
}

void coalesce_flush(struct coalesce *c, coalesce_fn *fn, void *user)
{
    struct waiting *e;
    while ((e = TAILQ_FIRST(&c->entries)) && (e != c->leave || e->aged)) {
        tell(e, fn, user);
        entry_free(c, e);
    }
    if (c->leave)
        c->leave->aged = true;
    tdestroy(c->spots, spot_free);
    c->spots = NULL;
}

struct coalesce *coalesce_new(void)
{
    struct coalesce *c = sa_calloc(1, sizeof *c);
    TAILQ_INIT(&c->entries);
    return c;
}

void coalesce_free(struct coalesce *c)
{
    if (!c)
        return;
    for (struct waiting *e; (e = TAILQ_FIRST(&c->entries));)
        entry_free(c, e);
    tdestroy(c->spots, spot_free);
    free(c);
}
