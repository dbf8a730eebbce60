/* Design notes
 *
 * libev polls without the lock: ev_set_loop_release_cb gives us the two moments. Watchers may be changed by
 * any thread that holds the lock, even while the loop thread is inside epoll_wait; libev then needs to be
 * woken, or it would go on with the old timeout. So every change sets `dirty`, and the unlock of a thread
 * other than the loop's sends one ev_async.
 *
 * libev's idea of "now" is the time of its last wake-up. A timer started by another thread after a long
 * idle would fire at once, so starting a timer always calls ev_now_update first.
 *
 * ev_break from another thread while the loop polls is lost (libev overwrites its flag after the poll):
 * stopping is a flag of ours, and the loop thread breaks by itself.
 *
 * Only ev_loop_new, never the default loop: that one installs a SIGCHLD handler which reaps every child. */
#include "adapters/os/loop.h"

#include <errno.h>
#include <ev.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { WORKERS = 2 };

struct task {
    struct task *next;
    void (*work)(void *user); /* NULL: a deferred call */
    void (*done)(void *user);
    void *user;
};

struct queue {
    struct task *head, **tail;
};

struct sa_loop {
    struct ev_loop *ev;
    ev_async wake;
    pthread_mutex_t lock;
    _Atomic pthread_t owner; /* valid while `held` */
    _Atomic bool held;
    pthread_t thread; /* the loop thread, while running */
    bool running;
    bool stopping;
    bool dirty;
    struct queue deferred;

    pthread_mutex_t work_lock; /* guards `work` and `closing` only; never taken with callbacks running */
    pthread_cond_t work_cond;
    struct queue work;
    bool closing;
    int n_workers;
    pthread_t worker[WORKERS];
};

static void push(struct queue *q, struct task *t)
{
    t->next = NULL;
    *q->tail = t;
    q->tail = &t->next;
}

static struct task *pop(struct queue *q)
{
    struct task *t = q->head;
    if (t && !(q->head = t->next))
        q->tail = &q->head;
    return t;
}

static void acquire(struct sa_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    atomic_store_explicit(&loop->owner, pthread_self(), memory_order_relaxed);
    atomic_store_explicit(&loop->held, true, memory_order_relaxed);
}

static void release(struct sa_loop *loop)
{
    atomic_store_explicit(&loop->held, false, memory_order_relaxed);
    pthread_mutex_unlock(&loop->lock);
}

void sa_loop_lock(struct sa_loop *loop)
{
    acquire(loop);
}

void sa_loop_unlock(struct sa_loop *loop)
{
    bool wake = loop->dirty && !(loop->running && pthread_equal(pthread_self(), loop->thread));
    loop->dirty = false;
    release(loop);
    if (wake) /* now, not before: it would only wait for the lock */
        ev_async_send(loop->ev, &loop->wake);
}

bool sa_loop_held(const struct sa_loop *loop)
{
    return atomic_load_explicit(&loop->held, memory_order_relaxed) &&
           pthread_equal(atomic_load_explicit(&loop->owner, memory_order_relaxed), pthread_self());
}

static void on_release(struct ev_loop *ev)
{
    struct sa_loop *loop = ev_userdata(ev);
    loop->dirty = false;
    release(loop);
}

static void on_acquire(struct ev_loop *ev)
{
    acquire(ev_userdata(ev));
}

static void on_wake(struct ev_loop *ev, ev_async *w, int events)
{
    (void)w, (void)events;
    struct sa_loop *loop = ev_userdata(ev);
    if (loop->stopping)
        ev_break(ev, EVBREAK_ALL);
    /* Only what is queued now: a task that defers again runs in the next round. */
    struct queue q = {loop->deferred.head, loop->deferred.tail};
    if (!q.head)
        return;
    loop->deferred = (struct queue){NULL, &loop->deferred.head};
    while (q.head) {
        struct task *t = q.head;
        q.head = t->next;
        t->done(t->user);
        free(t);
    }
    if (loop->deferred.head)
        ev_async_send(loop->ev, &loop->wake);
}

struct sa_loop *sa_loop_new(sa_error **err)
{
    struct sa_loop *loop = sa_calloc(1, sizeof *loop);
    loop->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV | EVFLAG_NOSIGMASK);
    if (!loop->ev) {
        free(loop);
        sa_fail(err, SA_SYSTEM_ERROR, "no event loop: the kernel offers neither epoll nor poll");
        return NULL;
    }
    pthread_mutex_init(&loop->lock, NULL);
    pthread_mutex_init(&loop->work_lock, NULL);
    pthread_cond_init(&loop->work_cond, NULL);
    loop->deferred.tail = &loop->deferred.head;
    loop->work.tail = &loop->work.head;
    ev_set_userdata(loop->ev, loop);
    ev_set_loop_release_cb(loop->ev, on_release, on_acquire);
    ev_async_init(&loop->wake, on_wake);
    ev_async_start(loop->ev, &loop->wake);
    return loop;
}

void sa_loop_run(struct sa_loop *loop)
{
    acquire(loop);
    loop->thread = pthread_self();
    loop->running = true;
    ev_run(loop->ev, 0);
    loop->running = false;
    loop->stopping = false; /* it may be run again */
    release(loop);
}

void sa_loop_stop(struct sa_loop *loop)
{
    loop->stopping = true;
    ev_async_send(loop->ev, &loop->wake);
}

void sa_loop_free(struct sa_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->work_lock);
    loop->closing = true;
    pthread_cond_broadcast(&loop->work_cond);
    pthread_mutex_unlock(&loop->work_lock);
    for (int i = 0; i < loop->n_workers; i++)
        pthread_join(loop->worker[i], NULL);
    acquire(loop);
    sa_loop_settle(loop);
    release(loop);
    ev_async_stop(loop->ev, &loop->wake);
    ev_loop_destroy(loop->ev);
    pthread_cond_destroy(&loop->work_cond);
    pthread_mutex_destroy(&loop->work_lock);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

/* ---- timers ---- */

struct sa_timer {
    ev_timer w;
    struct sa_loop *loop;
    sa_timer_fn *fn;
    void *user;
};

static void on_timer(struct ev_loop *ev, ev_timer *w, int events)
{
    (void)ev, (void)events;
    struct sa_timer *t = w->data;
    t->fn(t->user);
}

struct sa_timer *sa_timer_new(struct sa_loop *loop, sa_timer_fn *fn, void *user)
{
    struct sa_timer *t = sa_calloc(1, sizeof *t);
    t->loop = loop;
    t->fn = fn;
    t->user = user;
    ev_timer_init(&t->w, on_timer, 0, 0);
    t->w.data = t;
    return t;
}

static void start(struct sa_timer *t, uint64_t after_ms, uint64_t repeat_ms)
{
    ev_now_update(t->loop->ev);
    /* One that is put off is noticed when it was to fire. */
    bool later = ev_is_active(&t->w) && ev_timer_remaining(t->loop->ev, &t->w) <= (double)after_ms / 1000;
    ev_timer_stop(t->loop->ev, &t->w);
    ev_timer_set(&t->w, (double)after_ms / 1000, (double)repeat_ms / 1000);
    ev_timer_start(t->loop->ev, &t->w);
    t->loop->dirty |= !later;
}

void sa_timer_start(struct sa_timer *t, uint64_t after_ms)
{
    start(t, after_ms, 0);
}

void sa_timer_every(struct sa_timer *t, uint64_t every_ms)
{
    start(t, every_ms, every_ms);
}

void sa_timer_stop(struct sa_timer *t)
{
    ev_timer_stop(t->loop->ev, &t->w);
}

bool sa_timer_active(const struct sa_timer *t)
{
    return ev_is_active(&t->w);
}

void sa_timer_free(struct sa_timer *t)
{
    if (!t)
        return;
    ev_timer_stop(t->loop->ev, &t->w);
    free(t);
}

/* ---- descriptors ---- */

struct sa_io {
    ev_io w;
    struct sa_loop *loop;
    sa_io_fn *fn;
    void *user;
};

static void on_io(struct ev_loop *ev, ev_io *w, int events)
{
    (void)ev;
    struct sa_io *io = w->data;
    io->fn(io->user, w->fd, (events & EV_READ ? SA_IO_READ : 0) | (events & EV_WRITE ? SA_IO_WRITE : 0));
}

struct sa_io *sa_io_new(struct sa_loop *loop, int fd, sa_io_fn *fn, void *user)
{
    struct sa_io *io = sa_calloc(1, sizeof *io);
    io->loop = loop;
    io->fn = fn;
    io->user = user;
    ev_io_init(&io->w, on_io, fd, 0);
    io->w.data = io;
    return io;
}

void sa_io_set(struct sa_io *io, int events)
{
    int want = (events & SA_IO_READ ? EV_READ : 0) | (events & SA_IO_WRITE ? EV_WRITE : 0);
    if (ev_is_active(&io->w) ? (io->w.events & (EV_READ | EV_WRITE)) == want : !want)
        return;
    ev_io_stop(io->loop->ev, &io->w);
    ev_io_set(&io->w, io->w.fd, want);
    if (want)
        ev_io_start(io->loop->ev, &io->w);
    io->loop->dirty = true;
}

void sa_io_free(struct sa_io *io)
{
    if (!io)
        return;
    ev_io_stop(io->loop->ev, &io->w);
    io->loop->dirty = true;
    free(io);
}

/* ---- signals ---- */

struct sa_signal {
    int fd;
    int signum;
    struct sa_io *io;
    sa_signal_fn *fn;
    void *user;
};

static void on_signal(void *user, int fd, int events)
{
    (void)events;
    struct sa_signal *s = user;
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof info) == (ssize_t)sizeof info)
        s->fn(s->user, s->signum);
}

struct sa_signal *sa_signal_new(struct sa_loop *loop, int signum, sa_signal_fn *fn, void *user)
{
    struct sa_signal *s = sa_calloc(1, sizeof *s);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signum);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->signum = signum;
    s->fn = fn;
    s->user = user;
    s->io = sa_io_new(loop, s->fd, on_signal, s);
    sa_io_set(s->io, SA_IO_READ);
    return s;
}

void sa_signal_free(struct sa_signal *s)
{
    if (!s)
        return;
    sa_io_free(s->io);
    sa_close(s->fd);
    free(s);
}

/* ---- children ---- */

struct sa_child {
    pid_t pid;
    int fd;
    struct sa_io *io;
    sa_child_fn *fn;
    void *user;
};

static void on_child(void *user, int fd, int events)
{
    (void)fd, (void)events;
    struct sa_child *c = user;
    int wstatus = 0;
    pid_t r = waitpid(c->pid, &wstatus, WNOHANG);
    if (r == 0)
        return;
    sa_io_set(c->io, 0);
    c->fn(c->user, wstatus);
}

struct sa_child *sa_child_new(struct sa_loop *loop, pid_t pid, sa_child_fn *fn, void *user, sa_error **err)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        sa_fail_errno(err, errno, "pidfd_open of child %d", (int)pid);
        return NULL;
    }
    struct sa_child *c = sa_calloc(1, sizeof *c);
    c->pid = pid;
    c->fd = fd;
    c->fn = fn;
    c->user = user;
    c->io = sa_io_new(loop, fd, on_child, c);
    sa_io_set(c->io, SA_IO_READ);
    return c;
}

void sa_child_free(struct sa_child *c)
{
    if (!c)
        return;
    sa_io_free(c->io);
    sa_close(c->fd);
    free(c);
}

/* ---- later and elsewhere ---- */

static void defer(struct sa_loop *loop, struct task *t)
{
    push(&loop->deferred, t);
    ev_async_send(loop->ev, &loop->wake);
}

void sa_defer(struct sa_loop *loop, void (*fn)(void *user), void *user)
{
    struct task *t = sa_calloc(1, sizeof *t);
    t->done = fn;
    t->user = user;
    defer(loop, t);
}

static void *worker(void *arg)
{
    struct sa_loop *loop = arg;
    pthread_mutex_lock(&loop->work_lock);
    for (;;) {
        struct task *t = pop(&loop->work);
        if (!t && loop->closing)
            break;
        if (!t) {
            pthread_cond_wait(&loop->work_cond, &loop->work_lock);
            continue;
        }
        pthread_mutex_unlock(&loop->work_lock);
        t->work(t->user);
        sa_loop_lock(loop);
        t->done(t->user);
        sa_loop_unlock(loop);
        free(t);
        pthread_mutex_lock(&loop->work_lock);
    }
    pthread_mutex_unlock(&loop->work_lock);
    return NULL;
}

void sa_loop_settle(struct sa_loop *loop)
{
    for (struct task *t; (t = pop(&loop->deferred));) {
        t->done(t->user);
        free(t);
    }
}

void sa_work(struct sa_loop *loop, void (*work)(void *user), void (*done)(void *user), void *user)
{
    struct task *t = sa_calloc(1, sizeof *t);
    t->work = work;
    t->done = done;
    t->user = user;
    pthread_mutex_lock(&loop->work_lock);
    push(&loop->work, t);
    if (loop->n_workers < WORKERS && !pthread_create(&loop->worker[loop->n_workers], NULL, worker, loop))
        loop->n_workers++;
    pthread_cond_signal(&loop->work_cond);
    pthread_mutex_unlock(&loop->work_lock);
}
