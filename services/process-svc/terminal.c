/* Design notes
 *
 * Who types and who looks is kept in memory only: after a restart of the service viewers come back by
 * themselves, and ask again. But a lease or an id from before must never be somebody else's, so each run of
 * the service takes a new generation, committed before the first viewer of a terminal is answered.
 *
 * A change marks what each viewer is to be told, and a deferred turn tells it. So a viewer that does not read
 * costs one bit, and nobody is told of a state that lasted for an instant. */
#include "services/process-svc/terminal.h"

#include <errno.h>
#include <stdlib.h>

#include "adapters/os/mem.h"
#include "services/process-svc/spec.h"
#include "services/process-svc/viewer.h"

/* The list of all goes to all: with many of them not so often. */
enum { MEMBERS_PAUSE_MS = 50, MEMBERS_PAUSE_EACH_MS = 2 };

static void on_members_timer(void *user);

struct terminal *terminal_of(struct process *p, sa_error **err)
{
    const TerminalRecord *r = p->record->terminal;
    if (!r) {
        sa_fail(err, SA_NOT_A_TERMINAL, "process %s does not run on a terminal", p->name);
        return NULL;
    }
    if (p->terminal)
        return p->terminal;
    cleanup_buf struct sa_buf dir = {0};
    struct terminal *t = p->terminal = sa_calloc(1, sizeof *t);
    process_directory(p, &dir);
    t->process = p;
    t->control.smallest = r->size_policy == TERMINAL_SIZE_POLICY_SMALLEST;
    t->size = terminal_size_now(t);
    t->painter =
        painter_new(p->all->loop, sa_buf_string(&dir), t->size.rows, t->size.columns, r->scrollback_lines);
    t->members_timer = sa_timer_new(p->all->loop, on_members_timer, t);
    return t;
}

void terminal_free(struct terminal *t)
{
    if (!t)
        return;
    painter_free(t->painter);
    sa_timer_free(t->members_timer);
    free(t);
}

bool terminal_busy(const struct process *p)
{
    const struct terminal *t = p->terminal;
    return t && (t->control.n || t->opening || t->asking || t->flushing);
}

struct dimensions terminal_size_now(const struct terminal *t)
{
    const struct process *p = t->process;
    const TerminalRecord *r = p->record->terminal;
    uint32_t last = p->phase == PROCESS_EXITED ? p->record->end->terminal_size : 0;
    if (last)
        return (struct dimensions){last >> 16, last & 0xffff};
    if (p->status.rows && p->status.columns)
        return (struct dimensions){p->status.rows, p->status.columns};
    return (struct dimensions){r->rows, r->columns};
}

uint32_t terminal_last_size(const struct process *p)
{
    const TerminalRecord *r = p->record->terminal;
    if (p->status.rows)
        return p->status.rows << 16 | p->status.columns;
    return r ? r->rows << 16 | r->columns : 0;
}

uint64_t terminal_input_next(struct terminal *t)
{
    const struct process *p = t->process;
    uint64_t next = p->phase == PROCESS_EXITED ? p->record->end->stdin_offset : p->status.stdin_next;
    if (!t->in_flight || next > t->control.next)
        t->control.next = next;
    return t->control.next;
}

/* ---- the generation ---- */

static void generation_committed(void *user, const sa_error *err)
{
    struct process *p = user;
    struct terminal *t = p->terminal;
    struct viewer *opening = steal_pointer(&t->opening);
    p->committing = false;
    if (err) {
        p->record->terminal_generation--;
        process_not_committed(p, err);
    } else {
        t->ready = true;
        t->control.generation = p->record->terminal_generation;
    }
    for (struct viewer *v = opening, *next; v; v = next) {
        next = viewer_next_opening(v);
        if (err)
            viewer_fail(v, sa_error_copy(err));
        else
            viewer_begin(v);
    }
    process_step(p);
}

bool terminal_commits(struct process *p)
{
    if (!p->terminal || !p->terminal->opening || p->terminal->ready)
        return false;
    struct store_set *set = store_set_new();
    struct store_key key = process_key(p);
    p->record->terminal_generation++;
    store_put(set, TABLE_PROCESSES, &key, &p->record->base);
    process_commit(p, set, generation_committed);
    return true;
}

/* ---- telling ---- */

static void all_due(struct terminal *t, unsigned due)
{
    for (struct member *m = t->control.members; m; m = m->next)
        viewer_due(viewer_of(m), due);
}

static void pump_all(struct terminal *t)
{
    for (struct member *m = t->control.members, *next; m; m = next) {
        next = m->next;
        viewer_pump(viewer_of(m));
    }
}

static void use_size(struct terminal *t)
{
    struct process *p = t->process;
    struct dimensions now = t->asked.rows ? t->asked : terminal_size_now(t),
                      wanted = control_size(&t->control, now);
    if (p->phase == PROCESS_EXITED || (wanted.rows == now.rows && wanted.columns == now.columns))
        return;
    t->asked = wanted;
    link_resize(&p->link, wanted.rows, wanted.columns, NULL, NULL);
}

static void flush(void *user)
{
    struct terminal *t = user;
    t->flushing = false;
    if (t->members_changed && !sa_timer_active(t->members_timer)) {
        t->members_changed = false;
        all_due(t, DUE_MEMBERS);
        sa_timer_start(t->members_timer, MEMBERS_PAUSE_MS + t->control.n * MEMBERS_PAUSE_EACH_MS);
    }
    use_size(t);
    pump_all(t);
    process_release(t->process);
}

static void flush_soon(struct terminal *t)
{
    if (t->flushing)
        return;
    t->flushing = true;
    sa_defer(t->process->all->loop, flush, t);
}

static void on_members_timer(void *user)
{
    struct terminal *t = user;
    if (t->members_changed)
        flush_soon(t);
}

void terminal_changed(struct terminal *t, unsigned due)
{
    t->members_changed |= (due & DUE_MEMBERS) != 0;
    all_due(t, due & DUE_CONTROL);
    flush_soon(t);
}

static void look_at_size(struct terminal *t)
{
    struct dimensions now = terminal_size_now(t);
    if (now.rows == t->asked.rows && now.columns == t->asked.columns)
        t->asked = (struct dimensions){0};
    if (now.rows == t->size.rows && now.columns == t->size.columns)
        return;
    t->size = now;
    painter_resize(t->painter, now.rows, now.columns);
    all_due(t, DUE_SIZE);
}

void terminal_notify(struct process *p)
{
    struct terminal *t = p->terminal;
    if (!t)
        return;
    look_at_size(t);
    if (t->control.n)
        painter_news(t->painter);
    pump_all(t);
}

void terminal_fail(struct process *p, const sa_error *err)
{
    struct terminal *t = p->terminal;
    while (t && t->control.members)
        viewer_fail(viewer_of(t->control.members), sa_error_copy(err));
    struct viewer *opening = t ? steal_pointer(&t->opening) : NULL;
    for (struct viewer *v = opening, *next; v; v = next) {
        next = viewer_next_opening(v);
        viewer_fail(v, sa_error_copy(err));
    }
}

void terminal_reconnected(struct process *p)
{
    struct terminal *t = p->terminal;
    if (!t)
        return;
    t->asked = (struct dimensions){0}; /* it may not have come */
    for (struct member *m = t->control.members, *next; m; m = next) {
        sa_error *err = NULL;
        next = m->next;
        if (!viewer_owes(viewer_of(m)))
            continue;
        sa_fail(&err, SA_UNAVAILABLE, "the connection to the shim of process %s broke: attach again",
                p->name);
        viewer_fail(viewer_of(m), err);
    }
    flush_soon(t);
}

/* ---- TerminalService ---- */

/* A unary call that waits. */
struct asked {
    struct terminal *terminal;
    struct rpc_call *call;
};

static struct asked *asked_new(struct terminal *t, struct rpc_call *call)
{
    struct asked *a = sa_calloc(1, sizeof *a);
    *a = (struct asked){t, rpc_call_ref(call)};
    t->asking++;
    return a;
}

static void asked_free(struct asked *a)
{
    a->terminal->asking--;
    process_release(a->terminal->process);
    rpc_call_unref(a->call);
    free(a);
}

static void on_painted(void *user, const struct painting *painting, const sa_error *err)
{
    struct asked *a = user;
    if (!painting) {
        rpc_fail(a->call, sa_error_copy(err));
        asked_free(a);
        return;
    }
    GetScreenResponse res = GET_SCREEN_RESPONSE__INIT;
    TerminalScreen screen = TERMINAL_SCREEN__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    size.rows = painting->rows;
    size.columns = painting->columns;
    screen.data = (ProtobufCBinaryData){painting->data.len, painting->data.data};
    screen.offset = painting->offset;
    screen.size = &size;
    res.screen = &screen;
    res.text = sa_arena_memdup(rpc_arena(a->call), painting->text.data, painting->text.len + 1);
    res.text[painting->text.len] = 0;
    res.cursor_row = painting->cursor_row;
    res.cursor_column = painting->cursor_column;
    get_screen_reply(a->call, &res);
    asked_free(a);
}

static struct terminal *find(struct processes *all, const char *process_id, sa_error **err)
{
    struct process *p = processes_find(all, process_id, err);
    return p ? terminal_of(p, err) : NULL;
}

static void get_screen(void *api, struct rpc_call *call, const GetScreenRequest *req)
{
    sa_error *err = NULL;
    struct terminal *t = find(api, req->process_id, &err);
    if (t)
        painter_ask(t->painter, req->scrollback ? PAINT_LINES : PAINT_SCREEN, on_painted, asked_new(t, call));
    else
        rpc_fail(call, err);
}

static void on_resized(void *user, int error, const struct shim_status *status)
{
    struct asked *a = user;
    sa_error *err = NULL;
    (void)status;
    ResizeTerminalResponse res = RESIZE_TERMINAL_RESPONSE__INIT;
    if (error == ECONNRESET)
        sa_fail(&err, SA_PROCESS_EXITED, "the process has ended, its terminal has no size to set");
    else if (error)
        sa_fail_errno(&err, error, "resize a terminal");
    if (err)
        rpc_fail(a->call, err);
    else
        resize_terminal_reply(a->call, &res);
    asked_free(a);
}

static void resize_terminal(void *api, struct rpc_call *call, const ResizeTerminalRequest *req)
{
    sa_error *err = NULL;
    uint32_t rows = req->size ? req->size->rows : 0, columns = req->size ? req->size->columns : 0;
    struct terminal *t =
        spec_check_size("size", rows, columns, &err) < 0 ? NULL : find(api, req->process_id, &err);
    if (!t) {
        rpc_fail(call, err);
        return;
    }
    t->asked = (struct dimensions){rows, columns};
    control_force(&t->control, t->asked);
    link_resize(&t->process->link, rows, columns, on_resized, asked_new(t, call));
}

void terminal_register(struct processes *all)
{
    static const struct terminal_service_handlers handlers = {
        .attach_terminal = attach_terminal_handler,
        .get_screen = get_screen,
        .resize_terminal = resize_terminal,
    };
    terminal_service_register(service_rpc(all->svc), &handlers, all);
}
