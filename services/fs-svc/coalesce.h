/* Makes few events of many: what the kernel tells within a window becomes the changes that a reader needs to
 * bring its copy of the tree up to date. Plain data, no thread, no clock: the caller ends the window.
 *
 *     modify, attrib     once per path and window; nothing after a create in the same window
 *     create, delete     of a file in one window are the delete
 *     leave, arrive      with one cookie are a move; a leave that nothing answers within the next whole
 * window is a delete, an arrive without a leave a create
 *
 * Changes of one path keep their order. A directory that comes, goes or moves closes everything before it:
 * nothing merges across it. */
#ifndef SERVICES_FS_SVC_COALESCE_H_
#define SERVICES_FS_SVC_COALESCE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum watch_kind {
    WATCH_CREATE = 1, /* the numbers are WatchEventKind's */
    WATCH_MODIFY,
    WATCH_MOVE,
    WATCH_DELETE,
    WATCH_ATTRIB,
    WATCH_RESCAN,
    WATCH_UNWATCHED,
};

struct watch_change {
    enum watch_kind kind;
    bool directory;
    const char *path;
    const char *old_path; /* WATCH_MOVE; else NULL */
    const char *reason;   /* WATCH_UNWATCHED, a constant; else NULL */
    uint32_t cookie;      /* of a leave that became this delete; else 0 */
};

struct coalesce;
struct coalesce *coalesce_new(void);
void coalesce_free(struct coalesce *c); /* NULL is fine */

/* Anything but WATCH_MOVE. path: copied. */
void coalesce_add(struct coalesce *c, const struct watch_change *change);
/* A path was moved away; cookie is not 0. */
void coalesce_leave(struct coalesce *c, uint32_t cookie, const char *path, bool directory);
/* Something was moved here. True: it is the one that left with this cookie, and told as a move; false: it is
 * told as new, and the leave, if there was one, as a delete. */
bool coalesce_arrive(struct coalesce *c, uint32_t cookie, const char *path, bool directory);
/* Nothing will arrive: the leave, if one is open, is a delete. */
void coalesce_end_leave(struct coalesce *c);

/* Changes that wait. */
size_t coalesce_pending(const struct coalesce *c);
typedef void coalesce_fn(void *user, const struct watch_change *change);
/* Ends the window: tells the changes in order, but for a leave that began in this window and what is behind
 * it. fn must not call the coalescer. */
void coalesce_flush(struct coalesce *c, coalesce_fn *fn, void *user);

#endif
