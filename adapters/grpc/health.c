/* grpc.health.v1: "" is the whole server, a service name is that service. A service serves when the server
 * does and nobody said otherwise about it. */
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/internal.h"
#include "grpc/health/v1/health.rpc.h"

typedef Grpc__Health__V1__HealthCheckResponse Response;
typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus Status;
#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

struct health_watch {
    struct rpc_server *server;
    struct rpc_call *call;
    char *service;
    Status told;
    struct health_watch *prev, *next;
};

static struct service_entry *find(const struct rpc_server *s, const char *name)
{
    for (struct service_entry *e = s->services; e; e = e->next)
        if (!strcmp(e->service->name, name))
            return e;
    return NULL;
}

static struct health_name *find_name(const struct rpc_server *s, const char *name)
{
    for (struct health_name *n = s->health_names; n; n = n->next)
        if (!strcmp(n->name, name))
            return n;
    return NULL;
}

static Status status(const struct rpc_server *s, const char *name)
{
    const struct service_entry *e = find(s, name);
    const struct health_name *n = find_name(s, name);
    if (n)
        return s->serving && n->serving ? SERVING : NOT_SERVING;
    if (*name && !e)
        return SERVICE_UNKNOWN;
    return s->serving && (!e || e->serving) ? SERVING : NOT_SERVING;
}

static void on_check(void *api, struct rpc_call *call, const Grpc__Health__V1__HealthCheckRequest *req)
{
    Response res = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    res.status = status(api, req->service);
    if (res.status == SERVICE_UNKNOWN) {
        sa_error *err = NULL;
        sa_fail(&err, SA_NOT_FOUND, "service `%s` does not exist", req->service);
        rpc_fail(call, err);
        return;
    }
    rpc_gen_reply(call, &res.base);
}

static void tell(struct health_watch *w)
{
    Response res = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    res.status = status(w->server, w->service);
    if (res.status == w->told)
        return;
    w->told = res.status;
    rpc_gen_send(w->call, &res.base);
}

static void forget(struct health_watch *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        w->server->watches = w->next;
    if (w->next)
        w->next->prev = w->prev;
    free(w->service);
    free(w);
}

static void on_watch_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    forget(user);
}

static void on_watch(void *api, struct rpc_call *call, const Grpc__Health__V1__HealthCheckRequest *req)
{
    static const struct rpc_call_events events = {.on_cancel = on_watch_cancel};
    struct rpc_server *s = api;
    struct health_watch *w = sa_calloc(1, sizeof *w);
    *w = (struct health_watch){
        .server = s, .call = call, .service = sa_strdup(req->service), .told = -1, .next = s->watches};
    if (s->watches)
        s->watches->prev = w;
    s->watches = w;
    rpc_gen_on(call, &events, w);
    tell(w);
}

static const struct grpc__health__v1__health_handlers handlers = {.check = on_check, .watch = on_watch};

void health_add(struct rpc_server *s)
{
    rpc_server_add(s, &grpc__health__v1__health, &handlers, s);
}

void health_changed(struct rpc_server *s)
{
    for (struct health_watch *w = s->watches; w; w = w->next)
        tell(w);
}

void health_drain(struct rpc_server *s)
{
    while (s->watches) {
        struct rpc_call *call = s->watches->call;
        sa_error *err = NULL;
        sa_fail(&err, SA_DRAINING, "the server is shutting down");
        forget(s->watches);
        rpc_fail(call, err);
    }
}

void rpc_server_set_serving(struct rpc_server *s, const char *service, bool serving)
{
    bool whole = !service || !*service;
    struct service_entry *e = whole ? NULL : find(s, service);
    struct health_name *n = whole || e ? NULL : find_name(s, service);
    if (whole) {
        s->serving = serving && !s->draining;
    } else if (e) {
        e->serving = serving;
    } else {
        if (!n) {
            n = sa_calloc(1, sizeof *n);
            *n = (struct health_name){.name = sa_strdup(service), .next = s->health_names};
            s->health_names = n;
        }
        n->serving = serving;
    }
    health_changed(s);
}

void health_free(struct rpc_server *s)
{
    for (struct health_name *n; (n = s->health_names);) {
        s->health_names = n->next;
        free(n->name);
        free(n);
    }
}
