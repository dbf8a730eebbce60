#include "services/fs-svc/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

static size_t slot_of(const struct fs_usage *u, uint64_t dev, uint64_t ino)
{
    uint64_t h = (ino ^ dev << 40 ^ dev >> 24) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(h >> 20) & (u->cap - 1);
    while (u->links[i].ino && (u->links[i].ino != ino || u->links[i].dev != dev))
        i = (i + 1) & (u->cap - 1);
    return i;
}

static void grow(struct fs_usage *u)
{
    struct fs_usage_link *old = u->links;
    size_t n = u->cap;
    u->cap = n ? 2 * n : 256;
    u->links = sa_calloc(u->cap, sizeof *u->links);
    for (size_t i = 0; i < n; i++)
        if (old[i].ino)
            u->links[slot_of(u, old[i].dev, old[i].ino)] = old[i];
    free(old);
}

/* 1: it was counted under another name. */
static int known(struct fs_usage *u, const struct stat *st, sa_error **err)
{
    if (2 * (u->n_links + 1) > u->cap)
        grow(u);
    struct fs_usage_link *l = &u->links[slot_of(u, st->st_dev, st->st_ino)];
    if (l->ino)
        return 1;
    if (u->n_links++ >= FS_USAGE_LINKS_MAX)
        return sa_fail(err, SA_TOO_MANY, "more than %d files have several hard links", FS_USAGE_LINKS_MAX);
    *l = (struct fs_usage_link){st->st_dev, st->st_ino};
    return 0;
}

static int count(struct fs_usage *u, const struct stat *st, sa_error **err)
{
    int seen = !S_ISDIR(st->st_mode) && st->st_nlink > 1 ? known(u, st, err) : 0;
    if (seen)
        return seen < 0 ? -1 : 0;
    u->allocated += (uint64_t)st->st_blocks * 512;
    u->content += S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    if (S_ISDIR(st->st_mode))
        u->directories++;
    else
        u->files++;
    return 0;
}

static int count_entry(void *user, int dir_fd, const char *name, const struct fs_slice *slice, sa_error **err)
{
    (void)slice;
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
        return errno == ENOENT ? 0 : sa_fail_errno(err, errno, "stat `%.200s`", name);
    return count(user, &st, err);
}

static int count_dir(void *user, int dir_fd, const char *name, int fd, const struct stat *st, sa_error **err)
{
    (void)dir_fd, (void)name, (void)fd;
    return count(user, st, err);
}

static void count_unreadable(void *user)
{
    struct fs_usage *u = user;
    u->unreadable++;
}

static const struct fs_tree_events events = {
    .enter = count_dir, .entry = count_entry, .unreadable = count_unreadable};

int fs_usage_step(struct fs_usage *u, int fd, const struct fs_slice *slice, sa_error **err)
{
    if (!u->tree) {
        struct stat st;
        if (fstat(fd, &st) < 0)
            return sa_fail_errno(err, errno, "stat");
        if (!S_ISDIR(st.st_mode))
            return count(u, &st, err);
        u->tree = fs_tree_new(fd, ".", &events, u);
    }
    return fs_tree_step(u->tree, slice, err);
}

void fs_usage_fini(struct fs_usage *u)
{
    fs_tree_free(u->tree);
    free(u->links);
    *u = (struct fs_usage){0};
}

int fs_usage_filesystem(int fd, struct statvfs *ret, sa_error **err)
{
    return fstatvfs(fd, ret) < 0 ? sa_fail_errno(err, errno, "look at the filesystem") : 0;
}
