/* What a mark knows of its directory: an entry per path, in the order of walk.h, and its form on the disk.
 * Plain data, any thread. */
#ifndef SERVICES_FS_SVC_MARK_MANIFEST_H_
#define SERVICES_FS_SVC_MARK_MANIFEST_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "adapters/os/sha256.h"

enum {
    MARK_ENTRIES_MAX = 200000,
    MARK_CONTENT_MAX = 1 << 20, /* bytes of a file that is read; a larger one has no digest */
    MARK_TEXT_PROBE = 8000,     /* bytes in which a NUL makes a file binary, as in git */
};

/* Flags of an entry. */
enum {
    MARK_DIGEST = 1, /* of a file: digest is known */
    MARK_TEXT = 2,   /* its content is text */
    MARK_KEPT = 4,   /* and is among the blobs */
    MARK_RACY = 8,   /* it changed so shortly before that it may have changed after, with the same times */
    MARK_UNREADABLE = 16, /* a file or directory that could not be read */
};

struct mark_entry {
    const char *path;
    const char *link; /* where a link points; NULL: it is none */
    mode_t mode;      /* with its kind */
    uint64_t size, inode, device;
    int64_t modified_ns, changed_ns;
    uint8_t flags;
    uint8_t digest[SA_SHA256_SIZE];
};

struct mark_manifest {
    struct mark_entry *entries;
    size_t n, cap;
    struct sa_arena *texts;
};

void mark_manifest_init(struct mark_manifest *m);
void mark_manifest_fini(struct mark_manifest *m);
/* Copies; entries come in order. */
struct mark_entry *mark_manifest_add(struct mark_manifest *m, const struct mark_entry *e);
/* The order of paths: each part as bytes, a directory before what is in it. */
int mark_path_order(const char *a, const char *b);

/* The same bytes for the same entries. */
void mark_manifest_pack(const struct mark_manifest *m, struct sa_buf *ret);
/* STORE_CORRUPT. */
int mark_manifest_unpack(struct mark_manifest *ret, const uint8_t *p, size_t n, sa_error **err);

#endif
