/* Walking a tree of directories: without recursion, however deep; with few descriptors, whatever its shape;
 * in slices, so that a long walk keeps no worker from others and its caller may stop it. No link is followed.
 * A directory that is moved elsewhere meanwhile ends the walk (FILE_NOT_FOUND): it never goes on outside.
 *
 * A directory's files come first, then its directories. All functions block for one slice, need no lock, and
 * use the file rights of the calling thread. */
#ifndef SERVICES_FS_SVC_TREE_H_
#define SERVICES_FS_SVC_TREE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "adapters/os/error.h"

enum {
    FS_SLICE_MS = 20,               /* a slice of a long job; then others have their turn */
    FS_TREE_PENDING_MAX = 64 << 20, /* bytes of directories' names that wait to be visited; more: TOO_MANY */
};

/* When a slice ends. */
struct fs_slice {
    uint64_t until_ns; /* monotonic */
};
struct fs_slice fs_slice_begin(void);
bool fs_slice_over(const struct fs_slice *s);

/* What the walker's owner does. Each answers -1 and *err to end the walk. dir_fd: of the directory that the
 * name is in. */
struct fs_tree_events {
    /* A directory, before what is in it; fd: its own. NULL: nothing to do. */
    int (*enter)(void *user, int dir_fd, const char *name, int fd, const struct stat *st, sa_error **err);
    /* Anything else. 1: call again in the next slice. */
    int (*entry)(void *user, int dir_fd, const char *name, const struct fs_slice *slice, sa_error **err);
    /* A directory, after what is in it; not for one that vanished. 1: what is in it is visited again. */
    int (*leave)(void *user, int dir_fd, const char *name, sa_error **err);
    /* A directory that may not be read. NULL: that ends the walk. */
    void (*unreadable)(void *user);
};

struct fs_tree;
/* Begins at a directory, `name` in dir_fd (copied), which may be "." for dir_fd itself. events: kept by
 * reference. */
struct fs_tree *fs_tree_new(int dir_fd, const char *name, const struct fs_tree_events *events, void *user);
void fs_tree_free(struct fs_tree *t); /* NULL is fine */
/* Goes on for a slice. 1: there is more; 0: done; -1: *err. */
int fs_tree_step(struct fs_tree *t, const struct fs_slice *slice, sa_error **err);

#endif
