/* Bare system calls; large files pass through a pair of unix sockets, with a thread at the other end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/load/fs_bench.h"

enum { PIECE = 256 << 10, LANES = 16 };

/* ---- small files ---- */

struct lane {
    pthread_t thread;
    const char *dir;
    bool write;
    size_t from, step, n;
    uint64_t *ns;
};

static void read_one(const char *path)
{
    char content[SMALL + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (read(fd, content, sizeof content) != SMALL || read(fd, content, 1) != 0)
        die("read %s", path);
    close(fd);
}

static void write_one(const char *path, size_t i)
{
    static const char content[SMALL];
    cleanup_free char *temp = sa_format("%s.%zu.tmp", path, i);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (write(fd, content, sizeof content) != SMALL || close(fd) < 0 || rename(temp, path) < 0)
        die("write %s", path);
}

static void *run_lane(void *user)
{
    struct lane *l = user;
    for (size_t i = l->from; i < l->n; i += l->step) {
        cleanup_free char *path = sa_format("%s/f%zu", l->dir, i % FILES);
        uint64_t start = sa_now_ns();
        if (l->write)
            write_one(path, i);
        else
            read_one(path);
        l->ns[i] = sa_now_ns() - start;
    }
    return NULL;
}

static void smalls(const char *dir, bool write, size_t at_once, uint64_t *ret_ns, size_t n)
{
    struct lane lanes[LANES];
    for (size_t i = 0; i < at_once; i++) {
        lanes[i] =
            (struct lane){.dir = dir, .write = write, .from = i, .step = at_once, .n = n, .ns = ret_ns};
        if (pthread_create(&lanes[i].thread, NULL, run_lane, &lanes[i]))
            die("thread");
    }
    for (size_t i = 0; i < at_once; i++)
        pthread_join(lanes[i].thread, NULL);
}

static void read_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    (void)user;
    smalls(dir, false, at_once, ret_ns, n);
}

static void write_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    (void)user;
    smalls(dir, true, at_once, ret_ns, n);
}

/* ---- large files ---- */

struct end {
    int fd;
    const char *path;
    uint64_t bytes;
};

static uint64_t copy(int from, int to)
{
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    uint64_t all = 0;
    for (ssize_t n; (n = read(from, piece, PIECE)) > 0; all += (uint64_t)n)
        for (ssize_t done = 0; to >= 0 && done < n;) {
            ssize_t w = write(to, piece + done, (size_t)(n - done));
            if (w < 0)
                die("copy: %s", strerror(errno));
            done += w;
        }
    return all;
}

static void *send_file(void *user)
{
    struct end *e = user;
    int fd = open(e->path, O_RDONLY | O_CLOEXEC);
    copy(fd, e->fd);
    close(fd);
    close(e->fd);
    return NULL;
}

static void *receive_file(void *user)
{
    struct end *e = user;
    int fd = open(e->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    copy(e->fd, fd);
    close(fd);
    close(e->fd);
    return NULL;
}

static uint64_t get(void *user, const char *path)
{
    (void)user;
    int s[2];
    pthread_t thread;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        die("sockets");
    struct end e = {.fd = s[1], .path = path};
    if (pthread_create(&thread, NULL, send_file, &e))
        die("thread");
    uint64_t got = copy(s[0], -1);
    pthread_join(thread, NULL);
    close(s[0]);
    return got;
}

static void put(void *user, const char *path, uint64_t bytes)
{
    (void)user;
    int s[2];
    pthread_t thread;
    cleanup_free char *temp = sa_format("%s.tmp", path);
    cleanup_free uint8_t *piece = sa_calloc(1, PIECE);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
        die("sockets");
    struct end e = {.fd = s[1], .path = temp};
    if (pthread_create(&thread, NULL, receive_file, &e))
        die("thread");
    for (uint64_t at = 0; at < bytes;) {
        ssize_t w = write(s[0], piece, bytes - at < PIECE ? (size_t)(bytes - at) : PIECE);
        if (w < 0)
            die("put: %s", strerror(errno));
        at += (uint64_t)w;
    }
    close(s[0]);
    pthread_join(thread, NULL);
    if (rename(temp, path) < 0)
        die("rename %s", temp);
}

/* ---- trees ---- */

static size_t list(void *user, const char *dir)
{
    (void)user;
    DIR *d = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static void unpack(void *user, const char *dir, const char *tar)
{
    (void)user;
    cleanup_free char *command = sa_format("tar -C '%s' -xf '%s'", dir, tar);
    if (system(command) != 0)
        die("%s", command);
}

static uint64_t pack(void *user, const char *dir)
{
    (void)user;
    cleanup_free char *command = sa_format("tar -C '%s' -cf - .", dir);
    FILE *f = popen(command, "r");
    uint64_t n = copy(fileno(f), -1);
    pclose(f);
    return n;
}

struct way bare_way(void)
{
    return (struct way){.name = "bare",
                        .read_small = read_small,
                        .write_small = write_small,
                        .get = get,
                        .put = put,
                        .list = list,
                        .unpack = unpack,
                        .pack = pack};
}
