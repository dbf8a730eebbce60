/* The event loop and the service lock (architecture.md "Threads").
 *
 * One lock owns every object of a service. The loop thread (sa_loop_run) holds it except while it polls;
 * any other thread (the gRPC completion-queue thread, the LMDB writer) takes it with sa_loop_lock, runs
 * handlers to their end and releases it. Every callback below runs with the lock held and must not block:
 * what blocks goes through sa_work. Every function below, except where it says otherwise, is called with the
 * lock held, from any thread, and may be called from a callback. Watchers may be stopped and freed from
 * any callback, their own too. */
#ifndef ADAPTERS_OS_LOOP_H_
#define ADAPTERS_OS_LOOP_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"

struct sa_loop;

/* Called without the lock. */
struct sa_loop *sa_loop_new(sa_error **err);
void sa_loop_free(struct sa_loop *loop); /* after sa_loop_run has returned; joins the worker threads */

/* Called without the lock, by the thread that is to be the loop thread. Returns after sa_loop_stop. */
void sa_loop_run(struct sa_loop *loop);
void sa_loop_stop(struct sa_loop *loop);

/* Not recursive. Releasing wakes the loop when watchers changed meanwhile. */
void sa_loop_lock(struct sa_loop *loop);
void sa_loop_unlock(struct sa_loop *loop);
/* For assertions: does the calling thread hold the lock? */
bool sa_loop_held(const struct sa_loop *loop);

/* ---- timers, milliseconds ---- */

struct sa_timer;
typedef void sa_timer_fn(void *user);
struct sa_timer *sa_timer_new(struct sa_loop *loop, sa_timer_fn *fn, void *user); /* stopped */
void sa_timer_start(struct sa_timer *t, uint64_t after_ms); /* once; restarts when it runs already */
void sa_timer_every(struct sa_timer *t, uint64_t every_ms); /* repeats, first after every_ms */
void sa_timer_stop(struct sa_timer *t);
bool sa_timer_active(const struct sa_timer *t);
void sa_timer_free(struct sa_timer *t); /* NULL is fine */

/* ---- readiness of a descriptor; the caller keeps owning fd and frees the watcher before closing it ---- */

enum { SA_IO_READ = 1, SA_IO_WRITE = 2 };
struct sa_io;
typedef void sa_io_fn(void *user, int fd, int events);
struct sa_io *sa_io_new(struct sa_loop *loop, int fd, sa_io_fn *fn, void *user); /* watches nothing yet */
void sa_io_set(struct sa_io *io, int events);                                    /* 0 pauses */
void sa_io_free(struct sa_io *io);                                               /* NULL is fine */

/* ---- signals and children ---- */

struct sa_signal;
typedef void sa_signal_fn(void *user, int signum);
struct sa_signal *sa_signal_new(struct sa_loop *loop, int signum, sa_signal_fn *fn, void *user);
void sa_signal_free(struct sa_signal *s);

/* Watches a direct child by pidfd; reaps it (waitpid of this pid only) and calls fn once with the wait
 * status. */
struct sa_child;
typedef void sa_child_fn(void *user, int wstatus);
struct sa_child *sa_child_new(struct sa_loop *loop, pid_t pid, sa_child_fn *fn, void *user, sa_error **err);
void sa_child_free(struct sa_child *c); /* stops watching; does not kill or reap */

/* ---- later and elsewhere ---- */

/* Runs fn soon, on the loop thread, under the lock, in the order of the calls. Ends recursion and makes it
 * safe to free what the current callback still uses. */
void sa_defer(struct sa_loop *loop, void (*fn)(void *user), void *user);

/* Runs what was deferred, and what that defers, until nothing is: before what the calls would use is freed.
 * By the loop thread, outside of sa_loop_run. */
void sa_loop_settle(struct sa_loop *loop);

/* Runs `work` on a bounded pool of threads WITHOUT the lock, then `done` there under it.
 * Work that is queued when the loop is freed is run and its done is called. */
void sa_work(struct sa_loop *loop, void (*work)(void *user), void (*done)(void *user), void *user);

#endif
