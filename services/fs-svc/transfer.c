#include "services/fs-svc/transfer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/roots.h"

enum { SHOWN = 200 };

static int fail_rename(const struct fs_transfer *t, int failed, sa_error **err)
{
    if (failed == EINVAL)
        return sa_fail(err, SA_INVALID_PATH, "`%.*s` cannot be put into itself", SHOWN, t->to.path);
    return sa_fail_errno(err, failed, "put `%.*s`", SHOWN, t->to.path);
}

/* ---- both ends ---- */

/* A move names its source, a copy only reads it: of a root itself, too. */
static int find_source(struct fs_transfer *t, const struct fs_root *root, const char *path, sa_error **err)
{
    if (!t->opt.move) {
        t->source = fs_path_open(root, path, false, err);
        if (t->source < 0 || fs_path_check_tree(root, t->source, path, err) < 0)
            return -1;
    } else {
        struct stat st;
        if (fs_place_find(root, path, false, &t->from, err) < 0 || fs_place_stat(&t->from, &st, err) < 0)
            return -1;
        t->source = openat(t->from.dir_fd, t->from.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    }
    if (t->source < 0 || fstat(t->source, &t->st) < 0)
        return sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    if (S_ISDIR(t->st.st_mode) && !t->opt.move && !t->opt.recursive)
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` is a directory; `recursive` copies it", SHOWN, path);
    return 0;
}

static bool is_empty(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    int n = 0;
    if (!d) {
        sa_close(fd);
        return true; /* not to be told from here: the rename decides */
    }
    while (n <= 2 && readdir(d))
        n++;
    closedir(d);
    return n <= 2;
}

/* What is there already. The rename at the end decides; this spares a copy that could not be placed. */
static int check_target(const struct fs_transfer *t, sa_error **err)
{
    struct stat st;
    const char *path = t->to.path;
    bool dir = S_ISDIR(t->st.st_mode);
    if (t->to.slash && !dir)
        return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.*s` names a directory", SHOWN, path);
    if (fstatat(t->to.dir_fd, t->to.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : sa_fail_errno(err, errno, "open `%.*s`", SHOWN, path);
    if (!t->opt.move && st.st_dev == t->st.st_dev && st.st_ino == t->st.st_ino)
        return sa_fail(err, SA_INVALID_PATH, "`%.*s` is what is to be copied", SHOWN, path);
    if (!t->opt.overwrite)
        return sa_fail(err, SA_ALREADY_EXISTS, "`%.*s` exists", SHOWN, path);
    if (dir && !S_ISDIR(st.st_mode))
        return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.*s` is no directory, and a directory would replace it",
                       SHOWN, path);
    if (!dir && S_ISDIR(st.st_mode))
        return sa_fail(err, SA_IS_A_DIRECTORY, "`%.*s` is a directory", SHOWN, path);
    if (dir && !is_empty(t->to.dir_fd, t->to.name))
        return sa_fail(err, SA_DIRECTORY_NOT_EMPTY, "`%.*s` is not empty", SHOWN, path);
    return 0;
}

static int find(struct fs_transfer *t, const struct fs_root *from_root, const char *from, const char *to,
                sa_error **err)
{
    if (fs_root_check_change(t->to_root, err) < 0 ||
        (t->opt.move && fs_root_check_change(from_root, err) < 0))
        return -1;
    if (find_source(t, from_root, from, err) < 0 ||
        fs_place_find(t->to_root, to, t->opt.make_parents, &t->to, err) < 0)
        return -1;
    t->same = t->opt.move && fs_place_same(&t->from, &t->to);
    if (t->same)
        return 0;
    int within = S_ISDIR(t->st.st_mode) ? fs_place_within(&t->to, t->source, err) : 0;
    if (within > 0)
        return fail_rename(t, EINVAL, err);
    return within < 0 ? -1 : check_target(t, err);
}

int fs_transfer_find(const struct fs_root *from_root, const char *from, const struct fs_root *to_root,
                     const char *to, const struct fs_transfer_options *opt, const char *id,
                     struct fs_transfer *ret, sa_error **err)
{
    *ret = (struct fs_transfer){.opt = *opt, .to_root = to_root, .source = -1};
    fs_copy_init(&ret->copy);
    ret->copying = !opt->move;
    snprintf(ret->temp, sizeof ret->temp, ".sa-%s.tmp", id);
    return find(ret, from_root, from, to, err);
}

/* ---- by rename ---- */

/* Two names of one file: rename(2) would leave both. */
static bool other_name(const struct fs_transfer *t)
{
    struct stat st;
    return t->opt.overwrite && t->st.st_nlink > 1 && !S_ISDIR(t->st.st_mode) &&
           fstatat(t->to.dir_fd, t->to.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == t->st.st_dev &&
           st.st_ino == t->st.st_ino;
}

int fs_transfer_rename(struct fs_transfer *t, sa_error **err)
{
    if (t->same)
        return 0;
    int r = other_name(t)
                ? unlinkat(t->from.dir_fd, t->from.name, 0)
                : fs_rename(t->from.dir_fd, t->from.name, t->to.dir_fd, t->to.name, t->opt.overwrite);
    t->copying = r < 0 && errno == EXDEV;
    if (t->copying)
        return 1;
    t->placed = r == 0;
    return r < 0 ? fail_rename(t, errno, err) : 0;
}

/* ---- by a copy ---- */

static int note_inode(struct fs_transfer *t, sa_error **err)
{
    struct stat st;
    if (fstatat(t->to.dir_fd, t->temp, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return sa_fail_errno(err, errno, "create a copy of `%.*s`", SHOWN, t->to.path);
    t->inode = st.st_ino;
    return 0;
}

int fs_transfer_create(struct fs_transfer *t, sa_error **err)
{
    struct fs_slice none = {0};
    t->copy.root = t->to_root;
    t->copy.from_fd = t->source;
    t->copy.to_dir = t->to.dir_fd;
    t->copy.to = t->temp;
    t->copy.preserve = t->opt.preserve || t->opt.move;
    t->copy.sync = t->opt.move; /* or power loss could cost both */
    return fs_copy_step(&t->copy, &none, err) < 0 ? -1 : note_inode(t, err);
}

int fs_transfer_copy(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err)
{
    return fs_copy_step(&t->copy, slice, err);
}

int fs_transfer_finish(struct fs_transfer *t, sa_error **err)
{
    if (fs_rename(t->to.dir_fd, t->temp, t->to.dir_fd, t->to.name, t->opt.overwrite) < 0)
        return fail_rename(t, errno, err);
    t->placed = true;
    if (t->opt.move && fs_sync_dir(t->to.dir_fd) < 0)
        return sa_fail_errno(err, errno, "sync the directory of `%.*s`", SHOWN, t->to.path);
    return 0;
}

int fs_transfer_remove_source(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err)
{
    t->remove.dir_fd = t->from.dir_fd;
    t->remove.name = t->from.name;
    t->remove.recursive = true;
    int r = fs_remove_step(&t->remove, slice, err);
    return r < 0 ? sa_wrap(err, "`%.*s` was copied, but what was moved stays", SHOWN, t->to.path) : r;
}

int fs_transfer_info(const struct fs_transfer *t, struct fs_info *ret, sa_error **err)
{
    return fs_info_at(t->to.dir_fd, t->to.name, ret, err);
}

int fs_transfer_undo(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err)
{
    if (!t->copying || t->placed || !t->to.dir)
        return 0;
    fs_copy_fini(&t->copy);
    t->remove.dir_fd = t->to.dir_fd;
    t->remove.name = t->temp;
    t->remove.recursive = true;
    return fs_remove_step(&t->remove, slice, err);
}

void fs_transfer_fini(struct fs_transfer *t)
{
    fs_copy_fini(&t->copy);
    fs_remove_fini(&t->remove);
    fs_place_fini(&t->from);
    fs_place_fini(&t->to);
    t->source = sa_close(t->source);
}
