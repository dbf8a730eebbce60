#include "services/fs-svc/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* May the existing file be replaced? It keeps its mode, so a rename must not do what a write could not. */
static int check_target(int fd, const char *path, const struct fs_replace_options *opt, sa_error **err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "stat `%.*s`", SHOWN, path);
    if (opt->create_only)
        return sa_fail(err, SA_ALREADY_EXISTS, "`%.*s` exists", SHOWN, path);
    if (S_ISDIR(st.st_mode))
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` is a directory", SHOWN, path);
    if (!S_ISREG(st.st_mode))
        return sa_fail(err, SA_NOT_A_REGULAR_FILE, "`%.*s` is not a regular file", SHOWN, path);
    cleanup_close int writable = fs_reopen(fd, O_WRONLY | O_NOCTTY | O_NONBLOCK);
    if (writable < 0 && errno != ETXTBSY)
        return sa_fail_errno(err, errno, "write `%.*s`", SHOWN, path);
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
    if (fd < 0 && errno != ENOENT)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISLNK(st.st_mode)) {
        /* An absolute target of a named root's link is refused when it is resolved. */
        *ret_next = through_link(parent, fd, err);
        return *ret_next ? 1 : -1;
    }
    if (slash)
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` names a directory", SHOWN, path);
    if (fd >= 0 && check_target(fd, path, &r->opt, err) < 0)
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
    struct fs_replace r = {.opt = *opt, .dir_fd = -1, .fd = -1};
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
    r->fd = openat(r->dir_fd, r->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        return sa_fail_errno(err, errno, "create a file in `%.*s`", SHOWN, r->dir);
    r->inode = st.st_ino;
    return 0;
}

int fs_replace_write(struct fs_replace *r, const void *p, size_t n, sa_error **err)
{
    const char *at = p;
    while (n) {
        ssize_t w = write(r->fd, at, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sa_fail_errno(err, errno, "write `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
        at += w;
        n -= (size_t)w;
    }
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

int fs_replace_finish(struct fs_replace *r, struct fs_info *ret, sa_error **err)
{
    if (take_over(r) < 0 || (r->opt.durable && fsync(r->fd) < 0) ||
        fs_rename(r->dir_fd, r->temp, r->dir_fd, r->name, !r->opt.create_only) < 0)
        return sa_fail_errno(err, errno, "write `%.*s/%.*s`", SHOWN, r->dir, SHOWN, r->name);
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

int fs_replace_undo(const char *dir, const char *name, const char *temp, uint64_t inode,
                    enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err)
{
    cleanup_close int fd = fs_open_recorded(dir);
    bool gone = fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
    if (fd < 0 && !gone)
        return sa_fail_errno(err, errno, "open directory `%.*s`", SHOWN, dir);
    *ret_outcome = FS_UNDONE;
    if (gone)
        return 0;
    if (unlinkat(fd, temp, 0) == 0)
        return 0;
    if (errno != ENOENT)
        return sa_fail_errno(err, errno, "remove `%.*s/%s`", SHOWN, dir, temp);
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
