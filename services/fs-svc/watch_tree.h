/* A watched tree: the kernel's watches on its directories, and its events, numbered, in a ring. Shared by all
 * readers that ask for the same. Under the service lock; what touches the disk runs on workers. */
#ifndef SERVICES_FS_SVC_WATCH_TREE_H_
#define SERVICES_FS_SVC_WATCH_TREE_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/os/clock.h"
#include "adapters/os/loop.h"
#include "services/fs-svc/coalesce.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/watch_nodes.h"
#include "services/fs-svc/watch_ring.h"
#include "services/fs-svc/watch_walk.h"

enum {
    WATCH_WINDOW_MS = 20,       /* events of a path within it are one */
    WATCH_CHECK_MS = 2000,      /* so often it is asked whether the tree's directory has still its name */
    WATCH_PENDING_MAX = 32768,  /* changes in a window; more end it */
    WATCH_PARKED_MAX = 8 << 20, /* bytes of events of directories that are being walked; more: RESCAN */
};

/* What makes two requests one tree. Owned by the tree once it is one. */
struct watch_spec {
    const struct fs_root *root;
    char *path;
    bool recursive, gitignore;
    struct fs_globs ignore;
    struct sa_buf key;
};
void watch_spec_fini(struct watch_spec *s);

struct watch_budget {
    size_t used, max; /* directories that all trees watch */
};

struct watch_tree;
struct watch_tree_events {
    /* It is watched, or events were added, or it has ended. Must not free the tree. */
    void (*changed)(void *user);
};

enum watch_state { WATCH_STARTING, WATCH_OPEN, WATCH_ENDED };

/* Public so that readers read it; changed by the tree alone. */
struct watch_tree {
    struct fs_service *fs;
    struct watch_spec spec;
    struct watch_budget *budget;
    const struct watch_tree_events *events;
    void *user;
    enum watch_state state;
    sa_error *err; /* ENDED: why */
    char epoch[SA_ID_TEXT + 1];
    struct watch_ring ring;
    struct watch_nodes nodes;
    /* The rest is watch_tree.c's. */
    struct coalesce *coalesce;
    int inotify;
    struct sa_io *io;
    struct sa_timer *window, *check;
    struct walk_job *job;     /* under way */
    struct sa_buf parked;     /* events of unknown descriptors meanwhile */
    struct walk_job *listing; /* its answer is being taken */
    uint32_t leaving;         /* cookie of the first half of a move; 0: none */
    uint64_t walks;
    bool lost;   /* events were: everything must be walked again */
    bool rewalk; /* that is under way */
    bool freed;  /* when the last job ends */
    bool checking;
    bool place_matters; /* what is ignored depends on where it is */
    size_t jobs;
    size_t counted; /* in the budget */
    dev_t dev;
    ino_t ino;
    int arrived_wd; /* the last half of a move was the second, to here; -1: it was not */
    char arrived[256];
};

/* Takes the spec, also when it fails. TOO_MANY: the kernel gives no more inotify instances. The directory
 * itself is looked at later: state tells. */
struct watch_tree *watch_tree_new(struct fs_service *fs, struct watch_spec *spec, struct watch_budget *budget,
                                  const struct watch_tree_events *events, void *user, sa_error **err);
void watch_tree_free(struct watch_tree *t); /* no more callbacks; NULL is fine */

/* The first n directories that cannot be watched. The changes live with the arena. */
size_t watch_tree_unwatched(const struct watch_tree *t, struct watch_change *ret, size_t n,
                            struct sa_arena *a);

#endif
