#include "services/fs-svc/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "adapters/os/fault.h"
#include "services/fs-svc/patch.h"
#include "services/fs-svc/place.h"
#include "services/fs-svc/roots.h"

enum { SHOWN = 200 };

/* ---- where it leads ---- */

/* The text of `path` with its last part replaced by a link's target: what the kernel would go on with. */
static char *through_link(const char *parent, int link_fd, sa_error **err)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(link_fd, "", target, sizeof target);
    if (n < 0) {
        sa_fail_errno(err, errno, "read a link in `%.*s`", SHOWN, parent);
        return NULL;
    }
    if (target[0] == '/')
        return sa_strndup(target, (size_t)n);
    return sa_format("%s/%.*s", parent, (int)n, target);
}

/* st NULL: there is no file. */
static int check_etag(const struct stat *st, const char *path, const char *if_match, sa_error **err)
{
    char etag[FS_ETAG_TEXT] = "";
    if (!if_match || !*if_match)
        return 0;
    if (st)
        fs_etag(st, etag);
    if (!strcmp(etag, if_match))
        return 0;
    return sa_fail(err, SA_ETAG_MISMATCH, "`%.*s` %s", SHOWN, path,
                   st ? "is no longer the file that was meant" : "does not exist");
}

/* May the existing file be replaced? It keeps its mode, so a rename must not do what a write could not. */
static int check_target(int fd, const struct stat *st, const char *path, struct fs_replace *r, sa_error **err)
{
    const struct fs_replace_options *opt = &r->opt;
    if (opt->create_only)
        return sa_fail(err, SA_ALREADY_EXISTS, "`%.*s` exists", SHOWN, path);
    if (S_ISDIR(st->st_mode))
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` is a directory", SHOWN, path);
    if (!S_ISREG(st->st_mode))
        return sa_fail(err, SA_NOT_A_REGULAR_FILE, "`%.*s` is not a regular file", SHOWN, path);
    if (check_etag(st, path, opt->if_match, err) < 0)
        return -1;
    cleanup_close int writable = fs_reopen(fd, O_WRONLY | O_NOCTTY | O_NONBLOCK);
    if (writable < 0 && errno != ETXTBSY)
        return sa_fail_errno(err, errno, "write `%.*s`", SHOWN, path);
    if (opt->method == FS_APPEND)
        r->start = (uint64_t)st->st_size;
    return 0;
}

/* One look at the path: 0 its place is found; 1 its end is a link, *ret_next is where it leads. */
static int look(const struct fs_root *root, const char *path, struct fs_replace *r, char **ret_next,
                sa_error **err)
{
    cleanup_free char *parent = NULL, *name = NULL;
    bool slash = false;
    if (fs_path_split(path, &parent, &name, &slash, err) < 0)
        return -1;
    cleanup_close int dir =
        r->opt.make_parents ? fs_path_make_dirs(root, parent, err) : fs_path_open(root, parent, true, err);
    if (dir < 0 || fs_path_check_name(root, dir, name, path, err) < 0)
        return -1;
    cleanup_close int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 ? errno != ENOENT : fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    if (fd >= 0 && S_ISLNK(st.st_mode)) {
        /* An absolute target of a named root's link is refused when it is resolved. */
        *ret_next = through_link(parent, fd, err);
        return *ret_next ? 1 : -1;
    }
    if (slash)
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` names a directory", SHOWN, path);
    if (fd >= 0 ? check_target(fd, &st, path, r, err) < 0 : check_etag(NULL, path, r->opt.if_match, err) < 0)
        return -1;
    r->dir = fs_real_path(dir);
    if (!r->dir)
        return sa_fail_errno(err, errno, "directory of `%.*s`", SHOWN, path);
    r->name = steal_pointer(&name);
    r->dir_fd = steal_fd(&dir);
    return 0;
}

int fs_replace_locate(const struct fs_root *root, const char *path, const struct fs_replace_options *opt,
                      const char *id, struct fs_replace *ret, sa_error **err)
{
    if (fs_root_check_change(root, err) < 0)
        return -1;
    if (opt->offset > INT64_MAX / 2)
        return sa_fail(err, SA_FILE_TOO_LARGE, "no file reaches offset %llu",
                       (unsigned long long)opt->offset);
    struct fs_replace r = {.opt = *opt, .root = root, .dir_fd = -1, .fd = -1};
    r.start = opt->method == FS_AT_OFFSET ? opt->offset : 0;
    cleanup_free char *at = sa_strdup(path);
    for (int links = 0;; links++) {
        char *next = NULL;
        int found = links > FS_LINKS_MAX ? sa_fail_errno(err, ELOOP, "open `%.*s`", SHOWN, path)
                                         : look(root, at, &r, &next, err);
        if (found < 0)
            return -1;
        if (found == 0)
            break;
        free(at);
        at = next;
        if (strlen(at) > FS_PATH_MAX)
            return sa_fail_errno(err, ENAMETOOLONG, "open `%.*s`", SHOWN, path);
    }
    r.temp = sa_format(".sa-%s.tmp", id);
    *ret = r;
    return 0;
}

/* ---- writing ---- */

int fs_replace_create(struct fs_replace *r, sa_error **err)
{
    r->fd = openat(r->dir_fd, r->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        return sa_fail_errno(err, errno, "create a file in `%.*s`", SHOWN, r->dir);
    r->inode = st.st_ino;
    SA_FAULT("replace.created");
    return 0;
}

int fs_replace_reopen(struct fs_replace *r, uint64_t inode, uint64_t written, sa_error **err)
{
    cleanup_close int fd = openat(r->dir_fd, r->temp, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno != ENOENT && errno != ELOOP)
        return sa_fail_errno(err, errno, "open `%.*s/%s`", SHOWN, r->dir, r->temp);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != inode ||
        (uint64_t)st.st_size < written)
        return sa_fail(err, SA_FILE_CHANGED, "the temporary file `%.*s/%s` is gone", SHOWN, r->dir, r->temp);
    /* Only then: it also gives back what was reserved. */
    if ((uint64_t)st.st_size > written && ftruncate(fd, (off_t)written) < 0)
        return sa_fail_errno(err, errno, "cut `%.*s/%s`", SHOWN, r->dir, r->temp);
    r->fd = steal_fd(&fd);
    r->inode = inode;
    r->written = written;
    return 0;
}

int fs_replace_reserve(struct fs_replace *r, uint64_t size, sa_error **err)
{
    struct statvfs fs;
    struct stat st;
    if (size > INT64_MAX / 2)
        return sa_fail(err, SA_FILE_TOO_LARGE, "no file has %llu bytes", (unsigned long long)size);
    if (fs_root_check_size(r->root, r->start + size, err) < 0)
        return -1;
    /* First look: a reservation that fails has filled the disk until it is given back. */
    bool known = fstatvfs(r->fd, &fs) == 0 && fs.f_blocks && fstat(r->fd, &st) == 0;
    uint64_t has = known ? (uint64_t)st.st_blocks * 512 : 0;
    if (known && size > has && (size - has - 1) / fs.f_frsize >= fs.f_bavail)
        return sa_fail_errno(err, ENOSPC, "write %llu bytes to `%.*s/%.*s`", (unsigned long long)size, SHOWN,
                             r->dir, SHOWN, r->name);
    if (size && fallocate(r->fd, FALLOC_FL_KEEP_SIZE, (off_t)r->start, (off_t)size) < 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
        return sa_fail_errno(err, errno, "write %llu bytes to `%.*s/%.*s`", (unsigned long long)size, SHOWN,
                             r->dir, SHOWN, r->name);
    return 0;
}

int fs_replace_write(struct fs_replace *r, const void *p, size_t n, sa_error **err)
{
    if (fs_root_check_size(r->root, r->start + r->written + n, err) < 0)
        return -1;
    for (size_t done = 0; done < n;) {
        ssize_t w = pwrite(r->fd, (const char *)p + done, n - done, (off_t)(r->start + r->written + done));
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sa_fail_errno(err, errno, "write `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
        done += (size_t)w;
        SA_FAULT("replace.write");
    }
    r->written += n;
    return 0;
}

int fs_replace_sync(struct fs_replace *r, sa_error **err)
{
    if (fdatasync(r->fd) < 0)
        return sa_fail_errno(err, errno, "sync `%.*s/%s`", SHOWN, r->dir, r->temp);
    return 0;
}

/* The mode and owner of the file that is there, or the asked mode. */
static int take_over(struct fs_replace *r)
{
    struct stat old;
    if (fstatat(r->dir_fd, r->name, &old, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(old.st_mode))
        return fchmod(r->fd, r->opt.mode ? r->opt.mode & 0777 : 0644);
    /* Only root can give a file away; anyone else's replacement is their own file, as with an editor. */
    if (fchown(r->fd, old.st_uid, old.st_gid) < 0)
        (void)!fchown(r->fd, (uid_t)-1, old.st_gid);
    struct stat now;
    if (fstat(r->fd, &now) < 0)
        return -1;
    /* Set-id bits belong to the owner and group that set them. */
    mode_t keep = now.st_uid == old.st_uid && now.st_gid == old.st_gid ? 07777 : 01777;
    return fchmod(r->fd, old.st_mode & keep);
}

/* The file that is to be changed, opened with `flags`; *ret_fd stays -1: there is none. */
static int open_old(const struct fs_replace *r, int flags, int *ret_fd, sa_error **err)
{
    struct stat st;
    cleanup_close int at = openat(r->dir_fd, r->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0 && errno == ENOENT)
        return check_etag(NULL, r->name, r->opt.if_match, err);
    if (at < 0 || fstat(at, &st) < 0)
        return sa_fail_errno(err, errno, "open `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
    if (!S_ISREG(st.st_mode))
        return sa_fail(err, SA_NOT_A_REGULAR_FILE, "`%.*s/%.*s` is not a regular file", SHOWN, r->dir, SHOWN,
                       r->name);
    if (check_etag(&st, r->name, r->opt.if_match, err) < 0)
        return -1;
    if (r->opt.method == FS_REPLACE)
        return 0;
    if ((*ret_fd = fs_reopen(at, flags | O_NOCTTY | O_NONBLOCK)) < 0)
        return sa_fail_errno(err, errno, "open `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
    return 0;
}

/* Of the methods that keep old content: 1 the file itself was changed, 0 the temporary file is whole now. */
static int apply(struct fs_replace *r, struct fs_info *ret, sa_error **err)
{
    cleanup_close int old = -1;
    bool append = r->opt.method == FS_APPEND, in_place = r->opt.in_place;
    if (open_old(r, !in_place ? O_RDONLY : append ? O_WRONLY | O_APPEND : O_WRONLY, &old, err) < 0)
        return -1;
    struct fs_patch p = {.to = old,
                         .from = r->fd,
                         .start = r->start,
                         .n = r->written,
                         .append = append,
                         .truncate = r->opt.truncate,
                         .root = r->root,
                         .name = r->name};
    if (r->opt.method == FS_REPLACE || (old < 0 && !append))
        return 0;
    if (!in_place || old < 0)
        return fs_patch_fill(&p, err);
    if (fs_patch_apply(&p, err) < 0 || fs_info_of(old, r->name, ret, err) < 0)
        return -1;
    if (r->opt.durable && fsync(old) < 0)
        return sa_fail_errno(err, errno, "sync `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
    return 1;
}

int fs_replace_finish(struct fs_replace *r, struct fs_info *ret, sa_error **err)
{
    SA_FAULT("replace.finish");
    int applied = apply(r, ret, err);
    if (applied < 0)
        return -1;
    if (applied) {
        fs_replace_abort(r); /* the temporary file was only a way */
        return 0;
    }
    SA_FAULT("replace.filled");
    if (take_over(r) < 0 || (r->opt.durable && fsync(r->fd) < 0) ||
        fs_rename(r->dir_fd, r->temp, r->dir_fd, r->name, !r->opt.create_only) < 0)
        return sa_fail_errno(err, errno, "write `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
    SA_FAULT("replace.renamed");
    free(steal_pointer(&r->temp));
    if (r->opt.durable && fs_sync_dir(r->dir_fd) < 0)
        return sa_fail_errno(err, errno, "sync directory `%.*s`", SHOWN, r->dir);
    return fs_info_of(r->fd, r->name, ret, err);
}

void fs_replace_abort(struct fs_replace *r)
{
    if (r->fd >= 0 && r->temp)
        unlinkat(r->dir_fd, r->temp, 0);
    free(steal_pointer(&r->temp));
}

void fs_replace_fini(struct fs_replace *r)
{
    sa_close(r->fd);
    sa_close(r->dir_fd);
    free(r->dir);
    free(r->name);
    free(r->temp);
    *r = (struct fs_replace){.dir_fd = -1, .fd = -1};
}

/* ---- after a crash ---- */

/* remove: the temporary file. */
static int look_back(const char *dir, const char *name, const char *temp, uint64_t inode, bool remove,
                     enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err)
{
    cleanup_close int fd = fs_open_recorded(dir);
    bool gone = fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
    struct stat st;
    if (fd < 0 && !gone)
        return sa_fail_errno(err, errno, "open directory `%.*s`", SHOWN, dir);
    *ret_outcome = FS_UNDONE;
    if (gone)
        return 0;
    if (remove ? unlinkat(fd, temp, 0) == 0 : fstatat(fd, temp, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        *ret_outcome = remove ? FS_UNDONE : FS_PENDING;
        return 0;
    }
    if (errno != ENOENT)
        return sa_fail_errno(err, errno, "%s `%.*s/%s`", remove ? "remove" : "stat", SHOWN, dir, temp);
    struct fs_info now = {0};
    if (!inode || fs_info_at(fd, name, &now, NULL) < 0)
        return 0;
    if (now.st.st_ino != inode) {
        fs_info_fini(&now);
        return 0;
    }
    *ret_outcome = FS_DONE;
    *ret = now;
    return 0;
}

int fs_replace_undo(const char *dir, const char *name, const char *temp, uint64_t inode,
                    enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err)
{
    return look_back(dir, name, temp, inode, true, ret_outcome, ret, err);
}

int fs_replace_look(const char *dir, const char *name, const char *temp, uint64_t inode,
                    enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err)
{
    return look_back(dir, name, temp, inode, false, ret_outcome, ret, err);
}
