#include "adapters/os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FDS_MAX = 16 };

int sa_mkdirs(const char *path, mode_t mode, sa_error **err)
{
    cleanup_free char *p = sa_strdup(path);
    for (char *at = p + 1;; at++) {
        if (*at && *at != '/')
            continue;
        char c = *at;
        *at = 0;
        if (mkdir(p, mode) < 0 && errno != EEXIST)
            return sa_fail_errno(err, errno, "make directory `%s`", p);
        if (!c)
            break;
        *at = c;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return sa_fail_errno(err, errno, "make directory `%s`", path);
    return S_ISDIR(st.st_mode) ? 0 : sa_fail(err, SA_NOT_A_DIRECTORY, "`%s` is not a directory", path);
}

/* Takes `fd`. Depth is bounded by PATH_MAX-long names of our own making. */
static int remove_below(int fd, sa_error **err)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        sa_close(fd);
        return sa_fail_errno(err, errno, "read directory");
    }
    int r = 0;
    for (struct dirent *e; r == 0 && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (!unlinkat(dirfd(d), e->d_name, 0) || errno == ENOENT)
            continue;
        int sub = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (sub < 0 || remove_below(sub, err) < 0 || unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) < 0)
            r = sa_fail_errno(err, errno, "remove `%s`", e->d_name);
    }
    closedir(d);
    return r;
}

int sa_remove_tree(const char *path, sa_error **err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return unlink(path) < 0 ? sa_fail_errno(err, errno, "remove `%s`", path) : 0;
    if (remove_below(fd, err) < 0)
        return sa_wrap(err, "remove `%s`", path);
    return rmdir(path) < 0 ? sa_fail_errno(err, errno, "remove `%s`", path) : 0;
}

int sa_read_file(const char *path, size_t max, struct sa_buf *ret, sa_error **err)
{
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sa_fail_errno(err, errno, "open `%s`", path);
    for (size_t total = 0;;) {
        size_t want = 16384;
        ssize_t n = read(fd, sa_buf_reserve(ret, want), want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sa_fail_errno(err, errno, "read `%s`", path);
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        if ((total += (size_t)n) > max)
            return sa_fail(err, SA_TOO_MANY, "`%s` is larger than %zu bytes", path, max);
    }
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

int sa_write_file(const char *path, const void *data, size_t n, mode_t mode, sa_error **err)
{
    cleanup_free char *tmp = sa_format("%s.tmp.%d", path, (int)getpid());
    cleanup_close int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return sa_fail_errno(err, errno, "create `%s`", tmp);
    if (write_all(fd, data, n) < 0 || fsync(fd) < 0 || rename(tmp, path) < 0) {
        int saved = errno;
        unlink(tmp);
        return sa_fail_errno(err, saved, "write `%s`", path);
    }
    return 0;
}

int sa_lock_file(const char *path, const char *what, sa_error **err)
{
    cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return sa_fail_errno(err, errno, "open `%s`", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        char pid[16] = "";
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = 0;
        return sa_fail(err, SA_DATA_DIR_IN_USE, "%s is in use by process %s", what, *pid ? pid : "(unknown)");
    }
    char pid[16];
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || write_all(fd, pid, (size_t)n) < 0)
        return sa_fail_errno(err, errno, "write `%s`", path);
    return steal_fd(&fd);
}

int sa_lock_dir(const char *dir, sa_error **err)
{
    cleanup_free char *path = sa_format("%s/lock", dir), *what = sa_format("directory `%s`", dir);
    return sa_lock_file(path, what, err);
}

/* Fills *ret_addr for `path`; a long path goes through /proc/self/fd/<directory>, kept open in *ret_dir. */
static int address(const char *path, struct sockaddr_un *ret_addr, int *ret_dir, sa_error **err)
{
    *ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) < sizeof ret_addr->sun_path) {
        strcpy(ret_addr->sun_path, path);
        return 0;
    }
    cleanup_free char *copy = sa_strdup(path), *copy2 = sa_strdup(path);
    *ret_dir = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*ret_dir < 0)
        return sa_fail_errno(err, errno, "open directory of `%s`", path);
    int n = snprintf(ret_addr->sun_path, sizeof ret_addr->sun_path, "/proc/self/fd/%d/%s", *ret_dir,
                     basename(copy2));
    return n < (int)sizeof ret_addr->sun_path
               ? 0
               : sa_fail(err, SA_INVALID_PATH, "name of `%s` is too long", path);
}

int sa_unix_listen(const char *path, int type, sa_error **err)
{
    struct sockaddr_un addr;
    cleanup_close int dir = -1, fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return sa_fail_errno(err, errno, "unix socket");
    if (address(path, &addr, &dir, err) < 0)
        return -1;
    unlink(path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, 128) < 0)
        return sa_fail_errno(err, errno, "listen on `%s`", path);
    return steal_fd(&fd);
}

int sa_unix_connect(const char *path, int type, sa_error **err)
{
    struct sockaddr_un addr;
    cleanup_close int dir = -1, fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return sa_fail_errno(err, errno, "unix socket");
    if (address(path, &addr, &dir, err) < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return sa_fail_errno(err, errno, "connect to `%s`", path);
    return steal_fd(&fd);
}

ssize_t sa_send_fds(int sock, const void *p, size_t n, const int *fds, int n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n_fds > FDS_MAX) {
        errno = EINVAL;
        return -1;
    }
    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)n_fds * sizeof(int));
    }
    return sendmsg(sock, &msg, MSG_NOSIGNAL);
}

ssize_t sa_recv_fds(int sock, void *p, size_t n, int *ret_fds, int *n_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec iov = {p, n};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    int room = *n_fds, got = 0;
    ssize_t r = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    if (r < 0)
        return r;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        int count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)), fd;
        for (int i = 0; i < count; i++) {
            memcpy(&fd, CMSG_DATA(c) + (size_t)i * sizeof fd, sizeof fd);
            if (got < room)
                ret_fds[got++] = fd;
            else
                close(fd);
        }
    }
    *n_fds = got;
    return r;
}
