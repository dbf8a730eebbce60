/* `sandbox-agent prompt TEXT`: asks an agent and shows what it does, to the end of the turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

enum { TRIES = 20, CREATE_MS = 30000, TEXT_MAX = 1 << 20 };

static const struct service_option prompt_options[] = {
    {"agent", SERVICE_OPTION_TEXT, "mock", 0, 0,
     "agent of the new session; `sandbox-agent agents` lists them"},
    {"session", SERVICE_OPTION_TEXT, NULL, 0, 0, "go on with this session (or `last`) instead of a new one"},
    {"cwd", SERVICE_OPTION_TEXT, NULL, 0, 0, "directory the agent of a new session works in"},
    {"mode", SERVICE_OPTION_TEXT, NULL, 0, 0, "mode, in the agent's words; `sessions show` lists them"},
    {"model", SERVICE_OPTION_TEXT, NULL, 0, 0, "model"},
    {"thought-level", SERVICE_OPTION_TEXT, NULL, 0, 0, "how much it is to think, in the agent's words"},
    {"title", SERVICE_OPTION_TEXT, NULL, 0, 0, "title of a new session"},
    {"env", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value for the agent of a new session"},
    {"verbose", SERVICE_OPTION_FLAG, NULL, 0, 0, "show every event: logs, usage, states"},
    {"yes", SERVICE_OPTION_FLAG, NULL, 0, 0, "allow what the agent asks permission for"},
    {0},
};

struct asking {
    struct client *client;
    struct show show;
    char *session_id;
    bool yes;
    StopReason stop_reason;
};

/* ---- the session ---- */

static ProtobufCBinaryData bytes_of(const char *text, size_t n)
{
    return (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)text};
}

/* Splits the lines of --env. Everything lives in the arena. */
static int read_env(struct sa_arena *a, const char *lines, CreateSessionRequest *req, sa_error **err)
{
    size_t n = 0, max = 1;
    for (const char *c = lines; c && *c; c++)
        max += *c == '\n';
    req->env = sa_arena_alloc(a, max * sizeof *req->env);
    for (const char *line = lines; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        size_t len = strcspn(line, "\n"), name = strcspn(line, "=\n");
        if (name == 0 || name >= len + (line[name] == '='))
            return sa_fail(err, SA_INVALID_CONFIG, "option `--env`: an entry is NAME=value");
        EnvironmentVariable *v = sa_arena_alloc(a, sizeof *v);
        environment_variable__init(v);
        v->name = bytes_of(line, name);
        v->value = bytes_of(line + name + 1, len - name - 1);
        req->env[n++] = v;
    }
    req->n_env = n;
    return 0;
}

static char *text_of(const struct options *o, const char *name)
{
    const char *text = options_text(o, name);
    return (char *)(uintptr_t)(text ? text : "");
}

/* For a session that is there already. */
static int configure(struct asking *a, const struct options *o, sa_error **err)
{
    ConfigureSessionRequest req = CONFIGURE_SESSION_REQUEST__INIT;
    req.session_id = a->session_id;
    req.mode_id = text_of(o, "mode");
    req.model = text_of(o, "model");
    req.thought_level = text_of(o, "thought-level");
    if (!*req.mode_id && !*req.model && !*req.thought_level)
        return 0;
    ConfigureSessionResponse *res = configure_session_wait(a->client->channel, &req, NULL, err);
    rpc_message_free(res);
    return res ? 0 : client_explain(a->client, err);
}

static int create_session(struct asking *a, const struct options *o, sa_error **err)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = CREATE_MS};
    const char *cwd = options_text(o, "cwd");
    char *full = cwd ? realpath(cwd, NULL) : NULL;
    struct sa_arena *arena = sa_arena_new();
    CreateSessionResponse *res = NULL;
    req.agent = (char *)(uintptr_t)options_text(o, "agent");
    req.mode_id = text_of(o, "mode");
    req.model = text_of(o, "model");
    req.thought_level = text_of(o, "thought-level");
    req.title = text_of(o, "title");
    if (full)
        req.cwd = bytes_of(full, strlen(full));
    if (cwd && !full)
        sa_fail(err, SA_FILE_NOT_FOUND, "option `--cwd`: there is no directory `%s`", cwd);
    else if (read_env(arena, options_text(o, "env"), &req, err) == 0)
        res = create_session_wait(a->client->channel, &req, &opt, err);
    if (res) {
        a->session_id = sa_strdup(res->session->session_id);
        fprintf(stderr, "session %s (%s)\n", a->session_id, res->session->agent);
    }
    rpc_message_free(res);
    sa_arena_free(arena);
    free(full);
    return res ? 0 : client_explain(a->client, err);
}

/* ---- the turn ---- */

static void allow(struct asking *a, const PermissionRequested *p)
{
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    cleanup_error sa_error *err = NULL;
    const PermissionOption *chosen = NULL;
    for (size_t i = p->n_options; i-- > 0;) {
        PermissionOptionKind kind = p->options[i]->kind;
        if (kind == PERMISSION_OPTION_KIND_ALLOW_ONCE ||
            (!chosen && kind == PERMISSION_OPTION_KIND_ALLOW_ALWAYS))
            chosen = p->options[i];
    }
    if (!chosen) {
        fprintf(stderr, "sandbox-agent: permission %s has no option that allows it\n", p->permission_id);
        return;
    }
    req.session_id = a->session_id;
    req.permission_id = p->permission_id;
    req.option_id = chosen->option_id;
    AnswerPermissionResponse *res = answer_permission_wait(a->client->channel, &req, NULL, &err);
    if (!res && !sa_error_is(err, SA_PERMISSION_ALREADY_ANSWERED))
        fprintf(stderr, "sandbox-agent: permission %s: %s\n", p->permission_id, err->message);
    rpc_message_free(res);
}

static void on_permission(struct asking *a, const PermissionRequested *p)
{
    if (a->yes)
        allow(a, p);
    else if (!a->show.json)
        fprintf(stderr, "    answer with: sandbox-agent permissions answer %s %s OPTION\n", a->session_id,
                p->permission_id);
}

/* Shows what is new, remembers how the turn ended. */
static void take(struct asking *a, const RunPromptResponse *m, uint64_t *seq)
{
    for (size_t i = 0; i < m->n_events; i++) {
        const Event *e = m->events[i];
        if (e->seq <= *seq)
            continue;
        *seq = e->seq;
        show_event(&a->show, e);
        if (e->kind_case == EVENT__KIND_PERMISSION_REQUESTED)
            on_permission(a, e->permission_requested);
        if (e->kind_case == EVENT__KIND_TURN_ENDED && e->turn == m->turn)
            a->stop_reason = e->turn_ended->stop_reason;
    }
}

/* A call that breaks is made again with the same request_id: the prompt runs once, and the events that were
 * shown already are known by their seq. */
static int run_prompt(struct asking *a, const char *text, sa_error **err)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    RunPromptRequest req = RUN_PROMPT_REQUEST__INIT;
    char request_id[SA_ID_TEXT + 1];
    uint64_t seq = 0;
    sa_id_format(sa_id_new(), request_id);
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    req.session_id = a->session_id;
    req.request_id = request_id;
    req.content = blocks;
    req.n_content = 1;
    for (int try = 1; a->stop_reason == STOP_REASON_UNSPECIFIED; try++) {
        sa_error *failed = NULL;
        RunPromptResponse *m;
        struct rpc_call_options opt = {.wait_for_ready = true};
        struct rpc_stream *stream = run_prompt_begin(a->client->channel, &req, &opt);
        int got;
        while ((got = run_prompt_next(stream, &m, &failed)) == 1) {
            take(a, m, &seq);
            rpc_message_free(m);
        }
        rpc_stream_free(stream);
        if (got < 0 && (failed->code != SA_CODE_UNAVAILABLE || try == TRIES)) {
            sa_pass(err, failed);
            return client_explain(a->client, err);
        }
        sa_error_free(failed);
        if (got == 0 && a->stop_reason == STOP_REASON_UNSPECIFIED && try == TRIES)
            return sa_fail(err, SA_UNAVAILABLE, "the stream ended before the turn did");
    }
    return 0;
}

static char *read_text(const struct options *o, sa_error **err)
{
    cleanup_buf struct sa_buf text = {0};
    int n = options_count(o);
    for (int i = 0; i < n; i++)
        sa_buf_addf(&text, i ? " %s" : "%s", options_arguments(o)[i]);
    if (n == 1 && !strcmp(options_arguments(o)[0], "-")) {
        text.len = 0;
        size_t got;
        while (text.len <= TEXT_MAX && (got = fread(sa_buf_reserve(&text, 4096), 1, 4096, stdin)) > 0)
            text.len += got;
    }
    if (text.len > TEXT_MAX || !text.len) {
        sa_fail(err, SA_INVALID_REQUEST, "a prompt has 1 to %d bytes", TEXT_MAX);
        return NULL;
    }
    return sa_strdup(sa_buf_string(&text));
}

static int ask(struct asking *a, const struct options *o, sa_error **err)
{
    cleanup_free char *text = read_text(o, err);
    const char *session = options_text(o, "session");
    if (!text || client_open(a->client, o, err) < 0)
        return -1;
    if (session) {
        a->session_id = client_session(a->client, session, err);
        if (!a->session_id || configure(a, o, err) < 0)
            return -1;
    } else if (create_session(a, o, err) < 0) {
        return -1;
    }
    return run_prompt(a, text, err);
}

int cli_prompt(int argc, char **argv)
{
    struct options *o = options_new(prompt_options, client_options);
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false, "prompt [options] TEXT",
        "Asks an agent and shows what it does, to the end of the turn. TEXT `-` is read from standard\n"
        "input. Exit code 0: the agent has finished; 1: anything else.");
    if (r < 0 && !options_count(o)) {
        fprintf(stderr, "sandbox-agent: prompt what? See --help\n");
        r = 2;
    }
    if (r < 0) {
        struct client c = {0};
        struct asking a = {
            .client = &c,
            .show = {.out = stdout,
                     .json = options_flag(o, "json"),
                     .brief = !options_flag(o, "verbose"),
                     .colour = isatty(1)},
            .yes = options_flag(o, "yes"),
        };
        bool good = ask(&a, o, &err) == 0;
        show_fini(&a.show);
        r = !good ? cli_failed(err) : a.stop_reason == STOP_REASON_END_TURN ? 0 : 1;
        free(a.session_id);
        client_close(&c);
    }
    options_free(o);
    return r;
}
