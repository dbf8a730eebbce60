/* Removing a name, with all that is below it. All functions block for one slice, need no lock, and use the
 * file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_REMOVE_H_
#define SERVICES_FS_SVC_REMOVE_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/tree.h"

struct fs_remove {
    uint64_t removed; /* files and directories so far */
    int dir_fd;       /* borrowed */
    const char *name; /* borrowed */
    bool recursive;
    int refills; /* times that a directory was not empty after it had been emptied */
    struct fs_tree *tree;
};

/* Goes on for a slice; begins with a struct that is zero but for the last three of the caller's fields. 1:
 * there is more; 0: done, also when nothing is there any more; -1: *err; what is removed stays so.
 * DIRECTORY_NOT_EMPTY: without `recursive`, or because others keep making files in it. */
int fs_remove_step(struct fs_remove *r, const struct fs_slice *slice, sa_error **err);
void fs_remove_fini(struct fs_remove *r);
/* All slices at once. */
int fs_remove_all(int dir_fd, const char *name, sa_error **err);

#endif
