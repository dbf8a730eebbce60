/* Moving and copying to another name. A move is one rename where the kernel can; everything else grows under
 * a temporary name beside the new one, whose place the caller has recorded before it is made, and appears
 * whole by one rename:
 *
 *     fs_transfer_find ▶ fs_transfer_rename ▶ done                                   a move on one filesystem
 *                     └▶ (record) fs_transfer_create (record) fs_transfer_copy.. ▶ fs_transfer_finish
 *                                                             ▶ fs_transfer_remove_source..    a move to
 * another
 *
 * One user per object; all functions block, those with a slice for one slice; they need no lock and use the
 * file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_TRANSFER_H_
#define SERVICES_FS_SVC_TRANSFER_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/copy.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"
#include "services/fs-svc/place.h"
#include "services/fs-svc/remove.h"

struct fs_transfer_options {
    bool move;         /* the source goes; implies recursive and preserve */
    bool overwrite;    /* replace what is there, as rename(2) does */
    bool make_parents; /* of the new name */
    bool recursive;    /* copy a directory, too */
    bool preserve;     /* see copy.h */
};

/* Public so that the caller can record it. */
struct fs_transfer {
    struct fs_transfer_options opt;
    const struct fs_root *to_root;
    struct fs_place from; /* of a move */
    struct fs_place to;
    int source; /* O_PATH of what is moved or copied */
    struct stat st;
    bool same;      /* a move to the place where it is */
    bool copying;   /* it wants a copy */
    char temp[80];  /* ".sa-<id>.tmp" in to.dir, while it is made */
    uint64_t inode; /* of the copy; 0: none was made yet */
    bool placed;    /* it is under its new name */
    struct fs_copy copy;
    struct fs_remove remove;
};

/* Both ends, and whether it can be done. id: see fs_replace_locate. Errors: as fs_place_find; ALREADY_EXISTS,
 * IS_A_DIRECTORY, NOT_A_DIRECTORY, DIRECTORY_NOT_EMPTY, INVALID_PATH (into itself), PERMISSION_DENIED (also:
 * a root is read-only). *ret is to be freed with fs_transfer_fini in any case. */
int fs_transfer_find(const struct fs_root *from_root, const char *from, const struct fs_root *to_root,
                     const char *to, const struct fs_transfer_options *opt, const char *id,
                     struct fs_transfer *ret, sa_error **err);
/* A move by rename. 1: it is another filesystem and wants a copy. */
int fs_transfer_rename(struct fs_transfer *t, sa_error **err);
/* Makes the temporary file or directory. */
int fs_transfer_create(struct fs_transfer *t, sa_error **err);
/* Fills it. 1: there is more. */
int fs_transfer_copy(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err);
/* Puts it under its name. */
int fs_transfer_finish(struct fs_transfer *t, sa_error **err);
/* What a move leaves at its old place. 1: there is more. */
int fs_transfer_remove_source(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err);
/* What is at the new place. */
int fs_transfer_info(const struct fs_transfer *t, struct fs_info *ret, sa_error **err);
/* Removes what was made and is not under its name. 1: there is more. */
int fs_transfer_undo(struct fs_transfer *t, const struct fs_slice *slice, sa_error **err);
void fs_transfer_fini(struct fs_transfer *t);

#endif
