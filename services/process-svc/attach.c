/* AttachProcess: any number of attachments to a process, each at its own speed.
 *
 * An attachment is a cursor per stream into the journals. pump() reads on from the cursors until the journal
 * ends or the call has no room; a new status of the shim, or room, calls it again. So nothing is queued for a
 * slow reader, and what a shim announces is only a hint: the file is read until it is short. */
#include "services/process-svc/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

struct attachment {
    struct attachment *next; /* of the same process */
    struct processes *all;
    struct process *process; /* NULL until opened */
    struct rpc_call *call;
    bool wanted[SHIM_STREAMS];
    uint64_t cursor[SHIM_STREAMS];
    bool blocked;   /* the call has no room */
    bool paused;    /* input waits for the link */
    bool taken_due; /* `taken` is to be told */
    bool owes;      /* a break of the connection to the shim loses something: acknowledgements, or input */
    uint64_t taken;
};

static const OutputStream stream_names[SHIM_STREAMS] = {OUTPUT_STREAM_STDOUT, OUTPUT_STREAM_STDERR};

/* The call has ended or is about to: nothing may reach the attachment any more. */
static void detach(struct attachment *a)
{
    struct process *p = a->process;
    if (p) {
        struct attachment **at = &p->attachments;
        while (*at != a)
            at = &(*at)->next;
        *at = a->next;
        link_forget(&p->link, a);
        process_release(p);
    }
    rpc_call_unref(a->call);
    free(a);
}

static void fail(struct attachment *a, sa_error *err)
{
    rpc_fail(a->call, err);
    detach(a);
}

/* ---- to the caller ---- */

static void send(struct attachment *a, const AttachProcessResponse *res)
{
    a->blocked = !attach_process_send(a->call, res);
}

static void send_taken(struct attachment *a)
{
    AttachProcessResponse res = ATTACH_PROCESS_RESPONSE__INIT;
    AttachInputTaken taken = ATTACH_INPUT_TAKEN__INIT;
    taken.next_offset = a->taken;
    res.kind_case = ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN;
    res.input_taken = &taken;
    a->taken_due = false;
    send(a, &res);
}

static void send_gap(struct attachment *a, int stream, uint64_t first)
{
    AttachProcessResponse res = ATTACH_PROCESS_RESPONSE__INIT;
    AttachGap gap = ATTACH_GAP__INIT;
    gap.stream = stream_names[stream];
    gap.first_offset = first;
    res.kind_case = ATTACH_PROCESS_RESPONSE__KIND_GAP;
    res.gap = &gap;
    a->cursor[stream] = first;
    send(a, &res);
}

static void send_output(struct attachment *a, int stream, uint8_t *data, size_t n)
{
    AttachProcessResponse res = ATTACH_PROCESS_RESPONSE__INIT;
    AttachOutput output = ATTACH_OUTPUT__INIT;
    output.stream = stream_names[stream];
    output.offset = a->cursor[stream];
    output.data = (ProtobufCBinaryData){n, data};
    res.kind_case = ATTACH_PROCESS_RESPONSE__KIND_OUTPUT;
    res.output = &output;
    a->cursor[stream] += n;
    send(a, &res);
}

static void send_opened(struct attachment *a)
{
    AttachProcessResponse res = ATTACH_PROCESS_RESPONSE__INIT;
    AttachOpened opened = ATTACH_OPENED__INIT;
    struct sa_arena *arena = sa_arena_new();
    opened.process = process_message(arena, a->process);
    res.kind_case = ATTACH_PROCESS_RESPONSE__KIND_OPENED;
    res.opened = &opened;
    send(a, &res);
    sa_arena_free(arena);
}

static void send_exited(struct attachment *a)
{
    AttachProcessResponse res = ATTACH_PROCESS_RESPONSE__INIT;
    struct sa_arena *arena = sa_arena_new();
    res.kind_case = ATTACH_PROCESS_RESPONSE__KIND_EXITED;
    res.exited = process_exit_message(arena, a->process->record->end);
    send(a, &res);
    sa_arena_free(arena);
    rpc_end(a->call);
    detach(a);
}

/* Sends the next piece of a stream: 1, or 0 when there is nothing now, or -1. */
static int pump_stream(struct attachment *a, int stream, sa_error **err)
{
    const struct process *p = a->process;
    uint64_t end = process_final_end(p, stream), first, cursor = a->cursor[stream];
    if (!a->wanted[stream] || cursor >= end)
        return 0;
    size_t want = end - cursor < ATTACH_CHUNK ? (size_t)(end - cursor) : ATTACH_CHUNK;
    ssize_t n = reader_read(&p->reader, stream, cursor, a->all->chunk, want, &first, err);
    if (n < 0)
        return -1;
    if (first > cursor)
        send_gap(a, stream, first);
    else if (n > 0)
        send_output(a, stream, a->all->chunk, (size_t)n);
    else if (end != UINT64_MAX)
        return sa_fail(err, SA_JOURNAL_TRUNCATED, "output of process %s ends at byte %llu instead of %llu",
                       p->name, (unsigned long long)cursor, (unsigned long long)end);
    return first > cursor || n > 0;
}

static void pump(struct attachment *a)
{
    sa_error *err = NULL;
    if (a->taken_due && !a->blocked)
        send_taken(a);
    for (int moved = 1; moved && !a->blocked;) {
        moved = 0;
        for (int i = 0; i < SHIM_STREAMS && !a->blocked; i++) {
            int r = pump_stream(a, i, &err);
            if (r < 0) {
                fail(a, err);
                return;
            }
            moved |= r;
        }
    }
    bool complete = a->process->phase == PROCESS_EXITED;
    for (int i = 0; i < SHIM_STREAMS; i++)
        complete &= !a->wanted[i] || a->cursor[i] >= process_final_end(a->process, i);
    if (complete && !a->blocked)
        send_exited(a);
}

void attachments_notify(struct process *p)
{
    for (struct attachment *a = p->attachments, *next; a; a = next) {
        next = a->next;
        if (a->paused && !link_behind(&p->link)) {
            a->paused = false;
            rpc_pause_request(a->call, false);
        }
        if (!a->blocked)
            pump(a);
    }
}

void attachments_fail(struct process *p, const sa_error *err)
{
    while (p->attachments)
        fail(p->attachments, sa_error_copy(err));
}

void attachments_reconnected(struct process *p)
{
    for (struct attachment *a = p->attachments, *next; a; a = next) {
        sa_error *err = NULL;
        next = a->next;
        if (!a->owes)
            continue;
        sa_fail(&err, SA_UNAVAILABLE, "the connection to the shim of process %s broke: attach again",
                p->name);
        fail(a, err);
    }
}

/* ---- from the caller ---- */

static int open_stream(struct attachment *a, int stream, uint64_t offset, sa_error **err)
{
    uint64_t first, end;
    if (reader_range(&a->process->reader, stream, &first, &end, err) < 0)
        return -1;
    if (offset > end)
        return sa_fail(err, SA_OFFSET_AHEAD, "standard %s of process %s ends at byte %llu, before %llu",
                       stream ? "error" : "output", a->process->name, (unsigned long long)end,
                       (unsigned long long)offset);
    a->wanted[stream] = true;
    a->cursor[stream] = offset;
    return 0;
}

static int acknowledge(struct attachment *a, uint64_t offset, sa_error **err)
{
    uint64_t first, end;
    struct process *p = a->process;
    if (reader_range(&p->reader, SHIM_STDOUT, &first, &end, err) < 0)
        return -1;
    if (offset > end)
        return sa_fail(err, SA_OFFSET_AHEAD,
                       "standard output of process %s ends at byte %llu, %llu cannot be acknowledged",
                       p->name, (unsigned long long)end, (unsigned long long)offset);
    a->owes = true;
    link_ack(&p->link, SHIM_STDOUT, offset);
    return 0;
}

static int open_streams(struct attachment *a, const AttachOpen *open, sa_error **err)
{
    bool out = open->_stdout_offset_case, error = open->_stderr_offset_case, ack = open->_stdout_ack_case;
    if ((out || error || ack) && process_open_reader(a->process, err) < 0)
        return -1;
    /* First of all: an owner that was killed between its commit and its acknowledgement would otherwise leave
     * a full journal and a blocked child for ever. */
    if (ack && acknowledge(a, open->stdout_ack, err) < 0)
        return -1;
    if (out && open_stream(a, SHIM_STDOUT, open->stdout_offset, err) < 0)
        return -1;
    return error ? open_stream(a, SHIM_STDERR, open->stderr_offset, err) : 0;
}

static void on_open(struct attachment *a, const AttachOpen *open)
{
    sa_error *err = NULL;
    struct process *p = processes_find(a->all, open->process_id, &err);
    if (!p) {
        fail(a, err);
        return;
    }
    a->process = p;
    a->next = p->attachments;
    p->attachments = a;
    if (!process_lost_output(p) && open_streams(a, open, &err) < 0) {
        fail(a, err);
        return;
    }
    send_opened(a);
    pump(a);
}

/* Answers of the shim to pieces of input. */
static void on_piece(void *user, int error, const struct shim_status *status)
{
    struct attachment *a = user;
    sa_error *err = NULL;
    if (error == ECONNRESET) /* told by the end of the process, or once there is a new connection */
        a->owes = true;
    if (!error || error == ECONNRESET)
        return;
    unsigned long long next = status->stdin_next;
    if (error == ERANGE)
        sa_fail(&err, SA_OFFSET_AHEAD, "standard input of process %s expects byte %llu next",
                a->process->name, next);
    else if (error == EPIPE)
        sa_fail(&err, SA_STDIN_CLOSED, "standard input of process %s is closed at byte %llu",
                a->process->name, next);
    else if (error == ENOBUFS)
        sa_fail(&err, SA_INPUT_FULL, "process %s does not read its input: %d bytes wait, byte %llu is next",
                a->process->name, SHIM_INPUT_PENDING_MAX, next);
    else
        sa_fail_errno(&err, error, "keep input for process %s", a->process->name);
    fail(a, err);
}

static void on_last_piece(void *user, int error, const struct shim_status *status)
{
    struct attachment *a = user;
    if (error) {
        on_piece(user, error, status);
        return;
    }
    a->taken = status->stdin_next;
    a->taken_due = true;
    if (!a->blocked)
        send_taken(a);
}

/* Input for a process that has ended. */
static void late_input(struct attachment *a, const AttachInput *in)
{
    const struct process *p = a->process;
    uint64_t next = p->phase == PROCESS_EXITED ? p->record->end->stdin_offset : p->status.stdin_next;
    struct shim_status s = {.stdin_next = next};
    on_last_piece(a, in->offset + in->data.len <= next ? 0 : EPIPE, &s);
}

static void on_input(struct attachment *a, const AttachInput *in)
{
    sa_error *err = NULL;
    struct link *link = &a->process->link;
    if (in->data.len > a->all->config.max_input_bytes) {
        sa_fail(&err, SA_INVALID_REQUEST, "input.data has %zu bytes, at most %llu are allowed", in->data.len,
                (unsigned long long)a->all->config.max_input_bytes);
        fail(a, err);
        return;
    }
    if (a->process->phase == PROCESS_EXITED || !link_is_open(link)) {
        late_input(a, in);
        return;
    }
    size_t at = 0;
    do {
        size_t n = in->data.len - at < SHIM_INPUT_CHUNK_MAX ? in->data.len - at : SHIM_INPUT_CHUNK_MAX;
        bool last = at + n == in->data.len;
        link_input(link, in->offset + at, in->data.data + at, n, last && in->eof,
                   last ? on_last_piece : on_piece, a);
        at += n;
    } while (at < in->data.len);
    if (link_behind(link) && !a->paused) {
        a->paused = true;
        rpc_pause_request(a->call, true);
    }
}

static void on_message(void *user, struct rpc_call *call, const AttachProcessRequest *m)
{
    struct attachment *a = user;
    sa_error *err = NULL;
    bool is_open = m->kind_case == ATTACH_PROCESS_REQUEST__KIND_OPEN;
    (void)call;
    if (is_open && !a->process) {
        on_open(a, m->open);
    } else if (is_open || !a->process) {
        sa_fail(&err, SA_INVALID_REQUEST, is_open ? "open comes once" : "the first message must be open");
        fail(a, err);
    } else if (m->kind_case == ATTACH_PROCESS_REQUEST__KIND_INPUT) {
        on_input(a, m->input);
    } else if (m->kind_case == ATTACH_PROCESS_REQUEST__KIND_ACK) {
        if ((process_open_reader(a->process, &err) < 0 || acknowledge(a, m->ack->stdout_offset, &err) < 0))
            fail(a, err);
    } else {
        sa_fail(&err, SA_INVALID_REQUEST, "a message of AttachProcess is open, input or ack");
        fail(a, err);
    }
}

static void on_writable(void *user, struct rpc_call *call)
{
    struct attachment *a = user;
    (void)call;
    a->blocked = false;
    if (a->process)
        pump(a);
}

/* The caller sends no more; it still reads. */
static void on_end(void *user, struct rpc_call *call)
{
    struct attachment *a = user;
    sa_error *err = NULL;
    (void)call;
    if (a->process)
        return;
    sa_fail(&err, SA_INVALID_REQUEST, "the first message must be open");
    fail(a, err);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    detach(user);
}

void attach_process_handler(void *api, struct rpc_call *call)
{
    static const struct attach_process_events events = {on_message, on_writable, on_end, on_cancel};
    struct attachment *a = sa_calloc(1, sizeof *a);
    a->all = api;
    a->call = rpc_call_ref(call);
    attach_process_accept(call, &events, a);
}
