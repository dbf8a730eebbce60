/* Design notes
 *
 * The walker stands in one directory. Down goes by the name, up by "..", and up is right only when the
 * directory there is the one it came from (device and inode); where it began stays open. A level remembers
 * the names of its directories that are still to be visited, nothing else. */
#include "services/fs-svc/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"

struct level {
    char *name; /* in the level above */
    dev_t dev;
    ino_t ino;
    struct sa_buf dirs; /* names, each with its NUL */
    size_t at;          /* of the next one */
};

struct fs_tree {
    const struct fs_tree_events *events;
    void *user;
    struct level *levels; /* [0] holds the start */
    size_t n, cap, pending;
    int start;   /* of level 0 */
    int fd;      /* of the innermost level */
    DIR *stream; /* of it, while its files are visited */
    char *again; /* the entry that wants another slice */
};

struct fs_slice fs_slice_begin(void)
{
    return (struct fs_slice){sa_now_ns() + (uint64_t)FS_SLICE_MS * 1000000};
}

bool fs_slice_over(const struct fs_slice *s)
{
    return sa_now_ns() >= s->until_ns;
}

static struct level *top(struct fs_tree *t)
{
    return &t->levels[t->n - 1];
}

static int push(struct fs_tree *t, const char *name, const struct stat *st, sa_error **err)
{
    t->pending += sizeof *t->levels + strlen(name) + 1;
    if (t->pending > FS_TREE_PENDING_MAX)
        return sa_fail(err, SA_TOO_MANY, "the tree has too many directories: more than %d MiB of names",
                       FS_TREE_PENDING_MAX >> 20);
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->levels = sa_realloc(t->levels, t->cap * sizeof *t->levels);
    }
    t->levels[t->n++] = (struct level){.name = sa_strdup(name), .dev = st->st_dev, .ino = st->st_ino};
    return 0;
}

static void pop(struct fs_tree *t)
{
    struct level *l = &t->levels[--t->n];
    t->pending -= sizeof *l + strlen(l->name) + 1 + l->dirs.len;
    free(l->name);
    sa_buf_fini(&l->dirs);
}

static int note_dir(struct fs_tree *t, const char *name, sa_error **err)
{
    size_t n = strlen(name) + 1;
    t->pending += n;
    if (t->pending > FS_TREE_PENDING_MAX)
        return sa_fail(err, SA_TOO_MANY, "a directory has too many directories: more than %d MiB of names",
                       FS_TREE_PENDING_MAX >> 20);
    sa_buf_add(&top(t)->dirs, name, n);
    return 0;
}

struct fs_tree *fs_tree_new(int dir_fd, const char *name, const struct fs_tree_events *events, void *user)
{
    struct fs_tree *t = sa_calloc(1, sizeof *t);
    struct stat st = {0};
    t->events = events;
    t->user = user;
    /* A bad descriptor is told by the first step. */
    t->start = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    t->fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
    push(t, "", &st, NULL);
    note_dir(t, name, NULL);
    return t;
}

void fs_tree_free(struct fs_tree *t)
{
    if (!t)
        return;
    if (t->stream)
        closedir(t->stream);
    sa_close(t->start);
    sa_close(t->fd);
    while (t->n)
        pop(t);
    free(t->levels);
    free(t->again);
    free(t);
}

/* ---- a directory's own entries ---- */

static bool is_dir(int dir_fd, const struct dirent *e)
{
    struct stat st;
    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int visit(struct fs_tree *t, const char *name, const struct fs_slice *slice, sa_error **err)
{
    int r = t->events->entry(t->user, t->fd, name, slice, err);
    if (r > 0 && !t->again)
        t->again = sa_strdup(name);
    return r;
}

/* 1: there is more of it. */
static int read_some(struct fs_tree *t, const struct fs_slice *slice, sa_error **err)
{
    if (t->again) {
        int r = visit(t, t->again, slice, err);
        if (r)
            return r;
        free(steal_pointer(&t->again));
    }
    do {
        errno = 0;
        struct dirent *e = readdir(t->stream);
        if (!e && errno)
            return sa_fail_errno(err, errno, "read a directory below `%.200s`", t->levels[0].name);
        if (!e) {
            closedir(steal_pointer(&t->stream));
            return 0;
        }
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        int r = is_dir(t->fd, e) ? note_dir(t, e->d_name, err) : visit(t, e->d_name, slice, err);
        if (r)
            return r;
    } while (!fs_slice_over(slice));
    return 1;
}

static int open_stream(struct fs_tree *t, sa_error **err)
{
    int fd = openat(t->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    t->stream = fd < 0 ? NULL : fdopendir(fd);
    if (t->stream)
        return 0;
    int failed = errno;
    sa_close(fd);
    return sa_fail_errno(err, failed, "read directory `%.200s`", top(t)->name);
}

/* ---- down and up ---- */

static int down(struct fs_tree *t, const char *name, const struct fs_slice *slice, sa_error **err)
{
    cleanup_close int fd = openat(t->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return visit(t, name, slice, err); /* it was replaced meanwhile */
    if (fd < 0 && (errno == EACCES || errno == EPERM) && t->events->unreadable) {
        t->events->unreadable(t->user);
        return 0;
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "open directory `%.200s`", name);
    if (t->events->enter && t->events->enter(t->user, t->fd, name, fd, &st, err) < 0)
        return -1;
    if (push(t, name, &st, err) < 0)
        return -1;
    sa_close(t->fd);
    t->fd = steal_fd(&fd);
    return open_stream(t, err);
}

static int up(struct fs_tree *t, sa_error **err)
{
    struct level *l = top(t), *above = l - 1;
    struct stat st;
    bool last = t->n == 2;
    cleanup_close int fd =
        last ? fcntl(t->start, F_DUPFD_CLOEXEC, 3) : openat(t->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "go up from directory `%.200s`", l->name);
    if (!last && (st.st_dev != above->dev || st.st_ino != above->ino))
        return sa_fail(err, SA_FILE_NOT_FOUND, "directory `%.200s` was moved meanwhile", l->name);
    sa_close(t->fd);
    t->fd = steal_fd(&fd);
    cleanup_free char *name = steal_pointer(&l->name);
    l->name = sa_strdup(name);
    pop(t);
    int again = t->events->leave ? t->events->leave(t->user, t->fd, name, err) : 0;
    return again > 0 ? down(t, name, &(struct fs_slice){0}, err) : again;
}

int fs_tree_step(struct fs_tree *t, const struct fs_slice *slice, sa_error **err)
{
    do {
        int r = 0;
        struct level *l = top(t);
        if (t->again || t->stream) {
            r = t->stream ? read_some(t, slice, err) : visit(t, t->again, slice, err);
            if (r == 0)
                free(steal_pointer(&t->again));
        } else if (l->at < l->dirs.len) {
            cleanup_free char *name = sa_strdup((const char *)l->dirs.data + l->at);
            l->at += strlen(name) + 1;
            r = down(t, name, slice, err);
        } else if (t->n > 1) {
            r = up(t, err);
        } else {
            return 0;
        }
        if (r < 0)
            return -1;
    } while (!fs_slice_over(slice));
    return 1;
}
