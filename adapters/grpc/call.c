/* One call on the server.
 *
 *     accepted ─▶ call_begin ─▶ handler ─▶ reply / fail / end ─▶ status sent ─▶ closed ─▶ freed
 *
 * `closed` (RECV_CLOSE_ON_SERVER) is always outstanding while the peer is there; it tells cancellation,
 * deadline and broken connections. A handler that answers at once has its answer sent in the same batch. */
#include <grpc/support/alloc.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/internal.h"
#include "adapters/os/clock.h"

enum { ERROR_TEXT_MAX = 1024 }; /* it travels in trailers, twice, and peers limit those to 8 KiB */

void rpc_no_server_deadline(struct rpc_call *call)
{
    if (call->expiry)
        server_cancel_expiry(call->server, call);
}

static void on_closed(struct rpc_tag *tag, bool ok);
static void on_read(struct rpc_tag *tag, bool ok);
static void on_written(struct rpc_tag *tag, bool ok);

/* ---- memory ---- */

struct rpc_call *call_new(struct rpc_server *s, const struct route *route)
{
    struct rpc_runtime *rt = s->rt;
    struct rpc_call *call = rt->spare_calls;
    if (call) {
        rt->spare_calls = call->live_link.next;
        rt->n_spare_calls--;
    } else {
        call = sa_calloc(1, sizeof *call);
        grpc_metadata_array_init(&call->metadata);
    }
    call->rt = rt;
    call->server = s;
    call->route = route;
    call->method = route->method;
    call->live_link = (struct call_link){0};
    call->refs = 1;
    call->closed.fn = on_closed;
    call->read.fn = on_read;
    call->written.fn = on_written;
    call->principal = "";
    outbox_init(&call->outbox);
    call->has_details = !route->method;
    if (call->has_details)
        grpc_call_details_init(&call->details);
    return call;
}

static void free_memory(struct rpc_call *call)
{
    grpc_metadata_array_destroy(&call->metadata);
    sa_arena_free(call->arena);
    sa_arena_free(call->inbox);
    sa_arena_free(call->scratch);
    free(call);
}

void call_free(struct rpc_call *call)
{
    struct rpc_runtime *rt = call->rt;
    if (call->call)
        grpc_call_unref(call->call);
    if (call->has_details)
        grpc_call_details_destroy(&call->details);
    wire_free(&call->in);
    wire_free(&call->out);
    outbox_clear(&call->outbox);
    if (call->has_detail)
        grpc_slice_unref(call->status_detail);
    free(call->message);
    if (rt->n_spare_calls == SPARE_MAX) {
        free_memory(call);
        return;
    }
    struct rpc_call clean = {.metadata = call->metadata,
                             .arena = call->arena,
                             .inbox = call->inbox,
                             .scratch = call->scratch,
                             .live_link = {.next = rt->spare_calls}};
    clean.metadata.count = 0;
    if (clean.arena)
        sa_arena_reset(clean.arena);
    if (clean.inbox)
        sa_arena_reset(clean.inbox);
    if (clean.scratch)
        sa_arena_reset(clean.scratch);
    *call = clean;
    rt->spare_calls = call;
    rt->n_spare_calls++;
}

void runtime_free_spares(struct rpc_runtime *rt)
{
    for (struct rpc_call *call; (call = rt->spare_calls);) {
        rt->spare_calls = call->live_link.next;
        free_memory(call);
    }
}

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
    call->refs++;
    return call;
}

void rpc_call_unref(struct rpc_call *call)
{
    if (call && --call->refs == 0)
        call_free(call);
}

static struct sa_arena *arena(struct sa_arena **a)
{
    if (!*a)
        *a = sa_arena_new();
    return *a;
}

struct sa_arena *rpc_arena(struct rpc_call *call)
{
    return arena(&call->arena);
}

struct sa_arena *rpc_send_arena(struct rpc_call *call)
{
    return arena(&call->scratch);
}

/* ---- sending ---- */

static void start(struct rpc_call *call, const grpc_op *ops, size_t n, struct rpc_tag *tag)
{
    call->refs++;
    runtime_start_batch(call->rt, call->call, ops, n, tag);
}

static size_t add_status(struct rpc_call *call, grpc_op *op, grpc_slice *message, grpc_metadata *md)
{
    size_t n = 0;
    for (; n < call->n_trailers; n++) {
        md[n].key = grpc_slice_from_static_string(call->trailer[n].key);
        md[n].value = grpc_slice_from_static_string(call->trailer[n].value);
    }
    if (call->has_detail) {
        md[n].key = grpc_slice_from_static_string(STATUS_DETAILS_KEY);
        md[n++].value = call->status_detail;
    }
    op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    op->data.send_status_from_server.status = (grpc_status_code)call->code;
    op->data.send_status_from_server.trailing_metadata = md;
    op->data.send_status_from_server.trailing_metadata_count = n;
    if (call->message) {
        *message = grpc_slice_from_static_string(call->message);
        op->data.send_status_from_server.status_details = message;
    }
    call->sent_status = true;
    return 1;
}

/* The operations for the next message, and for the status when it is the last one. */
struct send {
    grpc_op ops[4];
    size_t n;
    grpc_slice message;
    grpc_metadata md[TRAILERS_MAX + 1];
};

static void add_send(struct rpc_call *call, struct send *s)
{
    grpc_byte_buffer *b = outbox_pop(&call->outbox);
    bool last = call->ended && !call->outbox.count;
    if (!b && !last)
        return;
    if (!call->sent_metadata) {
        s->ops[s->n++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
        call->sent_metadata = true;
    }
    if (b) {
        call->out = b;
        s->ops[s->n] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE};
        /* Never GRPC_WRITE_BUFFER_HINT: with it a stream that waits for its window can stall for good. */
        s->ops[s->n++].data.send_message.send_message = b;
    }
    if (last) {
        s->ops[s->n] = (grpc_op){0};
        s->n += add_status(call, &s->ops[s->n], &s->message, s->md);
    }
}

static void flush(struct rpc_call *call)
{
    if (call->writing || call->corked || call->sent_status || !call->open)
        return;
    struct send s;
    s.n = 0;
    add_send(call, &s);
    if (!s.n)
        return;
    call->writing = true;
    start(call, s.ops, s.n, &call->written);
}

static void on_written(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, written);
    call->writing = false;
    wire_free(&call->out);
    if (!ok)
        outbox_clear(&call->outbox); /* `closed` follows */
    else
        flush(call);
    if (ok && rpc_alive(call) && outbox_writable(&call->outbox) && call->events.on_writable)
        call->events.on_writable(call->user, call);
    rpc_call_unref(call);
}

/* The batch that `closed` answers, together with the whole answer when the handler has given it. */
static void uncork(struct rpc_call *call)
{
    struct send s;
    s.ops[0] = (grpc_op){.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    s.ops[0].data.recv_close_on_server.cancelled = &call->cancelled;
    s.n = 1;
    if (call->ended && call->outbox.count <= 1)
        add_send(call, &s);
    call->corked = false;
    start(call, s.ops, s.n, &call->closed);
    flush(call);
}

bool rpc_alive(const struct rpc_call *call)
{
    return call->open && !call->ended;
}

static bool queue(struct rpc_call *call, const ProtobufCMessage *m)
{
    sa_error *err = NULL;
    grpc_byte_buffer *b = wire_pack(m, &err);
    if (!b) {
        rpc_fail(call, err);
        return false;
    }
    if (outbox_push(&call->outbox, b))
        return true;
    outbox_clear(&call->outbox);
    sa_fail(&err, SA_SLOW_READER, "%s: the reader is %d bytes behind", rpc_method_path(call), OUTBOX_MAX);
    rpc_fail(call, err);
    return false;
}

bool rpc_gen_send(struct rpc_call *call, const ProtobufCMessage *msg)
{
    bool queued = rpc_alive(call) && queue(call, msg);
    if (call->scratch)
        sa_arena_reset(call->scratch);
    if (!queued)
        return false;
    flush(call);
    return outbox_room(&call->outbox);
}

static void end(struct rpc_call *call)
{
    call->ended = true;
    if (call->expiry)
        server_cancel_expiry(call->server, call);
    flush(call);
}

void rpc_gen_reply(struct rpc_call *call, const ProtobufCMessage *res)
{
    if (rpc_alive(call) && queue(call, res))
        end(call);
}

void rpc_end(struct rpc_call *call)
{
    if (rpc_alive(call))
        end(call);
}

/* UTF-8, and short enough for trailers. */
static char *error_text(const char *message)
{
    struct sa_arena *a = sa_arena_new();
    size_t n = strlen(message);
    if (n > ERROR_TEXT_MAX)
        for (n = ERROR_TEXT_MAX; n && ((unsigned char)message[n] & 0xc0) == 0x80;)
            n--;
    char *text = sa_strdup(rpc_utf8(a, message, n));
    sa_arena_free(a);
    return text;
}

void rpc_fail(struct rpc_call *call, sa_error *err)
{
    if (!rpc_alive(call)) {
        sa_error_free(err);
        return;
    }
    if (!err || err->code == SA_CODE_OK)
        sa_fail(&err, SA_INTERNAL, "failed without a reason");
    char *text = error_text(err->message);
    free(err->message);
    err->message = text;
    call->code = err->code;
    call->status_detail = status_details(err);
    call->has_detail = true;
    call->message = err->message;
    err->message = NULL;
    sa_error_free(err);
    end(call);
}

/* ---- receiving ---- */

static void read_next(struct rpc_call *call)
{
    if (!call->accepted_stream || call->paused || call->reading || call->read_ended || !rpc_alive(call))
        return;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &call->in;
    call->reading = true;
    start(call, &op, 1, &call->read);
}

static void on_message(struct rpc_call *call)
{
    sa_error *err = NULL;
    ProtobufCMessage *m = wire_unpack(call->method->input, call->in, arena(&call->inbox), &err);
    wire_free(&call->in);
    if (!m)
        rpc_fail(call, err);
    else if (call->events.on_message)
        call->events.on_message(call->user, call, m);
    sa_arena_reset(call->inbox);
}

static void on_read(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = container_of(tag, struct rpc_call, read);
    call->reading = false;
    if (!rpc_alive(call)) {
        wire_free(&call->in);
    } else if (call->in) {
        on_message(call);
        read_next(call);
    } else if (ok && !grpc_call_failed_before_recv_message(call->call)) {
        call->read_ended = true;
        if (call->events.on_end)
            call->events.on_end(call->user, call);
    } /* else the call was cancelled: `closed` follows */
    rpc_call_unref(call);
}

void rpc_gen_accept(struct rpc_call *call, const struct rpc_gen_events *ev, void *user)
{
    call->events = *ev;
    call->user = user;
    call->accepted_stream = true;
    read_next(call);
}

void rpc_gen_on(struct rpc_call *call, const struct rpc_call_events *ev, void *user)
{
    call->events = (struct rpc_gen_events){.on_writable = ev->on_writable, .on_cancel = ev->on_cancel};
    call->user = user;
}

void rpc_on_cancel(struct rpc_call *call, void (*fn)(void *user, struct rpc_call *call), void *user)
{
    call->events.on_cancel = fn;
    call->user = user;
}

void rpc_pause_request(struct rpc_call *call, bool paused)
{
    call->paused = paused;
    read_next(call);
}

/* ---- beginning and end ---- */

static uint64_t core_deadline_ms(const struct rpc_call *call, uint64_t now_ms)
{
    gpr_timespec t = call->method ? call->core_deadline : call->details.deadline;
    if (!gpr_time_cmp(t, gpr_inf_future(t.clock_type)))
        return UINT64_MAX;
    gpr_timespec left = gpr_time_sub(t, gpr_now(t.clock_type));
    int64_t ms = left.tv_sec * 1000 + left.tv_nsec / 1000000;
    return ms > 0 ? now_ms + (uint64_t)ms : now_ms;
}

static void run_handler(struct rpc_call *call)
{
    const struct route *r = call->route;
    if (r->method->client_stream) {
        ((void (*)(void *, struct rpc_call *))r->handler)(r->api, call);
        return;
    }
    sa_error *err = NULL;
    const void *req = NULL;
    if (call->in)
        req = wire_unpack(r->method->input, call->in, rpc_arena(call), &err);
    else
        sa_fail(&err, SA_MALFORMED_MESSAGE, "%s: there is no request", r->method->path);
    wire_free(&call->in);
    if (!req)
        rpc_fail(call, err);
    else
        ((void (*)(void *, struct rpc_call *, const void *))r->handler)(r->api, call, req);
}

/* May this call be handled? */
static bool admit(struct rpc_call *call, sa_error **err)
{
    const struct rpc_server *s = call->server;
    const struct route *r = call->route;
    if (s->draining) {
        sa_fail(err, SA_DRAINING, "the server is shutting down");
        return false;
    }
    if (s->n_live > s->opt.max_concurrent_calls) {
        sa_fail(err, SA_TOO_MANY, "the server handles %u calls already", s->opt.max_concurrent_calls);
        return false;
    }
    if (!r->no_authorize && s->opt.authorize && !s->opt.authorize(s->opt.user, call, err)) {
        if (err && !*err)
            sa_fail(err, SA_PERMISSION_DENIED, "%s: not allowed", rpc_method_path(call));
        return false;
    }
    if (!r->handler) {
        sa_fail(err, SA_UNIMPLEMENTED, "method %s is not implemented", rpc_method_path(call));
        return false;
    }
    return true;
}

void call_begin(struct rpc_call *call)
{
    struct rpc_server *s = call->server;
    call->open = call->corked = true;
    call->started_ns = sa_now_ns();
    uint64_t now_ms = call->started_ns / 1000000;
    call->deadline_ms = core_deadline_ms(call, now_ms);
    if (call->method && !call->method->client_stream && !call->method->server_stream)
        server_expire_after(s, call, now_ms);
    sa_error *err = NULL;
    if (admit(call, &err))
        run_handler(call);
    else
        rpc_fail(call, err);
    uncork(call);
}

static void cancelled(struct rpc_call *call)
{
    void (*fn)(void *user, struct rpc_call *call) = call->events.on_cancel;
    call->events = (struct rpc_gen_events){0};
    if (fn)
        fn(call->user, call);
}

void call_expired(struct rpc_call *call)
{
    rpc_call_ref(call);
    sa_error *err = NULL;
    sa_fail(&err, SA_DEADLINE_EXCEEDED, "%s took longer than %llu ms", rpc_method_path(call),
            (unsigned long long)call->expiry->ttl_ms);
    rpc_fail(call, err);
    cancelled(call);
    rpc_call_unref(call);
}

static void on_closed(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    struct rpc_call *call = container_of(tag, struct rpc_call, closed);
    bool was_ended = call->ended;
    call->open = false;
    if (!call->writing)
        wire_free(&call->out);
    outbox_clear(&call->outbox);
    if (!was_ended) {
        call->ended = true;
        call->code = rpc_time_left_ms(call) ? SA_CODE_CANCELLED : SA_CODE_DEADLINE_EXCEEDED;
        cancelled(call);
    }
    server_call_over(call->server, call);
    call->server = NULL;
    rpc_call_unref(call); /* of the batch */
    rpc_call_unref(call); /* of the peer */
}

/* ---- what a handler may ask ---- */

const char *rpc_metadata(struct rpc_call *call, const char *key, size_t *ret_len)
{
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *md = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(md->key, key))
            continue;
        size_t n = GRPC_SLICE_LENGTH(md->value);
        char *copy = sa_arena_alloc(rpc_arena(call), n + 1);
        memcpy(copy, GRPC_SLICE_START_PTR(md->value), n);
        if (ret_len)
            *ret_len = n;
        return copy;
    }
    return NULL;
}

void rpc_set_trailer(struct rpc_call *call, const char *key, const char *value)
{
    grpc_slice k = grpc_slice_from_static_string(key), v = grpc_slice_from_static_string(value);
    if (call->sent_status || call->n_trailers == TRAILERS_MAX || !grpc_header_key_is_legal(k) ||
        !(grpc_is_binary_header(k) || grpc_header_nonbin_value_is_legal(v)))
        return;
    struct sa_arena *a = rpc_arena(call);
    call->trailer[call->n_trailers++] = (struct trailer){sa_arena_strdup(a, key), sa_arena_strdup(a, value)};
}

const char *rpc_method_path(const struct rpc_call *call)
{
    if (call->method)
        return call->method->path;
    struct rpc_call *c = (struct rpc_call *)(uintptr_t)call;
    if (!c->path) {
        grpc_slice m = c->details.method;
        c->path = rpc_utf8(rpc_arena(c), GRPC_SLICE_START_PTR(m), GRPC_SLICE_LENGTH(m));
    }
    return c->path;
}

void rpc_set_principal(struct rpc_call *call, const char *principal)
{
    call->principal = sa_arena_strdup(rpc_arena(call), principal);
}

const char *rpc_principal(const struct rpc_call *call)
{
    return call->principal;
}

const char *rpc_peer(struct rpc_call *call)
{
    if (call->peer)
        return call->peer;
    char *peer = grpc_call_get_peer(call->call);
    bool is_unix = !strncmp(peer, "unix", 4);
    call->peer = is_unix ? "unix" : sa_arena_strdup(rpc_arena(call), peer);
    gpr_free(peer);
    return call->peer;
}

uint64_t rpc_time_left_ms(const struct rpc_call *call)
{
    uint64_t end = call->deadline_ms, now = sa_now_ms();
    if (call->expiry && call->expires_ms < end)
        end = call->expires_ms;
    return end == UINT64_MAX ? UINT64_MAX : end > now ? end - now : 0;
}
