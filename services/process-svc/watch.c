/* A look is cheap when nothing has changed: it reads the listening sockets of our network namespace alone. As
 * a tree may live in a namespace of its own, and nothing tells when it does, all trees are looked for each
 * TURNS_FULL-th time, and each time as long as one is there. Open files are read only when there is something
 * new to find. */
#include "services/process-svc/watch.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/process-svc/ports.h"
#include "services/process-svc/tree.h"

enum { WATCH_MS = 1000, TURNS_FULL = 5 };

struct watched {
    struct sa_id id;
    struct tree_root root;
    uint32_t *ports; /* found */
    size_t n_ports;
};

struct watch {
    struct processes *all;
    struct sa_timer *timer;
    bool looking;
    /* of the look that is under way, or was last */
    uint64_t sum; /* of our namespace's listening sockets */
    bool foreign; /* some tree lives in another namespace */
    bool looked;  /* `trees` tell what they listen on */
    unsigned turn;
    struct watched *trees;
    size_t n;
};

/* ---- in a worker ---- */

static void find_ports(struct watched *t, const struct listeners *l, const struct proc_list *tree)
{
    cleanup_free struct port *held = NULL;
    size_t n = ports_of_tree(l, tree, &held);
    t->ports = sa_malloc((n + 1) * sizeof *t->ports);
    for (size_t i = 0; i < n; i++) /* they come sorted */
        if (!t->n_ports || t->ports[t->n_ports - 1] != held[i].listener->port)
            t->ports[t->n_ports++] = held[i].listener->port;
}

static void look_at_trees(struct watch *w, struct listeners *l, bool new_sum)
{
    cleanup_proc_table struct proc_table table = {0};
    if (proc_table_read(&table, NULL) < 0)
        return; /* in the next turn */
    struct proc_list *trees = sa_calloc(w->n + 1, sizeof *trees);
    for (size_t i = 0; i < w->n; i++) {
        tree_walk(&table, &w->trees[i].root, &trees[i]);
        listeners_add(l, &trees[i]);
    }
    bool foreign = l->n_namespaces > 1;
    w->looked = new_sum || foreign || w->foreign;
    for (size_t i = 0; i < w->n; i++) {
        if (w->looked)
            find_ports(&w->trees[i], l, &trees[i]);
        proc_list_fini(&trees[i]);
    }
    w->foreign = foreign;
    free(trees);
}

static void look_work(void *user)
{
    struct watch *w = user;
    struct listeners l;
    uint64_t sum;
    listeners_read(&l, &sum);
    bool new_sum = sum != w->sum;
    w->looked = false;
    if (new_sum || w->foreign || w->turn++ % TURNS_FULL == 0)
        look_at_trees(w, &l, new_sum);
    if (w->looked || !new_sum)
        w->sum = sum;
    listeners_fini(&l);
}

/* ---- under the lock ---- */

static bool is_over(const struct process *p)
{
    return p->phase == PROCESS_EXITED && !process_has_descendants(p);
}

static void keep(struct process *p, struct watched *t)
{
    free(p->ports);
    p->ports = steal_pointer(&t->ports);
    p->n_ports = t->n_ports;
    process_step(p); /* which commits the change, now or after what it commits already */
}

static void look_done(void *user)
{
    struct watch *w = user;
    size_t running = w->n;
    w->looking = false;
    for (size_t i = 0; i < w->n; i++) {
        struct process *p = processes_live(w->all, w->trees[i].id);
        struct tree_root now;
        if (w->looked && p && !is_over(p) && tree_root_of(p, &now) &&
            now.shim_start == w->trees[i].root.shim_start)
            keep(p, &w->trees[i]);
        free(w->trees[i].ports);
    }
    free(steal_pointer(&w->trees));
    w->n = 0;
    if (running)
        watch_go_on(w);
    service_release(w->all->svc);
}

static void add_tree(struct watch *w, const struct process *p)
{
    struct watched t = {.id = p->id};
    if (!tree_root_of(p, &t.root))
        return;
    if ((w->n & (w->n - 1)) == 0)
        w->trees = sa_realloc(w->trees, (w->n ? 2 * w->n : 1) * sizeof *w->trees);
    w->trees[w->n++] = t;
}

static void look(void *user)
{
    struct watch *w = user;
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (const struct process *p = w->all->buckets[i]; p; p = p->next)
            add_tree(w, p);
    if (!w->n || w->all->draining)
        return; /* until something runs again */
    w->looking = true;
    service_hold(w->all->svc);
    sa_work(w->all->loop, look_work, look_done, w);
}

void watch_go_on(struct watch *w)
{
    if (!w->looking && !sa_timer_active(w->timer) && !w->all->draining)
        sa_timer_start(w->timer, WATCH_MS);
}

struct watch *watch_new(struct processes *all)
{
    struct watch *w = sa_calloc(1, sizeof *w);
    w->all = all;
    w->timer = sa_timer_new(all->loop, look, w);
    return w;
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    sa_timer_free(w->timer);
    free(w->trees);
    free(w);
}

/* ---- what was seen, and what is committed ---- */

static bool same_ports(const ProcessRecord *r, const uint32_t *ports, size_t n)
{
    return r->n_ports == n && (!n || !memcmp(r->ports, ports, n * sizeof *ports));
}

void watch_clear(ProcessRecord *r)
{
    free(r->ports);
    r->ports = NULL;
    r->n_ports = 0;
}

bool watch_change(const struct process *p, ProcessRecord **ret_next)
{
    size_t n = is_over(p) ? 0 : p->n_ports;
    if ((!is_over(p) && !p->ports) || same_ports(p->record, p->ports, n))
        return false;
    ProcessRecord *next = process_record_copy(p->record);
    watch_clear(next);
    if (n) {
        next->ports = sa_memdup(p->ports, n * sizeof *p->ports);
        next->n_ports = n;
    }
    *ret_next = next;
    return true;
}
