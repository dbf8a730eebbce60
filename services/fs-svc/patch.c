#include "services/fs-svc/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/fault.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/roots.h"

enum { SHOWN = 200, PIECE = 1 << 20 };

static int failed(const struct fs_patch *p, sa_error **err)
{
    return sa_fail_errno(err, errno, "write `%.*s`", SHOWN, p->name);
}

/* As pread, but short only at the end of the file. */
static ssize_t read_at(int fd, void *p, size_t n, uint64_t at)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(fd, (char *)p + got, n - got, (off_t)(at + got));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

/* at: UINT64_MAX: the descriptor appends. */
static int write_at(int fd, const void *p, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const char *from = (const char *)p + done;
        ssize_t w =
            at == UINT64_MAX ? write(fd, from, n - done) : pwrite(fd, from, n - done, (off_t)(at + done));
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return -1;
        done += (size_t)w;
    }
    return 0;
}

/* n bytes; to_at as write_at. They end early where the source ends. */
static int copy(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t n)
{
    cleanup_free char *piece = sa_malloc(PIECE);
    while (n) {
        ssize_t got = read_at(from, piece, n < PIECE ? (size_t)n : PIECE, from_at);
        if (got <= 0)
            return (int)got;
        if (write_at(to, piece, (size_t)got, to_at) < 0)
            return -1;
        SA_FAULT("patch.copied");
        from_at += (uint64_t)got;
        to_at += to_at == UINT64_MAX ? 0 : (uint64_t)got;
        n -= (uint64_t)got;
    }
    return 0;
}

/* By the kernel, which may share the blocks. */
static int copy_range(int from, int to, uint64_t at, uint64_t n)
{
    loff_t in = (loff_t)at, out = (loff_t)at;
    while (n) {
        ssize_t r = copy_file_range(from, &in, to, &out, n > (1u << 30) ? 1u << 30 : (size_t)n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && errno != ENOSPC && errno != EDQUOT && errno != EFBIG && errno != EIO)
            return copy(from, (uint64_t)in, to, (uint64_t)out, n);
        if (r <= 0)
            return (int)r;
        n -= (uint64_t)r;
    }
    return 0;
}

/* The old content from `at` to `end`, to the same place. holes: what is there has zeros already. */
static int take_old(const struct fs_patch *p, uint64_t at, uint64_t end, bool holes)
{
    while (at < end) {
        off_t data = holes ? lseek(p->to, (off_t)at, SEEK_DATA) : (off_t)at;
        if (data < 0 && errno == ENXIO)
            return 0;
        off_t hole = data < 0 || !holes ? (off_t)end : lseek(p->to, data, SEEK_HOLE);
        if (data < 0)
            data = (off_t)at; /* the filesystem knows no holes */
        uint64_t stop = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
        if ((uint64_t)data >= stop)
            return 0;
        if (copy_range(p->to, p->from, (uint64_t)data, stop - (uint64_t)data) < 0)
            return -1;
        at = stop;
    }
    return 0;
}

/* Moves the data inside the temporary file to where it begins now: the old file was longer or shorter before.
 */
static int shift(const struct fs_patch *p, uint64_t to)
{
    if (to <= p->start)
        return copy(p->from, p->start, p->from, to, p->n);
    cleanup_free char *piece = sa_malloc(PIECE);
    for (uint64_t left = p->n; left;) { /* from the end: the places may overlap */
        size_t n = left < PIECE ? (size_t)left : PIECE;
        left -= n;
        if (read_at(p->from, piece, n, p->start + left) < 0 || write_at(p->from, piece, n, to + left) < 0)
            return -1;
    }
    return 0;
}

static bool same(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int fs_patch_fill(const struct fs_patch *p, sa_error **err)
{
    struct stat old = {0}, now;
    if (p->to >= 0 && fstat(p->to, &old) < 0)
        return failed(p, err);
    uint64_t size = (uint64_t)old.st_size, at = p->append ? size : p->start, end = at + p->n;
    uint64_t whole = p->truncate || (p->n && end > size) ? end : size;
    bool moved = at != p->start;
    if (fs_root_check_size(p->root, whole, err) < 0)
        return -1;
    if (moved && p->n && shift(p, at) < 0)
        return failed(p, err);
    if (p->to >= 0 && take_old(p, 0, at < size ? at : size, !moved) < 0)
        return failed(p, err);
    if (p->to >= 0 && whole > end && take_old(p, end, size, true) < 0)
        return failed(p, err);
    if (ftruncate(p->from, (off_t)whole) < 0)
        return failed(p, err);
    if (p->to >= 0 && (fstat(p->to, &now) < 0 || !same(&old, &now)))
        return sa_fail(err, SA_FILE_CHANGED, "`%.*s` was changed by somebody else meanwhile", SHOWN, p->name);
    return 0;
}

/* A change within the clock's tick must be seen, too. */
static int touch(const struct fs_patch *p, const struct stat *old)
{
    struct stat now;
    if (fstat(p->to, &now) < 0)
        return -1;
    if (!same(old, &now))
        return 0;
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, now.st_mtim};
    if (++t[1].tv_nsec == 1000000000) {
        t[1].tv_nsec = 0;
        t[1].tv_sec++;
    }
    /* Only the owner may set a time; anyone else's change then shows with the next tick. */
    return futimens(p->to, t) < 0 && errno != EPERM ? -1 : 0;
}

int fs_patch_apply(const struct fs_patch *p, sa_error **err)
{
    struct stat old;
    if (fstat(p->to, &old) < 0)
        return failed(p, err);
    uint64_t size = (uint64_t)old.st_size, at = p->append ? size : p->start, end = at + p->n;
    if (fs_root_check_size(p->root, end > size ? end : size, err) < 0)
        return -1;
    if (p->n && fallocate(p->to, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)p->n) < 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS && errno != EINTR)
        return failed(p, err);
    SA_FAULT("patch.apply");
    if (copy(p->from, p->start, p->to, p->append ? UINT64_MAX : at, p->n) < 0 ||
        (p->truncate && ftruncate(p->to, (off_t)end) < 0) || touch(p, &old) < 0)
        return failed(p, err);
    return 0;
}
