/* A call that works for long: on a thread of its own, beside the workers of the loop, so that it starves
 * nobody, and can wait in the middle of anything for its caller. The thread has the user's file rights from
 * start to end. What it shares with handlers is under the service lock. */
#ifndef SERVICES_FS_SVC_TASK_H_
#define SERVICES_FS_SVC_TASK_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "services/fs-svc/fs.h"

enum { FS_TASKS_MAX = 32 }; /* at once; more: TOO_MANY */

/* Part of the caller's own struct. */
struct fs_task {
    struct fs_target target;
    /* On the thread, without the lock. An error it leaves in `err` ends the call. */
    void (*run)(struct fs_task *t);
    /* Under the lock, after run: ends the call, if it lives and there is no error, and frees. */
    void (*done)(struct fs_task *t);
    sa_error *err;
    bool room;        /* the stream takes more; under the lock */
    atomic_bool left; /* the caller has left */
    pthread_t thread;
    int wake; /* eventfd */
};

/* Under the lock. Takes target, run, done and the call's end from then on; *t is zero but for those.
 * -1: TOO_MANY, SYSTEM_ERROR, and nothing was taken. */
int fs_task_start(struct fs_task *t, sa_error **err);
/* For the events of the call; user is the task. */
void fs_task_on_writable(void *user, struct rpc_call *call);
void fs_task_on_cancel(void *user, struct rpc_call *call);
/* Under the lock: what fs_task_wait waits for may have come. */
void fs_task_wake(struct fs_task *t);

/* ---- on the thread ---- */

static inline bool fs_task_left(struct fs_task *t)
{
    return atomic_load_explicit(&t->left, memory_order_relaxed);
}

void fs_task_lock(struct fs_task *t);
void fs_task_unlock(struct fs_task *t);
/* With the lock held: gives it up until there was a wake. */
void fs_task_wait(struct fs_task *t);
/* Waits until the stream takes more: true, and the lock is held; send, set t->room, unlock. False: the caller
 * has left, the lock is not held. */
bool fs_task_lock_to_send(struct fs_task *t);

#endif
