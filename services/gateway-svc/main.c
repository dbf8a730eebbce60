/* gateway-svc: the HTTP/1.1 edge. It keeps nothing: everything it shows it reads from session-svc over gRPC,
 * and what happens there it learns from the bus.
 *
 *     http.c     connections, requests, bodies, streams (libmicrohttpd)
 *     routes.c   the search in the table below
 *     auth.c     who calls
 *     calls.c    unary gRPC methods as JSON
 *     sse.c      events of a session, as a page or as a stream
 *     events.c   the subscription and the windows of recent events that streams read from
 *     files.c, file_list.c, file_content.c, file_upload.c            /v1/fs
 *     processes.c, process_{run,stop,input,logs,config,env}.c        /v1/processes
 *     terminal_ws.c, websocket.c   a terminal over WebSocket (wslay)
 *     terminal_link.c   typing into a terminal that others may use, too
 *     peer.c     queries, bodies and problems of both, as clients of the npm package know them
 *     static.c   the page at /ui/
 *     problem.c  errors as application/problem+json */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "services/gateway-svc/events.h"
#include "services/gateway-svc/gateway.h"

enum { TICK_MS = 5000, STOP_MS = 3000, HEAD_MS = 15000, BODY_MS = 120000 };

#define SESSION "/sandboxagent.session.v1.SessionService/"
#define PERMISSION "/sandboxagent.session.v1.PermissionService/"
#define PRESENCE "/sandboxagent.presence.v1.PresenceService/"
#define PROCESS "/sandboxagent.process.v1.ProcessService/"
#define TERMINAL "/sandboxagent.process.v1.TerminalService/"
#define FILES "/sandboxagent.fs.v1.FileService/"
#define SANDBOX "/sandboxagent.provider.v1.SandboxService/"
#define AGENT "/sandboxagent.session.v1.AgentService/"

static void health(struct exchange *x)
{
    static const char ok[] = "{\"status\":\"ok\"}", draining[] = "{\"status\":\"draining\"}";
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    bool well = !x->gw->draining;
    const char *body = well ? ok : draining;
    http_reply_static(x->http, well ? 200 : 503, "application/json", body, strlen(body), headers);
}

static void about(struct exchange *x)
{
    static const char body[] = "{\"name\":\"Sandbox Agent\",\"ui\":\"/ui/\",\"health\":\"/v1/health\"}";
    http_reply_static(x->http, 200, "application/json", body, sizeof(body) - 1, NULL);
}

/* What this server does. Health is open: a probe needs no secret to learn that a process runs. */
static const struct route routes[] = {
    {"GET", "/", about, .open = true},
    {"GET", "/ui", static_redirect, .open = true},
    {"GET", "/ui/*", static_file, .open = true},
    {"GET", "/v1/health", health, .open = true},

    {"GET", "/v1/agents", calls_unary, .rpc = AGENT "ListAgents"},

    {"GET", "/v1/sessions", calls_unary, .rpc = SESSION "ListSessions"},
    {"POST", "/v1/sessions", calls_unary, .rpc = SESSION "CreateSession", .status = 201,
     .body_max = GATEWAY_BODY_MAX},
    {"GET", "/v1/sessions/{sessionId}", calls_unary, .rpc = SESSION "GetSession"},
    {"DELETE", "/v1/sessions/{sessionId}", calls_unary, .rpc = SESSION "DestroySession", .status = 204},
    {"GET", "/v1/sessions/{sessionId}/events", sse_events, .rpc = SESSION "ListEvents"},
    {"POST", "/v1/sessions/{sessionId}/prompts", calls_unary, .rpc = SESSION "SendPrompt", .status = 202,
     .body_max = GATEWAY_BODY_MAX},
    {"POST", "/v1/sessions/{sessionId}/cancel", calls_unary, .rpc = SESSION "CancelTurn", .body_max = 4096},

    {"GET", "/v1/permissions", calls_unary, .rpc = PERMISSION "ListPermissions"},
    {"GET", "/v1/sessions/{sessionId}/permissions", calls_unary, .rpc = PERMISSION "ListPermissions"},
    {"POST", "/v1/sessions/{sessionId}/permissions/{permissionId}/answer", calls_unary,
     .rpc = PERMISSION "AnswerPermission", .body_max = 4096},

    {"GET", "/v1/sessions/{sessionId}/members", calls_unary, .rpc = PRESENCE "ListPresence"},
    {"POST", "/v1/sessions/{sessionId}/members", calls_unary, .rpc = PRESENCE "JoinSession", .status = 201,
     .body_max = 4096},
    {"PATCH", "/v1/sessions/{sessionId}/members/{memberId}", calls_unary, .rpc = PRESENCE "KeepPresence",
     .body_max = 4096},
    {"DELETE", "/v1/sessions/{sessionId}/members/{memberId}", calls_unary, .rpc = PRESENCE "LeaveSession",
     .status = 204},

    /* The same and more as the services have it: messages and names of their own. */
    {"GET", "/v1/processes/details", calls_unary, .rpc = PROCESS "ListProcesses"},
    {"GET", "/v1/processes/census", calls_unary, .rpc = PROCESS "TakeCensus"},
    {"POST", "/v1/processes/census/clear", calls_unary, .rpc = PROCESS "ClearStrays",
     .body_max = GATEWAY_BODY_MAX},
    {"GET", "/v1/processes/settings", calls_unary, .rpc = PROCESS "GetConfig"},
    {"PATCH", "/v1/processes/settings", calls_unary, .rpc = PROCESS "SetConfig",
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/processes/start", calls_unary, .rpc = PROCESS "StartProcess", .status = 201,
     .body_max = GATEWAY_SPEC_MAX},
    {"POST", "/v1/processes/exec", calls_unary, .rpc = PROCESS "RunProcess", .call_ms = GATEWAY_LONG_CALL_MS,
     .body_max = GATEWAY_SPEC_MAX},
    {"GET", "/v1/processes/{processId}/details", calls_unary, .rpc = PROCESS "GetProcess"},
    {"GET", "/v1/processes/{processId}/tree", calls_unary, .rpc = PROCESS "GetProcessTree"},
    {"GET", "/v1/processes/{processId}/output", calls_unary, .rpc = PROCESS "ReadOutput"},
    {"GET", "/v1/processes/{processId}/exit", calls_unary, .rpc = PROCESS "WaitProcess",
     .call_ms = GATEWAY_LONG_CALL_MS},
    {"POST", "/v1/processes/{processId}/signal", calls_unary, .rpc = PROCESS "SignalProcess",
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/processes/{processId}/end", calls_unary, .rpc = PROCESS "StopProcess",
     .call_ms = GATEWAY_LONG_CALL_MS, .body_max = GATEWAY_SMALL_MAX},
    {"GET", "/v1/processes/{processId}/terminal/screen", calls_unary, .rpc = TERMINAL "GetScreen"},
    {"PUT", "/v1/processes/{processId}/terminal/size", calls_unary, .rpc = TERMINAL "ResizeTerminal",
     .body_max = GATEWAY_SMALL_MAX},

    {"GET", "/v1/files/roots", calls_unary, .rpc = FILES "ListRoots"},
    {"GET", "/v1/files/stat", calls_unary, .rpc = FILES "StatFile"},
    {"GET", "/v1/files/entries", calls_unary, .rpc = FILES "ListDirectory"},
    {"GET", "/v1/files/usage", calls_unary, .rpc = FILES "GetUsage", .call_ms = GATEWAY_LONG_CALL_MS},
    {"POST", "/v1/files/directory", calls_unary, .rpc = FILES "MakeDirectory", .status = 201,
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/files/delete", calls_unary, .rpc = FILES "DeleteFile", .call_ms = GATEWAY_LONG_CALL_MS,
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/files/move", calls_unary, .rpc = FILES "MoveFile", .call_ms = GATEWAY_LONG_CALL_MS,
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/files/copy", calls_unary, .rpc = FILES "CopyFile", .call_ms = GATEWAY_LONG_CALL_MS,
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/files/link", calls_unary, .rpc = FILES "MakeLink", .status = 201,
     .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/files/change", calls_unary, .rpc = FILES "ChangeFile", .body_max = GATEWAY_SMALL_MAX},

    {"GET", "/v1/providers", calls_unary, .rpc = SANDBOX "ListProviders"},
    {"GET", "/v1/sandboxes", calls_unary, .rpc = SANDBOX "ListSandboxes"},
    {"POST", "/v1/sandboxes", calls_unary, .rpc = SANDBOX "CreateSandbox", .status = 201,
     .call_ms = GATEWAY_LONG_CALL_MS, .body_max = GATEWAY_SMALL_MAX},
    {"GET", "/v1/sandboxes/{sandboxId}", calls_unary, .rpc = SANDBOX "GetSandbox"},
    {"GET", "/v1/sandboxes/{sandboxId}/endpoint", calls_unary, .rpc = SANDBOX "GetSandboxEndpoint"},
    {"GET", "/v1/sandboxes/{sandboxId}/check", calls_unary, .rpc = SANDBOX "CheckSandbox"},
    {"DELETE", "/v1/sandboxes/{sandboxId}", calls_unary, .rpc = SANDBOX "DestroySandbox", .status = 204,
     .call_ms = GATEWAY_LONG_CALL_MS},

    /* As the clients of the npm package `sandbox-agent` know them. */
    {"GET", "/v1/fs/entries", files_list, .rpc = NULL},
    {"GET", "/v1/fs/file", files_get, .rpc = NULL},
    {"PUT", "/v1/fs/file", files_put, .takes_stream = true},
    {"DELETE", "/v1/fs/entry", files_delete, .rpc = NULL},
    {"POST", "/v1/fs/mkdir", files_mkdir, .rpc = NULL},
    {"POST", "/v1/fs/move", files_move, .body_max = GATEWAY_SMALL_MAX},
    {"GET", "/v1/fs/stat", files_stat, .rpc = NULL},
    {"POST", "/v1/fs/upload-batch", files_unpack, .takes_stream = true},

    {"GET", "/v1/processes/config", processes_get_config, .rpc = NULL},
    {"POST", "/v1/processes/config", processes_set_config, .body_max = GATEWAY_SMALL_MAX},
    {"POST", "/v1/processes/run", processes_run, .body_max = GATEWAY_SPEC_MAX},
    {"GET", "/v1/processes", processes_list, .rpc = NULL},
    {"POST", "/v1/processes", processes_create, .body_max = GATEWAY_SPEC_MAX},
    {"GET", "/v1/processes/{processId}", processes_get, .rpc = NULL},
    {"DELETE", "/v1/processes/{processId}", processes_delete, .rpc = NULL},
    {"POST", "/v1/processes/{processId}/stop", processes_stop, .rpc = NULL},
    {"POST", "/v1/processes/{processId}/kill", processes_kill, .rpc = NULL},
    {"GET", "/v1/processes/{processId}/logs", processes_logs, .rpc = NULL},
    {"POST", "/v1/processes/{processId}/input", processes_input, .body_max = GATEWAY_SPEC_MAX},
    {"GET", "/v1/processes/{processId}/terminal/ws", terminal_ws, .token_in_query = true},
    {"POST", "/v1/processes/{processId}/terminal/resize", processes_resize, .body_max = GATEWAY_SMALL_MAX},
    {0},
};

static const struct service_option options[] = {
    {"host", SERVICE_OPTION_TEXT, "127.0.0.1", 0, 0, "address to serve HTTP on"},
    {"port", SERVICE_OPTION_UINT, "2468", 0, 65535, "port to serve HTTP on; 0: any free one"},
    {"port-file", SERVICE_OPTION_TEXT, NULL, 0, 0, "file to write the port to once it is open"},
    {"allow-host", SERVICE_OPTION_LIST, NULL, 0, 0,
     "with --no-token on the loopback: a Host name that is served, beside addresses and localhost"},
    {"max-connections", SERVICE_OPTION_UINT, "4096", 1, 100000, "HTTP connections at a time"},
    {"max-connections-per-address", SERVICE_OPTION_UINT, "0", 0, 100000,
     "of one client address; 0: no limit"},
    {"idle-timeout-ms", SERVICE_OPTION_UINT, "60000", 1000, 3600000,
     "a connection on which nothing moves for so long is closed"},
    {0},
};

struct state {
    struct gateway gw;
    struct sa_timer *tick;
};

/* ---- requests ---- */

const char *exchange_param(const struct exchange *x, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < x->n_params; i++)
        if (x->params[i].name_len == n && memcmp(x->params[i].name, name, n) == 0)
            return x->params[i].value;
    abort();
}

static void on_head(void *user, struct http_request *r)
{
    struct gateway *gw = user;
    struct route_match m = {0};
    http_accept_body(r, 0, problem_too_large);
    switch (route_find(gw->routes, http_method(r), http_path(r), http_arena(r), &m)) {
    case ROUTE_NO_PATH:
        problem_not_found(r);
        return;
    case ROUTE_BAD_PATH:
        problem_bad_request(r, "the path is not percent-encoded UTF-8");
        return;
    case ROUTE_NO_METHOD:
        problem_method(r, m.allow);
        return;
    case ROUTE_FOUND:
        break;
    }
    struct exchange *x = sa_arena_alloc(http_arena(r), sizeof(*x));
    *x = (struct exchange){
        .gw = gw, .http = r, .route = m.route, .n_params = m.n_params, .start_ms = sa_now_ms()};
    memcpy(x->params, m.params, sizeof(x->params));
    http_set_user(r, x);
    if (!auth_check(x))
        return;
    http_accept_body(r, m.route->body_max, problem_too_large);
    if (m.route->takes_stream)
        m.route->handle(x);
}

static void on_handle(void *user, struct http_request *r)
{
    struct exchange *x = http_user(r);
    (void)user;
    x->route->handle(x);
}

static void on_finished(void *user, struct http_request *r)
{
    struct exchange *x = http_user(r);
    (void)user;
    if (!x)
        return;
    if (x->state)
        x->abandon(x);
    sa_log(SA_LOG_DEBUG, "http.request", "method=%s route=%s ms=%llu", http_method(r), x->route->pattern,
           (unsigned long long)(sa_now_ms() - x->start_ms));
}

/* ---- the service ---- */

static void on_tick(void *user)
{
    sse_tick(user);
}

/* Every connection is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int write_port(const struct service *svc, uint16_t port, sa_error **err)
{
    const char *path = service_text(svc, "port-file");
    char text[8];
    if (!path)
        return 0;
    int n = snprintf(text, sizeof(text), "%u\n", port);
    return sa_write_file(path, text, (size_t)n, 0644, err);
}

static int listen_http(struct gateway *gw, sa_error **err)
{
    const struct http_options http = {
        .host = service_text(gw->svc, "host"),
        .port = (uint16_t)service_uint(gw->svc, "port"),
        .max_connections = (uint32_t)service_uint(gw->svc, "max-connections"),
        .max_per_address = (uint32_t)service_uint(gw->svc, "max-connections-per-address"),
        .idle_ms = (uint32_t)service_uint(gw->svc, "idle-timeout-ms"),
        .head_ms = HEAD_MS,
        .body_ms = BODY_MS,
        .head = on_head,
        .handle = on_handle,
        .finished = on_finished,
        .user = gw,
    };
    gw->http = http_server_new(service_loop(gw->svc), &http, err);
    if (!gw->http)
        return -1;
    if (write_port(gw->svc, http_server_port(gw->http), err) < 0)
        return -1;
    sa_log(SA_LOG_INFO, "http.listening", "host=%s port=%u", http.host, http_server_port(gw->http));
    return 0;
}

static void state_free(struct state *s)
{
    http_server_free(s->gw.http);
    events_free(s->gw.events);
    sa_timer_free(s->tick);
    process_env_fini(&s->gw);
    free(s);
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    struct state *s = sa_calloc(1, sizeof(*s));
    raise_descriptor_limit();
    static_init();
    calls_check_routes(routes);
    s->gw = (struct gateway){.svc = svc, .session = service_peer(svc, "session"), .routes = routes};
    s->gw.process = service_peer(svc, "process");
    s->gw.fs = service_peer(svc, "fs");
    s->gw.provider = service_peer(svc, "provider");
    process_env_init(&s->gw);
    s->gw.events = events_new(&s->gw);
    if (listen_http(&s->gw, err) < 0) {
        state_free(s);
        return -1;
    }
    s->tick = sa_timer_new(service_loop(svc), on_tick, &s->gw);
    sa_timer_every(s->tick, TICK_MS);
    *ret_state = s;
    service_ready(svc);
    return 0;
}

static void drain(void *state)
{
    struct state *s = state;
    s->gw.draining = true;
    http_server_drain(s->gw.http);
    sse_drain(&s->gw);
    terminal_ws_drain(&s->gw);
}

/* The loop has ended, but answers are still on their way. */
static void stop(void *state)
{
    struct state *s = state;
    uint64_t end = sa_now_ms() + STOP_MS;
    while (http_server_active(s->gw.http) > 0 && sa_now_ms() < end)
        http_server_turn(s->gw.http, 20);
    sa_loop_lock(service_loop(s->gw.svc));
    struct sa_loop *loop = service_loop(s->gw.svc);
    state_free(s);
    sa_loop_unlock(loop);
}

int main(int argc, char **argv)
{
    static const struct service_spec spec = {
        .name = "gateway-svc",
        .summary = "the HTTP edge of Sandbox Agent",
        .options = options,
        .start = start,
        .drain = drain,
        .stop = stop,
    };
    return service_main(&spec, argc, argv);
}
