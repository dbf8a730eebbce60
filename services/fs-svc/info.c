#include "services/fs-svc/info.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char *link_target(int dir_fd, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir_fd, name, target, sizeof target);
    return n < 0 ? NULL : sa_strndup(target, (size_t)n);
}

static struct timespec time_of(struct statx_timestamp t)
{
    return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

/* stat and the time of birth in one call. -1 with errno. */
static int look(int dir_fd, const char *name, int flags, struct fs_info *i)
{
    struct statx x;
    if (statx(dir_fd, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME,
              &x) < 0)
        return -1;
    i->st = (struct stat){.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
                          .st_ino = x.stx_ino,
                          .st_mode = x.stx_mode,
                          .st_nlink = x.stx_nlink,
                          .st_uid = x.stx_uid,
                          .st_gid = x.stx_gid,
                          .st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
                          .st_size = (off_t)x.stx_size,
                          .st_blksize = (blksize_t)x.stx_blksize,
                          .st_blocks = (blkcnt_t)x.stx_blocks,
                          .st_atim = time_of(x.stx_atime),
                          .st_mtim = time_of(x.stx_mtime),
                          .st_ctim = time_of(x.stx_ctime)};
    if (x.stx_mask & STATX_BTIME)
        i->birth = time_of(x.stx_btime);
    return 0;
}

int fs_info_of(int fd, const char *name, struct fs_info *ret, sa_error **err)
{
    struct fs_info i = {0};
    if (look(fd, "", AT_EMPTY_PATH, &i) < 0)
        return sa_fail_errno(err, errno, "stat `%.200s`", name);
    if (S_ISLNK(i.st.st_mode))
        i.link_target = link_target(fd, "");
    i.name = sa_strdup(name);
    *ret = i;
    return 0;
}

int fs_info_at(int dir_fd, const char *name, struct fs_info *ret, sa_error **err)
{
    struct fs_info i = {0};
    if (look(dir_fd, name, 0, &i) < 0)
        return sa_fail_errno(err, errno, "stat `%.200s`", name);
    if (S_ISLNK(i.st.st_mode))
        i.link_target = link_target(dir_fd, name);
    i.name = sa_strdup(name);
    *ret = i;
    return 0;
}

void fs_info_fini(struct fs_info *i)
{
    free(i->name);
    free(i->link_target);
    *i = (struct fs_info){0};
}

void fs_etag(const struct stat *st, char ret[static FS_ETAG_TEXT])
{
    snprintf(ret, FS_ETAG_TEXT, "%llx.%lx-%llx-%llx", (unsigned long long)st->st_mtim.tv_sec,
             (unsigned long)st->st_mtim.tv_nsec, (unsigned long long)st->st_size,
             (unsigned long long)st->st_ino);
}

FileKind fs_info_kind(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return FILE_KIND_REGULAR;
    case S_IFDIR:
        return FILE_KIND_DIRECTORY;
    case S_IFLNK:
        return FILE_KIND_SYMLINK;
    case S_IFIFO:
        return FILE_KIND_FIFO;
    case S_IFSOCK:
        return FILE_KIND_SOCKET;
    case S_IFBLK:
    case S_IFCHR:
        return FILE_KIND_DEVICE;
    default:
        return FILE_KIND_UNSPECIFIED;
    }
}

static ProtobufCBinaryData bytes_of(struct sa_arena *a, const char *s)
{
    return (ProtobufCBinaryData){strlen(s), sa_arena_memdup(a, s, strlen(s))};
}

char *fs_info_join(struct sa_arena *a, const char *dir, const char *name)
{
    if (!strcmp(dir, "."))
        return sa_arena_strdup(a, name);
    size_t n = strlen(dir);
    return sa_arena_format(a, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
}

static Google__Protobuf__Timestamp *timestamp(struct sa_arena *a, struct timespec at)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = at.tv_sec;
    t->nanos = (int32_t)at.tv_nsec;
    return t;
}

FileInfo *fs_info_to_proto(struct sa_arena *a, const struct fs_info *i, const char *path)
{
    FileInfo *f = sa_arena_alloc(a, sizeof *f);
    char etag[FS_ETAG_TEXT];
    *f = (FileInfo)FILE_INFO__INIT;
    f->name = bytes_of(a, i->name);
    f->path = bytes_of(a, path);
    f->kind = fs_info_kind(i->st.st_mode);
    f->size = (uint64_t)i->st.st_size;
    f->mode = i->st.st_mode & 07777;
    f->modify_time = timestamp(a, i->st.st_mtim);
    f->change_time = timestamp(a, i->st.st_ctim);
    f->birth_time = i->birth.tv_sec || i->birth.tv_nsec ? timestamp(a, i->birth) : NULL;
    fs_etag(&i->st, etag);
    f->etag = sa_arena_strdup(a, etag);
    f->uid = i->st.st_uid;
    f->gid = i->st.st_gid;
    f->inode = i->st.st_ino;
    f->links = i->st.st_nlink;
    f->allocated_bytes = (uint64_t)i->st.st_blocks * 512;
    if (i->link_target)
        f->link_target = bytes_of(a, i->link_target);
    return f;
}

FileInfo *fs_info_brief(struct sa_arena *a, const struct fs_info *i, const char *path)
{
    FileInfo *f = sa_arena_alloc(a, sizeof *f);
    *f = (FileInfo)FILE_INFO__INIT;
    f->name = bytes_of(a, i->name);
    f->path = bytes_of(a, path);
    f->kind = fs_info_kind(i->st.st_mode);
    return f;
}
