#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/grpc/rpc.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "tests/load/process_bench.h"

struct ours {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct rpc_channel *channel;
};

static const struct rpc_call_options patient = {.deadline_ms = 300000};

static void failed(const char *what, sa_error *err)
{
    die("process-svc: %s: %s", what, err ? err->message : "failed");
}

struct spec {
    ProcessSpec message;
    ProtobufCBinaryData argv[3], env[1];
    TerminalSpec terminal;
};

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

static void spec_init(struct spec *s, const char *command)
{
    process_spec__init(&s->message);
    terminal_spec__init(&s->terminal);
    s->argv[0] = bytes_of(command ? "sh" : "true");
    s->argv[1] = bytes_of("-c");
    if (command)
        s->argv[2] = bytes_of(command);
    s->env[0] = bytes_of("PATH=/usr/bin:/bin");
    s->message.n_argv = command ? 3 : 1;
    s->message.argv = s->argv;
    s->message.n_env = 1;
    s->message.env = s->env;
}

/* As a service calls: the next begins where the answer came. */
struct runs {
    struct ours *o;
    uint64_t *ns; /* of the next ones to end */
    size_t to_begin, to_end;
    pthread_mutex_t lock; /* to_end */
    pthread_cond_t over;
    struct spec spec;
};

struct one_run {
    struct runs *runs;
    uint64_t start_ns;
};

static void run_next(struct one_run *r);

static void on_run(void *user, const RunProcessResponse *res, const sa_error *err)
{
    struct one_run *r = user;
    struct runs *all = r->runs;
    if (!res)
        die("process-svc: RunProcess: %s", err->message);
    *all->ns++ = sa_now_ns() - r->start_ns;
    if (all->to_begin)
        run_next(r);
    pthread_mutex_lock(&all->lock);
    if (--all->to_end == 0)
        pthread_cond_signal(&all->over);
    pthread_mutex_unlock(&all->lock);
}

static void run_next(struct one_run *r)
{
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.spec = &r->runs->spec.message;
    r->runs->to_begin--;
    r->start_ns = sa_now_ns();
    run_process_call(r->runs->o->channel, &req, &patient, on_run, r);
}

static void run_trues(void *user, size_t at_once, uint64_t *ret_ns, size_t n)
{
    struct ours *o = user;
    struct runs all = {.o = o, .ns = ret_ns, .to_begin = n, .to_end = n};
    cleanup_free struct one_run *runs = sa_calloc(at_once, sizeof *runs);
    pthread_mutex_init(&all.lock, NULL);
    pthread_cond_init(&all.over, NULL);
    spec_init(&all.spec, NULL);
    sa_loop_lock(o->loop);
    for (size_t i = 0; i < at_once; i++) {
        runs[i].runs = &all;
        run_next(&runs[i]);
    }
    sa_loop_unlock(o->loop);
    pthread_mutex_lock(&all.lock);
    while (all.to_end)
        pthread_cond_wait(&all.over, &all.lock);
    pthread_mutex_unlock(&all.lock);
    pthread_mutex_destroy(&all.lock);
    pthread_cond_destroy(&all.over);
}

static char *start(struct ours *o, const char *command, bool terminal)
{
    struct spec spec;
    sa_error *err = NULL;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    spec_init(&spec, command);
    if (terminal)
        spec.message.terminal = &spec.terminal;
    req.spec = &spec.message;
    StartProcessResponse *res = start_process_wait(o->channel, &req, &patient, &err);
    if (!res)
        failed("StartProcess", err);
    char *id = sa_strdup(res->process->process_id);
    rpc_message_free(res);
    return id;
}

static void delete_it(struct ours *o, const char *id)
{
    sa_error *err = NULL;
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.kill = true;
    DeleteProcessResponse *res = delete_process_wait(o->channel, &req, &patient, &err);
    if (!res)
        failed("DeleteProcess", err);
    rpc_message_free(res);
}

static void capture(void *user, const char *command)
{
    struct ours *o = user;
    sa_error *err = NULL;
    cleanup_free char *id = start(o, command, false);
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    req.process_id = id;
    WaitProcessResponse *res = wait_process_wait(o->channel, &req, &patient, &err);
    if (!res)
        failed("WaitProcess", err);
    rpc_message_free(res);
    delete_it(o, id);
}

static uint64_t follow(void *user, const char *command, uint64_t *ret_last_ns)
{
    struct ours *o = user;
    sa_error *err = NULL;
    cleanup_free char *id = start(o, command, false);
    FollowOutputRequest req = FOLLOW_OUTPUT_REQUEST__INIT;
    FollowOutputResponse *m = NULL;
    uint64_t got = 0;
    req.process_id = id;
    struct rpc_stream *s = follow_output_begin(o->channel, &req, &patient);
    while (follow_output_next(s, &m, &err) == 1) {
        if (m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT) {
            got += m->output->data.len;
            *ret_last_ns = sa_now_ns();
        }
        rpc_message_free(m);
    }
    if (err)
        failed("FollowOutput", err);
    rpc_stream_free(s);
    delete_it(o, id);
    return got;
}

/* ---- terminals ---- */

struct view {
    struct ours *o;
    char *id;
    struct rpc_stream *stream;
    uint64_t lease, offset;
};

static AttachTerminalResponse *next_message(struct view *v)
{
    AttachTerminalResponse *m = NULL;
    sa_error *err = NULL;
    int r = attach_terminal_next(v->stream, &m, &err);
    if (r < 0)
        failed("AttachTerminal", err);
    return r == 1 ? m : NULL;
}

static void open_view(struct view *v, struct ours *o, const char *command)
{
    *v = (struct view){.o = o, .id = start(o, command, true)};
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalOpen open = TERMINAL_OPEN__INIT;
    TerminalAcquire acquire = TERMINAL_ACQUIRE__INIT;
    open.process_id = v->id;
    open.display_name = (char *)(uintptr_t) "bench";
    open.acquire = &acquire;
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_OPEN;
    req.open = &open;
    v->stream = attach_terminal_begin(o->channel, &patient);
    attach_terminal_put(v->stream, &req, NULL);
    for (AttachTerminalResponse *m; (m = next_message(v));) {
        const TerminalControl *c = m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OPENED ? m->opened->control
                                   : m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_CONTROL ? m->control
                                                                                            : NULL;
        if (c && c->viewer_id) {
            v->lease = c->lease;
            v->offset = c->input_offset;
        }
        bool screen = m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_SCREEN;
        rpc_message_free(m);
        if (screen && v->lease)
            return;
    }
    die("process-svc: no control of the terminal");
}

static void type(struct view *v, const char *text)
{
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalInput input = TERMINAL_INPUT__INIT;
    input.lease = v->lease;
    input.offset = v->offset;
    input.data = bytes_of(text);
    v->offset += input.data.len;
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_INPUT;
    req.input = &input;
    attach_terminal_put(v->stream, &req, NULL);
}

static void close_view(struct view *v)
{
    rpc_stream_free(v->stream);
    delete_it(v->o, v->id);
    free(v->id);
}

static void echo(void *user, uint64_t *ret_ns, size_t n)
{
    struct view v;
    open_view(&v, user, "exec cat");
    for (size_t i = 0; i < n; i++) {
        uint64_t start_ns = sa_now_ns();
        type(&v, "x");
        for (bool seen = false; !seen;) {
            AttachTerminalResponse *m = next_message(&v);
            if (!m)
                die("process-svc: the terminal has ended");
            seen = m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT;
            rpc_message_free(m);
        }
        ret_ns[i] = sa_now_ns() - start_ns;
    }
    close_view(&v);
}

static void terminal(void *user, const char *command, uint64_t *ret_got, uint64_t *ret_start_ns,
                     uint64_t *ret_last_ns)
{
    struct view v;
    open_view(&v, user, command);
    *ret_start_ns = sa_now_ns();
    type(&v, "\n");
    for (AttachTerminalResponse *m; (m = next_message(&v));) {
        if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT) {
            for (size_t i = 0; i < m->output->data.len; i++)
                *ret_got += m->output->data.data[i] == 'x';
            *ret_last_ns = sa_now_ns();
        }
        rpc_message_free(m);
    }
    close_view(&v);
}

/* ---- the service ---- */

static struct ours *client_new(unsigned port)
{
    struct ours *o = sa_calloc(1, sizeof *o);
    cleanup_free char *target = sa_format("127.0.0.1:%u", port);
    struct rpc_channel_options opt = {.target = target};
    o->loop = sa_loop_new(NULL);
    o->rpc = rpc_runtime_new(o->loop);
    sa_loop_lock(o->loop);
    o->channel = rpc_channel_new(o->rpc, &opt);
    sa_loop_unlock(o->loop);
    return o;
}

static void client_free(void *client)
{
    struct ours *o = client;
    sa_loop_lock(o->loop);
    rpc_channel_free(o->channel);
    sa_loop_unlock(o->loop);
    rpc_runtime_free(o->rpc);
    sa_loop_free(o->loop);
    free(o);
}

struct way ours_way(const char *program, const char *directory, unsigned port)
{
    cleanup_free char *listen = sa_format("127.0.0.1:%u", port);
    start_program((const char *const[]){program, "--data-dir", directory, "--listen", listen, "--no-token",
                                        "--log-level", "warn", NULL},
                  directory);
    close(connect_to(port));
    return (struct way){
        .name = "process-svc",
        .user = client_new(port),
        .run_trues = run_trues,
        .capture = capture,
        .follow = follow,
        .echo = echo,
        .terminal = terminal,
    };
}

void ours_free(struct way *w)
{
    client_free(w->user);
}
