/* terminal/output and terminal/kill: questions to process-svc on behalf of a pending request. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/terminals.h"

enum { KILL_GRACE_MS = 1000 }; /* between TERM and KILL */

struct terminal_call {
    struct session *session;
    uint64_t offset; /* of the pending row */
    struct rpc_request *request;
    struct sa_buf output;
    bool truncated;
    ExitRecord *exit; /* copied; NULL: it runs */
    uint64_t limit;
};

void terminals_abandon_call(struct terminal_call *c)
{
    if (!c)
        return;
    rpc_abandon(c->request);
    rpc_message_free(c->exit);
    sa_buf_fini(&c->output);
    free(c);
}

static struct pending *pending_of(struct terminal_call *c)
{
    return requests_find(c->session, c->offset);
}

static struct terminal *terminal_of(struct terminal_call *c)
{
    struct pending *p = pending_of(c);
    return terminals_named(c->session, (struct json){(const char *)p->params.data, p->params.len});
}

static void try_again(struct terminal_call *c)
{
    struct session *s = c->session;
    pending_of(c)->terminal = NULL;
    terminals_abandon_call(c);
    link_retry_later(s);
}

/* The request is over: c goes with its row. */
static void answer(struct terminal_call *c, const struct sa_buf *result)
{
    struct session *s = c->session;
    requests_answer(s, pending_of(c), result);
    session_settle(s);
}

static void refuse(struct terminal_call *c, int code, const char *message)
{
    struct session *s = c->session;
    requests_refuse(s, pending_of(c), code, message);
    session_settle(s);
}

static bool is_passing(const sa_error *err)
{
    return err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_DEADLINE_EXCEEDED ||
           err->code == SA_CODE_CANCELLED || sa_error_is(err, SA_TOO_MANY);
}

/* ---- output ---- */

static const char *signal_name(uint32_t signal, char buf[16])
{
    const char *abbrev = signal < 65 ? sigabbrev_np((int)signal) : NULL;
    if (abbrev)
        snprintf(buf, 16, "SIG%.12s", abbrev);
    else
        snprintf(buf, 16, "%u", signal);
    return buf;
}

void terminals_put_exit(struct json_writer *w, const TerminalEnded *ended)
{
    char buf[16];
    json_begin_object(w);
    json_key(w, "exitCode");
    if (ended->kind_case == TERMINAL_ENDED__KIND_EXIT_CODE)
        json_put_uint(w, ended->exit_code);
    else
        json_put_null(w);
    json_key(w, "signal");
    if (ended->kind_case == TERMINAL_ENDED__KIND_SIGNAL)
        json_put_string(w, signal_name(ended->signal, buf));
    else
        json_put_null(w);
    json_end_object(w);
}

static void keep_exit(struct terminal_call *c, const ExitRecord *x)
{
    if (!x || c->exit)
        return;
    size_t n = exit_record__get_packed_size(x);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    exit_record__pack(x, packed);
    c->exit = rpc_unpack(&exit_record__descriptor, packed, n, NULL);
}

static void output_message(void *user, const FollowOutputResponse *m)
{
    struct terminal_call *c = user;
    if (m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OPENED) {
        const OutputOffsets *from = m->opened->offsets;
        c->truncated = from && (from->stdout_offset || from->stderr_offset);
        keep_exit(c, m->opened->process ? m->opened->process->exit : NULL);
    } else if (m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT) {
        sa_buf_add(&c->output, m->output->data.data, m->output->data.len);
    } else if (m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_GAP) {
        c->truncated = true;
    } else if (m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_EXITED) {
        keep_exit(c, m->exited);
    }
}

/* The last bytes within the limit, cut between characters. What is not UTF-8 is replaced first, and grows. */
static const char *tail_of(struct terminal_call *c, struct sa_arena *arena)
{
    const uint8_t *p = c->output.data;
    size_t n = c->output.len;
    for (; c->truncated && n && (*p & 0xc0) == 0x80; p++, n--)
        ;
    const char *text = rpc_utf8(arena, n ? (const char *)p : "", n);
    size_t len = strlen(text);
    if (len <= c->limit)
        return text;
    c->truncated = true;
    for (text += len - c->limit; ((unsigned char)*text & 0xc0) == 0x80; text++)
        ;
    return text;
}

static void output_end(void *user, const sa_error *err)
{
    struct terminal_call *c = user;
    c->request = NULL;
    if (err && is_passing(err)) {
        try_again(c);
        return;
    }
    if (err) {
        refuse(c, TERMINAL_FAILED, err->message);
        return;
    }
    struct terminal *t = terminal_of(c);
    if (t && c->exit)
        terminals_ended(t, c->exit); /* the log tells it before the agent learns it */
    struct sa_arena *arena = sa_arena_new();
    cleanup_buf struct sa_buf result = {0};
    struct json_writer w = json_writer(&result);
    json_begin_object(&w);
    json_key(&w, "output");
    json_put_string(&w, tail_of(c, arena));
    json_key(&w, "truncated");
    json_put_bool(&w, c->truncated);
    if (t && t->ended && c->exit) {
        json_key(&w, "exitStatus");
        terminals_put_exit(&w, t->ended);
    }
    json_end_object(&w);
    sa_arena_free(arena);
    answer(c, &result);
}

static void begin_output(struct terminal_call *c, const struct terminal *t)
{
    static const struct follow_output_client callbacks = {.on_message = output_message, .on_end = output_end};
    FollowOutputRequest req = FOLLOW_OUTPUT_REQUEST__INIT;
    req.process_id = t->process_id;
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_BYTES;
    req.tail_bytes = t->output_limit;
    req.until_now = true;
    SA_FAULT("terminal.output");
    c->request = follow_output_open(c->session->all->process, &req, NULL, &callbacks, c);
}

/* ---- kill ---- */

static void killed(void *user, const StopProcessResponse *res, const sa_error *err)
{
    struct terminal_call *c = user;
    c->request = NULL;
    if (err && is_passing(err)) {
        try_again(c);
        return;
    }
    SA_FAULT("terminal.killed");
    struct terminal *t = terminal_of(c);
    if (t && res && res->exit)
        terminals_ended(t, res->exit);
    cleanup_buf struct sa_buf result = {0};
    sa_buf_addf(&result, "{}");
    if (err)
        refuse(c, TERMINAL_FAILED, err->message);
    else
        answer(c, &result);
}

static void begin_kill(struct terminal_call *c, const struct terminal *t)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    req.process_id = t->process_id;
    req.signal = SIGTERM;
    req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
    req.grace_ms = KILL_GRACE_MS;
    c->request = stop_process_call(c->session->all->process, &req, NULL, killed, c);
}

void terminals_call(struct session *s, struct terminal *t, struct pending *p)
{
    struct terminal_call *c = p->terminal = sa_calloc(1, sizeof *c);
    c->session = s;
    c->offset = p->offset;
    c->limit = t->output_limit;
    if (!strcmp(p->method, "terminal/output"))
        begin_output(c, t);
    else
        begin_kill(c, t);
}
