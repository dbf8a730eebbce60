/* Looks at a directory for a mark. Blocks, needs no lock; the calling thread has entered the identity
 * (identity.h), which is left for moments to keep contents. */
#ifndef SERVICES_FS_SVC_MARK_SCAN_H_
#define SERVICES_FS_SVC_MARK_SCAN_H_

#include "services/fs-svc/glob.h"
#include "services/fs-svc/identity.h"
#include "services/fs-svc/mark_manifest.h"
#include "services/fs-svc/path.h"

struct mark_scan {
    const struct fs_root *root;
    const char *path; /* of the directory, below the root */
    const struct fs_globs *ignore;
    bool gitignore;
    const struct fs_identity *identity;
    const char *store;                    /* mark_store.h */
    uint64_t room;                        /* bytes of content that may be kept in addition */
    const struct mark_manifest *previous; /* of the same directory; NULL: none */
    bool (*stop)(void *user);             /* as of a walk */
    void *user;
    /* What came of it. */
    uint64_t bytes, files_read, omitted, unreadable, kept_bytes;
};

/* CANCELLED, TOO_MANY (paths), NO_SPACE; errors of fs_path_open for the directory. */
int mark_scan_run(struct mark_scan *s, struct mark_manifest *ret, sa_error **err);

#endif
