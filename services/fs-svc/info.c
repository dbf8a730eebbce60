#include "services/fs-svc/info.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *link_target(int dir_fd, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir_fd, name, target, sizeof target);
    return n < 0 ? NULL : sa_strndup(target, (size_t)n);
}

int fs_info_of(int fd, const char *name, struct fs_info *ret, sa_error **err)
{
    struct fs_info i = {0};
    if (fstat(fd, &i.st) < 0)
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
    if (fstatat(dir_fd, name, &i.st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
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

static FileKind kind_of(mode_t mode)
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

FileInfo *fs_info_to_proto(struct sa_arena *a, const struct fs_info *i, const char *path)
{
    FileInfo *f = sa_arena_alloc(a, sizeof *f);
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    *f = (FileInfo)FILE_INFO__INIT;
    *t = (Google__Protobuf__Timestamp)GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t->seconds = i->st.st_mtim.tv_sec;
    t->nanos = (int32_t)i->st.st_mtim.tv_nsec;
    f->name = bytes_of(a, i->name);
    f->path = bytes_of(a, path);
    f->kind = kind_of(i->st.st_mode);
    f->size = (uint64_t)i->st.st_size;
    f->mode = i->st.st_mode & 07777;
    f->modify_time = t;
    f->etag = sa_arena_format(a, "%llx.%lx-%llx-%llx", (unsigned long long)i->st.st_mtim.tv_sec,
                              (unsigned long)i->st.st_mtim.tv_nsec, (unsigned long long)i->st.st_size,
                              (unsigned long long)i->st.st_ino);
    if (i->link_target)
        f->link_target = bytes_of(a, i->link_target);
    return f;
}
