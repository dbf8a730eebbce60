/* The API's picture of what the store and the shims know. */
#include <string.h>

#include "services/process-svc/policy.h"
#include "services/process-svc/processes.h"

static Google__Protobuf__Timestamp *timestamp(struct sa_arena *a, int64_t us)
{
    Google__Protobuf__Timestamp *t = sa_arena_alloc(a, sizeof *t);
    google__protobuf__timestamp__init(t);
    t->seconds = us / 1000000;
    t->nanos = (int32_t)(us % 1000000) * 1000;
    return t;
}

static ProtobufCBinaryData bytes(struct sa_arena *a, ProtobufCBinaryData b)
{
    return (ProtobufCBinaryData){b.len, b.len ? sa_arena_memdup(a, b.data, b.len) : NULL};
}

ExitRecord *process_exit_message(struct sa_arena *a, const EndRecord *end)
{
    if (!end)
        return NULL;
    ExitRecord *m = sa_arena_alloc(a, sizeof *m);
    exit_record__init(m);
    if (end->kind == 1) {
        m->kind_case = EXIT_RECORD__KIND_EXIT_CODE;
        m->exit_code = end->value;
    } else if (end->kind == 2) {
        m->kind_case = EXIT_RECORD__KIND_SIGNAL;
        m->signal = end->value;
    } else {
        m->kind_case = EXIT_RECORD__KIND_LOST;
        m->lost = sa_arena_strdup(a, end->reason);
    }
    m->time = timestamp(a, end->time_us);
    return m;
}

static TerminalSpec *terminal_message(struct sa_arena *a, const TerminalRecord *r)
{
    TerminalSpec *m = sa_arena_alloc(a, sizeof *m);
    terminal_spec__init(m);
    m->rows = r->rows;
    m->columns = r->columns;
    m->term = sa_arena_strdup(a, r->term);
    m->size_policy = (TerminalSizePolicy)r->size_policy;
    m->scrollback_lines = r->scrollback_lines;
    return m;
}

static TerminalSize *size_message(struct sa_arena *a, uint32_t rows, uint32_t columns)
{
    TerminalSize *m = sa_arena_alloc(a, sizeof *m);
    terminal_size__init(m);
    m->rows = rows;
    m->columns = columns;
    return m;
}

static ProcessSpec *spec_message(struct sa_arena *a, const ProcessRecord *r)
{
    ProcessSpec *m = sa_arena_alloc(a, sizeof *m);
    process_spec__init(m);
    m->n_argv = r->n_argv;
    m->argv = sa_arena_alloc(a, (r->n_argv + 1) * sizeof *m->argv);
    for (size_t i = 0; i < r->n_argv; i++)
        m->argv[i] = bytes(a, r->argv[i]);
    m->cwd = bytes(a, r->cwd);
    m->user = sa_arena_strdup(a, r->user);
    m->stdout_retention =
        (RetentionPolicy)(r->stdout_retention ? r->stdout_retention : RETENTION_POLICY_RING);
    m->journal_bytes = r->journal_bytes;
    m->n_labels = r->n_labels;
    m->labels = sa_arena_alloc(a, (r->n_labels + 1) * sizeof *m->labels);
    for (size_t i = 0; i < r->n_labels; i++) {
        ProcessSpec__LabelsEntry *l = m->labels[i] = sa_arena_alloc(a, sizeof *l);
        process_spec__labels_entry__init(l);
        l->key = sa_arena_strdup(a, r->labels[i]->key);
        l->value = sa_arena_strdup(a, r->labels[i]->value);
    }
    policy_to_message(a, r, m);
    if (r->terminal)
        m->terminal = terminal_message(a, r->terminal);
    return m;
}

static ProcessState state_of(const ProcessRecord *r)
{
    return r->state == RECORD_STATE_EXITED        ? PROCESS_STATE_EXITED
           : r->state == RECORD_STATE_BACKING_OFF ? PROCESS_STATE_BACKING_OFF
                                                  : PROCESS_STATE_RUNNING;
}

Process *process_record_message(struct sa_arena *a, const char *id, const ProcessRecord *r)
{
    Process *m = sa_arena_alloc(a, sizeof *m);
    process__init(m);
    m->process_id = sa_arena_strdup(a, id);
    m->state = state_of(r);
    m->spec = spec_message(a, r);
    m->state_seq = r->seq;
    m->start_time = timestamp(a, r->started_us);
    m->pid = m->state == PROCESS_STATE_RUNNING ? r->pid : 0;
    m->restarts = r->restarts;
    m->last_exit = process_exit_message(a, r->last_exit);
    m->ready = r->ready;
    m->stop_signal = ladder_signal(r->stop);
    m->descendants = r->descendants;
    m->oom_kills = r->oom_kills;
    m->n_ports = r->n_ports;
    m->ports = sa_arena_memdup(a, r->ports, r->n_ports * sizeof *r->ports);
    const EndRecord *end = r->end;
    if (end) {
        m->exit = process_exit_message(a, end);
        m->stdin_offset = end->stdin_offset;
        m->stdout_first = end->stdout_first;
        m->stdout_end = end->stdout_end;
        m->stderr_first = end->stderr_first;
        m->stderr_end = end->stderr_end;
        if (end->terminal_size)
            m->terminal_size = size_message(a, end->terminal_size >> 16, end->terminal_size & 0xffff);
    }
    return m;
}

Process *process_message(struct sa_arena *a, const struct process *p)
{
    Process *m = process_record_message(a, p->name, p->record);
    if (p->phase == PROCESS_EXITED)
        return m;
    const struct shim_status *s = &p->status;
    m->stdin_offset = s->stdin_next;
    m->stdout_first = s->first[SHIM_STDOUT];
    m->stdout_end = s->end[SHIM_STDOUT];
    m->stderr_first = s->first[SHIM_STDERR];
    m->stderr_end = s->end[SHIM_STDERR];
    if (s->rows)
        m->terminal_size = size_message(a, s->rows, s->columns);
    return m;
}
