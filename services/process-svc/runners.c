/* Runners are members of one list from their birth to their end; the idle ones among them are a stack, so
 * that the one whose memory is warm is taken first, and those at the bottom end. */
#include "services/process-svc/runners.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"

enum { WARM = 2, LOOK_MS = 10000 };

struct runner {
    struct runner *next, **at; /* of all members */
    struct runner *below;      /* of the idle ones */
    struct runners *pool;
    struct link link;
    int file;
    uint32_t pid; /* 0: it has not told */
    bool idle;
    bool unfit;                                              /* not for another command */
    void (*on_end)(void *user, const struct shim_status *s); /* NULL: none is awaited */
    void *user;
};

struct runners {
    struct processes *all;
    struct runner *members, *top;
    size_t n, n_idle;
    size_t peak; /* of those that were busy at once since the last look */
    struct sa_timer *timer;
};

static void runner_free(void *user)
{
    free(user);
}

static void leave_idle(struct runner *r)
{
    struct runner **at = &r->pool->top;
    while (*at != r)
        at = &(*at)->below;
    *at = r->below;
    r->idle = false;
    r->pool->n_idle--;
}

/* Its memory goes when no callback of its link is on the stack any more. */
void runner_end(struct runner *r)
{
    if (r->idle)
        leave_idle(r);
    link_close(&r->link);
    r->file = sa_close(r->file);
    if ((*r->at = r->next))
        r->next->at = r->at;
    r->pool->n--;
    sa_defer(r->pool->all->loop, runner_free, r);
}

/* ---- what it tells ---- */

static void ended(struct runner *r, const struct shim_status *s)
{
    void (*on_end)(void *user, const struct shim_status *s) = r->on_end;
    r->on_end = NULL;
    on_end(r->user, s);
}

static void on_closed(void *user)
{
    struct runner *r = user;
    sa_log(SA_LOG_WARN, "run.runner_lost", "pid=%u busy=%d", r->pid, r->on_end != NULL);
    r->unfit = true;
    if (r->on_end)
        ended(r, NULL); /* who has it gives it back */
    else if (r->idle)
        runner_end(r);
}

static void on_status(void *user, const struct shim_status *s)
{
    struct runner *r = user;
    r->pid = s->shim_pid;
    if (s->phase == SHIM_STARTING)
        return;
    bool end = s->phase == SHIM_FAILED || s->phase == SHIM_EXITED;
    if (!end || !r->on_end) {
        link_close(&r->link);
        on_closed(r);
        return;
    }
    r->unfit |= s->descendants || (s->phase == SHIM_FAILED && s->failed_stage == SHIM_STAGE_SHIM);
    ended(r, s);
}

/* ---- the pool ---- */

static struct runner *runner_new(struct runners *pool, sa_error **err)
{
    struct processes *all = pool->all;
    cleanup_close int file = memfd_create("run", MFD_CLOEXEC);
    if (file < 0) {
        sa_fail_errno(err, errno, "memory file for commands");
        return NULL;
    }
    int fd = spawner_spawn_runner(all->spawner, file, err);
    if (fd < 0)
        return NULL;
    struct runner *r = sa_calloc(1, sizeof *r);
    r->pool = pool;
    r->file = steal_fd(&file);
    r->link = (struct link){.fd = -1, .on_status = on_status, .on_closed = on_closed, .user = r};
    link_open(&r->link, all->loop, fd);
    r->at = &pool->members;
    if ((r->next = pool->members))
        r->next->at = &r->next;
    pool->members = r;
    pool->n++;
    return r;
}

static void become_idle(struct runner *r)
{
    r->idle = true;
    r->below = r->pool->top;
    r->pool->top = r;
    r->pool->n_idle++;
}

/* As many as were needed lately, and WARM more; never more than may be busy. */
static size_t wanted(const struct runners *pool)
{
    size_t n = pool->peak + WARM, max = (size_t)pool->all->config.max_runs;
    return n < max ? n : max;
}

static void look(void *user)
{
    struct runners *pool = user;
    cleanup_error sa_error *err = NULL;
    size_t want = wanted(pool);
    while (pool->n > want && pool->n_idle) {
        struct runner *bottom = pool->top;
        while (bottom->below)
            bottom = bottom->below;
        runner_end(bottom);
    }
    while (pool->n < WARM && pool->n < want) {
        struct runner *r = runner_new(pool, &err);
        if (!r) {
            sa_log(SA_LOG_WARN, "run.no_runner", "message=\"%s\"", err->message);
            break; /* the next look tries again, and a command makes its own */
        }
        become_idle(r);
    }
    pool->peak = pool->n - pool->n_idle;
    sa_timer_start(pool->timer, LOOK_MS);
}

void runners_open(struct processes *all)
{
    struct runners *pool = all->runners = sa_calloc(1, sizeof *pool);
    pool->all = all;
    pool->timer = sa_timer_new(all->loop, look, pool);
    look(pool);
}

void runners_close(struct processes *all)
{
    struct runners *pool = all->runners;
    if (!pool)
        return;
    while (pool->members)
        runner_end(pool->members);
    sa_timer_free(pool->timer);
    free(pool);
    all->runners = NULL;
}

/* It may have, without that the loop has come to see it. */
static bool has_died(const struct runner *r)
{
    char c;
    ssize_t n = recv(r->link.fd, &c, sizeof c, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

struct runner *runners_take(struct processes *all, void (*on_end)(void *user, const struct shim_status *s),
                            void *user, sa_error **err)
{
    struct runners *pool = all->runners;
    while (pool->top && has_died(pool->top))
        on_closed(pool->top);
    struct runner *r = pool->top;
    if (r)
        leave_idle(r);
    else if (!(r = runner_new(pool, err)))
        return NULL;
    r->on_end = on_end;
    r->user = user;
    size_t busy = pool->n - pool->n_idle;
    pool->peak = busy > pool->peak ? busy : pool->peak;
    return r;
}

int runner_file(const struct runner *r)
{
    return r->file;
}

void runner_run(struct runner *r, size_t spec_bytes, size_t input_bytes)
{
    link_run(&r->link, spec_bytes, input_bytes);
}

/* The end may cross the signal, which would then hit the next command: there is no next one. */
void runner_kill(struct runner *r)
{
    r->unfit = true;
    link_signal(&r->link, SIGKILL, SHIM_SCOPE_TREE, NULL, NULL);
}

void runner_return(struct runner *r)
{
    if (!r->unfit && ftruncate(r->file, 0) == 0) {
        become_idle(r);
        return;
    }
    /* A runner that keeps something goes on with the file, and needs no more than the spec of it. */
    fallocate(r->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, RUNNER_INPUT_AT,
              RUNNER_END - RUNNER_INPUT_AT);
    runner_end(r);
}

bool runners_know(const struct processes *all, uint32_t pid)
{
    for (const struct runner *r = all->runners->members; r; r = r->next)
        if (r->pid == pid)
            return true;
    return false;
}
