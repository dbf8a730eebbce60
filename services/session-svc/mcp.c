#include <string.h>

#include "services/session-svc/config_store.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

static int put_value(struct sessions *all, struct json_writer *w, const McpValue *v, sa_error **err)
{
    const char *value = v->source_case == MCP_VALUE__SOURCE_TEXT ? v->text : "";
    if (v->source_case == MCP_VALUE__SOURCE_CREDENTIAL &&
        !(value = secrets_value(all->secrets, v->credential, 0, NULL, err)))
        return -1;
    json_begin_object(w);
    json_key(w, "name");
    json_put_string(w, v->name);
    json_key(w, "value");
    json_put_string(w, value);
    json_end_object(w);
    return 0;
}

static int put_values(struct sessions *all, struct json_writer *w, const char *key, McpValue *const *list,
                      size_t n, const char *bearer, sa_error **err)
{
    json_key(w, key);
    json_begin_array(w);
    for (size_t i = 0; i < n; i++)
        if (put_value(all, w, list[i], err))
            return -1;
    if (*bearer) {
        const char *token = secrets_value(all->secrets, bearer, 0, NULL, err);
        if (!token)
            return -1;
        cleanup_free char *text = sa_format("Bearer %s", token);
        McpValue header = MCP_VALUE__INIT;
        header.name = (char[]){"Authorization"};
        header.source_case = MCP_VALUE__SOURCE_TEXT;
        header.text = text;
        put_value(all, w, &header, NULL);
    }
    json_end_array(w);
    return 0;
}

static int put_command(struct sessions *all, struct json_writer *w, const McpCommand *c, sa_error **err)
{
    json_key(w, "command");
    json_put_string(w, c->command);
    json_key(w, "args");
    json_begin_array(w);
    for (size_t i = 0; i < c->n_args; i++)
        json_put_string(w, c->args[i]);
    json_end_array(w);
    return put_values(all, w, "env", c->env, c->n_env, "", err);
}

static int put_remote(struct sessions *all, struct json_writer *w, const char *type, const McpRemote *r,
                      sa_error **err)
{
    json_key(w, "type");
    json_put_string(w, type);
    json_key(w, "url");
    json_put_string(w, r->url);
    return put_values(all, w, "headers", r->headers, r->n_headers, r->bearer_credential, err);
}

static int put_server(struct sessions *all, struct json_writer *w, const McpServer *m, sa_error **err)
{
    json_begin_object(w);
    json_key(w, "name");
    json_put_string(w, m->name);
    int r = m->transport_case == MCP_SERVER__TRANSPORT_COMMAND ? put_command(all, w, m->command, err)
            : m->transport_case == MCP_SERVER__TRANSPORT_HTTP  ? put_remote(all, w, "http", m->http, err)
                                                               : put_remote(all, w, "sse", m->sse, err);
    json_end_object(w);
    return r ? sa_wrap(err, "MCP server \"%s\"", m->name) : 0;
}

static bool is_offered(struct session *s, const McpServer *m)
{
    return m->transport_case == MCP_SERVER__TRANSPORT_HTTP  ? s->link.mcp_http
           : m->transport_case == MCP_SERVER__TRANSPORT_SSE ? s->link.mcp_sse
                                                            : true;
}

static void tell_left_out(struct session *s, const McpServer *m)
{
    cleanup_free char *message =
        sa_format("agent %s cannot use MCP server \"%s\": it does not offer %s", talk_agent(s), m->name,
                  m->transport_case == MCP_SERVER__TRANSPORT_HTTP ? "HTTP" : "server-sent events");
    ErrorRaised raised = ERROR_RAISED__INIT;
    raised.reason = (char *)(uintptr_t)sa_reason_name(SA_UNIMPLEMENTED);
    raised.message = message;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_ERROR;
    e.error = &raised;
    session_event(s, &e);
}

int mcp_servers(struct session *s, const StoredSpec *spec, struct sa_buf *ret, sa_error **err)
{
    struct sa_arena *arena = sa_arena_new();
    McpServer **list = NULL;
    size_t n = 0;
    struct json_writer w = json_writer(ret);
    json_begin_array(&w);
    int r = config_servers(s, spec, arena, &list, &n, err);
    for (size_t i = 0; !r && i < n; i++) {
        if (is_offered(s, list[i]))
            r = put_server(s->all, &w, list[i], err);
        else
            tell_left_out(s, list[i]);
    }
    json_end_array(&w);
    sa_arena_free(arena);
    return r;
}
