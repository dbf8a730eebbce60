/* Packing files beneath a directory: walks them in order and writes each into an archive, in constant memory.
 *
 * Blocks, needs no lock, and uses the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_PACK_H_
#define SERVICES_FS_SVC_PACK_H_

#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/archive.h"
#include "services/fs-svc/path.h"
#include "services/fs-svc/walk.h"

struct pack_events {
    /* What is not in the archive, or not whole. */
    void (*failed)(void *user, const char *name, const sa_error *err);
    bool (*stop)(void *user); /* true: CANCELLED */
    void *user;
};

struct pack_result {
    uint64_t entries, bytes, skipped, padded;
};

/* Adds what the path names, below the root: a file under its name; a directory with all of it that the walk
 * tells, and, with `name`, itself. name: in the archive; NULL: of a directory only what is in it, of a file
 * its own. Counts go to *result. Errors: as fs_path_open; CANCELLED; those of archive_out_entry. */
int pack(struct archive_out *out, const struct fs_root *root, const char *path, const char *name,
         const struct fs_walk_options *walk, const struct pack_events *events, struct pack_result *result,
         sa_error **err);

#endif
