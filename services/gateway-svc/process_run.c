/* What is to be run, and POST /v1/processes/run. */
#include <inttypes.h>
#include <string.h>

#include "services/gateway-svc/processes.h"

enum {
    WORDS_MAX = 10000,      /* arguments, variables */
    RUN_CALL_MS = 90000000, /* more than any run may take: process-svc ends it */
};

/* ---- the spec ---- */

static ProtobufCBinaryData bytes_of(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static struct json container(struct json body, const char *name)
{
    struct json v = json_member(body, name, strlen(name));
    return json_type(v) == JSON_NULL ? (struct json){0} : v;
}

static bool fits(struct exchange *x, struct json v, const char *name, enum json_type type,
                 const char *expected)
{
    if (v.n && json_type(v) != type) {
        peer_wrong_shape(x, name, expected);
        return false;
    }
    if (json_count(v) > WORDS_MAX) {
        cleanup_free char *message = sa_format("%s has more than %d elements", name, WORDS_MAX);
        peer_problem(x, PEER_INVALID, sa_reason_name(SA_TOO_MANY), message);
        return false;
    }
    return true;
}

static char *text_of(struct exchange *x, struct json v, const char *name)
{
    cleanup_buf struct sa_buf text = {0};
    if (json_decode(v, JSON_REFUSE, &text, NULL) < 0) {
        peer_wrong_shape(x, name, "made of strings");
        return NULL;
    }
    return sa_arena_strdup(http_arena(x->http), sa_buf_string(&text));
}

static bool read_argv(struct exchange *x, struct json body, char *command, ProcessSpec *spec)
{
    struct json args = container(body, "args"), v;
    if (!fits(x, args, "args", JSON_ARRAY, "a list of strings"))
        return false;
    spec->argv = sa_arena_alloc(http_arena(x->http), (json_count(args) + 1) * sizeof(*spec->argv));
    spec->argv[spec->n_argv++] = bytes_of(command);
    for (struct json_iter it = json_iter(args); json_next(&it, NULL, &v);) {
        char *text = text_of(x, v, "args");
        if (!text)
            return false;
        spec->argv[spec->n_argv++] = bytes_of(text);
    }
    return true;
}

/* Is this variable, "NAME=value", among those that were given? */
static bool is_given(const ProcessSpec *spec, size_t given, const char *variable)
{
    size_t n = strcspn(variable, "=") + 1;
    for (size_t i = 0; i < given; i++)
        if (spec->env[i].len >= n && memcmp(spec->env[i].data, variable, n) == 0)
            return true;
    return false;
}

static bool read_env(struct exchange *x, struct json body, ProcessSpec *spec)
{
    struct sa_arena *a = http_arena(x->http);
    struct json env = container(body, "env"), key, value;
    if (!fits(x, env, "env", JSON_OBJECT, "an object of strings"))
        return false;
    spec->env = sa_arena_alloc(a, (json_count(env) + GATEWAY_ENV_MAX) * sizeof(*spec->env));
    for (struct json_iter it = json_iter(env); json_next(&it, &key, &value);) {
        char *name = text_of(x, key, "env"), *text = name ? text_of(x, value, "env") : NULL;
        if (!text)
            return false;
        spec->env[spec->n_env++] = bytes_of(sa_arena_format(a, "%s=%s", name, text));
    }
    size_t given = spec->n_env;
    for (size_t i = 0; i < GATEWAY_ENV_MAX && x->gw->env[i]; i++)
        if (!is_given(spec, given, x->gw->env[i]))
            spec->env[spec->n_env++] = bytes_of(x->gw->env[i]);
    return true;
}

bool process_read_spec(struct exchange *x, struct json body, ProcessSpec *spec)
{
    char *command = NULL, *cwd = x->gw->home;
    if (!peer_string(x, body, "command", true, &command) || !peer_string(x, body, "cwd", false, &cwd) ||
        !read_argv(x, body, command, spec) || !read_env(x, body, spec))
        return false;
    if (!*command) {
        peer_problem(x, PEER_INVALID, NULL, "command must not be empty");
        return false;
    }
    if (*cwd != '/')
        cwd = sa_arena_format(http_arena(x->http), "%s/%s", x->gw->home, cwd);
    spec->cwd = bytes_of(cwd);
    return true;
}

/* ---- run ---- */

struct run {
    RunProcessRequest req;
    ProcessSpec spec;
    uint64_t timeout_ms, max_output; /* as asked for; UINT64_MAX: not */
};

/* Text as it is; where it is none, the exact bytes beside what can be shown of it. */
static void put_output(struct json_writer *w, const char *name, const ProtobufCBinaryData *data, bool wanted)
{
    char key[32];
    json_key(w, name);
    json_put_bytes(w, data->data, wanted ? data->len : 0);
    if (!wanted || http_is_utf8(data->data, data->len))
        return;
    cleanup_buf struct sa_buf text = {0};
    json_base64(&text, data->data, data->len);
    snprintf(key, sizeof(key), "%sBase64", name);
    json_key(w, key);
    json_put_string(w, sa_buf_string(&text));
}

static void put_run(struct json_writer *w, const struct run *run, const RunProcessResponse *res)
{
    bool wanted = run->max_output > 0;
    json_begin_object(w);
    json_key(w, "exitCode");
    if (res->exit && res->exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE && !res->timed_out)
        json_put_uint(w, res->exit->exit_code);
    else
        json_put_null(w);
    json_key(w, "timedOut");
    json_put_bool(w, res->timed_out);
    put_output(w, "stdout", &res->stdout, wanted);
    put_output(w, "stderr", &res->stderr, wanted);
    json_key(w, "stdoutTruncated");
    json_put_bool(w, res->stdout_truncated || (!wanted && res->stdout.len > 0));
    json_key(w, "stderrTruncated");
    json_put_bool(w, res->stderr_truncated || (!wanted && res->stderr.len > 0));
    json_key(w, "durationMs");
    json_put_uint(w, res->duration_ms);
    json_end_object(w);
}

static void on_run(void *user, const RunProcessResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    x->state = NULL;
    if (err) {
        process_fail(x, err);
        return;
    }
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    put_run(&w, x->data, res);
    peer_reply(x, &body);
}

static void run(struct exchange *x)
{
    struct run *r = x->data;
    struct rpc_call_options opt = calls_options(x);
    opt.deadline_ms = RUN_CALL_MS;
    opt.wait_for_ready = false;
    process_begin(x, run_process_call(x->gw->process, &r->req, &opt, on_run, x));
}

/* More than is allowed counts as what is. */
static void on_limits(void *user, const GetConfigResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    struct run *r = x->data;
    x->state = NULL;
    if (err) {
        process_fail(x, err);
        return;
    }
    const ProcessConfig *c = res->config;
    if (r->timeout_ms != UINT64_MAX)
        r->req.timeout_ms =
            r->timeout_ms < c->max_run_timeout_ms ? (uint32_t)r->timeout_ms : c->max_run_timeout_ms;
    if (r->max_output != UINT64_MAX)
        r->req.max_output_bytes =
            r->max_output < c->max_run_output_bytes ? (uint32_t)r->max_output : c->max_run_output_bytes;
    if (r->max_output == 0)
        r->req.max_output_bytes = 1; /* 0 is the default there; what comes is not told */
    run(x);
}

void processes_run(struct exchange *x)
{
    struct run *r = sa_arena_alloc(http_arena(x->http), sizeof(*r));
    struct json body;
    *r = (struct run){RUN_PROCESS_REQUEST__INIT, PROCESS_SPEC__INIT, UINT64_MAX, UINT64_MAX};
    if (!peer_body(x, &body) || !process_read_spec(x, body, &r->spec) ||
        !peer_uint(x, body, "timeoutMs", false, UINT64_MAX - 1, &r->timeout_ms) ||
        !peer_uint(x, body, "maxOutputBytes", false, UINT64_MAX - 1, &r->max_output))
        return;
    r->req.spec = &r->spec;
    x->data = r;
    if (r->timeout_ms == UINT64_MAX && r->max_output == UINT64_MAX) {
        run(x);
        return;
    }
    GetConfigRequest req = GET_CONFIG_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    process_begin(x, get_config_call(x->gw->process, &req, &opt, on_limits, x));
}
