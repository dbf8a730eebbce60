/* The stream between `exec` and its process: AttachTerminal or AttachProcess. A stream that breaks is opened
 * again where it was: output goes on at its offset, and input that was not taken is sent again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/cli/exec.h"
#include "services/cli/process.h"

enum { AGAIN_MS = 300, TRIES = 200 /* a minute */, PIECE = 32 << 10, ACK_EVERY = 1 << 20 };

/* ---- what comes ---- */

static void write_output(struct execution *e, int stream, uint64_t offset, const ProtobufCBinaryData *data)
{
    if (!tty_write(stream ? STDERR_FILENO : STDOUT_FILENO, data->data, data->len))
        exec_leave(e);
    e->out[stream] = offset + data->len;
}

static void exited(struct execution *e, const ExitRecord *record)
{
    e->ended = true;
    e->code = process_exit_code(record);
    exec_leave(e);
}

static void opened(struct execution *e, uint64_t input_next)
{
    e->opened = e->worked = true;
    e->tries = 0;
    e->full = e->end_sent = false;
    e->sent = 0;
    exec_taken(e, input_next);
    exec_send(e);
}

/* Open again a little later, or give up. */
static void stream_ended(struct execution *e, const sa_error *err)
{
    e->stream = NULL;
    e->opened = false;
    if (e->ended)
        return;
    if (err && (err->code != SA_CODE_UNAVAILABLE || !e->worked || ++e->tries == TRIES)) {
        e->err = sa_error_copy(err);
        exec_leave(e);
        return;
    }
    sa_timer_start(e->again, AGAIN_MS);
}

/* ---- a terminal ---- */

static void use_control(struct execution *e, const TerminalControl *c)
{
    bool had = e->in_control;
    e->lease = c->lease;
    e->in_control = c->viewer_id == e->viewer_id;
    if (e->in_control == had)
        return;
    e->takes_over &= !c->viewer_id || e->in_control; /* not back from another one */
    /* What was typed for another one's input is not for now. */
    e->input.len = e->sent = 0;
    e->input_offset = c->input_offset;
}

static void on_terminal(void *user, const AttachTerminalResponse *m)
{
    struct execution *e = user;
    switch (m->kind_case) {
    case ATTACH_TERMINAL_RESPONSE__KIND_OPENED:
        e->viewer_id = m->opened->viewer_id;
        e->lease = m->opened->control->lease;
        e->in_control = m->opened->control->viewer_id == e->viewer_id;
        if (!e->worked && e->attached)
            e->input_offset = m->opened->control->input_offset;
        if (!e->worked && e->attached && e->interactive && !e->in_control)
            fprintf(stderr, "sandbox-agent: `%s` is in control; --take-over takes it\r\n",
                    m->opened->control->display_name);
        opened(e, m->opened->control->input_offset);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_SCREEN:
        tty_clear();
        write_output(e, 0, 0, &m->screen->data);
        e->out[0] = m->screen->offset;
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT:
        write_output(e, 0, m->output->offset, &m->output->data);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_CONTROL:
        use_control(e, m->control);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_INPUT_REFUSED:
        use_control(e, m->input_refused->control);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_INPUT_TAKEN:
        exec_taken(e, m->input_taken->next_offset);
        break;
    case ATTACH_TERMINAL_RESPONSE__KIND_EXITED:
        exited(e, m->exited);
        break;
    default:
        break;
    }
}

static void on_end(void *user, const sa_error *err)
{
    stream_ended(user, err);
}

static void on_writable(void *user)
{
    struct execution *e = user;
    e->full = false;
    exec_send(e);
}

static bool put_terminal(struct execution *e, AttachTerminalRequest__KindCase kind, void *message)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    req.kind_case = kind;
    req.open = message; /* any of the oneof */
    return attach_terminal_write(e->stream, &req);
}

static void open_terminal(struct execution *e)
{
    static const struct attach_terminal_client events = {on_terminal, on_writable, on_end};
    TerminalOpen open = TERMINAL_OPEN__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    open.process_id = e->id;
    open.display_name = getenv("USER") ? getenv("USER") : open.display_name;
    if (tty_size(&size.rows, &size.columns))
        open.size = &size;
    acquire.take_over = e->takes_over;
    if (e->interactive || !e->attached)
        open.acquire = &acquire;
    if (!e->attached || e->worked) {
        open._after_offset_case = TERMINAL_OPEN___AFTER_OFFSET_AFTER_OFFSET;
        open.after_offset = e->out[0];
    }
    e->stream = attach_terminal_open(e->client->channel, NULL, &events, e);
    put_terminal(e, ATTACH_TERMINAL_REQUEST__KIND_OPEN, &open);
}

static bool send_terminal(struct execution *e, uint8_t *data, size_t n)
{
    TerminalInput input = TERMINAL_INPUT__INIT;
    input.lease = e->lease;
    input.offset = e->input_offset + e->sent;
    input.data = (ProtobufCBinaryData){n, data};
    return put_terminal(e, ATTACH_TERMINAL_REQUEST__KIND_INPUT, &input);
}

void exec_resize(struct execution *e)
{
    TerminalSize size = TERMINAL_SIZE__INIT;
    if (e->terminal && e->opened && tty_size(&size.rows, &size.columns))
        put_terminal(e, ATTACH_TERMINAL_REQUEST__KIND_RESIZE, &size);
}

/* ---- pipes ---- */

static bool put_process(struct execution *e, AttachProcessRequest__KindCase kind, void *message)
{
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    req.kind_case = kind;
    req.open = message;
    return attach_process_write(e->stream, &req);
}

/* Standard output is kept until we have written it on: nothing is lost when our reader is slow. */
static void acknowledge(struct execution *e)
{
    AttachAck ack = ATTACH_ACK__INIT;
    if (e->out[0] - e->acknowledged < ACK_EVERY)
        return;
    ack.stdout_offset = e->acknowledged = e->out[0];
    put_process(e, ATTACH_PROCESS_REQUEST__KIND_ACK, &ack);
}

static void on_process(void *user, const AttachProcessResponse *m)
{
    struct execution *e = user;
    switch (m->kind_case) {
    case ATTACH_PROCESS_RESPONSE__KIND_OPENED:
        opened(e, m->opened->process->stdin_offset);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_OUTPUT:
        write_output(e, m->output->stream == OUTPUT_STREAM_STDERR, m->output->offset, &m->output->data);
        acknowledge(e);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_GAP:
        fprintf(stderr, "sandbox-agent: output is missing here: it was written faster than it was read\n");
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN:
        exec_taken(e, m->input_taken->next_offset);
        break;
    case ATTACH_PROCESS_RESPONSE__KIND_EXITED:
        exited(e, m->exited);
        break;
    default:
        break;
    }
}

/* A command that does not read its input is no failure of ours. */
static void on_process_end(void *user, const sa_error *err)
{
    struct execution *e = user;
    if (sa_error_is(err, SA_STDIN_CLOSED)) {
        e->input.len = e->sent = 0;
        e->interactive = false;
        sa_io_set(e->stdin_io, 0);
        err = NULL;
    }
    stream_ended(e, err);
}

static void open_process(struct execution *e)
{
    static const struct attach_process_client events = {on_process, on_writable, on_process_end};
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = e->id;
    open._stdout_offset_case = ATTACH_OPEN___STDOUT_OFFSET_STDOUT_OFFSET;
    open.stdout_offset = e->out[0];
    open._stderr_offset_case = ATTACH_OPEN___STDERR_OFFSET_STDERR_OFFSET;
    open.stderr_offset = e->out[1];
    open._stdout_ack_case = ATTACH_OPEN___STDOUT_ACK_STDOUT_ACK;
    open.stdout_ack = e->acknowledged = e->out[0];
    e->stream = attach_process_open(e->client->channel, NULL, &events, e);
    put_process(e, ATTACH_PROCESS_REQUEST__KIND_OPEN, &open);
}

static bool send_process(struct execution *e, uint8_t *data, size_t n, bool eof)
{
    AttachInput input = ATTACH_INPUT__INIT;
    input.offset = e->input_offset + e->sent;
    input.data = (ProtobufCBinaryData){n, data};
    input.eof = eof;
    return put_process(e, ATTACH_PROCESS_REQUEST__KIND_INPUT, &input);
}

/* ---- both ---- */

void exec_send(struct execution *e)
{
    if (!e->opened || (e->terminal && !e->in_control))
        return;
    while (e->sent < e->input.len && !e->full) {
        uint8_t *data = e->input.data + e->sent;
        size_t left = e->input.len - e->sent, n = left < PIECE ? left : PIECE;
        e->full = e->terminal ? !send_terminal(e, data, n) : !send_process(e, data, n, false);
        e->sent += n;
    }
    if (e->sent < e->input.len || e->full || e->terminal || !e->input_ended || e->end_sent)
        return;
    e->end_sent = true;
    e->full = !send_process(e, NULL, 0, true);
}

void exec_open(struct execution *e)
{
    if (e->terminal)
        open_terminal(e);
    else
        open_process(e);
}

void exec_close(struct execution *e)
{
    rpc_abandon(steal_pointer(&e->stream));
    e->opened = false;
}
