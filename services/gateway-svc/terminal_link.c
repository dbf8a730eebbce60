#include "services/gateway-svc/terminal_link.h"

#include <stdlib.h>

enum { PIECE = 64 << 10 }; /* bytes of input at once */

struct terminal_link {
    struct terminal_link_events events;
    void *user;
    struct rpc_request *rpc;
    uint64_t viewer, lease, offset; /* offset: of the next byte that is typed */
    struct sa_buf typed;            /* its first `sent` bytes are on their way */
    size_t sent;
    TerminalSize size; /* once we are in control; 0: none */
    bool opened, holds, asked, screen_seen;
};

/* ---- to process-svc ---- */

static void send(struct terminal_link *l, AttachTerminalRequest *req)
{
    if (l->rpc)
        attach_terminal_write(l->rpc, req); /* what is unsent is bounded by us: a piece and a size */
}

static void ask_for_control(struct terminal_link *l)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    if (l->asked)
        return;
    l->asked = true;
    acquire.take_over = true;
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_ACQUIRE;
    req.acquire = &acquire;
    send(l, &req);
}

static void send_size(struct terminal_link *l)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalSize size = l->size;
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_RESIZE;
    req.resize = &size;
    l->size.rows = 0;
    send(l, &req);
}

static void send_piece(struct terminal_link *l)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalInput input = TERMINAL_INPUT__INIT;
    l->sent = l->typed.len < PIECE ? l->typed.len : PIECE;
    input.lease = l->lease;
    input.offset = l->offset;
    input.data = (ProtobufCBinaryData){l->sent, l->typed.data};
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_INPUT;
    req.input = &input;
    send(l, &req);
}

/* Does what there is to do next. */
static void go_on(struct terminal_link *l)
{
    if (!l->opened || l->sent || (!l->typed.len && !l->size.rows))
        return;
    if (!l->holds) {
        ask_for_control(l);
        return;
    }
    if (l->size.rows)
        send_size(l);
    if (l->typed.len)
        send_piece(l);
}

/* ---- from process-svc ---- */

static void on_control(struct terminal_link *l, const TerminalControl *c)
{
    l->holds = c->viewer_id == l->viewer;
    l->asked = false;
    l->lease = c->lease;
    if (!l->sent)
        l->offset = c->input_offset;
    go_on(l);
}

static void on_taken(struct terminal_link *l, const TerminalInputTaken *taken)
{
    if (!l->sent || taken->next_offset < l->offset + l->sent)
        return;
    l->offset = taken->next_offset;
    sa_buf_consume(&l->typed, l->sent);
    l->sent = 0;
    if (!l->typed.len && l->events.typed)
        l->events.typed(l->user);
    else
        go_on(l);
}

/* Nothing of the piece was taken: it is sent again with a new lease. */
static void on_refused(struct terminal_link *l, const TerminalInputRefused *refused)
{
    l->sent = 0;
    on_control(l, refused->control);
}

static void on_screen(struct terminal_link *l, const TerminalScreen *screen)
{
    bool anew = l->screen_seen;
    l->screen_seen = true;
    if (l->events.output)
        l->events.output(l->user, screen->data.data, screen->data.len, anew);
}

static void on_opened(struct terminal_link *l, const TerminalOpened *opened)
{
    l->opened = true;
    l->viewer = opened->viewer_id;
    if (l->events.opened)
        l->events.opened(l->user, opened->process);
    if (opened->control)
        on_control(l, opened->control);
    go_on(l);
}

static void end(struct terminal_link *l, const ExitRecord *exit, const sa_error *err)
{
    void (*ended)(void *, const ExitRecord *, const sa_error *) = l->events.ended;
    l->events.ended = NULL;
    if (ended)
        ended(l->user, exit, err);
}

static void on_message(void *user, const AttachTerminalResponse *res)
{
    struct terminal_link *l = user;
    switch (res->kind_case) {
    case ATTACH_TERMINAL_RESPONSE__KIND_OPENED:
        on_opened(l, res->opened);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT:
        if (l->events.output)
            l->events.output(l->user, res->output->data.data, res->output->data.len, false);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_SCREEN:
        on_screen(l, res->screen);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_CONTROL:
        on_control(l, res->control);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_INPUT_TAKEN:
        on_taken(l, res->input_taken);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_INPUT_REFUSED:
        on_refused(l, res->input_refused);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_EXITED:
        end(l, res->exited, NULL);
        break;
    default: /* who looks, and the size that others have set */
        break;
    }
}

static void on_end(void *user, const sa_error *err)
{
    struct terminal_link *l = user;
    l->rpc = NULL;
    end(l, NULL, err);
}

/* ---- for the owner ---- */

struct terminal_link *terminal_link_new(const struct exchange *x, const char *process_id,
                                        const uint64_t *after, const struct terminal_link_events *events,
                                        void *user)
{
    static const struct attach_terminal_client client = {.on_message = on_message, .on_end = on_end};
    struct terminal_link *l = sa_calloc(1, sizeof(*l));
    struct rpc_call_options opt = calls_options(x);
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalOpen open = TERMINAL_OPEN__INIT;
    *l = (struct terminal_link){.events = *events, .user = user, .size = TERMINAL_SIZE__INIT};
    opt.deadline_ms = 0;
    opt.wait_for_ready = false;
    open.process_id = (char *)(uintptr_t)process_id;
    open.display_name = (char *)(uintptr_t)x->principal;
    if (after) {
        open._after_offset_case = TERMINAL_OPEN___AFTER_OFFSET_AFTER_OFFSET;
        open.after_offset = *after;
    }
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_OPEN;
    req.open = &open;
    l->rpc = attach_terminal_open(x->gw->process, &opt, &client, l);
    send(l, &req);
    return l;
}

void terminal_link_free(struct terminal_link *l)
{
    if (!l)
        return;
    rpc_abandon(l->rpc);
    sa_buf_fini(&l->typed);
    free(l);
}

void terminal_link_type(struct terminal_link *l, const void *data, size_t n)
{
    sa_buf_add(&l->typed, data, n);
    go_on(l);
}

size_t terminal_link_untyped(const struct terminal_link *l)
{
    return l->typed.len;
}

void terminal_link_resize(struct terminal_link *l, uint32_t columns, uint32_t rows)
{
    l->size.columns = columns;
    l->size.rows = rows;
    go_on(l);
}

void terminal_link_pause(struct terminal_link *l, bool paused)
{
    if (l->rpc)
        rpc_pause_response(l->rpc, paused);
}
