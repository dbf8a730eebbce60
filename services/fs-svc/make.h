/* Making directories and links, and changing what is told about files. All functions block, need no lock, and
 * use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_MAKE_H_
#define SERVICES_FS_SVC_MAKE_H_

#include <stdbool.h>
#include <sys/stat.h>

#include "adapters/os/error.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"

/* mode: exactly; 0: 0755 less the umask. parents: make missing ones, and be content with a directory that is
 * there. ALREADY_EXISTS; else as fs_place_find. */
int fs_make_dir(const struct fs_root *root, const char *path, mode_t mode, bool parents, bool *ret_created,
                struct fs_info *ret, sa_error **err);

/* ALREADY_EXISTS; INVALID_PATH: the target leaves a named root, or is absolute there; else as fs_place_find.
 */
int fs_make_link(const struct fs_root *root, const char *path, const char *target, bool parents,
                 struct fs_info *ret, sa_error **err);

/* What is to be changed. */
struct fs_attributes {
    bool set_mode, set_time, set_uid, set_gid;
    mode_t mode;
    struct timespec time; /* tv_nsec may be UTIME_NOW */
    uid_t uid;
    gid_t gid;
};
/* Links are followed. PERMISSION_DENIED; else as fs_path_open. */
int fs_change(const struct fs_root *root, const char *path, const struct fs_attributes *a,
              struct fs_info *ret, sa_error **err);

#endif
