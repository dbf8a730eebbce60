#include "services/fs-svc/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { REFILLS_MAX = 64 };

static int remove_entry(void *user, int dir_fd, const char *name, const struct fs_slice *slice,
                        sa_error **err)
{
    (void)slice;
    struct fs_remove *r = user;
    if (unlinkat(dir_fd, name, 0) == 0)
        r->removed++;
    else if (errno != ENOENT && errno != EISDIR) /* a directory by now: found when it is visited again */
        return sa_fail_errno(err, errno, "delete `%.200s`", name);
    return 0;
}

static int remove_dir(void *user, int dir_fd, const char *name, sa_error **err)
{
    struct fs_remove *r = user;
    if (unlinkat(dir_fd, name, AT_REMOVEDIR) == 0) {
        r->removed++;
        r->refills = 0;
        return 0;
    }
    if (errno == ENOTDIR)
        return remove_entry(user, dir_fd, name, NULL, err);
    if ((errno == ENOTEMPTY || errno == EEXIST) && ++r->refills <= REFILLS_MAX)
        return 1;
    return errno == ENOENT ? 0 : sa_fail_errno(err, errno, "delete directory `%.200s`", name);
}

static const struct fs_tree_events events = {.entry = remove_entry, .leave = remove_dir};

/* 1: it is a directory that wants to be walked. */
static int remove_one(struct fs_remove *r, sa_error **err)
{
    if (unlinkat(r->dir_fd, r->name, 0) == 0)
        r->removed++;
    else if (errno == EISDIR)
        return r->recursive ? 1 : remove_dir(r, r->dir_fd, r->name, err);
    else if (errno != ENOENT)
        return sa_fail_errno(err, errno, "delete `%.200s`", r->name);
    return 0;
}

int fs_remove_step(struct fs_remove *r, const struct fs_slice *slice, sa_error **err)
{
    if (!r->tree) {
        if (!r->recursive)
            r->refills = REFILLS_MAX;
        int one = remove_one(r, err);
        if (one <= 0)
            return one;
        r->tree = fs_tree_new(r->dir_fd, r->name, &events, r);
    }
    return fs_tree_step(r->tree, slice, err);
}

void fs_remove_fini(struct fs_remove *r)
{
    fs_tree_free(r->tree);
    r->tree = NULL;
}

int fs_remove_all(int dir_fd, const char *name, sa_error **err)
{
    struct fs_remove r = {.dir_fd = dir_fd, .name = name, .recursive = true};
    int more;
    do {
        struct fs_slice slice = fs_slice_begin();
        more = fs_remove_step(&r, &slice, err);
    } while (more > 0);
    fs_remove_fini(&r);
    return more;
}
