#include "services/fs-svc/make.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/place.h"
#include "services/fs-svc/roots.h"

enum { SHOWN = 200, PROC_PATH = 32 };

/* The way to an O_PATH descriptor for calls that take paths only. */
static void proc_path(int fd, char ret[static PROC_PATH])
{
    snprintf(ret, PROC_PATH, "/proc/self/fd/%d", fd);
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

/* ---- directories ---- */

/* What is there already: fine when it is a directory and parents were asked for, as with mkdir -p. */
static int be_content(const struct fs_root *root, const char *path, bool parents, struct fs_info *ret,
                      sa_error **err)
{
    cleanup_close int fd = fs_path_open(root, path, true, err);
    struct fs_info info = {0};
    if (fd < 0 || fs_info_of(fd, last_part(path), &info, err) < 0)
        return -1;
    if (!parents || !S_ISDIR(info.st.st_mode)) {
        fs_info_fini(&info);
        return sa_fail(err, SA_ALREADY_EXISTS, "`%.*s` exists", SHOWN, path);
    }
    *ret = info;
    return 0;
}

static int set_mode(int dir_fd, const char *name, mode_t mode)
{
    cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    return fchmod(fd, mode | (st.st_mode & S_ISGID)); /* as its parent gave it */
}

int fs_make_dir(const struct fs_root *root, const char *path, mode_t mode, bool parents, bool *ret_created,
                struct fs_info *ret, sa_error **err)
{
    struct fs_place p __attribute__((cleanup(fs_place_fini))) = {0};
    cleanup_error sa_error *no_name = NULL;
    if (fs_root_check_change(root, err) < 0)
        return -1;
    if (fs_place_find(root, path, parents, &p, &no_name) < 0) {
        /* "." and "/" are directories that are there. What a directory is in may be refused as a name. */
        cleanup_close int there = parents ? fs_path_open(root, path, true, NULL) : -1;
        *ret_created = false;
        return there >= 0 ? be_content(root, path, parents, ret, err) : sa_pass(err, steal_pointer(&no_name));
    }
    bool created = mkdirat(p.dir_fd, p.name, mode ? 0700 : 0755) == 0;
    if (!created && errno == EEXIST) {
        *ret_created = false;
        return be_content(root, path, parents, ret, err);
    }
    if (!created || (mode && set_mode(p.dir_fd, p.name, mode) < 0))
        return sa_fail_errno(err, errno, "make directory `%.*s`", SHOWN, path);
    *ret_created = true;
    return fs_info_at(p.dir_fd, p.name, ret, err);
}

/* ---- links ---- */

static int fail_leaves(const struct fs_root *root, const char *target, sa_error **err)
{
    return sa_fail(err, SA_INVALID_PATH, "the target `%.*s` leaves the root `%s`", SHOWN, target, root->name);
}

/* By its text: more ".." than there are directories above. */
static bool climbs_out(const struct fs_root *root, const char *dir, const char *target)
{
    int depth = 0;
    for (const char *at = dir + (root->dir[1] ? strlen(root->dir) : 0); *at; at++)
        depth += *at == '/' && at[1];
    while (*target) {
        size_t n = strcspn(target, "/");
        if (n == 2 && !memcmp(target, "..", 2))
            depth--;
        else if (n > 1 || (n == 1 && *target != '.'))
            depth++;
        if (depth < 0)
            return true;
        target += n + (target[n] == '/');
    }
    return false;
}

/* By its text, and by what is there: a link on the way may lead elsewhere. */
static int check_target(const struct fs_root *root, const struct fs_place *p, const char *target,
                        sa_error **err)
{
    cleanup_error sa_error *why = NULL;
    cleanup_free char *parent = NULL, *name = NULL;
    bool slash;
    if (root->whole)
        return 0;
    if (*target == '/' || climbs_out(root, p->dir, target))
        return fail_leaves(root, target, err);
    if (fs_path_split(p->path, &parent, &name, &slash, err) < 0)
        return -1;
    cleanup_free char *through = sa_format("%s/%s", parent, target);
    cleanup_close int fd = fs_path_open(root, through, true, &why);
    return fd < 0 && sa_error_is(why, SA_INVALID_PATH) ? fail_leaves(root, target, err) : 0;
}

int fs_make_link(const struct fs_root *root, const char *path, const char *target, bool parents,
                 struct fs_info *ret, sa_error **err)
{
    struct fs_place p __attribute__((cleanup(fs_place_fini))) = {0};
    if (fs_root_check_change(root, err) < 0 || fs_place_find(root, path, parents, &p, err) < 0 ||
        check_target(root, &p, target, err) < 0)
        return -1;
    if (p.slash)
        return sa_fail(err, SA_NOT_A_DIRECTORY, "`%.*s` names a directory", SHOWN, path);
    if (symlinkat(target, p.dir_fd, p.name) < 0)
        return sa_fail_errno(err, errno, "make link `%.*s`", SHOWN, path);
    return fs_info_at(p.dir_fd, p.name, ret, err);
}

/* ---- attributes ---- */

int fs_change(const struct fs_root *root, const char *path, const struct fs_attributes *a,
              struct fs_info *ret, sa_error **err)
{
    if (fs_root_check_change(root, err) < 0)
        return -1;
    cleanup_close int fd = fs_path_open(root, path, true, err);
    if (fd < 0)
        return -1;
    char proc[PROC_PATH];
    proc_path(fd, proc);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, a->time};
    if (a->time.tv_nsec == UTIME_NOW)
        times[0].tv_nsec = UTIME_NOW; /* both: what a writer may do, not only the owner */
    /* The owner first: that takes set-id bits away. */
    if (((a->set_uid || a->set_gid) && fchownat(fd, "", a->set_uid ? a->uid : (uid_t)-1,
                                                a->set_gid ? a->gid : (gid_t)-1, AT_EMPTY_PATH) < 0) ||
        (a->set_mode && chmod(proc, a->mode) < 0) || (a->set_time && utimensat(AT_FDCWD, proc, times, 0) < 0))
        return sa_fail_errno(err, errno, "change `%.*s`", SHOWN, path);
    return fs_info_of(fd, last_part(path), ret, err);
}
