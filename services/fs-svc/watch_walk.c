#include "services/fs-svc/watch_walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    MASK = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF |
           IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK,
};

static char *full_path(const struct watch_walk *w, const char *path)
{
    return strcmp(path, ".") ? sa_format("%s/%s", w->base, path) : sa_strdup(w->base);
}

/* Filesystems whose files change without anybody changing them: they tell nothing. */
static bool is_silent(int fd)
{
    struct statfs fs;
    if (fstatfs(fd, &fs) < 0)
        return false;
    switch ((unsigned long)fs.f_type) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case BPF_FS_MAGIC:
    case SECURITYFS_MAGIC:
        return true;
    default:
        return false;
    }
}

static void unwatched(struct watch_item *i, enum sa_reason reason)
{
    i->unwatched = sa_reason_name(reason);
    if (!i->err)
        sa_fail(&i->err, reason, "`%.200s` cannot be watched", i->path);
}

/* What the error of opening it means. */
static void not_opened(struct watch_item *i)
{
    i->gone = sa_error_is(i->err, SA_FILE_NOT_FOUND) || sa_error_is(i->err, SA_NOT_A_DIRECTORY);
    for (enum sa_reason r = 0; r < SA_REASON_MAX_ && !i->gone; r++)
        if (sa_error_is(i->err, r))
            unwatched(i, r);
}

static void set_watch(struct watch_walk *w, struct watch_item *i, int fd)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (is_silent(fd)) {
        unwatched(i, SA_UNIMPLEMENTED);
        return;
    }
    if (!i->watched && !w->room) {
        unwatched(i, SA_TOO_MANY);
        return;
    }
    i->wd = inotify_add_watch(w->inotify, link, MASK);
    if (i->wd < 0 && errno == ENOSPC) {
        unwatched(i, SA_TOO_MANY);
    } else if (i->wd < 0) {
        sa_fail_errno(&i->err, errno, "watch `%.200s`", i->path);
        not_opened(i);
    } else if (!i->watched) {
        w->room--;
    }
}

static bool is_directory(int fd, const struct dirent *e)
{
    struct stat st;
    if (e->d_type != DT_UNKNOWN)
        return e->d_type == DT_DIR;
    return fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 && S_ISDIR(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct watch_found *)a)->name, ((const struct watch_found *)b)->name);
}

static int list(struct watch_item *i, int at)
{
    int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int saved = errno;
        sa_close(fd);
        return sa_fail_errno(&i->err, saved, "list `%.200s`", i->path);
    }
    size_t cap = 0;
    struct dirent *e;
    for (errno = 0; (e = readdir(d)); errno = 0) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (i->n_found == cap)
            i->found = sa_realloc(i->found, (cap = cap ? 2 * cap : 16) * sizeof *i->found);
        i->found[i->n_found++] =
            (struct watch_found){.name = sa_strdup(e->d_name), .directory = is_directory(dirfd(d), e)};
    }
    int r = errno ? sa_fail_errno(&i->err, errno, "list `%.200s`", i->path) : 0;
    closedir(d);
    if (i->n_found)
        qsort(i->found, i->n_found, sizeof *i->found, by_name);
    return r;
}

/* One that is missing, too large or not to be read leaves nothing out. */
static void read_gitignore(const struct watch_walk *w, struct watch_item *i)
{
    struct watch_found key = {.name = (char *)(uintptr_t) ".gitignore"};
    if (!i->n_found || !bsearch(&key, i->found, i->n_found, sizeof *i->found, by_name))
        return;
    cleanup_free char *dir = full_path(w, i->path), *path = sa_format("%s/.gitignore", dir);
    cleanup_close int at = fs_path_open(w->root, path, false, NULL);
    struct stat st;
    if (at < 0 || fstat(at, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > WATCH_GITIGNORE_MAX)
        return;
    cleanup_close int fd = fs_reopen(at, O_RDONLY | O_NOCTTY);
    uint8_t *p = sa_buf_reserve(&i->gitignore, WATCH_GITIGNORE_MAX);
    ssize_t n = fd < 0 ? -1 : pread(fd, p, WATCH_GITIGNORE_MAX, 0);
    i->gitignore.len = n > 0 ? (size_t)n : 0;
}

static void walk_one(struct watch_walk *w, struct watch_item *i)
{
    cleanup_free char *path = full_path(w, i->path);
    struct stat st;
    i->wd = -1;
    cleanup_close int fd = fs_path_open(w->root, path, !strcmp(i->path, "."), &i->err);
    if (fd >= 0 && fstat(fd, &st) < 0)
        sa_fail_errno(&i->err, errno, "watch `%.200s`", path);
    else if (fd >= 0 && (!S_ISDIR(st.st_mode) || st.st_nlink == 0))
        sa_fail_errno(&i->err, S_ISDIR(st.st_mode) ? ENOENT : ENOTDIR, "watch `%.200s`", path);
    if (i->err) {
        not_opened(i);
        return;
    }
    i->dev = st.st_dev;
    i->ino = st.st_ino;
    set_watch(w, i, fd);
    if (i->wd < 0 || !w->list)
        return;
    if (list(i, fd) < 0) {
        not_opened(i);
        return;
    }
    if (w->gitignore)
        read_gitignore(w, i);
}

void watch_walk_run(struct watch_walk *w)
{
    for (size_t i = 0; i < w->n_remove; i++)
        inotify_rm_watch(w->inotify, w->remove[i]); /* fails when its directory is gone, and it with it */
    for (size_t i = 0; i < w->n; i++)
        walk_one(w, &w->items[i]);
}

void watch_walk_fini(struct watch_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        struct watch_item *item = &w->items[i];
        for (size_t k = 0; k < item->n_found; k++)
            free(item->found[k].name);
        free(item->found);
        free(item->path);
        sa_buf_fini(&item->gitignore);
        sa_error_free(item->err);
    }
    free(w->remove);
}

bool watch_walk_same(const struct fs_root *root, const char *base, dev_t dev, ino_t ino)
{
    cleanup_error sa_error *err = NULL;
    cleanup_close int fd = fs_path_open(root, base, true, &err);
    struct stat st;
    if (fd < 0)
        return !sa_error_is(err, SA_FILE_NOT_FOUND) && !sa_error_is(err, SA_NOT_A_DIRECTORY);
    return fstat(fd, &st) == 0 && st.st_dev == dev && st.st_ino == ino && st.st_nlink > 0;
}
