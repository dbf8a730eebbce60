/* The routing table's form and its search. The table itself is in main.c: it is the list of what this server
 * does. */
#ifndef SERVICES_GATEWAY_SVC_ROUTES_H_
#define SERVICES_GATEWAY_SVC_ROUTES_H_

#include "services/gateway-svc/http.h"

struct exchange;

enum { ROUTE_PARAMS_MAX = 3, ROUTE_ALLOW_TEXT = 64 };

struct route {
    const char *method;  /* GET answers HEAD, too */
    const char *pattern; /* "/v1/sessions/{sessionId}"; a last segment of "*" takes any rest, also none */
    void (*handle)(struct exchange *x);
    const char *rpc;     /* for handlers that call a method: its gRPC path */
    unsigned status;     /* of success; 0: 200 */
    uint32_t call_ms;    /* how long the method may take; 0: GATEWAY_CALL_MS */
    bool open;           /* needs no token */
    size_t body_max;     /* bytes; 0: no body */
    bool token_in_query; /* `access_token`: browsers cannot set headers of a WebSocket */
    bool takes_stream;   /* handle is called before the body, which it receives (http_receive) */
};

struct route_param {
    const char *name; /* not NUL-terminated at its end: compare with name_len */
    size_t name_len;
    const char *value; /* decoded */
};

enum route_result { ROUTE_FOUND, ROUTE_NO_PATH, ROUTE_NO_METHOD, ROUTE_BAD_PATH };

struct route_match {
    const struct route *route;
    struct route_param params[ROUTE_PARAMS_MAX];
    size_t n_params;
    char allow[ROUTE_ALLOW_TEXT]; /* with ROUTE_NO_METHOD: "GET, HEAD, POST" */
};

/* The first entry of the table (its end: method NULL) that fits. Values live in the arena. */
enum route_result route_find(const struct route *table, const char *method, const char *path,
                             struct sa_arena *a, struct route_match *ret);

#endif
