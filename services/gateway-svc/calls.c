/* Unary methods as JSON. One function serves them all: the route names the method, the descriptors say what
 * fits. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "sandboxagent/presence/v1/presence_service.rpc.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "sandboxagent/provider/v1/sandbox_service.rpc.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/gateway-svc/gateway.h"

const struct json_mapping gateway_answer_json = {.defaults = true, .bytes = json_bytes_by_name};
const struct json_mapping gateway_event_json = {.defaults = false, .bytes = json_bytes_by_name};

/* Which of our peers offers which service. */
static const struct {
    const struct rpc_service *service;
    size_t channel; /* in struct gateway */
} services[] = {
    {&session_service, offsetof(struct gateway, session)},
    {&permission_service, offsetof(struct gateway, session)},
    {&agent_service, offsetof(struct gateway, session)},
    {&presence_service, offsetof(struct gateway, session)},
    {&process_service, offsetof(struct gateway, process)},
    {&terminal_service, offsetof(struct gateway, process)},
    {&file_service, offsetof(struct gateway, fs)},
    {&sandbox_service, offsetof(struct gateway, provider)},
};

/* *ret_channel: where it is, in struct gateway. */
static const struct rpc_method *method_of(const char *path, size_t *ret_channel)
{
    for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++)
        for (size_t k = 0; k < services[i].service->n_methods; k++)
            if (strcmp(services[i].service->methods[k].path, path) == 0) {
                *ret_channel = services[i].channel;
                return &services[i].service->methods[k];
            }
    return NULL;
}

void calls_check_routes(const struct route *table)
{
    size_t channel;
    for (const struct route *r = table; r->method; r++)
        if (r->rpc && !method_of(r->rpc, &channel))
            abort();
}

struct rpc_call_options calls_options(const struct exchange *x)
{
    return (struct rpc_call_options){
        .deadline_ms = GATEWAY_CALL_MS, .wait_for_ready = true, .principal = x->principal};
}

/* ---- the request ---- */

struct fields {
    struct exchange *x;
    ProtobufCMessage *message;
    sa_error **err;
};

static int set_from_query(void *user, const char *name, const char *value)
{
    struct fields *f = user;
    return json_set_field(http_arena(f->x->http), f->message, name, value, &gateway_answer_json, f->err);
}

static ProtobufCMessage *read_body(struct exchange *x, const struct rpc_method *method, sa_error **err)
{
    size_t n;
    const void *body = http_body(x->http, &n);
    struct json v;
    if (n == 0)
        body = "{}", n = 2;
    if (json_check(body, n, &v, err) < 0)
        return NULL;
    return json_read_message(http_arena(x->http), v, method->input, &gateway_answer_json, err);
}

static ProtobufCMessage *read_request(struct exchange *x, const struct rpc_method *method, sa_error **err)
{
    struct sa_arena *a = http_arena(x->http);
    ProtobufCMessage *m = read_body(x, method, err);
    if (!m)
        return NULL;
    struct fields f = {x, m, err};
    if (http_query_each(x->http, set_from_query, &f) < 0) {
        if (err && !*err)
            sa_fail(err, SA_INVALID_REQUEST, "the query is not percent-encoded UTF-8");
        return NULL;
    }
    for (size_t i = 0; i < x->n_params; i++) {
        const struct route_param *p = &x->params[i];
        cleanup_free char *name = sa_strndup(p->name, p->name_len);
        if (json_set_field(a, m, name, p->value, &gateway_answer_json, err) < 0)
            return NULL;
    }
    if (protobuf_c_message_get_packed_size(m) > GATEWAY_MESSAGE_MAX) {
        sa_fail(err, SA_MESSAGE_TOO_LARGE, "the request is larger than %d bytes", GATEWAY_MESSAGE_MAX);
        return NULL;
    }
    return m;
}

/* A page of another site can send a body without asking only as one of three types, none of them this one. */
static bool is_json(const struct http_request *r)
{
    size_t n;
    const char *type = http_header(r, "Content-Type");
    http_body(r, &n);
    if (n == 0)
        return true;
    if (!type || strncasecmp(type, "application/json", 16) != 0)
        return false;
    return strchr("; \t", type[16]) != NULL; /* also the end */
}

/* ---- the answer ---- */

static void on_done(void *user, const void *res, const sa_error *err)
{
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    struct exchange *x = user;
    x->state = NULL;
    if (err) {
        problem_reply(x->http, sa_error_copy(err));
        return;
    }
    unsigned status = x->route->status ? x->route->status : 200;
    if (status == 204) {
        http_reply(x->http, 204, NULL, NULL, 0, headers);
        return;
    }
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    bool events = strcmp(((const ProtobufCMessage *)res)->descriptor->short_name, "ListEventsResponse") == 0;
    json_put_message(&w, res, events ? &gateway_event_json : &gateway_answer_json);
    sa_buf_add(&body, "\n", 1);
    http_reply(x->http, status, "application/json", body.data, body.len, headers);
}

static void abandon(struct exchange *x)
{
    rpc_abandon(x->state);
}

void calls_unary(struct exchange *x)
{
    cleanup_error sa_error *err = NULL;
    size_t channel = 0;
    const struct rpc_method *method = method_of(x->route->rpc, &channel);
    if (!is_json(x->http)) {
        problem_media_type(x->http, "application/json");
        return;
    }
    ProtobufCMessage *req = read_request(x, method, &err);
    if (!req) {
        problem_reply(x->http, steal_pointer(&err));
        return;
    }
    struct rpc_call_options opt = calls_options(x);
    if (x->route->call_ms) {
        opt.deadline_ms = x->route->call_ms;
        opt.wait_for_ready = false; /* or a service that is away would be waited for as long */
    }
    x->abandon = abandon;
    struct rpc_channel *const *peer = (const void *)((const char *)x->gw + channel);
    x->state = rpc_unary(*peer, method, req, &opt, on_done, x);
}
