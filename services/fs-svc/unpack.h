/* Unpacking the entries of an archive beneath a directory. Each is made with path.h, so that nothing leads
 * out of it: neither its name nor a link that an entry before it made. A file grows in the scratch directory
 * and is renamed to its place.
 *
 * Blocks, needs no lock, and uses the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_UNPACK_H_
#define SERVICES_FS_SVC_UNPACK_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "services/fs-svc/archive.h"
#include "services/fs-svc/path.h"

enum {
    UNPACK_STRIP_MAX = 4096,
    UNPACK_ENTRIES_DEFAULT = 200000,
    UNPACK_ENTRIES_MAX = 10000000,
    UNPACK_RATIO_DEFAULT = 200,
    UNPACK_RATIO_FROM = 16 << 20, /* bytes; less is not asked for its ratio */
};

enum unpack_policy { UNPACK_FAIL, UNPACK_SKIP, UNPACK_REPLACE };

struct unpack_options {
    unsigned strip; /* leading parts of names */
    enum unpack_policy policy;
    bool strict; /* the first entry that is refused or fails ends it */
    bool ignore_modes, ignore_times;
    uint64_t max_entries, max_bytes, max_file_bytes;
    uint32_t max_ratio;
};

struct unpack_events {
    /* An entry that is not there (not with `strict`). */
    void (*failed)(void *user, const char *name, const sa_error *err);
    /* An entry that is in place: its path below the directory. NULL: nobody asks. */
    void (*placed)(void *user, const char *path);
    /* Bytes of the archive so far, for the ratio; UINT64_MAX: the caller has left. */
    uint64_t (*packed)(void *user);
    void *user;
};

struct unpack_result {
    uint64_t entries, bytes, skipped, failed;
};

/* root: where the directory is; tree: O_PATH of the directory; scratch: O_PATH of another one on the same
 * filesystem, for the file that is being written. *ret tells what is done also after a failure:
 * INVALID_ARCHIVE, TOO_MANY, ARCHIVE_TOO_LARGE, NO_SPACE, CANCELLED, SYSTEM_ERROR; with `strict` any. */
int unpack(struct archive_in *in, const struct fs_root *root, int tree, int scratch,
           const struct unpack_options *opt, const struct unpack_events *events, struct unpack_result *ret,
           sa_error **err);

#endif
