#include "services/fs-svc/place.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { SHOWN = 200 };

int fs_place_find(const struct fs_root *root, const char *path, bool make_parents, struct fs_place *ret,
                  sa_error **err)
{
    cleanup_free char *parent = NULL, *name = NULL;
    bool slash = false;
    if (fs_path_split(path, &parent, &name, &slash, err) < 0)
        return -1;
    cleanup_close int fd =
        make_parents ? fs_path_make_dirs(root, parent, err) : fs_path_open(root, parent, true, err);
    if (fd < 0)
        return -1;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return sa_fail_errno(err, ENOTDIR, "open `%.*s`", SHOWN, path);
    if (fs_path_check_name(root, fd, name, path, err) < 0)
        return -1;
    cleanup_free char *dir = fs_real_path(fd);
    if (!dir)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    *ret = (struct fs_place){.path = path,
                             .dir_fd = steal_fd(&fd),
                             .dir = steal_pointer(&dir),
                             .name = steal_pointer(&name),
                             .slash = slash};
    return 0;
}

void fs_place_fini(struct fs_place *p)
{
    if (p->dir)
        sa_close(p->dir_fd);
    free(p->dir);
    free(p->name);
    *p = (struct fs_place){.dir_fd = -1};
}

int fs_place_stat(const struct fs_place *p, struct stat *ret, sa_error **err)
{
    if (fstatat(p->dir_fd, p->name, ret, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, p->path);
    if (p->slash && !S_ISDIR(ret->st_mode))
        return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.*s` is no directory", SHOWN, p->path);
    return 0;
}

bool fs_place_same(const struct fs_place *a, const struct fs_place *b)
{
    struct stat x, y;
    return !strcmp(a->name, b->name) && !fstat(a->dir_fd, &x) && !fstat(b->dir_fd, &y) &&
           x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int within_by_text(const struct fs_place *p, int dir, sa_error **err)
{
    cleanup_free char *real = fs_real_path(dir);
    return real ? fs_path_below(p->dir, real)
                : sa_fail_errno(err, errno, "look above `%.*s`", SHOWN, p->path);
}

/* By inodes, upwards: mounts of the same directory elsewhere are found too. Above a root there may be
 * directories that we have no right to; from there on the text tells. */
int fs_place_within(const struct fs_place *p, int dir, sa_error **err)
{
    cleanup_close int fd = openat(p->dir_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat wanted, st, last = {0};
    if (fstat(dir, &wanted) < 0)
        return sa_fail_errno(err, errno, "look above `%.*s`", SHOWN, p->path);
    for (int first = 1;; first = 0) {
        if (fd < 0 && errno == EACCES)
            return within_by_text(p, dir, err);
        if (fd < 0 || fstat(fd, &st) < 0)
            return sa_fail_errno(err, errno, "look above `%.*s`", SHOWN, p->path);
        if (st.st_dev == wanted.st_dev && st.st_ino == wanted.st_ino)
            return 1;
        if (!first && st.st_dev == last.st_dev && st.st_ino == last.st_ino)
            return 0;
        last = st;
        int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC), failed = errno;
        sa_close(fd);
        fd = up;
        errno = failed;
    }
}

/* Where the filesystem has no RENAME_NOREPLACE, the new name is taken first by what only takes free names. */
static int rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
    struct stat st;
    if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        return linkat(from_dir, from, to_dir, to, 0) < 0 ? -1 : unlinkat(from_dir, from, 0);
    if (mkdirat(to_dir, to, 0700) < 0)
        return -1;
    if (renameat(from_dir, from, to_dir, to) == 0)
        return 0;
    int failed = errno;
    unlinkat(to_dir, to, AT_REMOVEDIR);
    errno = failed;
    return -1;
}

int fs_rename(int from_dir, const char *from, int to_dir, const char *to, bool replace)
{
    if (replace)
        return renameat(from_dir, from, to_dir, to);
    if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0)
        return 0;
    /* EINVAL is also the answer to a directory that is to go into itself: renaming tells it again. */
    return errno == EINVAL || errno == ENOSYS ? rename_new(from_dir, from, to_dir, to) : -1;
}

int fs_open_recorded(const char *dir)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, dir, &how, sizeof how);
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
        return fd;
    fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    cleanup_free char *real = fd < 0 ? NULL : fs_real_path(fd);
    if (fd < 0 || (real && !strcmp(real, dir)))
        return fd;
    sa_close(fd);
    errno = ELOOP;
    return -1;
}

int fs_sync_dir(int dir_fd)
{
    cleanup_close int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -1 : fsync(fd);
}
