/* What is told about a file: plain data, read on a worker thread, told under the lock. */
#ifndef SERVICES_FS_SVC_INFO_H_
#define SERVICES_FS_SVC_INFO_H_

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/file_service.rpc.h"

struct fs_info {
    char *name;
    struct stat st;
    struct timespec birth; /* 0: the filesystem does not keep it */
    char *link_target;     /* NULL: not a link */
};

/* Of an open or O_PATH descriptor. Blocks. name: copied. */
int fs_info_of(int fd, const char *name, struct fs_info *ret, sa_error **err);
/* Of an entry of a directory; links are not followed. FILE_NOT_FOUND. Blocks. */
int fs_info_at(int dir_fd, const char *name, struct fs_info *ret, sa_error **err);
void fs_info_fini(struct fs_info *i);
FileKind fs_info_kind(mode_t mode);
/* What a caller recognises a file's content by: changes with modification time, size and inode. */
enum { FS_ETAG_TEXT = 80 };
void fs_etag(const struct stat *st, char ret[static FS_ETAG_TEXT]);

/* path: below its root, as it is told. Everything is copied into the arena. */
FileInfo *fs_info_to_proto(struct sa_arena *a, const struct fs_info *i, const char *path);
/* The same with name, path and kind only. */
FileInfo *fs_info_brief(struct sa_arena *a, const struct fs_info *i, const char *path);
/* The path of an entry of a directory: "<dir>/<name>", without "./" before it. */
char *fs_info_join(struct sa_arena *a, const char *dir, const char *name);

#endif
