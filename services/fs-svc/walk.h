/* A walk through a tree: the entries of a directory sorted by name (bytes), a directory before what is in it.
 * Ignore files are obeyed, links are told and not followed. Memory: 16384 names, and 256 more for each level;
 * larger directories are read in several passes. One descriptor for each level.
 *
 * Everything here blocks, needs no lock, and uses the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_WALK_H_
#define SERVICES_FS_SVC_WALK_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "adapters/os/error.h"
#include "services/fs-svc/glob.h"
#include "services/fs-svc/path.h"

enum { FS_WALK_DEPTH_MAX = 256 };

struct fs_walk_options {
    const struct fs_globs *globs; /* borrowed; NULL: all */
    bool ignore_case;             /* of globs and ignore files */
    bool hidden;                  /* names with a dot, too */
    bool no_ignore;               /* .gitignore and .ignore do not count */
    bool vcs;                     /* .git and its like, too */
    unsigned max_depth;           /* 0: FS_WALK_DEPTH_MAX */
    bool (*stop)(void *user);     /* asked at each entry; true: the walk ends with CANCELLED. NULL: never */
    void *user;
};

/* Borrowed from the walk until the next step. */
struct fs_walk_entry {
    const char *path; /* below the start */
    const char *name;
    int dir; /* O_PATH descriptor of the directory that it is in */
    struct stat st;
};

struct fs_walk_counts {
    uint64_t entries; /* seen */
    uint64_t
        unreadable; /* directories that could not be read or were too deep, and what could not be looked at */
};

struct fs_walk;

/* Errors as fs_path_open, and NOT_A_DIRECTORY. The root and the options live as long as the walk. */
struct fs_walk *fs_walk_new(const struct fs_root *root, const char *path, const struct fs_walk_options *opt,
                            sa_error **err);
/* The same from an open (O_PATH) directory; dir is copied. */
struct fs_walk *fs_walk_new_at(const struct fs_root *root, int dir, const struct fs_walk_options *opt,
                               sa_error **err);
void fs_walk_free(struct fs_walk *w); /* NULL is fine */
/* 1: *ret is the next one; 0: there is none; -1: CANCELLED. A directory that was told is entered by the next
 * step, unless fs_walk_skip is called before it. */
int fs_walk_next(struct fs_walk *w, struct fs_walk_entry *ret, sa_error **err);
void fs_walk_skip(struct fs_walk *w);
struct fs_walk_counts fs_walk_counts(const struct fs_walk *w);

#endif
