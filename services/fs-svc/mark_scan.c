/* Design notes
 *
 * A file is not read again when inode, size, modification and change time are those of the previous mark. As
 * in git, that is only believed when the times were old enough then: a write in the same tick of the clock as
 * the reading leaves no trace in them. Such an entry is `racy` and is read again the next time.
 *
 * A file that changes while it is read is read again; after TRIES it is taken as it comes, and is racy. */
#include "services/fs-svc/mark_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "services/fs-svc/mark_store.h"
#include "services/fs-svc/walk.h"

enum { TRIES = 3 };

static int64_t ns_of(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Files' times come from the kernel's coarse clock, or have whole seconds (two, on FAT). */
static bool is_racy(const struct stat *st)
{
    enum { TICK_NS = 20000000 };
    const int64_t coarse_ns = 2000000000;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age = st->st_mtim.tv_nsec || st->st_ctim.tv_nsec ? TICK_NS : coarse_ns;
    return ns_of(st->st_mtim) > ns_of(now) - age || ns_of(st->st_ctim) > ns_of(now) - age;
}

static bool same_times(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && ns_of(a->st_mtim) == ns_of(b->st_mtim) &&
           ns_of(a->st_ctim) == ns_of(b->st_ctim);
}

static void set_stat(struct mark_entry *e, const struct stat *st)
{
    e->mode = st->st_mode;
    e->size = (uint64_t)st->st_size;
    e->inode = st->st_ino;
    e->device = st->st_dev;
    e->modified_ns = ns_of(st->st_mtim);
    e->changed_ns = ns_of(st->st_ctim);
}

/* ---- contents ---- */

/* 0; 1: too large, or no regular file any more; -1 with errno. */
static int read_once(int fd, struct sa_buf *b, struct stat *ret_before, bool *ret_changed)
{
    struct stat after;
    b->len = 0;
    if (fstat(fd, ret_before) < 0)
        return -1;
    if (!S_ISREG(ret_before->st_mode) || ret_before->st_size > MARK_CONTENT_MAX)
        return 1;
    size_t want = (size_t)ret_before->st_size + 1;
    while (b->len < want) {
        uint8_t *p = sa_buf_reserve(b, want - b->len);
        ssize_t n = pread(fd, p, want - b->len, (off_t)b->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        b->len += (size_t)n;
    }
    if (fstat(fd, &after) < 0)
        return -1;
    *ret_changed = !same_times(ret_before, &after) || b->len != (size_t)ret_before->st_size;
    return 0;
}

static int keep(struct mark_scan *s, struct mark_entry *e, const struct sa_buf *b, sa_error **err)
{
    uint64_t added = 0;
    if (s->kept_bytes + b->len > s->room) {
        s->omitted++;
        return 0;
    }
    fs_identity_leave(s->identity);
    int r = mark_store_put_blob(s->store, e->digest, b->data, b->len, &added, err);
    if (fs_identity_enter(s->identity, r < 0 ? NULL : err) < 0)
        return -1;
    s->kept_bytes += added;
    if (r == 0)
        e->flags |= MARK_KEPT;
    return r;
}

static int take_content(struct mark_scan *s, struct mark_entry *e, const struct sa_buf *b, sa_error **err)
{
    struct sa_sha256 c;
    sa_sha256_init(&c);
    sa_sha256_add(&c, b->data, b->len);
    sa_sha256_end(&c, e->digest);
    e->flags |= MARK_DIGEST;
    size_t probe = b->len < MARK_TEXT_PROBE ? b->len : MARK_TEXT_PROBE;
    if (probe && memchr(b->data, 0, probe))
        return 0;
    e->flags |= MARK_TEXT;
    return keep(s, e, b, err);
}

static void cannot_read(struct mark_scan *s, struct mark_entry *e)
{
    e->flags |= MARK_UNREADABLE;
    s->unreadable++;
}

static int read_file(struct mark_scan *s, const struct fs_walk_entry *w, struct mark_entry *e, sa_error **err)
{
    cleanup_close int at = fs_path_open_at(s->root, w->dir, w->name, NULL);
    cleanup_buf struct sa_buf b = {0};
    struct stat st;
    if (at < 0 || fstat(at, &st) < 0) {
        cannot_read(s, e);
        return 0;
    }
    set_stat(e, &st);
    if (!S_ISREG(st.st_mode) || st.st_size > MARK_CONTENT_MAX)
        return 0;
    cleanup_close int fd = fs_reopen(at, O_RDONLY | O_NOCTTY | O_NONBLOCK);
    bool changed = true;
    int r = fd < 0 ? -1 : 0;
    for (int i = 0; i < TRIES && r == 0 && changed; i++)
        r = read_once(fd, &b, &st, &changed);
    if (r < 0)
        cannot_read(s, e);
    else
        set_stat(e, &st);
    if (r)
        return 0;
    s->files_read++;
    if (changed || is_racy(&st))
        e->flags |= MARK_RACY;
    e->size = b.len;
    return take_content(s, e, &b, err);
}

/* ---- the walk ---- */

static bool is_known(const struct mark_entry *old, const struct mark_entry *e)
{
    return S_ISREG(old->mode) && !(old->flags & (MARK_RACY | MARK_UNREADABLE)) && old->flags & MARK_DIGEST &&
           old->inode == e->inode && old->device == e->device && old->size == e->size &&
           old->modified_ns == e->modified_ns && old->changed_ns == e->changed_ns &&
           /* what there was no room for may have room now */
           (old->flags & (MARK_TEXT | MARK_KEPT)) != MARK_TEXT;
}

static int take_entry(struct mark_scan *s, const struct fs_walk_entry *w, size_t *old_at,
                      struct mark_manifest *m, sa_error **err)
{
    char target[PATH_MAX];
    struct mark_entry e = {.path = w->path};
    set_stat(&e, &w->st);
    if (m->n == MARK_ENTRIES_MAX)
        return sa_fail(err, SA_TOO_MANY, "`%.200s` has more than %d paths, that is the limit of a mark",
                       s->path, MARK_ENTRIES_MAX);
    if (S_ISLNK(e.mode)) {
        ssize_t n = readlinkat(w->dir, w->name, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        e.link = target;
    }
    const struct mark_manifest *p = s->previous;
    while (p && *old_at < p->n && mark_path_order(p->entries[*old_at].path, e.path) < 0)
        ++*old_at;
    const struct mark_entry *old = p && *old_at < p->n ? &p->entries[*old_at] : NULL;
    if (S_ISREG(e.mode) && old && !strcmp(old->path, e.path) && is_known(old, &e)) {
        e.flags = old->flags;
        memcpy(e.digest, old->digest, sizeof e.digest);
    } else if (S_ISREG(e.mode) && read_file(s, w, &e, err) < 0) {
        return -1;
    }
    s->bytes += S_ISREG(e.mode) ? e.size : 0;
    mark_manifest_add(m, &e);
    return 0;
}

static bool ignored(const struct mark_scan *s, const struct fs_walk_entry *w)
{
    size_t n = strlen(w->path);
    const struct fs_glob *g =
        fs_globs_decide(s->ignore, w->path, n, n - strlen(w->name), S_ISDIR(w->st.st_mode), false);
    return g && !g->negated;
}

int mark_scan_run(struct mark_scan *s, struct mark_manifest *ret, sa_error **err)
{
    struct fs_walk_options opt = {
        .hidden = true, .no_ignore = !s->gitignore, .vcs = !s->gitignore, .stop = s->stop, .user = s->user};
    struct fs_walk *walk = fs_walk_new(s->root, s->path, &opt, err);
    struct mark_manifest m;
    struct fs_walk_entry w;
    size_t old_at = 0;
    int r;
    if (!walk)
        return -1;
    mark_manifest_init(&m);
    while ((r = fs_walk_next(walk, &w, err)) == 1) {
        if (ignored(s, &w)) {
            if (S_ISDIR(w.st.st_mode))
                fs_walk_skip(walk);
        } else if (take_entry(s, &w, &old_at, &m, err) < 0) {
            r = -1;
            break;
        }
    }
    s->unreadable += fs_walk_counts(walk).unreadable;
    fs_walk_free(walk);
    if (r < 0)
        mark_manifest_fini(&m);
    else
        *ret = m;
    return r;
}
