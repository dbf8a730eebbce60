#include "services/fs-svc/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/names.h"
#include "services/fs-svc/place.h"
#include "services/fs-svc/remove.h"

#define TREE "tree"

/* ---- the place ---- */

/* May the target be replaced? The swap decides; this spares the work before it. */
static int check_target(const struct fs_scratch *s, bool replace, const char *path, sa_error **err)
{
    cleanup_close int fd = openat(s->dir_fd, s->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0)
        return errno == ENOENT ? 0 : sa_fail_errno(err, errno, "open `%.200s`", path);
    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.200s` is not a directory", path);
    if (replace)
        return 0;
    char **names = NULL;
    size_t n = 0;
    bool more;
    if (fs_names_read(fd, NULL, 1, &names, &n, &more, path, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return n ? sa_fail(err, SA_ALREADY_EXISTS, "`%.200s` exists and is not empty", path) : 0;
}

int fs_scratch_locate(const struct fs_root *root, const char *path, bool beside, bool replace, const char *id,
                      struct fs_scratch *ret, sa_error **err)
{
    struct fs_scratch s = {.beside = beside, .dir_fd = -1, .fd = -1, .tree = -1};
    struct fs_place place = {.dir_fd = -1};
    *ret = s;
    if (beside) {
        if (fs_place_find(root, path, true, &place, err) < 0)
            return -1;
        s.dir = steal_pointer(&place.dir);
        s.name = steal_pointer(&place.name);
        s.dir_fd = place.dir_fd;
    } else {
        s.dir_fd = fs_path_make_dirs(root, path, err);
        struct stat st;
        if (s.dir_fd < 0)
            return -1;
        if (fstat(s.dir_fd, &st) < 0 || !S_ISDIR(st.st_mode)) {
            sa_close(s.dir_fd);
            return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.200s` is not a directory", path);
        }
        s.dir = fs_real_path(s.dir_fd);
    }
    s.temp = sa_format(".sa-%s.tmp", id);
    *ret = s;
    if (!s.dir)
        return sa_fail_errno(err, errno, "directory of `%.200s`", path);
    return beside ? check_target(ret, replace, path, err) : 0;
}

int fs_scratch_make(struct fs_scratch *s, sa_error **err)
{
    if (mkdirat(s->dir_fd, s->temp, 0700) < 0)
        return sa_fail_errno(err, errno, "make a directory in `%.200s`", s->dir);
    s->made = true;
    s->fd = openat(s->dir_fd, s->temp, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->fd < 0 || (s->beside && mkdirat(s->fd, TREE, 0755) < 0))
        return sa_fail_errno(err, errno, "make a directory in `%.200s`", s->dir);
    s->tree = s->beside ? openat(s->fd, TREE, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                        : fcntl(s->dir_fd, F_DUPFD_CLOEXEC, 3);
    return s->tree < 0 ? sa_fail_errno(err, errno, "open a directory in `%.200s`", s->dir) : 0;
}

/* ---- putting it in place ---- */

/* A directory keeps its mode, and its owner where we may set it. */
static void take_over(struct fs_scratch *s)
{
    struct stat old;
    if (fstatat(s->dir_fd, s->name, &old, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(old.st_mode))
        return;
    (void)!fchownat(s->tree, "", old.st_uid, old.st_gid, AT_EMPTY_PATH);
    cleanup_close int fd = openat(s->tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)!fchmod(fd, old.st_mode & 01777);
}

int fs_scratch_swap(struct fs_scratch *s, bool replace, sa_error **err)
{
    take_over(s);
    /* An empty directory gives way to a rename by itself. */
    if (renameat(s->fd, TREE, s->dir_fd, s->name) == 0)
        return 0;
    if (replace && (errno == ENOTEMPTY || errno == EEXIST) &&
        renameat2(s->fd, TREE, s->dir_fd, s->name, RENAME_EXCHANGE) == 0)
        return 0;
    if (errno == ENOTEMPTY || errno == EEXIST)
        return sa_fail(err, SA_ALREADY_EXISTS, "`%.200s/%.200s` exists and is not empty", s->dir, s->name);
    return sa_fail_errno(err, errno, "put `%.200s/%.200s` in place", s->dir, s->name);
}

int fs_scratch_info(const struct fs_scratch *s, const char *name, struct fs_info *ret, sa_error **err)
{
    return s->beside ? fs_info_at(s->dir_fd, s->name, ret, err) : fs_info_of(s->dir_fd, name, ret, err);
}

void fs_scratch_fini(struct fs_scratch *s)
{
    sa_close(s->tree);
    sa_close(s->fd);
    sa_close(s->dir_fd);
    free(s->dir);
    free(s->name);
    free(s->temp);
    *s = (struct fs_scratch){.dir_fd = -1, .fd = -1, .tree = -1};
}

/* ---- removing it ---- */

static int loosen_dir(void *user, int dir_fd, const char *name, int fd, const struct stat *st, sa_error **err)
{
    (void)user, (void)dir_fd, (void)err;
    char self[32];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    /* What cannot be changed is told when it cannot be removed. */
    if ((st->st_mode & 0700) != 0700)
        (void)!chmod(self, st->st_mode | 0700);
    (void)name;
    return 0;
}

static int pass_entry(void *user, int dir_fd, const char *name, const struct fs_slice *slice, sa_error **err)
{
    (void)user, (void)dir_fd, (void)name, (void)slice, (void)err;
    return 0;
}

static int pass_dir(void *user, int dir_fd, const char *name, sa_error **err)
{
    (void)user, (void)dir_fd, (void)name, (void)err;
    return 0;
}

static void pass_unreadable(void *user)
{
    (void)user;
}

/* The old tree may have directories that were protected from changes. */
static int loosen(int dir_fd, const char *name, sa_error **err)
{
    static const struct fs_tree_events events = {
        .enter = loosen_dir, .entry = pass_entry, .leave = pass_dir, .unreadable = pass_unreadable};
    struct fs_tree *t = fs_tree_new(dir_fd, name, &events, NULL);
    int more;
    do {
        struct fs_slice slice = fs_slice_begin();
        more = fs_tree_step(t, &slice, err);
    } while (more > 0);
    fs_tree_free(t);
    return more;
}

static int remove_all(int dir_fd, const char *name, sa_error **err)
{
    cleanup_error sa_error *first = NULL;
    if (fs_remove_all(dir_fd, name, &first) == 0)
        return 0;
    if (!sa_error_is(first, SA_PERMISSION_DENIED))
        return sa_pass(err, steal_pointer(&first));
    return loosen(dir_fd, name, err) < 0 ? -1 : fs_remove_all(dir_fd, name, err);
}

int fs_scratch_remove(struct fs_scratch *s, sa_error **err)
{
    return s->made ? remove_all(s->dir_fd, s->temp, err) : 0;
}

int fs_scratch_undo(const char *dir, const char *name, const char *temp, enum fs_outcome *ret_outcome,
                    struct fs_info *ret, sa_error **err)
{
    cleanup_close int fd = fs_open_recorded(dir);
    bool gone = fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
    if (fd < 0 && !gone)
        return sa_fail_errno(err, errno, "open directory `%.200s`", dir);
    *ret_outcome = FS_UNDONE;
    if (gone)
        return 0;
    if (remove_all(fd, temp, err) < 0)
        return -1;
    if (fs_info_at(fd, name, ret, NULL) == 0)
        *ret_outcome = FS_DONE;
    return 0;
}
