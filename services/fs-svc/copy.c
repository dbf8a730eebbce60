#include "services/fs-svc/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/roots.h"

enum { CHUNK = 256 << 10, KERNEL_CHUNK = 8 << 20 };

struct fs_copy_level {
    dev_t dev;
    ino_t ino;
    struct stat source;
};

void fs_copy_init(struct fs_copy *c)
{
    c->dir = c->file.from = c->file.to = -1;
}

void fs_copy_fini(struct fs_copy *c)
{
    fs_tree_free(c->tree);
    sa_close(c->dir);
    sa_close(c->file.from);
    sa_close(c->file.to);
    free(c->levels);
    free(c->chunk);
    c->chunk = NULL;
    c->tree = NULL;
    c->levels = NULL;
    fs_copy_init(c);
}

/* Mode, owner and times of the source, as far as wanted. */
static int take_over(const struct fs_copy *c, int fd, const struct stat *st)
{
    mode_t keep = 0777;
    if (c->preserve) {
        /* Set-id bits belong to the owner that set them; only root can give files away. */
        bool given = fchown(fd, st->st_uid, st->st_gid) == 0;
        struct stat now;
        if (!given && fstat(fd, &now) < 0)
            return -1;
        keep = given || (now.st_uid == st->st_uid && now.st_gid == st->st_gid) ? 07777 : 01777;
    }
    if (fchmod(fd, st->st_mode & keep) < 0)
        return -1;
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (c->preserve && futimens(fd, times) < 0)
        return -1;
    return c->sync ? fsync(fd) : 0;
}

/* ---- one file ---- */

static int begin_file(struct fs_copy *c, int from_fd, int to_dir, const char *to, sa_error **err)
{
    struct fs_copy_file *f = &c->file;
    *f = (struct fs_copy_file){.from = fs_reopen(from_fd, O_RDONLY | O_NOCTTY), .to = -1};
    if (f->from < 0 || fstat(f->from, &f->st) < 0)
        return sa_fail_errno(err, errno, "read `%.200s`", to);
    if (fs_root_check_size(c->root, c->bytes + (uint64_t)f->st.st_size, err) < 0)
        return -1;
    f->to = openat(to_dir, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->to < 0)
        return sa_fail_errno(err, errno, "create `%.200s`", to);
    f->plain = f->st.st_size == 0; /* files of /proc tell no size */
    if (!f->plain && ioctl(f->to, FICLONE, f->from) == 0)
        f->at = f->data_end = (uint64_t)f->st.st_size;
    return 0;
}

/* Finds the next run of data. false: there is none. */
static bool find_data(struct fs_copy_file *f)
{
    uint64_t size = (uint64_t)f->st.st_size;
    off_t data = f->at < size ? lseek(f->from, (off_t)f->at, SEEK_DATA) : -1;
    if (f->at >= size || (data < 0 && errno == ENXIO))
        return false;
    off_t hole = data < 0 ? -1 : lseek(f->from, data, SEEK_HOLE);
    f->at = data < 0 ? f->at : (uint64_t)data;
    f->data_end = hole <= data ? size : (uint64_t)hole;
    return f->at < size;
}

/* Bytes copied; 0: the file ends here. -1 with errno. */
static ssize_t copy_plain(struct fs_copy *c, uint64_t most)
{
    struct fs_copy_file *f = &c->file;
    uint8_t *chunk = c->chunk = c->chunk ? c->chunk : sa_malloc(CHUNK);
    ssize_t got = pread(f->from, chunk, most < CHUNK ? (size_t)most : CHUNK, (off_t)f->at);
    for (ssize_t done = 0; done < got;) {
        ssize_t n = pwrite(f->to, chunk + done, (size_t)(got - done), (off_t)f->at + done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? n : 0;
    }
    return got;
}

static ssize_t copy_some(struct fs_copy *c, uint64_t most)
{
    struct fs_copy_file *f = &c->file;
    if (!f->plain) {
        off_t in = (off_t)f->at, out = in;
        ssize_t n =
            copy_file_range(f->from, &in, f->to, &out, most < KERNEL_CHUNK ? (size_t)most : KERNEL_CHUNK, 0);
        if (n > 0 || (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EINTR)))
            return n;
        f->plain = true; /* not between these two filesystems, or not of this kind of file */
    }
    return copy_plain(c, most);
}

static int end_file(struct fs_copy *c, sa_error **err)
{
    struct fs_copy_file *f = &c->file;
    /* A hole at the end. */
    uint64_t size = f->at < (uint64_t)f->st.st_size ? (uint64_t)f->st.st_size : f->at;
    if ((size > f->at && ftruncate(f->to, (off_t)size) < 0) || take_over(c, f->to, &f->st) < 0)
        return sa_fail_errno(err, errno, "finish a copy");
    c->entries++;
    c->bytes += size;
    f->from = sa_close(f->from);
    f->to = sa_close(f->to);
    return fs_root_check_size(c->root, c->bytes, err);
}

/* 1: there is more of it. */
static int copy_file(struct fs_copy *c, const struct fs_slice *slice, sa_error **err)
{
    struct fs_copy_file *f = &c->file;
    do {
        bool sized = f->st.st_size > 0;
        if (sized && f->at >= f->data_end && !find_data(f))
            return end_file(c, err);
        ssize_t n = copy_some(c, sized ? f->data_end - f->at : CHUNK);
        if (n < 0 && errno != EINTR)
            return sa_fail_errno(err, errno, "copy a file");
        if (n == 0) {
            f->st.st_size = (off_t)f->at; /* it became shorter */
            return end_file(c, err);
        }
        f->at += n > 0 ? (uint64_t)n : 0;
        if (!sized && fs_root_check_size(c->root, c->bytes + f->at, err) < 0)
            return -1;
    } while (!fs_slice_over(slice));
    return 1;
}

/* ---- what is no directory ---- */

static int copy_link(struct fs_copy *c, int from_fd, const struct stat *st, int to_dir, const char *to,
                     sa_error **err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from_fd, "", target, sizeof target - 1);
    if (n < 0)
        return sa_fail_errno(err, errno, "read link `%.200s`", to);
    target[n] = 0;
    if (symlinkat(target, to_dir, to) < 0)
        return sa_fail_errno(err, errno, "create link `%.200s`", to);
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    /* Its owner and times are a courtesy: not every filesystem keeps them. */
    if (c->preserve) {
        (void)!fchownat(to_dir, to, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
        (void)!utimensat(to_dir, to, times, AT_SYMLINK_NOFOLLOW);
    }
    c->entries++;
    return 0;
}

static int copy_node(struct fs_copy *c, int from_fd, const struct stat *st, int to_dir, const char *to,
                     const struct fs_slice *slice, sa_error **err)
{
    if (S_ISREG(st->st_mode))
        return begin_file(c, from_fd, to_dir, to, err) < 0 ? -1 : copy_file(c, slice, err);
    if (S_ISLNK(st->st_mode))
        return copy_link(c, from_fd, st, to_dir, to, err);
    if (!S_ISFIFO(st->st_mode) && !S_ISSOCK(st->st_mode))
        return sa_fail(err, SA_NOT_A_REGULAR_FILE, "`%.200s` is a device", to);
    if (mknodat(to_dir, to, st->st_mode & (S_IFMT | 0777), 0) < 0)
        return sa_fail_errno(err, errno, "create `%.200s`", to);
    c->entries++;
    return 0;
}

/* ---- a tree ---- */

static int copy_entry(void *user, int dir_fd, const char *name, const struct fs_slice *slice, sa_error **err)
{
    struct fs_copy *c = user;
    if (c->file.from >= 0)
        return copy_file(c, slice, err);
    cleanup_close int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "open `%.200s`", name);
    if (S_ISDIR(st.st_mode))
        return sa_fail(err, SA_UNAVAILABLE, "`%.200s` changes while it is copied; try again", name);
    return copy_node(c, fd, &st, c->dir, name, slice, err);
}

static int enter_dir(void *user, int dir_fd, const char *name, int fd, const struct stat *st, sa_error **err)
{
    (void)dir_fd, (void)fd;
    struct fs_copy *c = user;
    bool first = c->n_levels == 0;
    int above = first ? c->to_dir : c->dir;
    const char *to = first ? c->to : name;
    struct stat made;
    cleanup_close int new = mkdirat(above, to, 0700) < 0
                                ? -1
                                : openat(above, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (new < 0 || fstat(new, &made) < 0)
        return sa_fail_errno(err, errno, "make directory `%.200s`", to);
    if (c->n_levels == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        c->levels = sa_realloc(c->levels, c->cap * sizeof *c->levels);
    }
    c->levels[c->n_levels++] = (struct fs_copy_level){made.st_dev, made.st_ino, *st};
    sa_close(c->dir);
    c->dir = steal_fd(&new);
    c->entries++;
    return 0;
}

/* Its mode comes last: it may forbid writing. */
static int leave_dir(void *user, int dir_fd, const char *name, sa_error **err)
{
    (void)dir_fd;
    struct fs_copy *c = user;
    struct fs_copy_level *l = &c->levels[--c->n_levels];
    cleanup_close int up = c->n_levels ? openat(c->dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                                       : fcntl(c->to_dir, F_DUPFD_CLOEXEC, 3);
    struct stat st;
    if (up < 0 || fstat(up, &st) < 0 || take_over(c, c->dir, &l->source) < 0)
        return sa_fail_errno(err, errno, "finish directory `%.200s`", name);
    if (c->n_levels && (st.st_dev != l[-1].dev || st.st_ino != l[-1].ino))
        return sa_fail(err, SA_FILE_NOT_FOUND, "the copy of `%.200s` was moved meanwhile", name);
    sa_close(c->dir);
    c->dir = steal_fd(&up);
    return 0;
}

static const struct fs_tree_events events = {.enter = enter_dir, .entry = copy_entry, .leave = leave_dir};

static int begin(struct fs_copy *c, const struct fs_slice *slice, sa_error **err)
{
    struct stat st;
    if (fstat(c->from_fd, &st) < 0)
        return sa_fail_errno(err, errno, "open `%.200s`", c->to);
    if (!S_ISDIR(st.st_mode))
        return copy_node(c, c->from_fd, &st, c->to_dir, c->to, slice, err);
    c->tree = fs_tree_new(c->from_fd, ".", &events, c);
    return fs_tree_step(c->tree, slice, err);
}

int fs_copy_step(struct fs_copy *c, const struct fs_slice *slice, sa_error **err)
{
    if (c->done)
        return 0;
    int r = c->tree             ? fs_tree_step(c->tree, slice, err)
            : c->file.from >= 0 ? copy_file(c, slice, err)
                                : begin(c, slice, err);
    c->done = r == 0;
    return r;
}
