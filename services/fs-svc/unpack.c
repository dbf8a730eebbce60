/* Design notes
 *
 * The directory is made a root of its own (`root`), so the kernel refuses every way out of it. A symbolic
 * link is taken when it stays inside whatever the others become: after leading "..", no more of them than the
 * link's real directory is deep, there are only names. (With "a/.." in the middle it would depend on what `a`
 * is.)
 *
 * Directories get their modes and times at the end, from the last to the first: a file in them needs the
 * right to be made, and changes their time. */
#include "services/fs-svc/unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/place.h"
#include "services/fs-svc/roots.h"

#define PART "part"

struct late {
    char *path;
    mode_t mode;
    struct timespec mtime;
    bool has_mtime;
};

struct unpacking {
    struct archive_in *in;
    struct fs_root root;
    int scratch;
    const struct unpack_options *opt;
    const struct unpack_events *events;
    struct unpack_result done;
    struct late *late; /* directories */
    size_t n_late;
};

enum outcome { DONE, SKIPPED, FAILED };

/* ---- names ---- */

/* The name below the directory, without what is stripped. SKIPPED: nothing is left. */
static enum outcome clean_name(const struct unpacking *u, const char *name, char **ret, sa_error **err)
{
    if (!name || strlen(name) > FS_PATH_MAX || *name == '/') {
        sa_fail(err, SA_INVALID_PATH, "its name is %s",
                !name          ? "unknown"
                : *name == '/' ? "absolute"
                               : "too long");
        return FAILED;
    }
    cleanup_buf struct sa_buf b = {0};
    unsigned strip = u->opt->strip;
    for (const char *at = name; *at;) {
        size_t n = strcspn(at, "/"), next = n + (at[n] == '/');
        if (n == 2 && !memcmp(at, "..", 2)) {
            sa_fail(err, SA_INVALID_PATH, "its name has `..`");
            return FAILED;
        }
        bool counts = n > 0 && !(n == 1 && *at == '.');
        if (counts && strip)
            strip--;
        else if (counts)
            sa_buf_addf(&b, "%s%.*s", b.len ? "/" : "", (int)n, at);
        at += next;
    }
    if (!b.len)
        return SKIPPED;
    *ret = sa_strdup(sa_buf_string(&b));
    return DONE;
}

/* How many parts below the directory is this one of its directories? -1: it is not below it. */
static int depth_of(const struct unpacking *u, int dir)
{
    cleanup_free char *top = fs_real_path(u->root.fd), *real = fs_real_path(dir);
    size_t n = top ? strlen(top) : 0;
    if (!top || !real || strncmp(real, top, n))
        return -1;
    int depth = 0;
    for (const char *c = real + (n > 1 ? n : 0); *c; c++)
        depth += *c == '/' && c[1];
    return depth;
}

static int check_link(const struct unpacking *u, int dir, const char *target, sa_error **err)
{
    if (!target || !*target || strlen(target) > FS_PATH_MAX || *target == '/')
        return sa_fail(err, SA_INVALID_PATH, "it links to %s",
                       target && *target == '/' ? "an absolute path" : "nothing");
    int depth = depth_of(u, dir);
    bool names = false;
    for (const char *at = target; *at;) {
        size_t n = strcspn(at, "/");
        bool up = n == 2 && !memcmp(at, "..", 2);
        if (up && (names || --depth < 0))
            return sa_fail(err, SA_INVALID_PATH, "it links to `%.200s`, which may lead out of the directory",
                           target);
        names |= !up && n > 0 && !(n == 1 && *at == '.');
        at += n + (at[n] == '/');
    }
    return 0;
}

/* ---- places ---- */

/* An entry's place; 1: it is to be skipped. What is there decides, as far as it can be told before. */
static int find_place(const struct unpacking *u, const char *path, bool is_dir, struct fs_place *ret,
                      bool *ret_dir, sa_error **err)
{
    struct stat st;
    *ret_dir = false;
    if (fs_place_find(&u->root, path, true, ret, err) < 0)
        return -1;
    if (fstatat(ret->dir_fd, ret->name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return errno == ENOENT ? 0 : sa_fail_errno(err, errno, "stat");
    *ret_dir = is_dir && S_ISDIR(st.st_mode);
    if (*ret_dir)
        return 0;
    if (u->opt->policy == UNPACK_SKIP)
        return 1;
    if (u->opt->policy == UNPACK_FAIL)
        return sa_fail(err, SA_ALREADY_EXISTS, "it exists");
    return S_ISDIR(st.st_mode) ? sa_fail(err, SA_IS_A_DIRECTORY, "a directory is in its place") : 0;
}

/* From the scratch directory to its place. 1: skipped, something has come there meanwhile. */
static int put_in_place(const struct unpacking *u, const struct fs_place *p, sa_error **err)
{
    if (fs_rename(u->scratch, PART, p->dir_fd, p->name, u->opt->policy == UNPACK_REPLACE) == 0)
        return 0;
    if (errno == EEXIST && u->opt->policy == UNPACK_SKIP)
        return 1;
    return sa_fail_errno(err, errno, "put it in place");
}

static struct timespec time_of(const struct unpacking *u, const struct archive_item *item)
{
    return item->has_mtime && !u->opt->ignore_times ? item->mtime : (struct timespec){.tv_nsec = UTIME_NOW};
}

/* ---- files ---- */

static int write_all(int fd, const char *p, size_t n, uint64_t offset, sa_error **err)
{
    while (n) {
        ssize_t w = pwrite(fd, p, n, (off_t)offset);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sa_fail_errno(err, errno, "write");
        p += w;
        n -= (size_t)w;
        offset += (uint64_t)w;
    }
    return 0;
}

/* May the file have so many bytes? */
static int check_size(const struct unpacking *u, uint64_t size, sa_error **err)
{
    if (fs_root_check_size(&u->root, size, err) < 0)
        return -1;
    if (size > u->opt->max_file_bytes)
        return sa_fail(err, SA_ARCHIVE_TOO_LARGE, "a file has more than %llu bytes, that is the limit",
                       (unsigned long long)u->opt->max_file_bytes);
    if (size > UINT64_MAX / 2 || u->done.bytes + size > u->opt->max_bytes)
        return sa_fail(err, SA_ARCHIVE_TOO_LARGE, "the files have more than %llu bytes, that is the limit",
                       (unsigned long long)u->opt->max_bytes);
    return 0;
}

/* The same for bytes that are there, holes as well: they must have come from somewhere. */
static int check_ratio(const struct unpacking *u, uint64_t size, sa_error **err)
{
    uint64_t packed = u->events->packed(u->events->user), all = u->done.bytes + size;
    if (packed == UINT64_MAX)
        return sa_fail(err, SA_CANCELLED, "the caller has left");
    if (all > UNPACK_RATIO_FROM && all / u->opt->max_ratio > packed)
        return sa_fail(err, SA_ARCHIVE_TOO_LARGE, "%llu bytes were unpacked from %llu, more than %u for each",
                       (unsigned long long)all, (unsigned long long)packed, u->opt->max_ratio);
    return 0;
}

static int write_content(struct unpacking *u, int fd, uint64_t *ret_size, sa_error **err)
{
    uint64_t size = 0, offset;
    const void *p;
    size_t n;
    int r;
    while ((r = archive_in_data(u->in, &p, &n, &offset, err)) > 0) {
        if (offset + n > size)
            size = offset + n;
        if (check_size(u, size, err) < 0 || check_ratio(u, size, err) < 0 ||
            write_all(fd, p, n, offset, err) < 0)
            return -1;
    }
    *ret_size = size;
    return r;
}

static enum outcome unpack_file(struct unpacking *u, const struct archive_item *item,
                                const struct fs_place *p, sa_error **err)
{
    if (check_size(u, item->size, err) < 0)
        return FAILED;
    cleanup_close int fd =
        openat(u->scratch, PART, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    uint64_t size = 0;
    if (fd < 0) {
        sa_fail_errno(err, errno, "make a file");
        return FAILED;
    }
    if (write_content(u, fd, &size, err) < 0)
        return FAILED;
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(u, item)};
    /* Of a hole at the end there is nothing but the size that the archive claims. */
    uint64_t whole = item->size > size ? item->size : size;
    if (check_ratio(u, whole, err) < 0)
        return FAILED;
    if ((whole > size && ftruncate(fd, (off_t)whole) < 0) ||
        fchmod(fd, u->opt->ignore_modes ? 0644 : item->mode & 0777) < 0 || futimens(fd, times) < 0) {
        sa_fail_errno(err, errno, "write");
        return FAILED;
    }
    int placed = put_in_place(u, p, err);
    if (placed)
        return placed < 0 ? FAILED : SKIPPED;
    u->done.bytes += whole;
    return DONE;
}

/* ---- everything else ---- */

static enum outcome unpack_link(struct unpacking *u, const struct archive_item *item,
                                const struct fs_place *p, sa_error **err)
{
    if (check_link(u, p->dir_fd, item->target, err) < 0)
        return FAILED;
    if (symlinkat(item->target, u->scratch, PART) < 0) {
        sa_fail_errno(err, errno, "make a link");
        return FAILED;
    }
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, time_of(u, item)};
    (void)!utimensat(u->scratch, PART, times, AT_SYMLINK_NOFOLLOW); /* not every filesystem has it */
    int placed = put_in_place(u, p, err);
    return placed < 0 ? FAILED : placed ? SKIPPED : DONE;
}

/* To a file beneath the directory. */
static enum outcome unpack_hard_link(struct unpacking *u, const struct archive_item *item,
                                     const struct fs_place *p, sa_error **err)
{
    cleanup_free char *path = NULL;
    enum outcome o = clean_name(u, item->target, &path, err);
    if (o != DONE) {
        if (o == SKIPPED)
            sa_fail(err, SA_INVALID_PATH, "it is a link to nothing");
        return FAILED;
    }
    cleanup_close int fd = fs_path_open(&u->root, path, false, err);
    struct stat st;
    if (fd < 0)
        return FAILED;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        sa_fail(err, SA_NOT_A_REGULAR_FILE, "it is a hard link to `%.200s`, which is no file", path);
        return FAILED;
    }
    char self[32];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, u->scratch, PART, AT_SYMLINK_FOLLOW) < 0) {
        sa_fail_errno(err, errno, "make a hard link");
        return FAILED;
    }
    int placed = put_in_place(u, p, err);
    return placed < 0 ? FAILED : placed ? SKIPPED : DONE;
}

static void remember(struct unpacking *u, const char *path, const struct archive_item *item)
{
    if ((u->n_late & (u->n_late - 1)) == 0)
        u->late = sa_realloc(u->late, (u->n_late ? 2 * u->n_late : 1) * sizeof *u->late);
    u->late[u->n_late++] = (struct late){.path = sa_strdup(path),
                                         .mode = item->mode & 0777,
                                         .mtime = item->mtime,
                                         .has_mtime = item->has_mtime};
}

static enum outcome unpack_dir(struct unpacking *u, const struct archive_item *item, const char *path,
                               const struct fs_place *p, bool exists, sa_error **err)
{
    if (!exists && u->opt->policy == UNPACK_REPLACE)
        unlinkat(p->dir_fd, p->name, 0); /* a file or link in its place; what is left is told by mkdir */
    if (!exists && mkdirat(p->dir_fd, p->name, 0755) < 0) {
        sa_fail_errno(err, errno, "make a directory");
        return FAILED;
    }
    if (!exists || u->opt->strict || u->opt->policy == UNPACK_REPLACE)
        remember(u, path, item);
    return DONE;
}

static enum outcome unpack_one(struct unpacking *u, const struct archive_item *item, sa_error **err)
{
    cleanup_free char *path = NULL;
    enum outcome o = clean_name(u, item->name, &path, err);
    if (o != DONE)
        return o;
    if (item->kind == ARCHIVE_OTHER) {
        sa_fail(err, SA_NOT_A_REGULAR_FILE, "it is a device, a FIFO or a socket");
        return FAILED;
    }
    struct fs_place p __attribute__((cleanup(fs_place_fini))) = {.dir_fd = -1};
    bool dir_exists;
    int found = find_place(u, path, item->kind == ARCHIVE_DIR, &p, &dir_exists, err);
    if (found)
        return found < 0 ? FAILED : SKIPPED;
    o = item->kind == ARCHIVE_FILE        ? unpack_file(u, item, &p, err)
        : item->kind == ARCHIVE_SYMLINK   ? unpack_link(u, item, &p, err)
        : item->kind == ARCHIVE_HARD_LINK ? unpack_hard_link(u, item, &p, err)
                                          : unpack_dir(u, item, path, &p, dir_exists, err);
    /* Also after a rename: of two links to one file it does nothing. */
    if (item->kind != ARCHIVE_DIR)
        unlinkat(u->scratch, PART, 0);
    if (o == DONE && u->events->placed)
        u->events->placed(u->events->user, path);
    return o;
}

/* ---- all of it ---- */

/* What is not the fault of one entry. */
static bool ends_all(const sa_error *err)
{
    static const enum sa_reason reasons[] = {SA_INVALID_ARCHIVE, SA_ARCHIVE_TOO_LARGE, SA_CANCELLED,
                                             SA_NO_SPACE};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (sa_error_is(err, reasons[i]))
            return true;
    return false;
}

static int unpack_all(struct unpacking *u, sa_error **err)
{
    struct archive_item item;
    int r;
    for (uint64_t n = 0; (r = archive_in_next(u->in, &item, err)) > 0; n++) {
        cleanup_error sa_error *failed = NULL;
        if (n >= u->opt->max_entries)
            return sa_fail(err, SA_TOO_MANY, "the archive has more than %llu entries, that is the limit",
                           (unsigned long long)u->opt->max_entries);
        if (u->events->packed(u->events->user) == UINT64_MAX)
            return sa_fail(err, SA_CANCELLED, "the caller has left");
        enum outcome o = unpack_one(u, &item, &failed);
        if (o == FAILED && (u->opt->strict || ends_all(failed))) {
            sa_pass(err, steal_pointer(&failed));
            return sa_wrap(err, "entry `%.200s`", item.name ? item.name : "");
        }
        u->done.entries += o == DONE;
        u->done.skipped += o == SKIPPED;
        u->done.failed += o == FAILED;
        if (o == FAILED)
            u->events->failed(u->events->user, item.name ? item.name : "", failed);
    }
    return r;
}

/* A directory that has gone or changed meanwhile is left as it is. */
static void finish_dir(const struct unpacking *u, const struct late *l)
{
    cleanup_close int at = fs_path_open(&u->root, l->path, false, NULL);
    cleanup_close int fd = at < 0 ? -1 : openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, l->mtime};
    if (fd < 0)
        return;
    /* Its owner can always change and remove what is in it. */
    if (!u->opt->ignore_modes)
        (void)!fchmod(fd, l->mode | 0700);
    if (!u->opt->ignore_times && l->has_mtime)
        (void)!futimens(fd, times);
}

int unpack(struct archive_in *in, const struct fs_root *root, int tree, int scratch,
           const struct unpack_options *opt, const struct unpack_events *events, struct unpack_result *ret,
           sa_error **err)
{
    cleanup_free char *dir = fs_real_path(tree);
    if (!dir)
        return sa_fail_errno(err, errno, "open the directory");
    struct unpacking u = {.in = in, .scratch = scratch, .opt = opt, .events = events, .root = *root};
    u.root.fd = tree;
    u.root.dir = dir;
    u.root.whole = false;
    int r = unpack_all(&u, err);
    for (size_t i = u.n_late; i-- > 0;) {
        finish_dir(&u, &u.late[i]);
        free(u.late[i].path);
    }
    free(u.late);
    *ret = u.done;
    return r;
}
