/* What watch_tree.c (life, walking) and watch_events.c (the kernel's events) share. */
#ifndef SERVICES_FS_SVC_WATCH_TREE_INTERNAL_H_
#define SERVICES_FS_SVC_WATCH_TREE_INTERNAL_H_

#include "services/fs-svc/watch_tree.h"

struct walk_job {
    struct watch_tree *tree;
    struct watch_walk walk;
    uint64_t number;
    sa_error *err;
};

/* ---- watch_tree.c ---- */

void watch_tell(struct watch_tree *t, enum watch_kind kind, const char *path, bool directory,
                const char *reason);
/* Something was given to the coalescer. */
void watch_note(struct watch_tree *t);
void watch_flush(struct watch_tree *t);
/* A directory that has left has its old path until it arrives, and somebody else may take that. So it is
 * dropped as soon as its other half cannot be the next. */
void watch_end_leave(struct watch_tree *t);
/* Asks whether the tree's directory is still there. */
void watch_check(struct watch_tree *t);
/* Walks what waits; when nothing does, says so. */
void watch_advance(struct watch_tree *t);

/* ---- watch_events.c ---- */

bool watch_ignored(const struct watch_tree *t, const struct watch_node *parent, const char *name,
                   const char *path, bool directory);
/* What the listing told of a name, while its answer is being taken; NULL: nothing. */
struct watch_found *watch_listed(struct watch_tree *t, const struct watch_node *dir, const char *name);
void watch_take_all(struct watch_tree *t, const uint8_t *p, size_t n);
/* Takes all that the kernel has. */
void watch_read_events(struct watch_tree *t);

#endif
