/* New content from old content and a piece of data that lies in a temporary file: added to the end, or put in
 * at an offset. Either the temporary file is made whole, to replace the old file, or the old file is changed.
 * Blocks; no lock. */
#ifndef SERVICES_FS_SVC_PATCH_H_
#define SERVICES_FS_SVC_PATCH_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/path.h"

struct fs_patch {
    int to;         /* the old file; -1: there is none */
    int from;       /* the temporary file; read and write */
    uint64_t start; /* where in it the data is, and in the new content is to be (append: unless the old size
                       is another by now) */
    uint64_t n;     /* bytes of data */
    bool append, truncate;
    const struct fs_root *root; /* has the limit of its size */
    const char *name;           /* for messages */
};

/* Makes `from` the whole new content; `to` is open for reading. Holes stay holes. FILE_CHANGED: somebody else
 * changed the old file meanwhile. NO_SPACE, FILE_TOO_LARGE. */
int fs_patch_fill(const struct fs_patch *p, sa_error **err);
/* Changes `to`, which is open for writing, with O_APPEND for an append. Space is reserved first, so NO_SPACE
 * finds the old content as it was. Its modification time changes in any case. */
int fs_patch_apply(const struct fs_patch *p, sa_error **err);

#endif
