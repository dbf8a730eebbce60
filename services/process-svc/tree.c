/* CPU time of a tree is what its processes have used, and what the kernel has added to whoever waited for one
 * that ended: in the end the shim. So is what they read and wrote; there the shim's own part is taken out. A
 * child that nobody waited for (its parent ignores SIGCHLD) is lost to these sums. */
#include "services/process-svc/tree.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/process-svc/ports.h"

bool tree_root_of(const struct process *p, struct tree_root *ret)
{
    const struct shim_status *s = &p->status;
    if (!link_is_open(&p->link) || !s->shim_pid || p->gone)
        return false;
    *ret = (struct tree_root){(int)s->shim_pid, (int)s->child_pid, s->shim_start};
    return true;
}

const struct proc *tree_walk(const struct proc_table *t, const struct tree_root *root, struct proc_list *ret)
{
    struct proc *shim = proc_table_find(t, root->shim, root->shim_start);
    if (!shim)
        return NULL;
    struct proc *child = root->child ? proc_table_find(t, root->child, 0) : NULL;
    shim->taken = true;
    if (child && child->parent == shim->pid)
        proc_walk(t, child, true, ret);
    proc_walk(t, shim, false, ret);
    return shim;
}

/* ---- usage ---- */

static uint64_t ms_of(uint64_t ticks)
{
    return (uint64_t)proc_ticks_us(ticks) / 1000;
}

static ResourceUsage *usage_new(struct sa_arena *a)
{
    ResourceUsage *u = sa_arena_alloc(a, sizeof *u);
    resource_usage__init(u);
    return u;
}

void tree_usage_add(ResourceUsage *sum, const ResourceUsage *u)
{
    sum->user_ms += u->user_ms;
    sum->system_ms += u->system_ms;
    sum->resident_bytes += u->resident_bytes;
    sum->read_bytes += u->read_bytes;
    sum->written_bytes += u->written_bytes;
    sum->threads += u->threads;
    sum->processes += u->processes;
}

static void add_proc(ResourceUsage *u, const struct proc *p)
{
    struct proc_io io;
    proc_read_io(p->pid, &io);
    u->user_ms += ms_of(p->user_ticks);
    u->system_ms += ms_of(p->system_ticks);
    u->resident_bytes += p->resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    u->read_bytes += io.read_bytes;
    u->written_bytes += io.written_bytes;
    u->threads += p->threads;
    u->processes++;
}

static void add_ended(ResourceUsage *u, const struct proc *waiter)
{
    u->user_ms += ms_of(waiter->waited_user_ticks);
    u->system_ms += ms_of(waiter->waited_system_ticks);
}

ResourceUsage *tree_usage(struct sa_arena *a, const struct proc *shim, const struct proc_list *list)
{
    ResourceUsage *u = usage_new(a);
    for (size_t i = 0; i < list->n; i++) {
        add_proc(u, list->list[i]);
        add_ended(u, list->list[i]);
    }
    struct proc_io with, own;
    if (shim && proc_read_own_io(shim->pid, &own) && proc_read_io(shim->pid, &with)) {
        u->read_bytes += with.read_bytes - own.read_bytes;
        u->written_bytes += with.written_bytes - own.written_bytes;
    }
    if (shim)
        add_ended(u, shim);
    return u;
}

/* ---- messages ---- */

static Google__Protobuf__Timestamp *timestamp(struct sa_arena *a, int64_t us)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    google__protobuf__timestamp__init(t);
    t->seconds = us / 1000000;
    t->nanos = (int32_t)(us % 1000000) * 1000;
    return t;
}

static SystemProcess *message_of(struct sa_arena *a, const struct proc *p, bool with_command)
{
    cleanup_buf struct sa_buf command = {0};
    SystemProcess *m = sa_arena_alloc(a, sizeof *m);
    system_process__init(m);
    if (with_command)
        proc_read_command(p, &command);
    else
        sa_buf_addf(&command, "[%s]", p->name);
    int64_t uid = proc_read_uid(p->pid);
    m->pid = (uint32_t)p->pid;
    m->parent_pid = (uint32_t)p->parent;
    m->start_ticks = p->start_ticks;
    m->start_time = timestamp(a, proc_boot_us() + proc_ticks_us(p->start_ticks));
    m->uid = uid < 0 ? 0 : (uint32_t)uid;
    m->state = sa_arena_format(a, "%c", p->state);
    m->command = (ProtobufCBinaryData){command.len, sa_arena_memdup(a, command.data, command.len)};
    m->usage = usage_new(a);
    add_proc(m->usage, p);
    return m;
}

SystemProcess **tree_messages(struct sa_arena *a, const struct proc_list *list, size_t *ret_n)
{
    size_t n = list->n < TREE_MESSAGES_MAX ? list->n : TREE_MESSAGES_MAX, bytes = 0;
    SystemProcess **messages = sa_arena_alloc(a, (n + 1) * sizeof *messages);
    for (size_t i = 0; i < n; i++) {
        messages[i] = message_of(a, list->list[i], bytes < TREE_COMMANDS_MAX);
        bytes += messages[i]->command.len;
    }
    *ret_n = n;
    return messages;
}

/* ---- calls ---- */

int look_begin(struct processes *all, sa_error **err)
{
    if (all->looks == LOOKS_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d calls look through /proc already", LOOKS_MAX);
    all->looks++;
    service_hold(all->svc);
    return 0;
}

void look_end(struct processes *all)
{
    all->looks--;
    service_release(all->svc);
}

struct tree_look {
    struct processes *all;
    struct rpc_call *call;
    struct tree_root root;
    struct sa_arena *arena;
    GetProcessTreeResponse res;
    sa_error *err;
};

static void fill_ports(struct tree_look *l, const struct proc_list *tree)
{
    struct listeners listeners;
    cleanup_free struct port *ports = NULL;
    listeners_read(&listeners, NULL);
    listeners_add(&listeners, tree);
    size_t n = ports_of_tree(&listeners, tree, &ports);
    l->res.n_ports = n;
    l->res.ports = sa_arena_alloc(l->arena, (n + 1) * sizeof *l->res.ports);
    for (size_t i = 0; i < n; i++) {
        ListeningPort *m = l->res.ports[i] = sa_arena_alloc(l->arena, sizeof *m);
        listening_port__init(m);
        m->port = ports[i].listener->port;
        m->address = sa_arena_strdup(l->arena, ports[i].listener->address);
        m->pid = (uint32_t)ports[i].pid;
    }
    listeners_fini(&listeners);
}

static void look_work(void *user)
{
    struct tree_look *l = user;
    cleanup_proc_table struct proc_table t = {0};
    struct proc_list tree = {0};
    if (proc_table_read(&t, &l->err) < 0)
        return;
    const struct proc *shim = tree_walk(&t, &l->root, &tree);
    l->res.usage = tree_usage(l->arena, shim, &tree);
    l->res.processes = tree_messages(l->arena, &tree, &l->res.n_processes);
    fill_ports(l, &tree);
    proc_list_fini(&tree);
}

static void look_done(void *user)
{
    struct tree_look *l = user;
    if (l->err)
        rpc_fail(l->call, l->err);
    else
        get_process_tree_reply(l->call, &l->res);
    rpc_call_unref(l->call);
    look_end(l->all);
    sa_arena_free(l->arena);
    free(l);
}

void get_process_tree_handler(void *api, struct rpc_call *call, const GetProcessTreeRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    struct tree_root root;
    const struct process *p = processes_find(all, req->process_id, &err);
    GetProcessTreeResponse res = GET_PROCESS_TREE_RESPONSE__INIT;
    if (p && !tree_root_of(p, &root)) {
        res.usage = usage_new(rpc_arena(call));
        get_process_tree_reply(call, &res);
        return;
    }
    if (!p || look_begin(all, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    struct tree_look *l = sa_calloc(1, sizeof *l);
    *l = (struct tree_look){
        .all = all, .call = rpc_call_ref(call), .root = root, .arena = sa_arena_new(), .res = res};
    sa_work(all->loop, look_work, look_done, l);
}
