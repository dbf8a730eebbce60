/* Clearing goes in rounds of a scan and a signal to all that were chosen. As long as a round finds new ones
 * they are stopped, so that they start nothing that could escape to another parent unseen; then they are
 * killed, in every round, until nothing is left. One that starts others faster than rounds go is not waited
 * for: after half of the time everything is killed at once. */
#include "services/process-svc/census.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/scan.h"

enum {
    CENSUS_TREES_MAX = 1000,
    CLEAR_MS = 2000,
    ROUND_MS = 10,           /* between rounds that found nothing new */
    CLEAR_NAMES_MAX = 10000, /* in one request */
};

/* ---- TakeCensus ---- */

struct census {
    struct scan scan;
    struct rpc_call *call;
    struct sa_arena *arena;
    TakeCensusResponse res;
    sa_error *err;
};

static void add_tree(struct census *c, const struct scan_tree *t)
{
    if (!t->list.n)
        return;
    ResourceUsage *usage = tree_usage(c->arena, t->shim, &t->list);
    tree_usage_add(c->res.usage, usage);
    c->res.tree_count++;
    if (c->res.n_trees == CENSUS_TREES_MAX)
        return;
    LiveTree *m = c->res.trees[c->res.n_trees++] = sa_arena_alloc(c->arena, sizeof *m);
    live_tree__init(m);
    m->process_id = sa_arena_alloc(c->arena, SA_ID_TEXT + 1);
    sa_id_format(t->id, m->process_id);
    m->ended = t->ended;
    m->usage = usage;
}

static void census_read(void *user)
{
    struct census *c = user;
    scan_read(&c->scan, &c->err);
}

static void census_classify(void *user)
{
    struct census *c = user;
    if (c->err || scan_classify(&c->scan, &c->err) < 0)
        return;
    scan_drop_ended(&c->scan.strays);
    c->res.usage = tree_usage(c->arena, NULL, &(struct proc_list){0});
    c->res.trees = sa_arena_alloc(c->arena, CENSUS_TREES_MAX * sizeof *c->res.trees);
    for (size_t i = 0; i < c->scan.n_trees; i++)
        add_tree(c, &c->scan.trees[i]);
    c->res.stray_count = (uint32_t)c->scan.strays.n;
    c->res.strays = tree_messages(c->arena, &c->scan.strays, &c->res.n_strays);
}

static void census_done(void *user)
{
    struct census *c = user;
    if (c->err)
        rpc_fail(c->call, c->err);
    else
        take_census_reply(c->call, &c->res);
    rpc_call_unref(c->call);
    look_end(c->scan.all);
    scan_reset(&c->scan);
    sa_arena_free(c->arena);
    free(c);
}

static void census_known(void *user)
{
    struct census *c = user;
    scan_known(&c->scan);
    sa_work(c->scan.all->loop, census_classify, census_done, c);
}

void take_census_handler(void *api, struct rpc_call *call, const TakeCensusRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    (void)req;
    if (look_begin(all, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct census *c = sa_calloc(1, sizeof *c);
    c->scan.all = all;
    c->call = rpc_call_ref(call);
    c->arena = sa_arena_new();
    take_census_response__init(&c->res);
    sa_work(all->loop, census_read, census_known, c);
}

/* ---- ClearStrays ---- */

struct name {
    int pid;
    uint64_t start_ticks;
};

struct names {
    struct name *list;
    size_t n;
};

struct clearing {
    struct scan scan;
    struct rpc_call *call;
    struct sa_arena *arena;
    struct sa_timer *timer;
    struct names asked;  /* sorted; none: all */
    struct names chosen; /* in all rounds */
    uint64_t started_ms;
    bool found_new; /* in the last round */
    bool over;
    ClearStraysResponse res;
    sa_error *err;
};

static int by_name(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    if (x->pid != y->pid)
        return x->pid < y->pid ? -1 : 1;
    return (x->start_ticks > y->start_ticks) - (x->start_ticks < y->start_ticks);
}

static void add_name(struct names *names, int pid, uint64_t start_ticks)
{
    if ((names->n & (names->n - 1)) == 0)
        names->list = sa_realloc(names->list, (names->n ? 2 * names->n : 1) * sizeof *names->list);
    names->list[names->n++] = (struct name){pid, start_ticks};
}

static bool is_asked(const struct clearing *c, const struct proc *p)
{
    const struct name key = {p->pid, p->start_ticks};
    return !c->asked.n || bsearch(&key, c->asked.list, c->asked.n, sizeof key, by_name);
}

enum { NOT_CHOSEN, CHOSEN_NOW, CHOSEN_BEFORE }; /* proc.mark */

/* Keeps, of the strays, those that were asked for, those chosen in earlier rounds, and what descends from
 * these. */
static void choose(struct clearing *c)
{
    struct proc_list *strays = &c->scan.strays;
    size_t kept = 0;
    for (size_t i = 0; i < c->chosen.n; i++) {
        const struct name *n = &c->chosen.list[i];
        struct proc *p = proc_table_find(&c->scan.table, n->pid, n->start_ticks);
        if (p)
            p->mark = CHOSEN_BEFORE;
    }
    for (size_t i = 0; i < strays->n; i++) {
        struct proc *p = strays->list[i];
        const struct proc *parent = proc_table_find(&c->scan.table, p->parent, 0);
        if (!p->mark && (is_asked(c, p) || (parent && parent->mark)))
            p->mark = CHOSEN_NOW;
        if (p->mark)
            strays->list[kept++] = p;
    }
    strays->n = kept;
}

static void remember(struct clearing *c)
{
    c->found_new = false;
    for (size_t i = 0; i < c->scan.strays.n; i++) {
        const struct proc *p = c->scan.strays.list[i];
        if (p->mark == CHOSEN_BEFORE)
            continue;
        add_name(&c->chosen, p->pid, p->start_ticks);
        c->found_new = true;
    }
}

static void signal_checked(const struct proc *p, int signum)
{
    struct proc now;
    cleanup_close int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    if (fd >= 0 && proc_read(p->pid, &now) == 0 && now.start_ticks == p->start_ticks)
        syscall(SYS_pidfd_send_signal, fd, signum, NULL, 0); /* what we may not signal is told as left */
}

static void clear_read(void *user)
{
    struct clearing *c = user;
    scan_read(&c->scan, &c->err);
}

static void clear_round(void *user)
{
    struct clearing *c = user;
    uint64_t ms = sa_now_ms() - c->started_ms;
    if (c->err || scan_classify(&c->scan, &c->err) < 0) {
        c->over = true;
        return;
    }
    choose(c);
    bool none = !c->scan.strays.n; /* one that has just ended may have started another, unseen */
    scan_drop_ended(&c->scan.strays);
    remember(c);
    int signum = c->found_new && ms < CLEAR_MS / 2 ? SIGSTOP : SIGKILL;
    for (size_t i = 0; i < c->scan.strays.n; i++)
        signal_checked(c->scan.strays.list[i], signum);
    c->over = none || ms >= CLEAR_MS;
    if (c->over)
        c->res.left = tree_messages(c->arena, &c->scan.strays, &c->res.n_left);
}

static void clear_reply(struct clearing *c)
{
    c->res.cleared = (uint32_t)(c->chosen.n - c->scan.strays.n);
    sa_log(SA_LOG_INFO, "process.strays_cleared", "cleared=%u left=%zu", c->res.cleared, c->scan.strays.n);
    if (c->err)
        rpc_fail(c->call, c->err);
    else
        clear_strays_reply(c->call, &c->res);
    rpc_call_unref(c->call);
    look_end(c->scan.all);
    scan_reset(&c->scan);
    sa_timer_free(c->timer);
    free(c->asked.list);
    free(c->chosen.list);
    sa_arena_free(c->arena);
    free(c);
}

static void clear_done(void *user)
{
    struct clearing *c = user;
    if (c->over) {
        clear_reply(c);
        return;
    }
    scan_reset(&c->scan);
    sa_timer_start(c->timer, c->found_new ? 0 : ROUND_MS);
}

static void clear_known(void *user)
{
    struct clearing *c = user;
    scan_known(&c->scan);
    sa_work(c->scan.all->loop, clear_round, clear_done, c);
}

static void clear_begin(void *user)
{
    struct clearing *c = user;
    sa_work(c->scan.all->loop, clear_read, clear_known, c);
}

void clear_strays_handler(void *api, struct rpc_call *call, const ClearStraysRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    if (req->n_strays > CLEAR_NAMES_MAX)
        sa_fail(&err, SA_INVALID_REQUEST, "strays has %zu names, at most %d are allowed", req->n_strays,
                CLEAR_NAMES_MAX);
    if (err || look_begin(all, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct clearing *c = sa_calloc(1, sizeof *c);
    c->scan.all = all;
    c->call = rpc_call_ref(call);
    c->arena = sa_arena_new();
    c->timer = sa_timer_new(all->loop, clear_begin, c);
    c->started_ms = sa_now_ms();
    clear_strays_response__init(&c->res);
    for (size_t i = 0; i < req->n_strays; i++)
        add_name(&c->asked, (int)req->strays[i]->pid, req->strays[i]->start_ticks);
    if (c->asked.n)
        qsort(c->asked.list, c->asked.n, sizeof *c->asked.list, by_name);
    clear_begin(c);
}
