/* /v1/processes as the peer's clients know it: started, listed, told about, forgotten; and the limits. */
#include "services/gateway-svc/processes.h"

#include <stdlib.h>
#include <string.h>

#define INTERACTIVE "interactive" /* label: what the caller said; it changes nothing here */
#define SESSION "session"         /* label of session-svc: the process is the agent of one */

enum { PAGE = 200, SIDE_MAX = 1000 };

char *process_id(const struct exchange *x)
{
    return (char *)(uintptr_t)exchange_param(x, "processId");
}

static void abandon(struct exchange *x)
{
    rpc_abandon(x->state);
}

void process_begin(struct exchange *x, struct rpc_request *rpc)
{
    x->state = rpc;
    x->abandon = abandon;
}

void process_fail(struct exchange *x, const sa_error *err)
{
    static const struct {
        enum sa_reason reason;
        enum peer_problem family;
        const char *message; /* NULL: that of the error, after `prefix` */
        const char *prefix;
    } forms[] = {
        {SA_EXEC_FAILED, PEER_STREAM, NULL, "failed to spawn process: "},
        {SA_PROCESS_RUNNING, PEER_CONFLICT, "process is still running; stop or kill it before delete", NULL},
        {SA_PROCESS_EXITED, PEER_CONFLICT, "process is not running", NULL},
        {SA_STDIN_CLOSED, PEER_CONFLICT, "process is not running", NULL},
        {SA_NOT_A_TERMINAL, PEER_CONFLICT, "process is not running in tty mode", NULL},
        {SA_TOO_MANY, PEER_CONFLICT, NULL, "max concurrent process limit reached: "},
    };
    if (sa_error_is(err, SA_PROCESS_NOT_FOUND)) {
        peer_no_process(x, process_id(x));
        return;
    }
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (!sa_error_is(err, forms[i].reason))
            continue;
        cleanup_free char *message =
            forms[i].message ? sa_strdup(forms[i].message) : sa_format("%s%s", forms[i].prefix, err->message);
        peer_problem(x, forms[i].family, err->reason, message);
        return;
    }
    peer_fail(x, sa_error_copy(err));
}

/* ---- how a process looks ---- */

static const char *label(const Process *p, const char *key)
{
    for (size_t i = 0; i < p->spec->n_labels; i++)
        if (strcmp(p->spec->labels[i]->key, key) == 0)
            return p->spec->labels[i]->value;
    return NULL;
}

static const char *owner_of(const Process *p)
{
    return label(p, SESSION) ? "system" : "user";
}

static void put_time(struct json_writer *w, const char *name, const Google__Protobuf__Timestamp *t)
{
    if (!t)
        return;
    json_key(w, name);
    json_put_int(w, t->seconds * 1000 + t->nanos / 1000000);
}

static void put_command(struct json_writer *w, const ProcessSpec *spec)
{
    json_key(w, "command");
    if (spec->n_argv)
        json_put_bytes(w, spec->argv[0].data, spec->argv[0].len);
    else
        json_put_string(w, "");
    json_key(w, "args");
    json_begin_array(w);
    for (size_t i = 1; i < spec->n_argv; i++)
        json_put_bytes(w, spec->argv[i].data, spec->argv[i].len);
    json_end_array(w);
    json_key(w, "cwd");
    json_put_bytes(w, spec->cwd.data, spec->cwd.len);
}

void process_put(struct json_writer *w, const Process *p)
{
    const char *interactive = label(p, INTERACTIVE);
    json_begin_object(w);
    json_key(w, "id");
    json_put_string(w, p->process_id);
    put_command(w, p->spec);
    json_key(w, "tty");
    json_put_bool(w, p->spec->terminal != NULL);
    json_key(w, "interactive");
    json_put_bool(w, interactive && strcmp(interactive, "true") == 0);
    json_key(w, "owner");
    json_put_string(w, owner_of(p));
    json_key(w, "status");
    json_put_string(w, p->exit ? "exited" : "running");
    if (!p->exit && p->pid) {
        json_key(w, "pid");
        json_put_uint(w, p->pid);
    }
    if (p->exit && p->exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE) {
        json_key(w, "exitCode");
        json_put_uint(w, p->exit->exit_code);
    }
    put_time(w, "createdAtMs", p->start_time);
    if (p->exit)
        put_time(w, "exitedAtMs", p->exit->time);
    json_end_object(w);
}

void process_reply(struct exchange *x, const Process *p)
{
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    process_put(&w, p);
    peer_reply(x, &body);
}

/* ---- create, get, delete ---- */

static void on_started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    x->state = NULL;
    if (err)
        process_fail(x, err);
    else
        process_reply(x, res->process);
}

void processes_create(struct exchange *x)
{
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    ProcessSpec spec = PROCESS_SPEC__INIT;
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    ProcessSpec__LabelsEntry interactive = PROCESS_SPEC__LABELS_ENTRY__INIT, *labels[] = {&interactive};
    struct rpc_call_options opt = calls_options(x);
    bool tty = false, asked = false;
    struct json body;
    if (!peer_body(x, &body) || !process_read_spec(x, body, &spec) || !peer_flag(x, body, "tty", &tty) ||
        !peer_flag(x, body, "interactive", &asked))
        return;
    interactive.key = (char[]){INTERACTIVE};
    interactive.value = (char[]){"true"};
    spec.labels = labels;
    spec.n_labels = asked;
    spec.terminal = tty ? &terminal : NULL;
    req.spec = &spec;
    process_begin(x, start_process_call(x->gw->process, &req, &opt, on_started, x));
}

static void on_process(void *user, const GetProcessResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    x->state = NULL;
    if (err)
        process_fail(x, err);
    else
        process_reply(x, res->process);
}

void processes_get(struct exchange *x)
{
    GetProcessRequest req = GET_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    req.process_id = process_id(x);
    process_begin(x, get_process_call(x->gw->process, &req, &opt, on_process, x));
}

static void on_deleted(void *user, const DeleteProcessResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    (void)res;
    x->state = NULL;
    if (err)
        process_fail(x, err);
    else
        http_reply(x->http, 204, NULL, NULL, 0, NULL);
}

void processes_delete(struct exchange *x)
{
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    req.process_id = process_id(x);
    process_begin(x, delete_process_call(x->gw->process, &req, &opt, on_deleted, x));
}

/* ---- the list: written page by page, newest first ---- */

struct list {
    struct exchange *x;
    const char *owner; /* NULL: all but agents */
    struct peer_out out;
    struct json_writer w;
    struct rpc_request *rpc;
    char *token; /* of the next page; "": there is none */
    bool started, failed;
};

static bool is_wanted(const struct list *l, const Process *p)
{
    return l->owner ? strcmp(l->owner, owner_of(p)) == 0 : !label(p, SESSION);
}

static const struct http_stream list_stream;

static void on_page(void *user, const ListProcessesResponse *res, const sa_error *err)
{
    struct list *l = user;
    l->rpc = NULL;
    if (err && !l->started) {
        process_fail(l->x, err);
        return;
    }
    l->failed = err != NULL;
    if (!err) {
        for (size_t i = 0; i < res->n_processes; i++)
            if (is_wanted(l, res->processes[i]))
                process_put(&l->w, res->processes[i]);
        free(l->token);
        l->token = sa_strdup(res->next_page_token);
        if (!*l->token) {
            json_end_array(&l->w);
            json_end_object(&l->w);
        }
    }
    if (l->started) {
        http_wake(l->x->http);
        return;
    }
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    l->started = true;
    http_stream(l->x->http, 200, "application/json", headers, &list_stream, l);
}

static void fetch(struct list *l)
{
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(l->x);
    req.page_size = PAGE;
    req.page_token = l->token;
    l->rpc = list_processes_call(l->x->gw->process, &req, &opt, on_page, l);
}

static ssize_t list_fill(void *user, char *buf, size_t max)
{
    struct list *l = user;
    if (l->failed)
        return HTTP_STREAM_ABORT; /* a broken list must not look like a whole one */
    if (l->out.buf.len)
        return peer_take(&l->out, buf, max);
    if (!*l->token)
        return HTTP_STREAM_END;
    if (!l->rpc)
        fetch(l);
    return 0;
}

static const struct http_stream list_stream = {.fill = list_fill};

static void list_abandon(struct exchange *x)
{
    struct list *l = x->state;
    rpc_abandon(l->rpc);
    sa_buf_fini(&l->out.buf);
    free(l->token);
    free(l);
}

void processes_list(struct exchange *x)
{
    if (!peer_check_query(x))
        return;
    const char *owner = peer_query(x, "owner");
    if (owner && strcmp(owner, "user") != 0 && strcmp(owner, "desktop") != 0 &&
        strcmp(owner, "system") != 0) {
        problem_bad_request(x->http, "query `owner` must be user, desktop or system");
        return;
    }
    struct list *l = sa_calloc(1, sizeof(*l));
    *l = (struct list){.x = x, .owner = owner, .token = sa_strdup("")};
    l->w = json_writer(&l->out.buf);
    json_begin_object(&l->w);
    json_key(&l->w, "processes");
    json_begin_array(&l->w);
    x->state = l;
    x->abandon = list_abandon;
    fetch(l);
}

/* ---- the size of a terminal ---- */

struct size {
    uint64_t columns, rows;
};

uint32_t process_terminal_side(uint64_t characters)
{
    return characters < 1 ? 1 : characters > SIDE_MAX ? SIDE_MAX : (uint32_t)characters;
}

static void on_resized(void *user, const ResizeTerminalResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    const struct size *s = x->data;
    (void)res;
    x->state = NULL;
    if (err) {
        process_fail(x, err);
        return;
    }
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    json_begin_object(&w);
    json_key(&w, "cols");
    json_put_uint(&w, s->columns);
    json_key(&w, "rows");
    json_put_uint(&w, s->rows);
    json_end_object(&w);
    peer_reply(x, &body);
}

void processes_resize(struct exchange *x)
{
    ResizeTerminalRequest req = RESIZE_TERMINAL_REQUEST__INIT;
    TerminalSize size = TERMINAL_SIZE__INIT;
    struct rpc_call_options opt = calls_options(x);
    struct size *s = sa_arena_alloc(http_arena(x->http), sizeof(*s));
    struct json body;
    if (!peer_body(x, &body) || !peer_uint(x, body, "cols", true, UINT16_MAX, &s->columns) ||
        !peer_uint(x, body, "rows", true, UINT16_MAX, &s->rows))
        return;
    x->data = s;
    size.columns = process_terminal_side(s->columns);
    size.rows = process_terminal_side(s->rows);
    req.process_id = process_id(x);
    req.size = &size;
    process_begin(x, resize_terminal_call(x->gw->process, &req, &opt, on_resized, x));
}
