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
    GATEWAY_MESSAGE_MAX = 4 << 20, /* bytes of the gRPC message made of it */
    GATEWAY_CALL_MS = 15000,       /* a call to another service, its restart included */
};

struct events;

struct gateway {
    struct service *svc;
    struct rpc_channel *session; /* session-svc: sessions, permissions, agents, presence */
    struct http_server *http;
    struct events *events;
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

/* ---- static.c ---- */

/* Counts the tags of the embedded files; before the first request. */
void static_init(void);
void static_file(struct exchange *x);
void static_redirect(struct exchange *x); /* /ui to /ui/ */

#endif
