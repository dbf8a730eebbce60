/* Readiness by TCP port: a walk through /proc in a worker, again every LOOK_MS while a process waits for it.
 * (What is looked for in output, the shims look for.) */
#include <stdlib.h>

#include "adapters/os/mem.h"
#include "services/process-svc/ports.h"
#include "services/process-svc/processes.h"

enum { LOOK_MS = 100 };

struct probe {
    struct sa_id id;
    uint32_t run; /* as process.port_run */
    int pid;
    uint32_t port;
    bool found;
};

struct look {
    struct processes *all; /* NULL: the service has ended meanwhile */
    struct probe *probes;
    size_t n;
};

static bool is_waiting(const struct process *p)
{
    const ReadinessProbe *probe = p->record ? p->record->readiness : NULL;
    return p->phase == PROCESS_RUNNING && probe && probe->kind_case == READINESS_PROBE__KIND_TCP_PORT &&
           p->status.phase == SHIM_RUNNING && !process_is_ready(p);
}

static void look_work(void *user)
{
    struct look *l = user;
    for (size_t i = 0; i < l->n; i++)
        l->probes[i].found = ports_tree_listens(l->probes[i].pid, l->probes[i].port);
}

static void look_done(void *user)
{
    struct look *l = user;
    if (l->all)
        l->all->look = NULL;
    for (size_t i = 0; i < l->n && l->all; i++) {
        struct process *p = processes_live(l->all, l->probes[i].id);
        if (!p)
            continue;
        if (l->probes[i].found)
            p->port_run = l->probes[i].run;
        process_step(p); /* which looks again, if it must */
    }
    free(l->probes);
    free(l);
}

static void look(void *user)
{
    struct processes *all = user;
    struct look *l = sa_calloc(1, sizeof *l);
    l->all = all;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (struct process *p = all->buckets[i]; p; p = p->next) {
            if (!is_waiting(p))
                continue;
            if ((l->n & (l->n - 1)) == 0)
                l->probes = sa_realloc(l->probes, (l->n ? 2 * l->n : 1) * sizeof *l->probes);
            l->probes[l->n++] = (struct probe){p->id, p->status.restarts + 1, (int)p->status.shim_pid,
                                               p->record->readiness->tcp_port, false};
        }
    if (!l->n) {
        free(l);
        return;
    }
    all->look = l;
    sa_work(all->loop, look_work, look_done, l);
}

void ready_await(struct process *p)
{
    struct processes *all = p->all;
    if (!is_waiting(p) || all->look || sa_timer_active(all->look_timer))
        return;
    sa_timer_start(all->look_timer, LOOK_MS);
}

void ready_init(struct processes *all)
{
    all->look_timer = sa_timer_new(all->loop, look, all);
}

void ready_fini(struct processes *all)
{
    sa_timer_free(all->look_timer);
    if (all->look)
        all->look->all = NULL;
}
