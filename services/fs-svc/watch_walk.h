/* Puts the kernel's watches on directories and lists them, in this order: what appears between the two is
 * seen twice rather than never. Blocks, needs no lock, and uses the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_WATCH_WALK_H_
#define SERVICES_FS_SVC_WATCH_WALK_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/path.h"

enum { WATCH_WALK_MAX = 64, WATCH_GITIGNORE_MAX = 256 << 10 };

struct watch_found {
    char *name;
    bool directory;
    bool absent; /* of the reader: what the kernel told since has removed it */
};

struct watch_item {
    uint64_t id;  /* of its node */
    char *path;   /* below the tree's directory; "." is that */
    bool watched; /* it had a watch before */
    /* What came of it. */
    int wd;                    /* -1: none */
    bool gone;                 /* there is no such directory */
    const char *unwatched;     /* it is there and cannot be watched: a reason, a constant */
    sa_error *err;             /* with gone and unwatched */
    struct watch_found *found; /* sorted by name */
    size_t n_found;
    struct sa_buf gitignore;
    dev_t dev;
    ino_t ino;
};

struct watch_walk {
    /* What to do. */
    const struct fs_root *root;
    const char *base; /* the tree's directory */
    int inotify;
    bool list;      /* else only the watch is set */
    bool gitignore; /* read .gitignore */
    size_t room;    /* new watches that may be set: beyond, unwatched is TOO_MANY */
    int *remove;    /* watches that nobody wants any more */
    size_t n_remove;
    struct watch_item items[WATCH_WALK_MAX];
    size_t n;
};

void watch_walk_run(struct watch_walk *w);
void watch_walk_fini(struct watch_walk *w);

/* Is the tree's directory still the one that is watched, under its name? */
bool watch_walk_same(const struct fs_root *root, const char *base, dev_t dev, ino_t ino);

#endif
