/* What goes to and comes from the agent process, through AttachProcess. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/blob_lines.h"
#include "services/session-svc/link.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

enum { INPUT_MAX = 1 << 20, ERROR_TAIL_MAX = 2048, CLOSED_MS = 2000 };

/* ---- standard error ---- */

static void keep_tail(struct link *l, const uint8_t *p, size_t n)
{
    if (n > ERROR_TAIL_MAX / 2) {
        p += n - ERROR_TAIL_MAX / 2;
        n = ERROR_TAIL_MAX / 2;
    }
    sa_buf_add(&l->last_errors, p, n);
    sa_buf_add(&l->last_errors, "\n", 1);
    if (l->last_errors.len > ERROR_TAIL_MAX)
        sa_buf_consume(&l->last_errors, l->last_errors.len - ERROR_TAIL_MAX);
}

const char *link_error_tail(struct session *s, struct sa_arena *arena)
{
    struct link *l = &s->link;
    size_t n = l->last_errors.len;
    while (n && l->last_errors.data[n - 1] == '\n')
        n--;
    return n ? sa_arena_format(arena, "; it said: %s", rpc_utf8(arena, l->last_errors.data, n)) : "";
}

static void error_line(struct session *s, struct sa_arena *arena, const struct line *line,
                       enum lines_what what)
{
    uint8_t *text = sa_arena_memdup(arena, line->p, line->n);
    mask_bytes(s, text, line->n); /* it becomes a part of messages, too */
    Event *e = acp_log_event(arena, 2, text, line->n);
    if (what == LINES_TOO_LONG) {
        e->agent_log->full_size = line->size;
        e->agent_log->sha256 = sa_arena_strdup(arena, line->sha256);
    }
    keep_tail(&s->link, text, line->n);
    session_event(s, e);
}

static void on_errors(struct session *s, const AttachOutput *out)
{
    struct link *l = &s->link;
    uint64_t end = lines_end(&l->errors);
    if (out->offset > end) {
        lines_fini(&l->errors);
        lines_init(&l->errors, LINK_STDERR_LINE_MAX, out->offset);
        end = out->offset;
    }
    if (out->offset + out->data.len <= end)
        return;
    size_t skip = end - out->offset;
    struct sa_arena *arena = sa_arena_new();
    struct line line;
    lines_feed(&l->errors, out->data.data + skip, out->data.len - skip);
    for (enum lines_what w; (w = lines_next(&l->errors, &line)) != LINES_NONE;)
        if (w != LINES_SKIPPED)
            error_line(s, arena, &line, w);
    if (l->errors.offset != l->stderr_offset) {
        l->stderr_offset = l->errors.offset;
        session_changed(s);
    }
    sa_arena_free(arena);
}

/* ---- standard output ---- */

static void too_long(struct session *s, struct sa_arena *arena, const struct line *line)
{
    Event *log = acp_log_event(arena, 1, line->p, line->n);
    log->agent_log->full_size = line->size;
    log->agent_log->sha256 = sa_arena_strdup(arena, line->sha256);
    session_event(s, log);
    ErrorRaised raised = ERROR_RAISED__INIT;
    raised.reason = sa_arena_strdup(arena, sa_reason_name(SA_LINE_TOO_LONG));
    raised.message =
        sa_arena_format(arena, "agent %s wrote a line of %llu bytes, over the limit of %zu: it was skipped",
                        talk_agent(s), (unsigned long long)line->size, s->link.out.limit);
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_ERROR;
    e.error = &raised;
    session_event(s, &e);
}

/* False: the incarnation ended with this line. */
static bool handle(struct session *s, enum lines_what what, const struct line *line)
{
    uint64_t incarnation = s->link.incarnation;
    struct sa_arena *arena = sa_arena_new();
    if (what == LINES_LINE)
        talk_line(s, arena, line);
    else if (what == LINES_TOO_LONG)
        too_long(s, arena, line);
    sa_arena_free(arena);
    return s->link.incarnation == incarnation && s->link.attachment;
}

static void lost_output(struct session *s, uint64_t from, uint64_t to)
{
    ErrorRaised raised = ERROR_RAISED__INIT;
    cleanup_free char *message = sa_format("output of the agent is missing: bytes %llu to %llu",
                                           (unsigned long long)from, (unsigned long long)to);
    raised.reason = (char *)(uintptr_t)sa_reason_name(SA_JOURNAL_TRUNCATED);
    raised.message = message;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_ERROR;
    e.error = &raised;
    session_event(s, &e);
    lines_fini(&s->link.out);
    lines_init(&s->link.out, s->all->config.line_max, to);
}

/* A line whose pictures are being put aside is handled when it comes back. */
static void look_at(struct session *s, const struct line *line)
{
    s->link.stdout_offset = line->offset;
    session_changed(s);
    s->link.looking = blob_line_start(s, line);
}

static bool replays(const struct session *s)
{
    return s->link.phase == AGENT_PHASE_OPENING;
}

static void take_lines(struct session *s)
{
    struct link *l = &s->link;
    struct line line;
    for (enum lines_what w; (w = lines_next(&l->out, &line)) != LINES_NONE;) {
        if (w == LINES_LINE && blob_line_wanted(&line) && !replays(s)) {
            look_at(s, &line);
            return;
        }
        if (!handle(s, w, &line))
            return;
    }
    if (l->out.offset != l->stdout_offset) {
        l->stdout_offset = l->out.offset;
        session_changed(s);
    }
    if (l->outbox_bytes > LINK_OUTBOX_MAX)
        link_end(s, l->phase != AGENT_PHASE_READY, sa_reason_name(SA_INPUT_FULL),
                 "the agent does not read its standard input: more than 32 MiB wait");
}

static void on_stdout(struct session *s, const AttachOutput *out)
{
    struct link *l = &s->link;
    uint64_t end = lines_end(&l->out);
    if (out->offset > end) {
        lost_output(s, end, out->offset);
        end = out->offset;
    }
    if (out->offset + out->data.len <= end)
        return;
    size_t skip = end - out->offset;
    SA_FAULT("link.output");
    l->last_line_ms = sa_now_ms();
    lines_feed(&l->out, out->data.data + skip, out->data.len - skip);
    take_lines(s);
}

static void blob_failed(struct session *s, const sa_error *err)
{
    ErrorRaised raised = ERROR_RAISED__INIT;
    raised.reason = (char *)(uintptr_t)err->reason;
    raised.message = err->message;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_ERROR;
    e.error = &raised;
    session_event(s, &e);
}

void link_resume(struct session *s, struct blob_line *line)
{
    struct link *l = &s->link;
    l->looking = NULL;
    if (!session_usable(s)) { /* the line is read again */
        blob_line_free(line);
        return;
    }
    if (line->err)
        blob_failed(s, line->err);
    uint64_t before = s->head_seq;
    l->blobs = line;
    bool goes_on = handle(s, LINES_LINE, &line->line);
    l->blobs = NULL;
    cleanup_error sa_error *err = NULL;
    if (s->head_seq > before && blob_line_use(s, line, s->head_seq, &err))
        blob_failed(s, err);
    blob_line_free(line);
    if (goes_on)
        take_lines(s);
    session_settle(s);
}

/* ---- the end ---- */

static const char *describe_exit(const ExitRecord *x, struct sa_arena *arena)
{
    if (x->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        return sa_arena_format(arena, "exited with code %u", x->exit_code);
    if (x->kind_case == EXIT_RECORD__KIND_SIGNAL)
        return sa_arena_format(arena, "was ended by signal %u (%s)", x->signal,
                               x->signal < 65 && sigdescr_np((int)x->signal) ? sigdescr_np((int)x->signal)
                                                                             : "?");
    return sa_arena_format(arena, "is lost: %s", x->kind_case == EXIT_RECORD__KIND_LOST ? x->lost : "?");
}

static void agent_gone(struct session *s, struct sa_arena *arena, const char *how)
{
    bool ready = s->link.phase == AGENT_PHASE_READY;
    const char *message = sa_arena_format(arena, "agent %s %s%s%s", talk_agent(s), how,
                                          ready ? "" : " before it was ready", link_error_tail(s, arena));
    link_end(s, !ready, sa_reason_name(SA_AGENT_EXITED), message);
}

static void on_exited(struct session *s, const ExitRecord *x)
{
    struct link *l = &s->link;
    struct line line;
    enum lines_what what = lines_last(&l->out, &line);
    if (what != LINES_NONE && !handle(s, what, &line))
        return;
    struct sa_arena *arena = sa_arena_new();
    if ((what = lines_last(&l->errors, &line)) != LINES_NONE)
        error_line(s, arena, &line, what);
    agent_gone(s, arena, describe_exit(x, arena));
    sa_arena_free(arena);
}

/* ---- the attachment ---- */

static void drop_taken(struct link *l, uint64_t next_offset)
{
    if (next_offset > l->stdin_taken)
        l->stdin_taken = next_offset;
    for (struct outgoing *o; (o = l->outbox) && o->offset + o->size <= l->stdin_taken;) {
        l->outbox = o->next;
        if (!l->outbox)
            l->outbox_tail = &l->outbox;
        l->outbox_bytes -= o->size;
        free(o->data);
        free(o);
    }
}

static void on_opened(struct session *s, const Process *p)
{
    struct link *l = &s->link;
    SA_FAULT("link.opened");
    l->opened = true;
    if (p)
        l->stdin_sent = p->stdin_offset;
    drop_taken(l, l->stdin_sent);
    link_write(s);
}

static void on_message(void *user, const AttachProcessResponse *m)
{
    struct session *s = user;
    if (!session_usable(s) || !s->link.attachment)
        return;
    switch (m->kind_case) {
    case ATTACH_PROCESS_RESPONSE__KIND_OPENED:
        on_opened(s, m->opened->process);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_OUTPUT:
        s->link.retry_ms = 0; /* it works; one that only opens must not be tried in a circle */
        if (m->output->stream == OUTPUT_STREAM_STDOUT)
            on_stdout(s, m->output);
        else
            on_errors(s, m->output);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN:
        SA_FAULT("link.input_taken");
        drop_taken(&s->link, m->input_taken->next_offset);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_EXITED:
        SA_FAULT("link.exited");
        on_exited(s, m->exited);
        break;
    default:
        break; /* a gap shows in the offset of the next output */
    }
    session_settle(s);
}

static void on_writable(void *user)
{
    struct session *s = user;
    s->link.no_room = false;
    if (session_usable(s))
        link_write(s);
}

static void on_end(void *user, const sa_error *err)
{
    struct session *s = user;
    struct link *l = &s->link;
    l->attachment = NULL;
    l->opened = false;
    blob_line_drop(steal_pointer(&l->looking)); /* it is read again */
    if (!session_usable(s) || s->all->stopped)
        return;
    if (err && sa_error_is(err, SA_PROCESS_NOT_FOUND)) {
        struct sa_arena *arena = sa_arena_new();
        agent_gone(s, arena, "is lost: its process is not known any more");
        sa_arena_free(arena);
        session_settle(s);
        return;
    }
    if (err && sa_error_is(err, SA_STDIN_CLOSED) && !l->input_closed) {
        l->input_closed = true; /* it is about to end, most likely: how, is what matters */
        sa_timer_start(l->closed, CLOSED_MS);
    } else if (err && err->code != SA_CODE_UNAVAILABLE)
        sa_log(SA_LOG_WARN, "agent.detached", "session=%s reason=%s error=\"%s\"", s->name, err->reason,
               err->message);
    link_retry_later(s);
}

void link_closed_passed(void *user)
{
    struct session *s = user;
    if (!session_usable(s) || s->link.phase == AGENT_PHASE_NONE || s->link.doomed)
        return;
    struct sa_arena *arena = sa_arena_new();
    agent_gone(s, arena, "closed its standard input");
    sa_arena_free(arena);
    session_settle(s);
}

void link_attach(struct session *s)
{
    static const struct attach_process_client callbacks = {on_message, on_writable, on_end};
    struct link *l = &s->link;
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = l->process_id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open.stdout_offset = l->stdout_offset;
    open._stderr_offset_case = ATTACH_OPEN___STDERR_OFFSET_STDERR_OFFSET;
    open.stderr_offset = l->stderr_offset;
    open._stdout_ack_case = ATTACH_OPEN___STDOUT_ACK_STDOUT_ACK;
    open.stdout_ack = l->committed_stdout;
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_OPEN;
    req.open = &open;
    /* What was read beyond the last whole line is read again. */
    l->out.buf.len = l->out.at = l->out.scanned = 0;
    l->errors.buf.len = l->errors.at = l->errors.scanned = 0;
    l->opened = l->paused = l->no_room = false;
    l->acked = l->committed_stdout;
    l->attachment = attach_process_open(s->all->process, NULL, &callbacks, s);
    attach_process_write(l->attachment, &req);
}

void link_detach(struct session *s)
{
    struct link *l = &s->link;
    rpc_abandon(l->attachment);
    l->attachment = NULL;
    l->opened = false;
    blob_line_drop(steal_pointer(&l->looking));
}

void link_let_flow(struct session *s)
{
    struct link *l = &s->link;
    bool full = session_is_full(s) || l->looking;
    if (!l->attachment || l->paused == full)
        return;
    l->paused = full;
    rpc_pause_response(l->attachment, full);
}

static bool write_input(struct session *s, const struct outgoing *o)
{
    struct link *l = &s->link;
    while (l->stdin_sent < o->offset + o->size) {
        uint64_t from = l->stdin_sent - o->offset, left = o->size - from;
        AttachInput input = ATTACH_INPUT__INIT;
        input.offset = l->stdin_sent;
        input.data = (ProtobufCBinaryData){left < INPUT_MAX ? left : INPUT_MAX, o->data + from};
        AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
        req.kind_case = ATTACH_PROCESS_REQUEST__KIND_INPUT;
        req.input = &input;
        l->stdin_sent += input.data.len;
        SA_FAULT("link.input");
        if (!attach_process_write(l->attachment, &req)) {
            l->no_room = true;
            return false;
        }
    }
    return true;
}

void link_write(struct session *s)
{
    struct link *l = &s->link;
    if (!l->opened || !l->attachment || l->no_room)
        return;
    for (struct outgoing *o = l->outbox; o; o = o->next) {
        if (o->batch > s->committed_batch || l->input_closed)
            break;
        if (o->offset + o->size > l->stdin_sent && !write_input(s, o))
            return;
    }
    if (l->committed_stdout <= l->acked)
        return;
    AttachAck ack = ATTACH_ACK__INIT;
    ack.stdout_offset = l->acked = l->committed_stdout;
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_ACK;
    req.ack = &ack;
    SA_FAULT("link.acknowledge");
    l->no_room = !attach_process_write(l->attachment, &req);
    SA_FAULT("link.acknowledged");
}
