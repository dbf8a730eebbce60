#include "services/cli/client.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"

enum { SMALL_FILE_MAX = 1 << 20 };

const struct service_option client_options[] = {
    {"target", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "HOST:PORT; else $SANDBOX_AGENT_TARGET (sessions), $SANDBOX_AGENT_PROCESS_TARGET or "
     "$SANDBOX_AGENT_FS_TARGET"},
    {"token", SERVICE_OPTION_TEXT, NULL, 0, 0, "else $SANDBOX_AGENT_TOKEN, else that of the data directory"},
    {"data-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "of the server on this machine that is called by default"},
    {"tls-ca", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: call with TLS, trust this authority"},
    {"tls-cert", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: our certificate, where the server wants one"},
    {"tls-key", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: its private key"},
    {"json", SERVICE_OPTION_FLAG, NULL, 0, 0, "print JSON, one object a line"},
    {0},
};

/* First line of a file that begins with `key`, without it; NULL when there is none. */
static char *line_of(const char *dir, const char *name, const char *key)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    cleanup_buf struct sa_buf text = {0};
    if (sa_read_file(path, SMALL_FILE_MAX, &text, NULL) < 0 || !text.len)
        return NULL;
    for (char *line = sa_buf_string(&text); line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, key, strlen(key)))
            return sa_strndup(line + strlen(key), strcspn(line + strlen(key), "\n"));
    return NULL;
}

static const char *given(const struct options *o, const char *option, const char *variable)
{
    const char *v = options_text(o, option);
    if (!v)
        v = getenv(variable);
    return v && *v ? v : NULL;
}

static char *read_pem(const struct options *o, const char *name, sa_error **err)
{
    cleanup_buf struct sa_buf text = {0};
    if (!options_text(o, name) || sa_read_file(options_text(o, name), SMALL_FILE_MAX, &text, err) < 0)
        return NULL;
    return sa_strdup(sa_buf_string(&text));
}

static int connect_channel(struct client *c, const struct options *o, const char *token, sa_error **err)
{
    sa_error *failed = NULL;
    cleanup_free char *ca = read_pem(o, "tls-ca", &failed);
    cleanup_free char *cert = failed ? NULL : read_pem(o, "tls-cert", &failed);
    cleanup_free char *key = failed ? NULL : read_pem(o, "tls-key", &failed);
    if (failed)
        return sa_pass(err, failed);
    struct rpc_tls tls = {.ca = ca, .cert_chain = cert, .private_key = key};
    struct rpc_channel_options opt = {.target = c->target, .tls = ca ? &tls : NULL, .token = token};
    c->loop = sa_loop_new(err);
    if (!c->loop)
        return -1;
    c->rpc = rpc_runtime_new(c->loop);
    sa_loop_lock(c->loop);
    c->channel = rpc_channel_new(c->rpc, &opt);
    sa_loop_unlock(c->loop);
    return 0;
}

/* A service: its variable, its line in the file `server`, where it is else. */
struct where {
    const char *variable, *line, *otherwise;
};

static int open_service(struct client *c, const struct options *o, const struct where *w, sa_error **err)
{
    const char *target = given(o, "target", w->variable), *token = given(o, "token", "SANDBOX_AGENT_TOKEN");
    cleanup_free char *data =
        options_text(o, "data-dir") ? sa_strdup(options_text(o, "data-dir")) : cli_default_data_dir();
    cleanup_free char *kept = NULL;
    *c = (struct client){0};
    c->target = target ? sa_strdup(target) : line_of(data, "server", w->line);
    if (!c->target)
        c->target = sa_strdup(w->otherwise);
    if (!token && (!target || options_text(o, "data-dir")))
        token = kept = line_of(data, "token", "");
    return connect_channel(c, o, token, err);
}

int client_open(struct client *c, const struct options *o, sa_error **err)
{
    static const struct where sessions = {"SANDBOX_AGENT_TARGET", "grpc=", "127.0.0.1:7401"};
    return open_service(c, o, &sessions, err);
}

/* A service beside the session service: not that of this machine, when sessions are elsewhere. */
static int open_beside(struct client *c, const struct options *o, const struct where *w, const char *what,
                       sa_error **err)
{
    if (given(o, "target", "SANDBOX_AGENT_TARGET") && !given(o, "target", w->variable)) {
        *c = (struct client){0};
        return sa_fail(err, SA_INVALID_CONFIG,
                       "$SANDBOX_AGENT_TARGET names a session service: name its %s service in "
                       "$%s or with --target",
                       what, w->variable);
    }
    return open_service(c, o, w, err);
}

int client_open_process(struct client *c, const struct options *o, sa_error **err)
{
    static const struct where processes = {"SANDBOX_AGENT_PROCESS_TARGET", "process=", "127.0.0.1:7402"};
    return open_beside(c, o, &processes, "process", err);
}

int client_open_fs(struct client *c, const struct options *o, sa_error **err)
{
    static const struct where files = {"SANDBOX_AGENT_FS_TARGET", "fs=", "127.0.0.1:7403"};
    return open_beside(c, o, &files, "file", err);
}

void client_close(struct client *c)
{
    if (c->loop) {
        sa_loop_lock(c->loop);
        rpc_channel_free(c->channel);
        sa_loop_unlock(c->loop);
        rpc_runtime_free(c->rpc);
        sa_loop_free(c->loop);
    }
    free(c->target);
    *c = (struct client){0};
}

int client_explain(const struct client *c, sa_error **err)
{
    if (*err && (*err)->code == SA_CODE_UNAVAILABLE)
        return sa_wrap(err, "no answer from %s (`sandbox-agent server` starts one, --target names another)",
                       c->target);
    if (*err && (*err)->code == SA_CODE_UNAUTHENTICATED)
        return sa_wrap(err, "%s (--token or $SANDBOX_AGENT_TOKEN)", c->target);
    return -1;
}

char *client_session(struct client *c, const char *name, sa_error **err)
{
    if (strcmp(name, "last") != 0)
        return sa_strdup(name);
    ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
    req.page_size = 1;
    ListSessionsResponse *res = list_sessions_wait(c->channel, &req, NULL, err);
    char *id = NULL;
    if (!res)
        client_explain(c, err);
    else if (!res->n_sessions)
        sa_fail(err, SA_SESSION_NOT_FOUND, "there is no session yet");
    else
        id = sa_strdup(res->sessions[0]->session_id);
    rpc_message_free(res);
    return id;
}
