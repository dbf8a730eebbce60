/* POST /v1/processes/{id}/input: {"data", "encoding"?, "eof"?}. Bytes go to standard input, or are typed.
 * The answer comes once they are with the process's shim.
 *
 * Standard input has offsets, and process-svc ignores bytes that it has already: so of the requests for one
 * process only the first in the queue is under way. */
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/processes.h"
#include "services/gateway-svc/terminal_link.h"

struct input {
    struct exchange *x;
    struct input *next; /* in the gateway's queue */
    struct sa_buf data;
    bool eof, queued, begun;
    uint64_t end; /* offset after the data */
    struct rpc_request *rpc;
    struct terminal_link *terminal;
};

/* ---- the queue ---- */

static void begin(struct input *in);

static struct input *first_for(const struct input *in)
{
    struct input *i = in->x->gw->inputs;
    while (strcmp(process_id(i->x), process_id(in->x)) != 0)
        i = i->next;
    return i;
}

static void enter(struct input *in)
{
    struct input **at = &in->x->gw->inputs;
    while (*at)
        at = &(*at)->next;
    *at = in;
    in->queued = true;
    if (first_for(in) == in)
        begin(in);
}

static void leave(struct input *in)
{
    if (!in->queued)
        return;
    struct input **at = &in->x->gw->inputs;
    while (*at != in)
        at = &(*at)->next;
    *at = in->next;
    in->queued = false;
    rpc_abandon(steal_pointer(&in->rpc));
    for (struct input *i = in->x->gw->inputs; i; i = i->next) {
        if (strcmp(process_id(i->x), process_id(in->x)) != 0)
            continue;
        if (!i->begun)
            begin(i);
        return;
    }
}

/* ---- the answer ---- */

static void written(struct input *in)
{
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    json_begin_object(&w);
    json_key(&w, "bytesWritten");
    json_put_uint(&w, in->data.len);
    json_end_object(&w);
    leave(in);
    peer_reply(in->x, &body);
}

static void not_written(struct input *in, const sa_error *err)
{
    cleanup_error sa_error *e = err ? sa_error_copy(err) : NULL;
    leave(in);
    if (http_answered(in->x->http))
        return;
    if (!e) {
        peer_problem(in->x, PEER_CONFLICT, sa_reason_name(SA_PROCESS_EXITED), "process is not running");
    } else if (sa_error_is(e, SA_INVALID_REQUEST)) { /* of what is sent only the size can be wrong */
        cleanup_free char *message =
            sa_format("input payload exceeds maxInputBytesPerRequest: %s", e->message);
        peer_problem(in->x, PEER_TOO_LARGE, sa_reason_name(SA_MESSAGE_TOO_LARGE), message);
    } else {
        process_fail(in->x, e);
    }
}

/* ---- a terminal ---- */

static void on_typed(void *user)
{
    written(user);
}

static void on_terminal_end(void *user, const ExitRecord *exit, const sa_error *err)
{
    (void)exit;
    not_written(user, err);
}

/* What it shows is of no interest: from its end on. */
static void type(struct input *in, const Process *p)
{
    static const struct terminal_link_events events = {.typed = on_typed, .ended = on_terminal_end};
    rpc_abandon(steal_pointer(&in->rpc));
    in->terminal = terminal_link_new(in->x, process_id(in->x), &p->stdout_end, &events, in);
    if (in->eof)
        sa_buf_add(&in->data, "\4", 1); /* the end of a file is typed */
    terminal_link_type(in->terminal, in->data.data, in->data.len);
}

/* ---- standard input ---- */

static void write_input(struct input *in, uint64_t offset)
{
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    AttachInput input = ATTACH_INPUT__INIT;
    in->end = offset + in->data.len;
    input.offset = offset;
    input.data = (ProtobufCBinaryData){in->data.len, in->data.data};
    input.eof = in->eof;
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_INPUT;
    req.input = &input;
    attach_process_write(in->rpc, &req);
}

static void on_message(void *user, const AttachProcessResponse *res)
{
    struct input *in = user;
    if (res->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OPENED) {
        const Process *p = res->opened->process;
        if (p->exit)
            not_written(in, NULL);
        else if (p->spec->terminal)
            type(in, p);
        else
            write_input(in, p->stdin_offset);
    } else if (res->kind_case == ATTACH_PROCESS_RESPONSE__KIND_INPUT_TAKEN) {
        if (res->input_taken->next_offset >= in->end)
            written(in);
    } else if (res->kind_case == ATTACH_PROCESS_RESPONSE__KIND_EXITED) {
        not_written(in, NULL);
    }
}

static void on_end(void *user, const sa_error *err)
{
    struct input *in = user;
    in->rpc = NULL;
    not_written(in, err);
}

static void begin(struct input *in)
{
    static const struct attach_process_client events = {.on_message = on_message, .on_end = on_end};
    AttachProcessRequest req = ATTACH_PROCESS_REQUEST__INIT;
    AttachOpen open = ATTACH_OPEN__INIT;
    struct rpc_call_options opt = calls_options(in->x);
    in->begun = true;
    open.process_id = process_id(in->x);
    req.kind_case = ATTACH_PROCESS_REQUEST__KIND_OPEN;
    req.open = &open;
    in->rpc = attach_process_open(in->x->gw->process, &opt, &events, in);
    attach_process_write(in->rpc, &req);
}

/* ---- the request ---- */

static bool read_data(struct exchange *x, struct json body, struct sa_buf *ret)
{
    char *data = NULL, *encoding = sa_arena_strdup(http_arena(x->http), "base64");
    if (!peer_string(x, body, "data", true, &data) || !peer_string(x, body, "encoding", false, &encoding))
        return false;
    if (strcmp(encoding, "utf8") == 0 || strcmp(encoding, "text") == 0) {
        sa_buf_add(ret, data, strlen(data));
        return true;
    }
    if (strcmp(encoding, "base64") != 0) {
        peer_problem(x, PEER_INVALID, NULL, "encoding must be one of: base64, utf8, text");
        return false;
    }
    if (json_unbase64(ret, data, strlen(data)) == 0)
        return true;
    sa_buf_fini(ret);
    peer_problem(x, PEER_INVALID, NULL, "invalid base64 input");
    return false;
}

static void abandon(struct exchange *x)
{
    struct input *in = x->state;
    leave(in);
    rpc_abandon(in->rpc);
    terminal_link_free(in->terminal);
    sa_buf_fini(&in->data);
    free(in);
}

void processes_input(struct exchange *x)
{
    cleanup_buf struct sa_buf data = {0};
    bool eof = false;
    struct json body;
    if (!peer_body(x, &body) || !peer_flag(x, body, "eof", &eof) || !read_data(x, body, &data))
        return;
    struct input *in = sa_calloc(1, sizeof(*in));
    *in = (struct input){.x = x, .eof = eof, .data = data};
    data = (struct sa_buf){0};
    x->state = in;
    x->abandon = abandon;
    enter(in);
}
