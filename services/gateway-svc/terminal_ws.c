/* GET /v1/processes/{id}/terminal/ws: a terminal over WebSocket, as the peer's clients know it.
 *
 *     to the client    {"type":"ready","processId"}        first
 *                      binary                              bytes for its terminal: the screen, then what
 * comes
 *                      {"type":"exit","exitCode"}          null: a signal ended it; then the connection
 * closes
 *                      {"type":"error","message"}
 *     from the client  {"type":"input","data","encoding"?} utf8 (default) or base64
 *                      {"type":"resize","cols","rows"}
 *                      {"type":"close"}                    it leaves, the process stays
 *
 * Any number may look and type. Who reads slowly gets less often the screen as it is instead of every byte;
 * who types faster than the process reads is read from no more. */
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/processes.h"
#include "services/gateway-svc/terminal_link.h"
#include "services/gateway-svc/websocket.h"

enum {
    MESSAGE_MAX = 2 << 20,
    UNSENT_MAX = 256 << 10,  /* bytes to the client: more, and output waits */
    UNTYPED_MAX = 256 << 10, /* bytes to the process: more, and the client waits */
};

struct terminal_ws {
    struct exchange *x;
    struct terminal_ws *next, **at; /* in the gateway's list */
    struct rpc_request *looking;
    struct websocket *ws;
    struct terminal_link *link;
    bool output_waits;
};

/* ---- to the client ---- */

static void send_error(struct terminal_ws *t, const char *message)
{
    cleanup_buf struct sa_buf text = {0};
    struct json_writer w = json_writer(&text);
    json_begin_object(&w);
    json_key(&w, "type");
    json_put_string(&w, "error");
    json_key(&w, "message");
    json_put_string(&w, message);
    json_end_object(&w);
    websocket_send(t->ws, true, text.data, text.len);
}

static void send_ready(struct terminal_ws *t)
{
    cleanup_buf struct sa_buf text = {0};
    struct json_writer w = json_writer(&text);
    json_begin_object(&w);
    json_key(&w, "type");
    json_put_string(&w, "ready");
    json_key(&w, "processId");
    json_put_string(&w, process_id(t->x));
    json_end_object(&w);
    websocket_send(t->ws, true, text.data, text.len);
}

static void send_exit(struct terminal_ws *t, const ExitRecord *exit)
{
    cleanup_buf struct sa_buf text = {0};
    if (exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        sa_buf_addf(&text, "{\"type\":\"exit\",\"exitCode\":%u}", exit->exit_code);
    else
        sa_buf_addf(&text, "{\"type\":\"exit\",\"exitCode\":null}");
    websocket_send(t->ws, true, text.data, text.len);
}

/* ---- from the process ---- */

static void on_output(void *user, const void *data, size_t n, bool anew)
{
    static const char clear[] = "\033c";
    struct terminal_ws *t = user;
    if (anew)
        websocket_send(t->ws, false, clear, sizeof(clear) - 1);
    if (n)
        websocket_send(t->ws, false, data, n);
    if (!t->output_waits && websocket_unsent(t->ws) > UNSENT_MAX) {
        t->output_waits = true;
        terminal_link_pause(t->link, true);
    }
}

static void on_typed(void *user)
{
    struct terminal_ws *t = user;
    websocket_pause(t->ws, false);
}

static void on_ended(void *user, const ExitRecord *exit, const sa_error *err)
{
    struct terminal_ws *t = user;
    if (exit)
        send_exit(t, exit);
    else
        send_error(t, err ? err->message : "the view has ended");
    websocket_close(t->ws, exit ? WEBSOCKET_NORMAL : WEBSOCKET_INTERNAL);
}

/* ---- from the client ---- */

static void on_input(struct terminal_ws *t, struct json frame)
{
    cleanup_buf struct sa_buf text = {0}, bytes = {0};
    struct json encoding = json_get(frame, "encoding");
    if (json_decode(json_get(frame, "data"), JSON_REFUSE, &text, NULL) < 0) {
        send_error(t, "invalid terminal frame: `data` must be a string");
        return;
    }
    if (json_is(encoding, "base64")) {
        if (json_unbase64(&bytes, (const char *)text.data, text.len) < 0) {
            send_error(t, "invalid base64 input");
            return;
        }
        terminal_link_type(t->link, bytes.data, bytes.len);
    } else if (!encoding.n || json_type(encoding) == JSON_NULL || json_is(encoding, "utf8") ||
               json_is(encoding, "text")) {
        terminal_link_type(t->link, text.data, text.len);
    } else {
        send_error(t, "encoding must be one of: base64, utf8, text");
        return;
    }
    if (terminal_link_untyped(t->link) > UNTYPED_MAX)
        websocket_pause(t->ws, true);
}

static void on_resize(struct terminal_ws *t, struct json frame)
{
    uint64_t columns, rows;
    if (!json_uint(json_get(frame, "cols"), &columns) || !json_uint(json_get(frame, "rows"), &rows) ||
        columns > UINT16_MAX || rows > UINT16_MAX)
        send_error(t, "invalid terminal frame: `cols` and `rows` must be numbers up to 65535");
    else
        terminal_link_resize(t->link, process_terminal_side(columns), process_terminal_side(rows));
}

static void on_message(void *user, bool text, const void *data, size_t n)
{
    struct terminal_ws *t = user;
    cleanup_error sa_error *err = NULL;
    struct json frame;
    if (!text) {
        send_error(t, "binary input is not supported; use text JSON frames");
        return;
    }
    if (json_check(data, n, &frame, &err) < 0) {
        cleanup_free char *message = sa_format("invalid terminal frame: %s", err->message);
        send_error(t, message);
        return;
    }
    struct json type = json_get(frame, "type");
    if (json_is(type, "input"))
        on_input(t, frame);
    else if (json_is(type, "resize"))
        on_resize(t, frame);
    else if (json_is(type, "close"))
        websocket_close(t->ws, WEBSOCKET_NORMAL);
    else
        send_error(t, "invalid terminal frame: `type` must be input, resize or close");
}

static void on_drained(void *user)
{
    struct terminal_ws *t = user;
    if (t->output_waits)
        terminal_link_pause(t->link, false);
    t->output_waits = false;
}

static void on_opened(void *user)
{
    static const struct terminal_link_events events = {
        .output = on_output, .typed = on_typed, .ended = on_ended};
    struct terminal_ws *t = user;
    send_ready(t);
    t->link = terminal_link_new(t->x, process_id(t->x), NULL, &events, t);
}

/* ---- the request ---- */

static void on_process(void *user, const GetProcessResponse *res, const sa_error *err)
{
    static const struct websocket_events events = {
        .opened = on_opened, .message = on_message, .drained = on_drained};
    struct terminal_ws *t = user;
    t->looking = NULL;
    if (err)
        process_fail(t->x, err);
    else if (!res->process->spec->terminal)
        peer_problem(t->x, PEER_CONFLICT, sa_reason_name(SA_NOT_A_TERMINAL),
                     "process is not running in tty mode");
    else
        t->ws = websocket_new(service_loop(t->x->gw->svc), t->x->http, MESSAGE_MAX, &events, t);
}

static void abandon(struct exchange *x)
{
    struct terminal_ws *t = x->state;
    *t->at = t->next;
    if (t->next)
        t->next->at = t->at;
    rpc_abandon(t->looking);
    terminal_link_free(t->link);
    websocket_free(t->ws);
    free(t);
}

/* Without a token any page could open a terminal: browsers tell where a page is from, and no one else does.
 */
static bool may_open(struct exchange *x)
{
    const char *origin = http_header(x->http, "Origin");
    if (!service_flag(x->gw->svc, "no-token") || auth_same_origin(origin, http_header(x->http, "Host")))
        return true;
    problem_forbidden(x->http, "without a token, pages of other origins may not open terminals");
    return false;
}

void terminal_ws(struct exchange *x)
{
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    const char *detail;
    sa_error *err = NULL;
    if (!may_open(x))
        return;
    if (x->gw->draining) {
        sa_fail(&err, SA_DRAINING, "the gateway is about to end: connect again");
        problem_reply(x->http, err);
        return;
    }
    if (!websocket_is_asked(x->http, &detail)) {
        problem_bad_request(x->http, detail);
        return;
    }
    struct terminal_ws *t = sa_calloc(1, sizeof(*t));
    t->x = x;
    t->at = &x->gw->terminals;
    t->next = x->gw->terminals;
    if (t->next)
        t->next->at = &t->next;
    x->gw->terminals = t;
    x->state = t;
    x->abandon = abandon;
    req.process_id = process_id(x);
    t->looking = get_process_call(x->gw->process, &req, &opt, on_process, t);
}

void terminal_ws_drain(struct gateway *gw)
{
    for (struct terminal_ws *t = gw->terminals; t; t = t->next)
        if (t->ws)
            websocket_close(t->ws, WEBSOCKET_GOING_AWAY);
}
