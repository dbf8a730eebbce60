/* Copying a file, a link or a tree to a new name: by sharing blocks where the filesystem can, else by the
 * kernel, else by reading and writing; holes stay holes. Links are copied as links; hard links become files
 * of their own. All functions block for one slice, need no lock, and use the file rights of the calling
 * thread. */
#ifndef SERVICES_FS_SVC_COPY_H_
#define SERVICES_FS_SVC_COPY_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "adapters/os/error.h"
#include "services/fs-svc/path.h"
#include "services/fs-svc/tree.h"

struct fs_copy {
    const struct fs_root *root; /* of the copy: its limit counts */
    int from_fd;                /* O_PATH of what is copied; borrowed */
    int to_dir;                 /* borrowed */
    const char *to;             /* the new name in it; borrowed */
    bool preserve; /* times, owner where allowed, set-id and sticky bits; else permission bits only */
    bool sync;     /* it is on the disk in the end */

    uint64_t entries, bytes; /* files and directories; bytes of content */
    bool done;
    uint8_t *chunk; /* for reading and writing */
    struct fs_tree *tree;
    struct fs_copy_level *levels; /* of the copy */
    size_t n_levels, cap;
    int dir; /* of the innermost */
    struct fs_copy_file {
        int from, to; /* -1: none is being copied */
        struct stat st;
        uint64_t at, data_end; /* what follows data_end may be a hole */
        bool plain;            /* by reading and writing */
    } file;
};

/* The caller sets the first six fields. */
void fs_copy_init(struct fs_copy *c);
/* Goes on for a slice. 1: there is more; 0: done; -1: *err: the caller removes what is there. What vanishes
 * meanwhile is not copied. ALREADY_EXISTS, FILE_TOO_LARGE, NO_SPACE, NOT_A_REGULAR_FILE (a device),
 * PERMISSION_DENIED. */
int fs_copy_step(struct fs_copy *c, const struct fs_slice *slice, sa_error **err);
void fs_copy_fini(struct fs_copy *c);

#endif
