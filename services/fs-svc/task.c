#include "services/fs-svc/task.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "adapters/os/mem.h"

static void finished(void *user)
{
    struct fs_task *t = user;
    pthread_join(t->thread, NULL);
    sa_close(t->wake);
    t->target.fs->n_tasks--;
    if (t->err && !fs_task_left(t))
        rpc_fail(t->target.call, sa_error_copy(t->err));
    t->done(t);
}

static void *work(void *user)
{
    struct fs_task *t = user;
    struct fs_service *fs = t->target.fs;
    if (fs_identity_enter(fs->identity, &t->err) == 0) {
        t->run(t);
        fs_identity_leave(fs->identity);
    }
    sa_loop_lock(fs->loop);
    sa_defer(fs->loop, finished, t);
    sa_loop_unlock(fs->loop);
    return NULL;
}

int fs_task_start(struct fs_task *t, sa_error **err)
{
    struct fs_service *fs = t->target.fs;
    if (fs->n_tasks >= FS_TASKS_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d searches and archives are under way, that is the limit",
                       FS_TASKS_MAX);
    t->room = true;
    t->wake = eventfd(0, EFD_CLOEXEC);
    if (t->wake < 0)
        return sa_fail_errno(err, errno, "eventfd");
    int r = pthread_create(&t->thread, NULL, work, t);
    if (r) {
        sa_close(t->wake);
        return sa_fail_errno(err, r, "start a thread");
    }
    fs->n_tasks++;
    return 0;
}

void fs_task_wake(struct fs_task *t)
{
    uint64_t one = 1;
    /* Cannot fail: nobody adds up to 2^64. */
    (void)!write(t->wake, &one, sizeof one);
}

void fs_task_on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct fs_task *t = user;
    t->room = true;
    fs_task_wake(t);
}

void fs_task_on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct fs_task *t = user;
    atomic_store_explicit(&t->left, true, memory_order_relaxed);
    fs_task_wake(t);
}

void fs_task_lock(struct fs_task *t)
{
    sa_loop_lock(t->target.fs->loop);
}

void fs_task_unlock(struct fs_task *t)
{
    sa_loop_unlock(t->target.fs->loop);
}

void fs_task_wait(struct fs_task *t)
{
    uint64_t wakes;
    fs_task_unlock(t);
    while (read(t->wake, &wakes, sizeof wakes) < 0 && errno == EINTR)
        continue;
    fs_task_lock(t);
}

bool fs_task_lock_to_send(struct fs_task *t)
{
    fs_task_lock(t);
    while (!t->room && !fs_task_left(t))
        fs_task_wait(t);
    if (!fs_task_left(t))
        return true;
    fs_task_unlock(t);
    return false;
}
