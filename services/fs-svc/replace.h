/* Replacing a file atomically: the new content grows in a temporary file in the same directory, and one
 * rename puts it in place. Until then the old file is untouched; a broken writer leaves nothing but the
 * temporary file, whose place the caller has recorded before it is made (fs_replace_create) and removes after
 * a crash (fs_replace_undo).
 *
 * One writer per object; all functions block, need no lock, and use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_REPLACE_H_
#define SERVICES_FS_SVC_REPLACE_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "services/fs-svc/info.h"
#include "services/fs-svc/path.h"

enum fs_method {
    FS_REPLACE,
    FS_APPEND,    /* what was written is added to the end of the old content */
    FS_AT_OFFSET, /* what was written takes the place of the old content from `offset` on */
};

struct fs_replace_options {
    mode_t mode;       /* of a new file; 0: 0644. An existing one keeps its own, and its owner where we may */
    bool make_parents; /* make missing directories */
    bool create_only;  /* ALREADY_EXISTS instead of replacing */
    bool durable;      /* content and name are on disk when finish returns */
    enum fs_method method;
    uint64_t offset; /* FS_AT_OFFSET */
    bool truncate;   /* FS_AT_OFFSET: nothing stays behind what was written */
    /* FS_APPEND, FS_AT_OFFSET: an existing file is not replaced but changed at the end: patch.h. */
    bool in_place;
    const char
        *if_match; /* etag it has at the beginning and at the end: ETAG_MISMATCH; NULL: any; borrowed */
};

/* Public so that the caller can record where the temporary file will be; set by fs_replace_locate. */
struct fs_replace {
    struct fs_replace_options opt;
    char *dir;      /* canonical path of the directory */
    char *name;     /* of the file in it, links resolved */
    char *temp;     /* of the temporary file in it: ".sa-<id>.tmp" */
    uint64_t inode; /* of the temporary file, 0 before fs_replace_create */
    uint64_t start; /* where in it what is written goes: FS_APPEND: behind the old content as it was then */
    uint64_t written;
    const struct fs_root *root; /* has the limit of its size */
    int dir_fd, fd;
};

/* Finds where the path leads (a symbolic link at its end is followed, also to a file that does not exist yet)
 * and whether it may be replaced. id: names the temporary file; unique, characters of file names, at most 64.
 * Errors: as fs_path_open; IS_A_DIRECTORY, NOT_A_REGULAR_FILE, ALREADY_EXISTS, PERMISSION_DENIED (also: the
 * root is read-only, the file may not be written). Nothing is changed but for parents that are made. */
int fs_replace_locate(const struct fs_root *root, const char *path, const struct fs_replace_options *opt,
                      const char *id, struct fs_replace *ret, sa_error **err);
/* Makes the temporary file. */
int fs_replace_create(struct fs_replace *r, sa_error **err);
/* Opens the temporary file that an earlier object has made, with the first `written` bytes of it.
 * FILE_CHANGED: it is not there. */
int fs_replace_reopen(struct fs_replace *r, uint64_t inode, uint64_t written, sa_error **err);
/* Makes sure that `size` bytes can be written: NO_SPACE, FILE_TOO_LARGE. Where the filesystem cannot reserve,
 * it looks at what is free now. */
int fs_replace_reserve(struct fs_replace *r, uint64_t size, sa_error **err);
/* Adds to what was written. NO_SPACE, FILE_TOO_LARGE; then nothing was added. */
int fs_replace_write(struct fs_replace *r, const void *p, size_t n, sa_error **err);
/* What was written so far is on the disk. */
int fs_replace_sync(struct fs_replace *r, sa_error **err);
/* Puts it in place. After a failure call fs_replace_abort. ETAG_MISMATCH, ALREADY_EXISTS, FILE_CHANGED,
 * NO_SPACE. */
int fs_replace_finish(struct fs_replace *r, struct fs_info *ret, sa_error **err);
/* Removes the temporary file, if there is one. */
void fs_replace_abort(struct fs_replace *r);
/* Closes; leaves the temporary file. */
void fs_replace_fini(struct fs_replace *r);

/* After a crash: what became of a recorded replacement. */
enum fs_outcome {
    FS_PENDING, /* fs_replace_look: the temporary file is there */
    FS_UNDONE,  /* the old file is there; the temporary file, if any, was removed */
    FS_DONE,    /* the new file is in place: it has the recorded inode. *ret describes it */
};
/* dir, name, temp, inode: as recorded (inode 0: not known). -1: could not be told now (SYSTEM_ERROR and so
 * on). */
int fs_replace_undo(const char *dir, const char *name, const char *temp, uint64_t inode,
                    enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err);
/* The same, and nothing is removed: FS_PENDING where that would be. */
int fs_replace_look(const char *dir, const char *name, const char *temp, uint64_t inode,
                    enum fs_outcome *ret_outcome, struct fs_info *ret, sa_error **err);

#endif
