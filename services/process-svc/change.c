/* What changes while a process is known: its runs, whether it is ready, what is left of it. A change is
 * committed as a new record, which then takes the place of the old one and is told. What happens meanwhile is
 * seen in the next step: a run that came and went within a commit is only counted. */
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"
#include "services/process-svc/watch.h"

ProcessRecord *process_record_copy(const ProcessRecord *r)
{
    size_t n = protobuf_c_message_get_packed_size(&r->base);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    protobuf_c_message_pack(&r->base, packed);
    return (ProcessRecord *)protobuf_c_message_unpack(r->base.descriptor, NULL, n, packed);
}

void process_take_next(struct process *p)
{
    store_message_free(p->record);
    p->record = steal_pointer(&p->next_record);
}

void process_drop_next(struct process *p)
{
    store_message_free(steal_pointer(&p->next_record));
}

static void changed(void *user, const sa_error *err)
{
    struct process *p = user;
    p->committing = false;
    if (err) {
        process_drop_next(p);
        ladder_not_committed(p, err);
        process_not_committed(p, err);
        return;
    }
    SA_FAULT("change.committed");
    process_take_next(p);
    const ProcessRecord *r = p->record;
    sa_log(SA_LOG_INFO, "process.changed", "process=%s pid=%u restarts=%u%s%s%s%s", p->name, r->pid,
           r->restarts, r->state == RECORD_STATE_BACKING_OFF ? " backing_off" : "", r->ready ? " ready" : "",
           r->stop ? " stopping" : "", r->descendants ? " descendants" : "");
    process_publish(p);
    process_step(p);
}

void process_commit_change(struct process *p, ProcessRecord *next)
{
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    next->seq++;
    p->next_record = next;
    store_put(set, TABLE_PROCESSES, &key, &next->base);
    process_commit(p, set, changed);
}

bool process_is_ready(const struct process *p)
{
    const struct shim_status *s = &p->status;
    const ReadinessProbe *probe = p->record->readiness;
    if (s->phase != SHIM_RUNNING || !probe)
        return s->phase == SHIM_RUNNING;
    if (probe->kind_case == READINESS_PROBE__KIND_OUTPUT_CONTAINS)
        return s->matched;
    return p->port_run == s->restarts + 1 || (p->record->ready && p->record->restarts == s->restarts);
}

static RecordState state_of(const struct shim_status *s)
{
    return s->phase == SHIM_BACKING_OFF ? RECORD_STATE_BACKING_OFF : RECORD_STATE_RUNNING;
}

void process_fill_runs(const struct process *p, ProcessRecord *next)
{
    const struct shim_status *s = &p->status;
    if (!s->phase)
        return; /* the shim has not spoken: what was known stays */
    const struct shim_exit *last = s->phase == SHIM_BACKING_OFF ? &s->exit
                                   : s->restarts                ? &s->last_exit
                                                                : NULL;
    if (next->last_exit)
        end_record__free_unpacked(next->last_exit, NULL);
    next->last_exit = last ? process_end_of(last) : NULL;
    next->restarts = s->restarts;
    next->oom_kills = s->oom_kills;
}

static bool commit_run(struct process *p)
{
    const struct shim_status *s = &p->status;
    const ProcessRecord *r = p->record;
    if (!s->phase || (r->state == state_of(s) && r->restarts == s->restarts && r->pid == s->child_pid &&
                      r->ready == process_is_ready(p) && r->oom_kills == s->oom_kills))
        return false;
    ProcessRecord *next = process_record_copy(r);
    process_fill_runs(p, next);
    next->state = state_of(s);
    next->pid = s->child_pid;
    next->started_us = s->started_us;
    next->ready = process_is_ready(p);
    SA_FAULT("change.reported");
    process_commit_change(p, next);
    return true;
}

bool process_has_descendants(const struct process *p)
{
    if (!link_is_open(&p->link))
        return false;
    return p->status.phase ? p->status.descendants : p->record->descendants;
}

static bool commit_descendants(struct process *p)
{
    bool has = process_has_descendants(p);
    if (p->record->descendants == has)
        return false;
    ProcessRecord *next = process_record_copy(p->record);
    next->descendants = has;
    if (!has)
        watch_clear(next);
    if (!has && next->stop) /* that was what it waited for */
        stop_record__free_unpacked(steal_pointer(&next->stop), NULL);
    process_commit_change(p, next);
    return true;
}

static bool commit_ports(struct process *p)
{
    ProcessRecord *next;
    if (!watch_change(p, &next))
        return false;
    process_commit_change(p, next);
    return true;
}

bool process_change(struct process *p)
{
    bool under_way = p->phase == PROCESS_RUNNING ? commit_run(p) : commit_descendants(p);
    return under_way || commit_ports(p);
}
