/* AttachTerminal: one who looks at a terminal, and types if it has control.
 *
 * A viewer is a cursor into the journal of the output, as an attachment is (attach.c). It begins where the
 * painter's screen ends; when its bytes are no longer kept, it gets another screen. What it is to be told
 * besides is bits, so nothing is queued for one that does not read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/process-svc/viewer.h"

enum { INPUT_MAX = 64 << 10, NAME_MAX_CHARACTERS = 128 };

struct viewer {
    struct member member; /* first */
    struct viewer *next_opening;
    struct processes *all;
    struct terminal *terminal; /* NULL until `open` came */
    struct rpc_call *call;
    char *name;
    bool acquires, takes_over, goes_on; /* what `open` has asked for */
    bool begun;
    bool painting; /* waits for a screen */
    bool blocked;  /* the call has no room */
    bool paused;   /* input waits for the link */
    bool owes;     /* input was sent to a shim that has gone */
    unsigned due;
    bool seen;       /* cursor is set: it has had a screen, or goes on from an offset */
    uint64_t cursor; /* next byte of output */
    uint64_t taken;
    uint64_t refused_lease;
};

/* Input on its way to the shim. Holds no viewer: that may go before the answer. */
struct piece {
    struct terminal *terminal;
    uint64_t viewer;
    bool last;
};

struct viewer *viewer_of(struct member *m)
{
    return (struct viewer *)m;
}

struct viewer *viewer_next_opening(struct viewer *v)
{
    return v->next_opening;
}

bool viewer_owes(const struct viewer *v)
{
    return v->owes;
}

void viewer_due(struct viewer *v, unsigned due)
{
    v->due |= due;
}

static void leave_opening(struct viewer *v)
{
    for (struct viewer **at = &v->terminal->opening; *at; at = &(*at)->next_opening)
        if (*at == v) {
            *at = v->next_opening;
            return;
        }
}

/* The call has ended or is about to: nothing may reach the viewer any more. */
static void detach(struct viewer *v)
{
    struct terminal *t = v->terminal;
    if (t) {
        painter_forget(t->painter, v);
        leave_opening(v);
        if (v->begun) {
            bool held = control_remove(&t->control, &v->member);
            terminal_changed(t, DUE_MEMBERS | (held ? DUE_CONTROL : 0));
        }
        process_release(t->process);
    }
    rpc_call_unref(v->call);
    free(v->name);
    free(v);
}

void viewer_fail(struct viewer *v, sa_error *err)
{
    rpc_fail(v->call, err);
    detach(v);
}

/* ---- to the caller ---- */

static void send(struct viewer *v, const AttachTerminalResponse *res)
{
    v->blocked = !attach_terminal_send(v->call, res);
}

static TerminalSize size_message(struct dimensions d)
{
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = d.rows;
    size.columns = d.columns;
    return size;
}

static TerminalControl control_message(struct terminal *t)
{
    TerminalControl m = TERMINAL_CONTROL__INIT;
    const struct member *holder = t->control.holder;
    if (holder) {
        m.viewer_id = holder->id;
        m.display_name = (char *)(uintptr_t)holder->name;
    }
    m.lease = control_lease(&t->control);
    m.input_offset = terminal_input_next(t);
    return m;
}

static TerminalViewers *viewers_message(struct sa_arena *a, const struct control *c)
{
    TerminalViewers *list = sa_arena_alloc(a, sizeof *list);
    terminal_viewers__init(list);
    list->viewers = sa_arena_alloc(a, (c->n + 1) * sizeof *list->viewers);
    for (const struct member *m = c->members; m; m = m->next) {
        TerminalViewer *v = list->viewers[list->n_viewers++] = sa_arena_alloc(a, sizeof *v);
        terminal_viewer__init(v);
        v->viewer_id = m->id;
        v->display_name = (char *)(uintptr_t)m->name;
        if (!m->size.rows)
            continue;
        v->size = sa_arena_alloc(a, sizeof *v->size);
        *v->size = size_message(m->size);
    }
    return list;
}

static void send_opened(struct viewer *v)
{
    AttachTerminalResponse res = ATTACH_TERMINAL_RESPONSE__INIT;
    TerminalOpened opened = TERMINAL_OPENED__INIT;
    TerminalControl control = control_message(v->terminal);
    TerminalSize size = size_message(v->terminal->size);
    struct sa_arena *arena = sa_arena_new();
    opened.process = process_message(arena, v->terminal->process);
    opened.viewer_id = v->member.id;
    opened.size = &size;
    opened.control = &control;
    opened.viewers = viewers_message(arena, &v->terminal->control);
    res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_OPENED;
    res.opened = &opened;
    send(v, &res);
    sa_arena_free(arena);
}

static void send_due(struct viewer *v, unsigned due)
{
    struct terminal *t = v->terminal;
    AttachTerminalResponse res = ATTACH_TERMINAL_RESPONSE__INIT;
    TerminalControl control = control_message(t);
    TerminalSize size = size_message(t->size);
    TerminalInputTaken taken = TERMINAL_INPUT_TAKEN__INIT;
    TerminalInputRefused refused = TERMINAL_INPUT_REFUSED__INIT;
    struct sa_arena *arena = sa_arena_new();
    v->due &= ~due;
    taken.next_offset = v->taken;
    if (due == DUE_CONTROL) {
        res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_CONTROL;
        res.control = &control;
    } else if (due == DUE_SIZE) {
        res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_RESIZED;
        res.resized = &size;
    } else if (due == DUE_TAKEN) {
        res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_INPUT_TAKEN;
        res.input_taken = &taken;
    } else if (due == DUE_REFUSED) {
        refused.lease = v->refused_lease;
        refused.control = &control;
        res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_INPUT_REFUSED;
        res.input_refused = &refused;
    } else {
        res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_VIEWERS;
        res.viewers = viewers_message(arena, &t->control);
    }
    send(v, &res);
    sa_arena_free(arena);
}

static void send_output(struct viewer *v, uint8_t *data, size_t n)
{
    AttachTerminalResponse res = ATTACH_TERMINAL_RESPONSE__INIT;
    TerminalOutput output = TERMINAL_OUTPUT__INIT;
    output.offset = v->cursor;
    output.data = (ProtobufCBinaryData){n, data};
    res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT;
    res.output = &output;
    v->cursor += n;
    send(v, &res);
}

static void send_exited(struct viewer *v)
{
    AttachTerminalResponse res = ATTACH_TERMINAL_RESPONSE__INIT;
    struct sa_arena *arena = sa_arena_new();
    res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_EXITED;
    res.exited = process_exit_message(arena, v->terminal->process->record->end);
    send(v, &res);
    sa_arena_free(arena);
    rpc_end(v->call);
    detach(v);
}

/* ---- output ---- */

static void on_painted(void *user, const struct painting *painting, const sa_error *err)
{
    struct viewer *v = user;
    v->painting = false;
    if (!painting) {
        viewer_fail(v, sa_error_copy(err));
        return;
    }
    AttachTerminalResponse res = ATTACH_TERMINAL_RESPONSE__INIT;
    TerminalScreen screen = TERMINAL_SCREEN__INIT;
    TerminalSize size = size_message((struct dimensions){painting->rows, painting->columns});
    screen.data = (ProtobufCBinaryData){painting->data.len, painting->data.data};
    screen.offset = painting->offset;
    screen.size = &size;
    if (v->seen && painting->offset > v->cursor)
        screen.skipped = painting->offset - v->cursor;
    v->seen = true;
    v->cursor = painting->offset;
    res.kind_case = ATTACH_TERMINAL_RESPONSE__KIND_SCREEN;
    res.screen = &screen;
    send(v, &res);
    viewer_pump(v);
}

static void ask_screen(struct viewer *v)
{
    v->painting = true;
    painter_ask(v->terminal->painter, PAINT_ALL, on_painted, v);
}

/* Where the output ends for ever; UINT64_MAX while it may grow. */
static uint64_t final_end(const struct process *p)
{
    return p->phase == PROCESS_EXITED ? p->record->end->stdout_end : UINT64_MAX;
}

/* Sends the next piece: 1, or 0 when there is nothing now, or -1. */
static int pump_output(struct viewer *v, sa_error **err)
{
    struct process *p = v->terminal->process;
    uint64_t end = final_end(p), first;
    if (v->cursor >= end)
        return 0;
    size_t want = end - v->cursor < ATTACH_CHUNK ? (size_t)(end - v->cursor) : ATTACH_CHUNK;
    if (process_open_reader(p, err) < 0)
        return -1;
    ssize_t n = reader_read(&p->reader, SHIM_STDOUT, v->cursor, v->all->chunk, want, &first, err);
    if (n < 0)
        return -1;
    if (first > v->cursor) {
        ask_screen(v);
        return 0;
    }
    if (n > 0)
        send_output(v, v->all->chunk, (size_t)n);
    else if (end != UINT64_MAX)
        return sa_fail(err, SA_JOURNAL_TRUNCATED, "output of process %s ends at byte %llu instead of %llu",
                       p->name, (unsigned long long)v->cursor, (unsigned long long)end);
    return n > 0;
}

void viewer_pump(struct viewer *v)
{
    struct process *p = v->terminal->process;
    sa_error *err = NULL;
    int moved = 1;
    if (v->paused && !link_behind(&p->link)) {
        v->paused = false;
        rpc_pause_request(v->call, false);
    }
    for (unsigned due = DUE_CONTROL; due <= DUE_REFUSED && !v->blocked; due *= 2)
        if (v->due & due)
            send_due(v, due);
    while (moved > 0 && !v->blocked && !v->painting)
        moved = pump_output(v, &err);
    if (moved < 0)
        viewer_fail(v, err);
    else if (p->phase == PROCESS_EXITED && !v->blocked && !v->painting && v->cursor >= final_end(p))
        send_exited(v);
}

/* ---- opening ---- */

/* Is the output still kept from this byte on? 1, 0, -1. */
static int is_kept(struct process *p, uint64_t offset, sa_error **err)
{
    uint64_t first, end;
    if (process_open_reader(p, err) < 0 || reader_range(&p->reader, SHIM_STDOUT, &first, &end, err) < 0)
        return -1;
    if (offset > end)
        return sa_fail(err, SA_OFFSET_AHEAD, "output of process %s ends at byte %llu, before %llu", p->name,
                       (unsigned long long)end, (unsigned long long)offset);
    return offset >= first;
}

/* Its output is gone with its directory. */
static bool has_no_output(const struct process *p)
{
    return p->phase == PROCESS_EXITED && *p->record->end->reason && !p->record->end->stdout_end;
}

void viewer_begin(struct viewer *v)
{
    struct terminal *t = v->terminal;
    sa_error *err = NULL;
    bool none = has_no_output(t->process), acquired;
    int kept = v->goes_on && !none ? is_kept(t->process, v->cursor, &err) : none;
    if (kept < 0 || control_add(&t->control, &v->member, &err) < 0) {
        viewer_fail(v, err);
        return;
    }
    v->begun = true;
    v->next_opening = NULL;
    v->seen = v->goes_on;
    acquired = v->acquires && control_acquire(&t->control, &v->member, v->takes_over);
    terminal_changed(t, DUE_MEMBERS | (acquired ? DUE_CONTROL : 0));
    v->due = 0; /* `opened` tells it all */
    send_opened(v);
    if (!kept)
        ask_screen(v);
    viewer_pump(v);
}

static int check_open(const TerminalOpen *open, sa_error **err)
{
    size_t characters = 0;
    for (const char *c = open->display_name; *c; c++)
        characters += ((uint8_t)*c & 0xc0) != 0x80;
    if (characters > NAME_MAX_CHARACTERS)
        return sa_fail(err, SA_INVALID_REQUEST, "display_name has %zu characters, at most %d are allowed",
                       characters, NAME_MAX_CHARACTERS);
    return open->size ? spec_check_size("size", open->size->rows, open->size->columns, err) : 0;
}

static void on_open(struct viewer *v, const TerminalOpen *open)
{
    sa_error *err = NULL;
    struct process *p = check_open(open, &err) < 0 ? NULL : processes_find(v->all, open->process_id, &err);
    struct terminal *t = p ? terminal_of(p, &err) : NULL;
    if (!t) {
        viewer_fail(v, err);
        return;
    }
    v->terminal = t;
    v->acquires = open->acquire != NULL;
    v->takes_over = open->acquire && open->acquire->take_over;
    v->goes_on = open->_after_offset_case;
    v->cursor = open->after_offset;
    v->member.name = v->name = sa_strdup(open->display_name);
    if (open->size)
        v->member.size = (struct dimensions){open->size->rows, open->size->columns};
    if (t->ready) {
        viewer_begin(v);
        return;
    }
    struct viewer **at = &t->opening;
    while (*at)
        at = &(*at)->next_opening;
    *at = v;
    process_step(p);
}

/* ---- input ---- */

static void input_failed(struct viewer *v, int error, uint64_t next)
{
    sa_error *err = NULL;
    const char *name = v->terminal->process->name;
    if (error == ERANGE)
        sa_fail(&err, SA_OFFSET_AHEAD, "the terminal's input expects byte %llu next",
                (unsigned long long)next);
    else if (error == EPIPE)
        sa_fail(&err, SA_STDIN_CLOSED, "the terminal of process %s takes no more input, byte %llu is next",
                name, (unsigned long long)next);
    else if (error == ENOBUFS)
        sa_fail(&err, SA_INPUT_FULL, "process %s does not read its input: %d bytes wait, byte %llu is next",
                name, SHIM_INPUT_PENDING_MAX, (unsigned long long)next);
    else
        sa_fail_errno(&err, error, "keep input for process %s", name);
    viewer_fail(v, err);
}

static void tell(struct viewer *v, unsigned due)
{
    v->due |= due;
    if (v->begun && !v->blocked)
        send_due(v, due);
}

static void taken(struct viewer *v, uint64_t next)
{
    v->taken = next;
    tell(v, DUE_TAKEN);
}

/* That another one has taken control may have crossed it. */
static void refuse(struct viewer *v, uint64_t lease)
{
    v->refused_lease = lease;
    tell(v, DUE_REFUSED);
}

static void on_piece(void *user, int error, const struct shim_status *status)
{
    struct piece *piece = user;
    struct terminal *t = piece->terminal;
    struct member *m = t->control.members;
    while (m && m->id != piece->viewer)
        m = m->next;
    struct viewer *v = m ? viewer_of(m) : NULL;
    t->in_flight--;
    if (error)
        t->control.next = status ? status->stdin_next : 0;
    if (v && error == ECONNRESET) /* told by the end of the process, or once there is a new connection */
        v->owes = true;
    else if (v && error)
        input_failed(v, error, status->stdin_next);
    else if (v && piece->last)
        taken(v, status->stdin_next);
    free(piece);
}

static void send_piece(struct viewer *v, uint64_t offset, const uint8_t *p, size_t n, bool last)
{
    struct piece *piece = sa_calloc(1, sizeof *piece);
    *piece = (struct piece){v->terminal, v->member.id, last};
    v->terminal->in_flight++;
    link_input(&v->terminal->process->link, offset, p, n, false, on_piece, piece);
}

static void on_input(struct viewer *v, const TerminalInput *in)
{
    struct terminal *t = v->terminal;
    struct link *link = &t->process->link;
    sa_error *err = NULL;
    size_t n = in->data.len, known, at;
    uint64_t next = terminal_input_next(t);
    if (n > INPUT_MAX) {
        sa_fail(&err, SA_INVALID_REQUEST, "input.data has %zu bytes, at most %d are allowed", n, INPUT_MAX);
        viewer_fail(v, err);
        return;
    }
    if (t->process->phase == PROCESS_EXITED || !link_is_open(link)) {
        if (in->offset + n <= next)
            taken(v, next);
        else
            input_failed(v, EPIPE, next);
        return;
    }
    if (!control_holds(&t->control, &v->member, in->lease)) {
        refuse(v, in->lease);
        return;
    }
    if (control_input(&t->control, in->offset, n, &known, &err) < 0) {
        viewer_fail(v, err);
        return;
    }
    at = known;
    do {
        size_t part = n - at < SHIM_INPUT_CHUNK_MAX ? n - at : SHIM_INPUT_CHUNK_MAX;
        send_piece(v, in->offset + at, in->data.data + at, part, at + part == n);
        at += part;
    } while (at < n);
    if (link_behind(link) && !v->paused) {
        v->paused = true;
        rpc_pause_request(v->call, true);
    }
}

/* ---- from the caller ---- */

static void on_resize(struct viewer *v, const TerminalSize *size)
{
    sa_error *err = NULL;
    if (spec_check_size("resize", size->rows, size->columns, &err) < 0) {
        viewer_fail(v, err);
        return;
    }
    control_resize(&v->terminal->control, &v->member, (struct dimensions){size->rows, size->columns});
    terminal_changed(v->terminal, DUE_MEMBERS);
}

/* Not granted: the asker alone is told how it is. */
static void on_control_asked(struct viewer *v, bool changed)
{
    v->due |= DUE_CONTROL;
    if (changed)
        terminal_changed(v->terminal, DUE_CONTROL);
    else
        viewer_pump(v);
}

static void on_later(struct viewer *v, const AttachTerminalRequest *m)
{
    sa_error *err = NULL;
    struct control *c = &v->terminal->control;
    switch (m->kind_case) {
    case ATTACH_TERMINAL_REQUEST__KIND_INPUT:
        on_input(v, m->input);
        break;
    case ATTACH_TERMINAL_REQUEST__KIND_RESIZE:
        on_resize(v, m->resize);
        break;
    case ATTACH_TERMINAL_REQUEST__KIND_ACQUIRE:
        on_control_asked(v, control_acquire(c, &v->member, m->acquire->take_over));
        break;
    case ATTACH_TERMINAL_REQUEST__KIND_RELEASE:
        on_control_asked(v, control_release(c, &v->member, m->release->lease));
        break;
    default:
        sa_fail(&err, SA_INVALID_REQUEST,
                m->kind_case == ATTACH_TERMINAL_REQUEST__KIND_OPEN
                    ? "open comes once"
                    : "a message of AttachTerminal is open, input, resize, acquire or release");
        viewer_fail(v, err);
    }
}

static void on_message(void *user, struct rpc_call *call, const AttachTerminalRequest *m)
{
    struct viewer *v = user;
    sa_error *err = NULL;
    (void)call;
    if (v->begun) {
        on_later(v, m);
    } else if (!v->terminal && m->kind_case == ATTACH_TERMINAL_REQUEST__KIND_OPEN) {
        on_open(v, m->open);
    } else {
        sa_fail(&err, SA_INVALID_REQUEST,
                v->terminal ? "wait for opened before the next message" : "the first message must be open");
        viewer_fail(v, err);
    }
}

static void on_writable(void *user, struct rpc_call *call)
{
    struct viewer *v = user;
    (void)call;
    v->blocked = false;
    if (v->begun)
        viewer_pump(v);
}

/* The caller sends no more; it still looks. */
static void on_end(void *user, struct rpc_call *call)
{
    struct viewer *v = user;
    sa_error *err = NULL;
    (void)call;
    if (v->terminal)
        return;
    sa_fail(&err, SA_INVALID_REQUEST, "the first message must be open");
    viewer_fail(v, err);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    detach(user);
}

void attach_terminal_handler(void *api, struct rpc_call *call)
{
    static const struct attach_terminal_events events = {on_message, on_writable, on_end, on_cancel};
    struct viewer *v = sa_calloc(1, sizeof *v);
    v->all = api;
    v->call = rpc_call_ref(call);
    attach_terminal_accept(call, &events, v);
}
