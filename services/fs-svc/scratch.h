/* The place where an archive is unpacked: a directory `.sa-<id>.tmp` on the filesystem of the target, so that
 * a rename puts in place what is ready. In the target itself when its entries go there one by one; beside it
 * when all of them are to appear at once: then they grow in `tree`. Whoever makes one has recorded before
 * where it will be; after a crash fs_scratch_undo removes it, whatever state it was in.
 *
 * All functions block, need no lock, and use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_SCRATCH_H_
#define SERVICES_FS_SVC_SCRATCH_H_

#include <stdbool.h>

#include "adapters/os/error.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"
#include "services/fs-svc/replace.h"

/* Public so that the caller can record it. */
struct fs_scratch {
    bool beside;
    char *dir;  /* canonical path of the directory that it is in */
    char *name; /* beside: of the target in it */
    char *temp; /* its own name */
    int dir_fd; /* O_PATH */
    bool made;
    int fd;   /* its own, O_PATH */
    int tree; /* O_PATH of where entries go */
};

/* Finds the place; the target's directory is made with its parents, but for the target itself when it is
 * `beside`. replace: may a target be replaced that is not empty? Errors: as fs_path_make_dirs, fs_place_find;
 * ALREADY_EXISTS, NOT_A_DIRECTORY. *ret is to be finished in any case. */
int fs_scratch_locate(const struct fs_root *root, const char *path, bool beside, bool replace, const char *id,
                      struct fs_scratch *ret, sa_error **err);
/* Makes it. */
int fs_scratch_make(struct fs_scratch *s, sa_error **err);
/* Beside: puts the tree in place of the target, which is afterwards in the scratch directory. ALREADY_EXISTS:
 * something has come there meanwhile. */
int fs_scratch_swap(struct fs_scratch *s, bool replace, sa_error **err);
/* Removes it with all that is in it, if it was made. */
int fs_scratch_remove(struct fs_scratch *s, sa_error **err);
/* Of the target. */
int fs_scratch_info(const struct fs_scratch *s, const char *name, struct fs_info *ret, sa_error **err);
void fs_scratch_fini(struct fs_scratch *s);

/* After a crash; name: of the target in dir, "." when it is dir itself. A directory that is no longer there
 * is fine. What was put in place cannot be told: the target, if there is one, counts as changed (FS_DONE). */
int fs_scratch_undo(const char *dir, const char *name, const char *temp, enum fs_outcome *ret_outcome,
                    struct fs_info *ret, sa_error **err);

#endif
