/* `sandbox-agent mcp`: MCP servers that agents are told of. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/config_service.rpc.h"
#include "services/cli/actions.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"

enum { VALUES_MAX = 200 };

static ProtobufCBinaryData directory(const struct options *o)
{
    const char *text = options_text(o, "directory");
    return (ProtobufCBinaryData){text ? strlen(text) : 0, (uint8_t *)(uintptr_t)text};
}

static void print_server(const McpServer *m)
{
    const char *kind = m->transport_case == MCP_SERVER__TRANSPORT_COMMAND ? "command"
                       : m->transport_case == MCP_SERVER__TRANSPORT_HTTP  ? "http"
                       : m->transport_case == MCP_SERVER__TRANSPORT_SSE   ? "sse"
                                                                          : "-";
    const char *where = m->transport_case == MCP_SERVER__TRANSPORT_COMMAND ? m->command->command
                        : m->transport_case == MCP_SERVER__TRANSPORT_HTTP  ? m->http->url
                        : m->transport_case == MCP_SERVER__TRANSPORT_SSE   ? m->sse->url
                                                                           : "";
    printf("%-20s %-8s %s", m->name, m->disabled ? "disabled" : kind, m->directory.len ? "" : "(all)");
    show_text(stdout, (const char *)m->directory.data, m->directory.len);
    printf("  ");
    show_text(stdout, where, strlen(where));
    putchar('\n');
}

static int list(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)words;
    (void)n;
    cleanup_free char *token = sa_strdup("");
    do {
        ListMcpServersRequest req = LIST_MCP_SERVERS_REQUEST__INIT;
        req.page_token = token;
        if (options_given(o, "directory")) {
            req._directory_case = LIST_MCP_SERVERS_REQUEST___DIRECTORY_DIRECTORY;
            req.directory = directory(o);
        }
        ListMcpServersResponse *res = list_mcp_servers_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_servers; i++)
            if (options_flag(o, "json"))
                show_json(stdout, &res->servers[i]->base);
            else
                print_server(res->servers[i]);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

/* Lines NAME=value; the value is a text, or the name of a credential. */
static int add_values(struct sa_arena *a, const char *option, const char *lines, bool secret, McpValue **list,
                      size_t *n, sa_error **err)
{
    char *rest = lines ? sa_arena_strdup(a, lines) : NULL;
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        char *equals = strchr(line, '=');
        if (!equals || equals == line || *n == VALUES_MAX)
            return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: `%s` is not NAME=%s", option, line,
                           secret ? "CREDENTIAL" : "value");
        *equals++ = '\0';
        McpValue *v = list[(*n)++] = sa_arena_alloc(a, sizeof *v);
        *v = (McpValue)MCP_VALUE__INIT;
        v->name = line;
        v->source_case = secret ? MCP_VALUE__SOURCE_CREDENTIAL : MCP_VALUE__SOURCE_TEXT;
        if (secret)
            v->credential = equals;
        else
            v->text = equals;
    }
    return 0;
}

static int fill(struct sa_arena *a, const struct options *o, char **words, int n, McpServer *m,
                sa_error **err)
{
    const char *url = options_text(o, "url"), *bearer = options_text(o, "bearer");
    McpValue **values = sa_arena_alloc(a, VALUES_MAX * sizeof *values);
    size_t n_values = 0;
    m->name = words[0];
    m->directory = directory(o);
    if ((url != NULL) == (n > 1))
        return sa_fail(err, SA_INVALID_CONFIG, "either `--url` or a command is wanted");
    if (add_values(a, "value", options_text(o, "value"), false, values, &n_values, err) ||
        add_values(a, "secret", options_text(o, "secret"), true, values, &n_values, err))
        return -1;
    if (!url) {
        m->transport_case = MCP_SERVER__TRANSPORT_COMMAND;
        m->command = sa_arena_alloc(a, sizeof *m->command);
        *m->command = (McpCommand)MCP_COMMAND__INIT;
        m->command->command = words[1];
        m->command->args = words + 2;
        m->command->n_args = (size_t)n - 2;
        m->command->env = values;
        m->command->n_env = n_values;
        return 0;
    }
    McpRemote *r = sa_arena_alloc(a, sizeof *r);
    *r = (McpRemote)MCP_REMOTE__INIT;
    r->url = (char *)(uintptr_t)url;
    r->headers = values;
    r->n_headers = n_values;
    if (bearer)
        r->bearer_credential = (char *)(uintptr_t)bearer;
    m->transport_case = options_flag(o, "sse") ? MCP_SERVER__TRANSPORT_SSE : MCP_SERVER__TRANSPORT_HTTP;
    m->http = r; /* sse is the same member of the union */
    return 0;
}

static int set(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    struct sa_arena *a = sa_arena_new();
    McpServer m = MCP_SERVER__INIT;
    SetMcpServerRequest req = SET_MCP_SERVER_REQUEST__INIT;
    req.server = &m;
    int r = fill(a, o, words, n, &m, err);
    SetMcpServerResponse *res = r ? NULL : set_mcp_server_wait(c->channel, &req, NULL, err);
    rpc_message_free(res);
    sa_arena_free(a);
    return r ? r : res ? 0 : client_explain(c, err);
}

static int rm(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    for (int i = 0; i < n; i++) {
        DeleteMcpServerRequest req = DELETE_MCP_SERVER_REQUEST__INIT;
        req.directory = directory(o);
        req.name = words[i];
        DeleteMcpServerResponse *res = delete_mcp_server_wait(c->channel, &req, NULL, err);
        rpc_message_free(res);
        if (!res)
            return client_explain(c, err);
    }
    return 0;
}

int cli_mcp(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"directory", SERVICE_OPTION_TEXT, NULL, 0, 0, "for sessions in this working directory; else all"},
        {"url", SERVICE_OPTION_TEXT, NULL, 0, 0, "set: a remote server, http:// or https://"},
        {"sse", SERVICE_OPTION_FLAG, NULL, 0, 0, "set: reached by server-sent events"},
        {"bearer", SERVICE_OPTION_TEXT, NULL, 0, 0, "set: credential that is sent as bearer token"},
        {"value", SERVICE_OPTION_LIST, NULL, 0, 0, "set: NAME=value, a variable or a header"},
        {"secret", SERVICE_OPTION_LIST, NULL, 0, 0, "set: NAME=CREDENTIAL, the same by reference"},
        {0},
    };
    static const struct action actions[] = {{"ls", 0, 0, list}, {"set", 1, -1, set}, {"rm", 1, -1, rm}, {0}};
    static const struct action_verb verb = {
        .own = own,
        .actions = actions,
        .stop_at_first = true,
        .usage = "mcp [options] [ls | set NAME [COMMAND [ARGUMENT...]] | rm NAME...]",
        .summary = "MCP servers that agents are told of when they start.",
    };
    return cli_act(&verb, argc, argv);
}
