/* Who changes a file next: calls that take effect on the same file do so one after another, so that each sees
 * what the one before has left. Other programs, and calls that move or delete, take no part. All of it under
 * the service lock. */
#ifndef SERVICES_FS_SVC_TURNS_H_
#define SERVICES_FS_SVC_TURNS_H_

#include <stdbool.h>

struct fs_turn {
    struct fs_turn *next; /* of the list */
    bool listed, waits;
    const char *dir, *name; /* canonical directory and name of the file; borrowed until fs_turn_leave */
    void (*go)(void *user); /* it is its turn; from inside another's fs_turn_leave */
    void *user;
};

/* true: it is its turn at once; false: `go` comes later. */
bool fs_turn_take(struct fs_turn **list, struct fs_turn *t);
/* Its turn is over, or is not waited for any more. One that was never taken is fine. */
void fs_turn_leave(struct fs_turn **list, struct fs_turn *t);

#endif
