#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/internal.h"
#include "adapters/os/clock.h"

enum {
    ACCEPTS = 8,          /* outstanding per method, so that a burst does not wait inside gRPC */
    KEEPALIVE_MS = 30000, /* defaults of rpc_server_options */
    CALLS_MAX = 10000,
    DEADLINE_MS = 30000,
    DEADLINE_MAX_MS = 600000,
    PING_TIMEOUT_MS = 20000,
    PING_MIN_MS = 5000, /* of clients; more often is answered with GOAWAY */
};

static void on_stop(struct rpc_tag *tag, bool ok);
static void on_accepted(struct rpc_tag *tag, bool ok);
static void on_expiry(void *user);
static void on_grace_over(void *user);

static grpc_server *make_server(const struct rpc_server_options *o)
{
#define INT(name, v) {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)(name), .value.integer = (int)(v)}
    grpc_arg args[] = {
        INT(GRPC_ARG_ALLOW_REUSEPORT, 0), /* or two servers share a port */
        /* So much of a stream waits here when its reader is slow; gRPC's own measuring makes it 16 MiB. */
        INT(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        INT(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 2 << 20),
        INT(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, o->max_message_bytes),
        INT(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
        /* A little more than the limit, so that exceeding it is answered instead of waited for. */
        INT(GRPC_ARG_MAX_CONCURRENT_STREAMS, o->max_concurrent_calls + 100),
        INT(GRPC_ARG_KEEPALIVE_TIME_MS, o->keepalive_ms),
        INT(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, PING_TIMEOUT_MS),
        INT(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        INT(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        INT(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_MIN_MS),
        /* None: a few compressed bytes could grow without limit. */
        INT(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
    };
#undef INT
    grpc_channel_args a = {sizeof args / sizeof *args, args};
    return grpc_server_create(&a, NULL);
}

static uint32_t or_default(uint32_t v, uint32_t def)
{
    return v ? v : def;
}

struct rpc_server *rpc_server_new(struct rpc_runtime *rt, const struct rpc_server_options *opt)
{
    struct rpc_server *s = sa_calloc(1, sizeof *s);
    s->rt = rt;
    if (opt)
        s->opt = *opt;
    s->opt.max_message_bytes = or_default(s->opt.max_message_bytes, RPC_MESSAGE_MAX);
    s->opt.max_concurrent_calls = or_default(s->opt.max_concurrent_calls, CALLS_MAX);
    s->opt.keepalive_ms = or_default(s->opt.keepalive_ms, KEEPALIVE_MS);
    s->by_cap.ttl_ms = or_default(s->opt.max_deadline_ms, DEADLINE_MAX_MS);
    s->by_default.ttl_ms = or_default(s->opt.default_deadline_ms, DEADLINE_MS);
    if (s->by_default.ttl_ms > s->by_cap.ttl_ms)
        s->by_default.ttl_ms = s->by_cap.ttl_ms;
    s->expiry_timer = sa_timer_new(rt->loop, on_expiry, s);
    s->grace_timer = sa_timer_new(rt->loop, on_grace_over, s);
    s->stop_tag.fn = on_stop;
    s->unknown.server = s;
    pthread_mutex_init(&s->gone_lock, NULL);
    pthread_cond_init(&s->gone_cond, NULL);
    s->server = make_server(&s->opt);
    grpc_server_register_completion_queue(s->server, rt->cq, NULL);
    return s;
}

void rpc_server_add(struct rpc_server *s, const struct rpc_service *service, const void *handlers, void *api)
{
    void (*const *handler)(void) = handlers; /* the generated struct: one pointer per method, in order */
    struct service_entry *e = sa_calloc(1, sizeof *e);
    *e = (struct service_entry){.service = service, .serving = true, .next = s->services};
    s->services = e;
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct rpc_method *m = &service->methods[i];
        struct route *r = sa_calloc(1, sizeof *r);
        *r = (struct route){.server = s,
                            .service = service,
                            .method = m,
                            .handler = handler[i],
                            .api = api,
                            .no_authorize = !strcmp(service->name, "grpc.health.v1.Health"),
                            .next = s->routes};
        r->registered = grpc_server_register_method(
            s->server, m->path, NULL,
            m->client_stream ? GRPC_SRM_PAYLOAD_NONE : GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
        s->routes = r;
    }
}

void rpc_server_add_standard(struct rpc_server *s)
{
    health_add(s);
    reflection_add(s);
}

/* ---- accepting ---- */

static void post_accept(struct rpc_server *s, const struct route *r)
{
    struct rpc_call *call = call_new(s, r);
    grpc_completion_queue *cq = s->rt->cq;
    call->accepted.fn = on_accepted;
    grpc_call_error e;
    if (r->method)
        e = grpc_server_request_registered_call(s->server, r->registered, &call->call, &call->core_deadline,
                                                &call->metadata, r->method->client_stream ? NULL : &call->in,
                                                cq, cq, &call->accepted);
    else
        e = grpc_server_request_call(s->server, &call->call, &call->details, &call->metadata, cq, cq,
                                     &call->accepted);
    if (e != GRPC_CALL_OK) {
        call->call = NULL;
        call_free(call);
        return;
    }
    s->n_accepts++;
    s->rt->pending++;
}

static void check_gone(struct rpc_server *s)
{
    if (!s->stopped || s->n_live || s->n_accepts)
        return;
    void (*drained)(void *user) = s->drained;
    s->drained = NULL;
    if (drained)
        drained(s->drained_user);
    pthread_mutex_lock(&s->gone_lock);
    s->gone = true;
    pthread_cond_signal(&s->gone_cond);
    pthread_mutex_unlock(&s->gone_lock);
}

static void on_accepted(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, accepted);
    struct rpc_server *s = call->server;
    s->n_accepts--;
    if (!ok) { /* the server stops */
        call->call = NULL;
        call_free(call);
        check_gone(s);
        return;
    }
    if (!s->draining)
        post_accept(s, call->route);
    call->live_link.next = s->live;
    if (s->live)
        s->live->live_link.prev = call;
    s->live = call;
    s->n_live++;
    call_begin(call);
}

void server_call_over(struct rpc_server *s, struct rpc_call *call)
{
    if (call->expiry)
        server_cancel_expiry(s, call);
    struct rpc_call *prev = call->live_link.prev, *next = call->live_link.next;
    if (prev)
        prev->live_link.next = next;
    else
        s->live = next;
    if (next)
        next->live_link.prev = prev;
    call->live_link = (struct call_link){0};
    s->n_live--;
    if (s->opt.finished)
        s->opt.finished(s->opt.user, call->method ? call->method->path : "unknown", call->code,
                        (sa_now_ns() - call->started_ns) / 1000);
    check_gone(s);
}

/* ---- deadlines of unary calls that brought none, or one beyond the cap ---- */

static void aim(struct rpc_server *s, uint64_t at_ms, uint64_t now_ms)
{
    if (sa_timer_active(s->expiry_timer) && s->expiry_at_ms <= at_ms)
        return;
    s->expiry_at_ms = at_ms;
    sa_timer_start(s->expiry_timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

void server_expire_after(struct rpc_server *s, struct rpc_call *call, uint64_t now_ms)
{
    struct deadline_queue *q = NULL;
    if (call->deadline_ms == UINT64_MAX)
        q = &s->by_default;
    else if (call->deadline_ms > now_ms + s->by_cap.ttl_ms)
        q = &s->by_cap;
    if (!q)
        return; /* gRPC ends it */
    call->expiry = q;
    call->expires_ms = now_ms + q->ttl_ms;
    call->expiry_link = (struct call_link){.prev = q->tail};
    if (q->tail)
        q->tail->expiry_link.next = call;
    else
        q->head = call;
    q->tail = call;
    aim(s, call->expires_ms, now_ms);
}

void server_cancel_expiry(struct rpc_server *s, struct rpc_call *call)
{
    (void)s;
    struct deadline_queue *q = call->expiry;
    struct rpc_call *prev = call->expiry_link.prev, *next = call->expiry_link.next;
    if (prev)
        prev->expiry_link.next = next;
    else
        q->head = next;
    if (next)
        next->expiry_link.prev = prev;
    else
        q->tail = prev;
    call->expiry = NULL;
}

static void on_expiry(void *user)
{
    struct rpc_server *s = user;
    struct deadline_queue *queues[] = {&s->by_default, &s->by_cap};
    uint64_t now = sa_now_ms();
    for (size_t i = 0; i < 2; i++)
        while (queues[i]->head && queues[i]->head->expires_ms <= now)
            call_expired(queues[i]->head);
    for (size_t i = 0; i < 2; i++)
        if (queues[i]->head)
            aim(s, queues[i]->head->expires_ms, now);
}

/* ---- start and stop ---- */

int rpc_server_listen(struct rpc_server *s, const char *address, const struct rpc_tls *tls, int *ret_port,
                      sa_error **err)
{
    if (listen_check(address, tls, s->opt.allow_plain, err) < 0)
        return -1;
    grpc_server_credentials *c = listen_credentials(tls, err);
    if (!c)
        return -1;
    int port = grpc_server_add_http2_port(s->server, address, c);
    grpc_server_credentials_release(c);
    if (!port)
        return sa_fail(err, SA_INVALID_CONFIG, "cannot listen on %s: %s", address,
                       tls ? "the address or the certificate is refused" : "the address is refused");
    if (ret_port)
        *ret_port = port;
    return 0;
}

void rpc_server_start(struct rpc_server *s)
{
    grpc_server_start(s->server);
    sa_loop_lock(s->rt->loop);
    s->started = true;
    for (const struct route *r = s->routes; r; r = r->next)
        for (int i = 0; i < ACCEPTS; i++)
            post_accept(s, r);
    for (int i = 0; i < ACCEPTS; i++)
        post_accept(s, &s->unknown);
    sa_loop_unlock(s->rt->loop);
}

static void on_stop(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    struct rpc_server *s = container_of(tag, struct rpc_server, stop_tag);
    s->stopped = true;
    check_gone(s);
}

static void on_grace_over(void *user)
{
    struct rpc_server *s = user;
    grpc_server_cancel_all_calls(s->server);
}

static void stop_accepting(struct rpc_server *s)
{
    if (s->draining)
        return;
    s->draining = true;
    s->rt->pending++;
    grpc_server_shutdown_and_notify(s->server, s->rt->cq, &s->stop_tag);
}

void rpc_server_drain(struct rpc_server *s, uint32_t grace_ms, void (*done)(void *user), void *user)
{
    s->drained = done;
    s->drained_user = user;
    s->serving = false;
    health_changed(s);
    stop_accepting(s);
    health_drain(s);
    if (grace_ms)
        sa_timer_start(s->grace_timer, grace_ms);
    else
        grpc_server_cancel_all_calls(s->server);
}

void rpc_server_free(struct rpc_server *s)
{
    if (!s)
        return;
    sa_loop_lock(s->rt->loop);
    stop_accepting(s);
    grpc_server_cancel_all_calls(s->server);
    sa_loop_unlock(s->rt->loop);

    pthread_mutex_lock(&s->gone_lock);
    while (!s->gone)
        pthread_cond_wait(&s->gone_cond, &s->gone_lock);
    pthread_mutex_unlock(&s->gone_lock);
    grpc_server_destroy(s->server);

    sa_loop_lock(s->rt->loop); /* the thread that told us is out of `s` now */
    sa_timer_free(s->expiry_timer);
    sa_timer_free(s->grace_timer);
    sa_loop_unlock(s->rt->loop);
    for (struct route *r = s->routes, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    for (struct service_entry *e = s->services, *next; e; e = next) {
        next = e->next;
        free(e);
    }
    health_free(s);
    pthread_mutex_destroy(&s->gone_lock);
    pthread_cond_destroy(&s->gone_cond);
    free(s);
}
