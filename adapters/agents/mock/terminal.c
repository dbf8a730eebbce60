/* Commands through the client. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/agents/mock/mock.h"

/* {"sessionId":...,"terminalId":...}; false: the answer was an error or the prompt was cancelled. */
static bool ask(struct mock *m, const char *method, const char *terminal)
{
    cleanup_buf struct sa_buf params = {0};
    sa_buf_addf(&params, "{\"sessionId\":\"%s\",\"terminalId\":\"%s\"}", m->session_id, terminal);
    return mock_request(m, method, &params);
}

static struct json response(const struct mock *m)
{
    return (struct json){(const char *)m->response.data, m->response.len};
}

static void put_create(struct mock *m, struct sa_buf *params, const char *command, const char *limit)
{
    sa_buf_addf(params, "{\"sessionId\":\"%s\",\"command\":", m->session_id);
    struct json_writer w = json_writer(params);
    json_put_string(&w, command);
    sa_buf_addf(params, ",\"env\":[{\"name\":\"MOCK_TERMINAL\",\"value\":\"yes\"}]%s%s}",
                limit ? ",\"outputByteLimit\":" : "", limit ? limit : "");
}

/* The id; NULL: it was refused, and that is said. */
static char *create(struct mock *m, const char *command, const char *limit)
{
    cleanup_buf struct sa_buf params = {0};
    put_create(m, &params, command, limit);
    if (mock_request(m, "terminal/create", &params))
        return json_string(json_get(response(m), "terminalId"));
    if (!m->cancelled) {
        cleanup_free char *why = json_string(json_get(response(m), "message"));
        cleanup_free char *said = sa_format("terminal: refused: %s\n", why ? why : "?");
        mock_say(m, said);
    }
    return NULL;
}

static void say_end(struct mock *m, const char *id)
{
    if (!ask(m, "terminal/wait_for_exit", id))
        return;
    struct json code = json_get(response(m), "exitCode"), signal = json_get(response(m), "signal");
    cleanup_free char *how = sa_format("exit %.*s signal %.*s", (int)code.n, code.p, (int)signal.n, signal.p);
    if (!ask(m, "terminal/output", id))
        return;
    cleanup_free char *output = json_string(json_get(response(m), "output"));
    bool truncated = json_true(json_get(response(m), "truncated"));
    bool ended = json_type(json_get(response(m), "exitStatus")) == JSON_OBJECT;
    cleanup_free char *said = sa_format("terminal: %s%s%s: %s\n", how, truncated ? " truncated" : "",
                                        ended ? "" : " but runs", output ? output : "?");
    mock_say(m, said);
    if (ask(m, "terminal/release", id) && ask(m, "terminal/output", id))
        mock_say(m, "terminal: it is still there\n");
}

static void run(struct mock *m, const char *command, const char *limit)
{
    cleanup_free char *id = create(m, command, limit);
    if (id)
        say_end(m, id);
}

void mock_terminal(struct mock *m, char *command)
{
    run(m, command, NULL);
}

void mock_terminal_limit(struct mock *m, char *rest)
{
    char *space = strchr(rest, ' ');
    if (!space)
        return;
    *space = '\0';
    run(m, space + 1, rest);
}

void mock_terminal_kill(struct mock *m, char *command)
{
    cleanup_free char *id = create(m, command, NULL);
    for (bool silent = true; id && silent && ask(m, "terminal/output", id);) {
        struct json output = json_get(response(m), "output");
        silent = output.n <= 2;
    }
    if (id && ask(m, "terminal/kill", id))
        say_end(m, id);
}

void mock_terminal_drop(struct mock *m, char *command)
{
    cleanup_buf struct sa_buf params = {0}, out = {0};
    put_create(m, &params, command, NULL);
    sa_buf_addf(&out, "{\"jsonrpc\":\"2.0\",\"id\":\"dropped\",\"method\":\"terminal/create\",\"params\":");
    sa_buf_add(&out, params.data, params.len);
    sa_buf_add(&out, "}", 1);
    mock_send(&out);
    raise(SIGKILL);
}
