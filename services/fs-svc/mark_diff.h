/* What changed between two marks. Blocks (contents are read from the store, with the service's own file
 * rights); no lock. libgit2 makes the differences and tells how much two contents are alike. */
#ifndef SERVICES_FS_SVC_MARK_DIFF_H_
#define SERVICES_FS_SVC_MARK_DIFF_H_

#include "sandboxagent/fs/v1/mark_service.rpc.h"
#include "services/fs-svc/mark_manifest.h"

enum {
    MARK_DIFF_MAX = 256 << 10,  /* bytes of one difference */
    MARK_ALIKE_PERCENT = 50,    /* a deleted and an added file that are as much alike are a rename */
    MARK_ALIKE_FILES_MAX = 200, /* deleted or added text files that are compared for that; more: none is */
};

struct mark_change {
    ChangeKind kind;
    const struct mark_entry *old, *new; /* NULL: not there */
};

struct mark_changes {
    struct mark_change *changes; /* sorted by path */
    size_t n, cap;
};

/* libgit2's memory, once in a process each. */
void mark_diff_start(void);
void mark_diff_stop(void);

/* The entries stay the manifests'. stop: asked now and then; true: CANCELLED. */
int mark_diff_compare(const char *store, const struct mark_manifest *from, const struct mark_manifest *to,
                      bool (*stop)(void *user), void *user, struct mark_changes *ret, sa_error **err);
void mark_changes_fini(struct mark_changes *c);

struct mark_diff_how {
    bool names_only;
    unsigned context; /* lines around a change */
    size_t room;      /* bytes that a difference may have */
};

/* One as it is told. The arena's. */
Change *mark_change_to_proto(const char *store, const struct mark_change *c, const struct mark_diff_how *how,
                             struct sa_arena *a);

#endif
