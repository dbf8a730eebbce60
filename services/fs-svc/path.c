/* Design notes
 *
 * Every access begins with an O_PATH descriptor: it names an inode and has no side effect (no FIFO is opened,
 * no device is touched). The private directories are checked on that inode's own path, not on the text of the
 * request, so links into them are caught too. What is then read or written is opened again from it.
 *
 * The walk keeps the parts it has resolved as text without links. For ".." it starts again at the root with
 * one part less, each opened with O_NOFOLLOW: a directory that is moved meanwhile can make it fail, but never
 * lead it out. FS_STEPS_MAX bounds what a hostile path can cost. */
#include "services/fs-svc/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum {
    FS_STEPS_MAX = 20000, /* parts that one walk opens */
    RACES_MAX = 32,       /* times that openat2 is asked again after a rename raced it */
    SHOWN = 200,          /* bytes of a path in a message */
};

char *fs_path_from_bytes(const uint8_t *p, size_t n, sa_error **err)
{
    if (n == 0)
        sa_fail(err, SA_INVALID_PATH, "the path is empty; \".\" names the root itself");
    else if (n > FS_PATH_MAX)
        sa_fail(err, SA_INVALID_PATH, "the path has %zu bytes, the limit is %d", n, FS_PATH_MAX);
    else if (memchr(p, 0, n))
        sa_fail(err, SA_INVALID_PATH, "the path contains a NUL byte");
    else
        return sa_strndup((const char *)p, n);
    return NULL;
}

int fs_path_split(const char *path, char **ret_parent, char **ret_name, bool *ret_slash, sa_error **err)
{
    size_t end = strlen(path);
    while (end && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && path[start - 1] != '/')
        start--;
    size_t n = end - start;
    if (n == 0 || (n == 1 && path[start] == '.') || (n == 2 && !memcmp(path + start, "..", 2)))
        return sa_fail(err, SA_INVALID_PATH, "`%.*s` does not end in a name", SHOWN, path);
    *ret_slash = path[end] == '/';
    *ret_name = sa_strndup(path + start, n);
    *ret_parent = start ? sa_strndup(path, start) : sa_strdup(".");
    return 0;
}

/* ---- the walk ---- */

struct walk {
    const struct fs_root *root;
    struct sa_buf rest; /* what is still to be resolved */
    size_t at;
    struct sa_buf done; /* resolved parts, each followed by '/' */
    int fd;             /* of the last resolved part; O_PATH */
    int links, steps;
};

static void walk_fini(struct walk *w)
{
    sa_buf_fini(&w->rest);
    sa_buf_fini(&w->done);
    sa_close(w->fd);
}

static int step(struct walk *w, int dir, const char *name)
{
    if (++w->steps > FS_STEPS_MAX) {
        errno = ELOOP;
        return -1;
    }
    return openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int restart(struct walk *w)
{
    sa_close(w->fd);
    w->fd = fcntl(w->root->fd, F_DUPFD_CLOEXEC, 3);
    return w->fd < 0 ? -1 : 0;
}

/* ".." of a resolved path: the same walk with one part less. */
static int up(struct walk *w)
{
    if (!w->done.len) {
        if (w->root->whole)
            return 0;
        errno = EXDEV;
        return -1;
    }
    do
        w->done.len--;
    while (w->done.len && w->done.data[w->done.len - 1] != '/');
    if (restart(w) < 0)
        return -1;
    for (size_t at = 0; at < w->done.len;) {
        char name[NAME_MAX + 1];
        size_t n =
            (size_t)((uint8_t *)memchr(w->done.data + at, '/', w->done.len - at) - (w->done.data + at));
        memcpy(name, w->done.data + at, n);
        name[n] = 0;
        int fd = step(w, w->fd, name);
        sa_close(w->fd);
        if ((w->fd = fd) < 0)
            return -1;
        at += n + 1;
    }
    return 0;
}

/* Puts a link's target in front of the rest. */
static int follow(struct walk *w, int link)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target);
    if (n <= 0)
        return -1;
    struct statfs fs;
    bool magic = !fstatfs(link, &fs) && fs.f_type == PROC_SUPER_MAGIC &&
                 (target[0] == '/' || memmem(target, (size_t)n, ":[", 2));
    errno = ELOOP;
    if (magic || ++w->links > FS_LINKS_MAX)
        return -1;
    errno = EXDEV;
    if (target[0] == '/') {
        if (!w->root->whole)
            return -1;
        w->done.len = 0;
        if (restart(w) < 0)
            return -1;
    }
    errno = ENAMETOOLONG;
    struct sa_buf rest = {0};
    sa_buf_add(&rest, target, (size_t)n);
    if (w->at < w->rest.len)
        sa_buf_add(&rest, "/", 1);
    sa_buf_add(&rest, w->rest.data + w->at, w->rest.len - w->at);
    sa_buf_fini(&w->rest);
    w->rest = rest;
    w->at = 0;
    return rest.len > 2 * PATH_MAX ? -1 : 0;
}

static int require_dir(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -1;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode) ? 0 : -1;
}

/* Takes the next part of the rest. */
static int next(struct walk *w, const char *part, size_t n, bool last, bool follow_last)
{
    char name[PATH_MAX]; /* too long for a name: the kernel says so, after it has looked at what is before it
                          */
    if (require_dir(w->fd) < 0)
        return -1;
    errno = ENAMETOOLONG;
    if (n >= sizeof name)
        return -1;
    memcpy(name, part, n);
    name[n] = 0;
    if (!strcmp(name, "."))
        /* Needs the right to search, as the kernel's walk does. */
        return fstatat(w->fd, ".", &(struct stat){0}, 0);
    if (!strcmp(name, ".."))
        return up(w);
    cleanup_close int fd = step(w, w->fd, name);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    if (S_ISLNK(st.st_mode) && (!last || follow_last))
        return follow(w, fd);
    sa_close(w->fd);
    w->fd = steal_fd(&fd);
    sa_buf_add(&w->done, name, n);
    sa_buf_add(&w->done, "/", 1);
    return 0;
}

/* Answers as openat2 does: a descriptor, or -1 with errno. */
static int walk(const struct fs_root *root, const char *path, bool follow_last)
{
    struct walk w __attribute__((cleanup(walk_fini))) = {.root = root, .fd = -1};
    if (*path == '/' && !root->whole) {
        errno = EXDEV;
        return -1;
    }
    sa_buf_add(&w.rest, path, strlen(path));
    if (restart(&w) < 0)
        return -1;
    bool must_be_dir = false;
    while (w.at < w.rest.len) {
        const char *at = (const char *)w.rest.data + w.at;
        size_t left = w.rest.len - w.at, n = 0, skip = 0;
        while (n < left && at[n] != '/')
            n++;
        while (n + skip < left && at[n + skip] == '/')
            skip++;
        w.at += n + skip;
        bool last = w.at == w.rest.len;
        must_be_dir |= last && skip;
        if (n && next(&w, at, n, last, follow_last || must_be_dir) < 0)
            return -1;
    }
    return must_be_dir && require_dir(w.fd) < 0 ? -1 : steal_fd(&w.fd);
}

/* ---- opening ---- */

static int open_below(const struct fs_root *root, const char *path, bool follow_last)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | (follow_last ? 0 : O_NOFOLLOW),
        .resolve = RESOLVE_NO_MAGICLINKS | (root->whole ? 0 : RESOLVE_BENEATH),
    };
    for (int i = 0; i < RACES_MAX && !root->no_openat2; i++) {
        int fd = (int)syscall(SYS_openat2, root->fd, path, &how, sizeof how);
        if (fd >= 0)
            return fd;
        if (errno == EAGAIN)
            continue;
        if (errno == ENOSYS || errno == EPERM)
            break;
        return -1;
    }
    return walk(root, path, follow_last);
}

char *fs_real_path(int fd)
{
    char link[32], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path);
    if (n < 0)
        return NULL;
    errno = ENAMETOOLONG;
    return n < (ssize_t)sizeof path ? sa_strndup(path, (size_t)n) : NULL;
}

int fs_reopen(int path_fd, int flags)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", path_fd);
    return open(link, flags | O_CLOEXEC);
}

bool fs_path_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/' || (n && dir[n - 1] == '/'));
}

/* /proc/N of one of our own threads: the kernel lets a process look at itself, whatever the thread's file
 * rights are. */
static bool own_process(const char *path)
{
    char task[64];
    unsigned long id;
    return sscanf(path, "/proc/%lu", &id) == 1 &&
           snprintf(task, sizeof task, "/proc/self/task/%lu", id) < (int)sizeof task && !access(task, F_OK);
}

int fs_path_check_private(const struct fs_root *root, int fd, const char *path, sa_error **err)
{
    cleanup_free char *real = fs_real_path(fd);
    if (!real)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    /* What has no path in our view of the filesystem cannot be judged. */
    bool refused = real[0] != '/' || own_process(real);
    for (const char *const *d = root->private_dirs; d && *d && !refused; d++)
        refused = fs_path_below(real, *d);
    return refused ? sa_fail(err, SA_PERMISSION_DENIED, "`%.*s` belongs to the services", SHOWN, path) : 0;
}

/* /proc shows our own memory, so nothing is done to all of it. */
static bool holds_private(const struct fs_root *root, const char *real)
{
    bool holds = fs_path_below("/proc", real);
    for (const char *const *d = root->private_dirs; d && *d && !holds; d++)
        holds = fs_path_below(*d, real);
    return holds;
}

int fs_path_check_tree(const struct fs_root *root, int fd, const char *path, sa_error **err)
{
    cleanup_free char *real = fs_real_path(fd);
    if (!real)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    return holds_private(root, real)
               ? sa_fail(err, SA_PERMISSION_DENIED, "`%.*s` holds what belongs to the services", SHOWN, path)
               : 0;
}

/* Where a name is, or would be. It is none of the services' own. NULL: failed. */
static char *real_name(const struct fs_root *root, int dir_fd, const char *name, const char *path,
                       sa_error **err)
{
    cleanup_free char *dir = fs_real_path(dir_fd);
    if (!dir) {
        sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
        return NULL;
    }
    cleanup_free char *real = sa_format("%s/%s", dir[1] ? dir : "", name);
    for (const char *const *d = root->private_dirs; d && *d; d++)
        if (fs_path_below(real, *d)) {
            sa_fail(err, SA_PERMISSION_DENIED, "`%.*s` belongs to the services", SHOWN, path);
            return NULL;
        }
    return steal_pointer(&real);
}

int fs_path_check_name(const struct fs_root *root, int dir_fd, const char *name, const char *path,
                       sa_error **err)
{
    cleanup_free char *real = real_name(root, dir_fd, name, path, err);
    if (!real)
        return -1;
    if (holds_private(root, real))
        return sa_fail(err, SA_PERMISSION_DENIED, "`%.*s` holds what belongs to the services", SHOWN, path);
    for (const char *const *d = root->root_dirs; d && *d; d++)
        if (fs_path_below(*d, real))
            return sa_fail(err, SA_PERMISSION_DENIED, "`%.*s` is a root or holds one", SHOWN, path);
    return 0;
}

static int fail_open(const struct fs_root *root, int errnum, const char *path, sa_error **err)
{
    if (errnum == EXDEV)
        return sa_fail(err, SA_INVALID_PATH, "`%.*s` leaves the root `%s`", SHOWN, path, root->name);
    return sa_fail_errno(err, errnum, "open `%.*s`", SHOWN, path);
}

int fs_path_open(const struct fs_root *root, const char *path, bool follow_last, sa_error **err)
{
    cleanup_free char *absolute = NULL;
    const char *p = path;
    if (root->whole && *path != '/')
        p = absolute = sa_format("%s/%s", root->home, path);
    cleanup_close int fd = open_below(root, p, follow_last);
    if (fd < 0)
        return fail_open(root, errno, path, err);
    return fs_path_check_private(root, fd, path, err) < 0 ? -1 : steal_fd(&fd);
}

int fs_path_open_at(const struct fs_root *root, int dir_fd, const char *name, sa_error **err)
{
    cleanup_close int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_open(root, errno, name, err);
    return fs_path_check_private(root, fd, name, err) < 0 ? -1 : steal_fd(&fd);
}

/* The next directory on the way. A plain one is opened where we are; links and ".." are resolved from the
 * root. */
static int enter(const struct fs_root *root, int dir, const char *name, const char *prefix, sa_error **err)
{
    struct stat st;
    cleanup_close int fd = strcmp(name, "..") ? openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || S_ISLNK(st.st_mode))
        return fs_path_open(root, prefix, true, err);
    if (!S_ISDIR(st.st_mode))
        return sa_fail_errno(err, ENOTDIR, "open `%.*s`", SHOWN, prefix);
    return fs_path_check_private(root, fd, prefix, err) < 0 ? -1 : steal_fd(&fd);
}

int fs_path_make_dirs(const struct fs_root *root, const char *path, sa_error **err)
{
    cleanup_error sa_error *first = NULL;
    int fd = fs_path_open(root, path, true, &first);
    if (fd >= 0 || !sa_error_is(first, SA_FILE_NOT_FOUND))
        return fd >= 0 ? fd : sa_pass(err, steal_pointer(&first));
    cleanup_close int dir = fs_path_open(root, *path == '/' ? "/" : ".", true, err);
    if (dir < 0)
        return -1;
    for (size_t end = 0, start; path[end];) {
        start = end + strspn(path + end, "/");
        end = start + strcspn(path + start, "/");
        cleanup_free char *prefix = sa_strndup(path, end), *name = sa_strndup(path + start, end - start);
        if (!*name)
            break;
        cleanup_free char *real = real_name(root, dir, name, prefix, err);
        if (!real)
            return -1;
        if (mkdirat(dir, name, 0777) < 0 && errno != EEXIST)
            return sa_fail_errno(err, errno, "make directory `%.*s`", SHOWN, prefix);
        int next_dir = enter(root, dir, name, prefix, err);
        if (next_dir < 0)
            return -1;
        sa_close(dir);
        dir = next_dir;
    }
    return steal_fd(&dir);
}
