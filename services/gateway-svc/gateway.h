/* What the files of the gateway share: the service, and one exchange (a request on its way to its answer). */
#ifndef SERVICES_GATEWAY_SVC_GATEWAY_H_
#define SERVICES_GATEWAY_SVC_GATEWAY_H_

#include "adapters/grpc/rpc.h"
#include "adapters/json/message.h"
#include "services/gateway-svc/http.h"
#include "services/gateway-svc/problem.h"
#include "services/gateway-svc/routes.h"
#include "services/runtime/service.h"

enum {
    GATEWAY_BODY_MAX = 8 << 20,    /* bytes of a JSON body: prompts may carry pictures */
    GATEWAY_SPEC_MAX = 4 << 20,    /* of a command with its environment, or input */
    GATEWAY_SMALL_MAX = 64 << 10,  /* of a few names and numbers */
    GATEWAY_MESSAGE_MAX = 4 << 20, /* bytes of the gRPC message made of it */
    GATEWAY_ENV_MAX = 8,
    GATEWAY_LONG_CALL_MS = 600000, /* one that takes as long as its work */
    GATEWAY_CALL_MS = 15000,       /* a call to another service, its restart included */
};

struct events;
struct input;
struct terminal_ws;

struct gateway {
    struct service *svc;
    struct rpc_channel *session; /* session-svc: sessions, permissions, agents, presence */
    struct rpc_channel *process, *fs, *provider;
    char *env[GATEWAY_ENV_MAX + 1]; /* "NAME=value", what processes start with; then NULL */
    char *home;                     /* of the user that processes run as: where relative paths begin */
    struct http_server *http;
    struct events *events;
    struct terminal_ws *terminals; /* open ones */
    struct input *inputs;          /* of processes, under way or waiting (process_input.c) */
    const struct route *routes;
    bool draining;
};

/* One request. In the request's arena. */
struct exchange {
    struct gateway *gw;
    struct http_request *http;
    const struct route *route;
    struct route_param params[ROUTE_PARAMS_MAX];
    size_t n_params;
    const char *principal; /* on whose behalf; "" on an open route */
    uint64_t start_ms;
    /* When the request is over and this is set: gives up what is under way. */
    void (*abandon)(struct exchange *x);
    void *state;
    void *data; /* the handler's own, in the request's arena */
};

/* A parameter of the path, decoded; it is one of the route's pattern. */
const char *exchange_param(const struct exchange *x, const char *name);

/* ---- auth.c ---- */

/* May the caller use this route? Sets x->principal, or answers 401 or 403 and returns false. */
bool auth_check(struct exchange *x);
/* Is the Host header an address, localhost, or one of `allowed` (lines)? */
bool auth_host_allowed(const char *header, const char *allowed);
/* Does the Origin header (NULL: absent) name the host of the Host header? */
bool auth_same_origin(const char *origin, const char *host);

/* ---- calls.c ---- */

/* How messages look as JSON: in answers (with defaults), and events (without). */
extern const struct json_mapping gateway_answer_json, gateway_event_json;

/* Checks that every route's method exists; a table with a mistake aborts. */
void calls_check_routes(const struct route *table);
/* The route's RPC as JSON: body, query and path parameters make the request. */
void calls_unary(struct exchange *x);
/* Options of a call on the caller's behalf. */
struct rpc_call_options calls_options(const struct exchange *x);

/* ---- sse.c ---- */

/* A page of a session's events as JSON, or all of them as they come as text/event-stream: as Accept says. */
void sse_events(struct exchange *x);
/* Looks after the streams: heartbeats, clients that are gone. Every few seconds. */
void sse_tick(struct gateway *gw);
/* Ends all streams with `closed`. */
void sse_drain(struct gateway *gw);
/* "<epoch>-<seq>"; *ret_epoch is the caller's to free. */
bool sse_parse_id(const char *id, char **ret_epoch, uint64_t *ret_seq);

/* ---- files.c, file_list.c, file_content.c, file_upload.c: /v1/fs as the peer's clients know it ---- */

void files_stat(struct exchange *x);
void files_mkdir(struct exchange *x);
void files_delete(struct exchange *x);
void files_move(struct exchange *x);
void files_list(struct exchange *x);
void files_get(struct exchange *x);    /* with Range and If-None-Match */
void files_put(struct exchange *x);    /* takes_stream */
void files_unpack(struct exchange *x); /* takes_stream: an archive */

/* ---- process_env.c ---- */

/* Sets home and env. Looks users up, which may block: at the start. */
void process_env_init(struct gateway *gw);
void process_env_fini(struct gateway *gw);

/* ---- processes.c, process_run.c, process_config.c, process_stop.c, process_input.c, process_logs.c:
 * /v1/processes likewise ---- */

void processes_create(struct exchange *x);
void processes_run(struct exchange *x);
void processes_list(struct exchange *x);
void processes_get(struct exchange *x);
void processes_delete(struct exchange *x);
void processes_get_config(struct exchange *x);
void processes_set_config(struct exchange *x);
void processes_resize(struct exchange *x);
void processes_stop(struct exchange *x);
void processes_kill(struct exchange *x);
void processes_input(struct exchange *x);
void processes_logs(struct exchange *x); /* JSON, or server-sent events with follow=true */

/* ---- terminal_ws.c ---- */

void terminal_ws(struct exchange *x); /* WebSocket */
/* Ends all terminals with `going away`. */
void terminal_ws_drain(struct gateway *gw);

/* ---- static.c ---- */

/* Counts the tags of the embedded files; before the first request. */
void static_init(void);
void static_file(struct exchange *x);
void static_redirect(struct exchange *x); /* /ui to /ui/ */

#endif
