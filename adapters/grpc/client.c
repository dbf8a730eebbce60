/* Channels and requests. A request is over when its status has come, its messages were read to the end and no
 * batch is outstanding. */
#include <grpc/grpc_security.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/internal.h"
#include "adapters/os/clock.h"

enum {
    DEADLINE_MS = 30000, /* of unary calls */
    LOOKAHEAD = 512 << 10,
    KEEPALIVE_MS = 30000,
    PING_TIMEOUT_MS = 20000,
    BACKOFF_MS = 50, /* a service that is restarted is back soon */
    BACKOFF_MAX_MS = 2000,
    PAIRS_MAX = 32, /* of metadata in a call */
};

struct pairs {
    grpc_metadata md[PAIRS_MAX];
    size_t n;
    const char *problem; /* what cannot be sent */
};

struct rpc_channel {
    struct rpc_runtime *rt;
    grpc_channel *channel;
    struct rpc_request *requests;
    struct pairs pairs; /* sent with every call */
};

struct rpc_request {
    struct rpc_runtime *rt;
    struct rpc_channel *channel; /* NULL once that was freed */
    struct rpc_request *prev, *next;
    const struct rpc_method *method;
    grpc_call *call;
    unsigned outstanding; /* batches */
    struct rpc_tag finished, read, written;

    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice status_message;
    grpc_byte_buffer *in, *out;
    struct sa_arena *arena; /* of the message in a callback */
    struct outbox outbox;

    rpc_gen_done_fn *done; /* unary */
    struct rpc_gen_client events;
    void *user;
    sa_error *error; /* ours: it counts more than the status */
    bool owned;      /* messages are malloc'ed and go to the callback */
    bool abandoned, cancelled, has_status, write_failed, finishing;
    bool reading, read_ended, writing, paused;
    bool close_send, sent_close;
};

/* ---- metadata ---- */

static void add_pair(struct pairs *p, const char *key, const char *value)
{
    grpc_slice k = grpc_slice_from_copied_string(key), v = grpc_slice_from_copied_string(value);
    if (!grpc_header_key_is_legal(k))
        p->problem = "a metadata key is not legal";
    else if (!grpc_is_binary_header(k) && !grpc_header_nonbin_value_is_legal(v))
        p->problem = "a metadata value is not printable ASCII";
    else if (p->n == PAIRS_MAX)
        p->problem = "there is too much metadata (limit 32 pairs)";
    else {
        p->md[p->n++] = (grpc_metadata){.key = k, .value = v};
        return;
    }
    grpc_slice_unref(k);
    grpc_slice_unref(v);
}

static void add_pairs(struct pairs *p, const char *const *list)
{
    for (; list && list[0] && list[1]; list += 2)
        add_pair(p, list[0], list[1]);
}

static void free_pairs(struct pairs *p, size_t from)
{
    for (size_t i = from; i < p->n; i++) {
        grpc_slice_unref(p->md[i].key);
        grpc_slice_unref(p->md[i].value);
    }
}

/* ---- channels ---- */

struct rpc_channel *rpc_channel_new(struct rpc_runtime *rt, const struct rpc_channel_options *opt)
{
    struct rpc_channel *ch = sa_calloc(1, sizeof *ch);
    ch->rt = rt;
    if (opt->token) {
        cleanup_free char *value = sa_format("Bearer %s", opt->token);
        add_pair(&ch->pairs, "authorization", value);
    }
    add_pairs(&ch->pairs, opt->metadata);
#define INT(name, v) {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)(name), .value.integer = (int)(v)}
    grpc_arg args[16] = {
        INT(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
            opt->max_message_bytes ? opt->max_message_bytes : RPC_MESSAGE_MAX),
        INT(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
        /* What is on its way to a reader that has stopped: gRPC would let it grow to several MiB a call. */
        INT(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, LOOKAHEAD),
        INT(GRPC_ARG_HTTP2_BDP_PROBE, 0),
        INT(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        INT(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, PING_TIMEOUT_MS),
        INT(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        INT(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_MS),
        INT(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS),
        INT(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        INT(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        INT(GRPC_ARG_ENABLE_RETRIES, 0),            /* with them, a cancelled stream may never end */
        INT(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* a channel's connection ends with the channel */
        INT(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
    };
#undef INT
    size_t n = 13;
    if (opt->tls && opt->tls->server_name)
        args[n++] = (grpc_arg){.type = GRPC_ARG_STRING,
                               .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
                               .value.string = (char *)(uintptr_t)opt->tls->server_name};
    grpc_channel_args a = {n, args};
    grpc_channel_credentials *c = connect_credentials(opt->tls);
    ch->channel = c ? grpc_channel_create(opt->target, c, &a)
                    : grpc_lame_client_channel_create(opt->target, GRPC_STATUS_UNAVAILABLE,
                                                      "the certificates are not valid");
    if (c)
        grpc_channel_credentials_release(c);
    return ch;
}

struct sa_loop *channel_loop(const struct rpc_channel *ch)
{
    return ch->rt->loop;
}

void rpc_channel_free(struct rpc_channel *ch)
{
    if (!ch)
        return;
    for (struct rpc_request *r = ch->requests; r; r = r->next) {
        r->channel = NULL;
        rpc_cancel(r);
    }
    free_pairs(&ch->pairs, 0);
    grpc_channel_destroy(ch->channel);
    free(ch);
}

/* ---- memory of requests ---- */

static void on_finished(struct rpc_tag *tag, bool ok);
static void on_read(struct rpc_tag *tag, bool ok);
static void on_written(struct rpc_tag *tag, bool ok);
static void finish(struct rpc_request *r);

static struct rpc_request *request_new(struct rpc_channel *ch, const struct rpc_method *method)
{
    struct rpc_runtime *rt = ch->rt;
    struct rpc_request *r = rt->spare_requests;
    if (r) {
        rt->spare_requests = r->next;
        rt->n_spare_requests--;
    } else {
        r = sa_calloc(1, sizeof *r);
        r->arena = sa_arena_new();
    }
    r->rt = rt;
    r->channel = ch;
    r->method = method;
    r->finished.fn = on_finished;
    r->read.fn = on_read;
    r->written.fn = on_written;
    r->status_message = grpc_empty_slice();
    outbox_init(&r->outbox);
    r->prev = NULL;
    r->next = ch->requests;
    if (ch->requests)
        ch->requests->prev = r;
    ch->requests = r;
    return r;
}

static void unlink_request(struct rpc_request *r)
{
    if (r->prev)
        r->prev->next = r->next;
    else if (r->channel)
        r->channel->requests = r->next;
    if (r->next)
        r->next->prev = r->prev;
}

static void free_memory(struct rpc_request *r)
{
    grpc_metadata_array_destroy(&r->initial);
    grpc_metadata_array_destroy(&r->trailing);
    sa_arena_free(r->arena);
    free(r);
}

static void request_free(struct rpc_request *r)
{
    struct rpc_runtime *rt = r->rt;
    grpc_call_unref(r->call);
    grpc_slice_unref(r->status_message);
    wire_free(&r->in);
    wire_free(&r->out);
    outbox_clear(&r->outbox);
    sa_error_free(r->error);
    if (rt->n_spare_requests == SPARE_MAX) {
        free_memory(r);
        return;
    }
    sa_arena_reset(r->arena);
    struct rpc_request clean = {
        .initial = r->initial, .trailing = r->trailing, .arena = r->arena, .next = rt->spare_requests};
    clean.initial.count = clean.trailing.count = 0;
    *r = clean;
    rt->spare_requests = r;
    rt->n_spare_requests++;
}

void request_free_spares(struct rpc_runtime *rt)
{
    for (struct rpc_request *r; (r = rt->spare_requests);) {
        rt->spare_requests = r->next;
        free_memory(r);
    }
}

/* ---- start ---- */

static void start(struct rpc_request *r, const grpc_op *ops, size_t n, struct rpc_tag *tag)
{
    r->outstanding++;
    runtime_start_batch(r->rt, r->call, ops, n, tag);
}

static void fail_locally(struct rpc_request *r, sa_error *err)
{
    if (r->error)
        sa_error_free(err);
    else
        r->error = err;
    grpc_call_cancel(r->call, NULL);
}

static void make_call(struct rpc_request *r, uint32_t deadline_ms)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    if (deadline_ms)
        deadline =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(deadline_ms, GPR_TIMESPAN));
    r->call = grpc_channel_create_call(r->channel->channel, NULL, GRPC_PROPAGATE_DEFAULTS, r->rt->cq,
                                       grpc_slice_from_static_string(r->method->path), NULL, deadline, NULL);
}

/* The channel's metadata and the call's own. */
static void call_pairs(struct rpc_request *r, const struct rpc_call_options *opt, struct pairs *ret)
{
    const struct pairs *base = &r->channel->pairs;
    memcpy(ret->md, base->md, base->n * sizeof *base->md);
    ret->n = base->n;
    ret->problem = base->problem;
    if (opt && opt->principal)
        add_pair(ret, "x-principal", opt->principal);
    add_pairs(ret, opt ? opt->metadata : NULL);
    if (ret->problem) {
        sa_error *err = NULL;
        sa_fail(&err, SA_INVALID_REQUEST, "%s: %s", r->method->path + 1, ret->problem);
        fail_locally(r, err);
    }
}

static grpc_op metadata_op(const struct pairs *p, const struct rpc_call_options *opt)
{
    grpc_op op = {.op = GRPC_OP_SEND_INITIAL_METADATA};
    op.data.send_initial_metadata.metadata = (grpc_metadata *)(uintptr_t)p->md;
    op.data.send_initial_metadata.count = p->n;
    if (opt && opt->wait_for_ready)
        op.flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY | GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    return op;
}

static grpc_op message_op(struct rpc_request *r, const ProtobufCMessage *m)
{
    sa_error *err = NULL;
    r->out = wire_pack(m, &err);
    if (!r->out) {
        fail_locally(r, err);
        r->out = grpc_raw_byte_buffer_create(NULL, 0);
    }
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = r->out;
    return op;
}

static void receive_ops(struct rpc_request *r, grpc_op *initial, grpc_op *status)
{
    *initial = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA};
    initial->data.recv_initial_metadata.recv_initial_metadata = &r->initial;
    *status = (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT};
    status->data.recv_status_on_client.trailing_metadata = &r->trailing;
    status->data.recv_status_on_client.status = &r->status;
    status->data.recv_status_on_client.status_details = &r->status_message;
}

struct rpc_request *request_call(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt, bool owned,
                                 rpc_gen_done_fn *done, void *user)
{
    struct rpc_request *r = request_new(ch, method);
    r->done = done;
    r->user = user;
    r->owned = owned;
    make_call(r, opt && opt->deadline_ms ? opt->deadline_ms : DEADLINE_MS);
    struct pairs p;
    call_pairs(r, opt, &p);
    grpc_op ops[6] = {metadata_op(&p, opt), message_op(r, req), {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}};
    receive_ops(r, &ops[3], &ops[4]);
    ops[5] = (grpc_op){.op = GRPC_OP_RECV_MESSAGE};
    ops[5].data.recv_message.recv_message = &r->in;
    start(r, ops, 6, &r->finished);
    free_pairs(&p, ch->pairs.n);
    return r;
}

struct rpc_request *rpc_gen_call(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt,
                                 rpc_gen_done_fn *done, void *user)
{
    return request_call(ch, method, req, opt, false, done, user);
}

static void read_next(struct rpc_request *r)
{
    if (r->reading || r->read_ended || r->paused)
        return;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &r->in;
    r->reading = true;
    start(r, &op, 1, &r->read);
}

struct rpc_request *request_open(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt, bool owned,
                                 const struct rpc_gen_client *ev, void *user)
{
    struct rpc_request *r = request_new(ch, method);
    r->events = *ev;
    r->user = user;
    r->owned = owned;
    make_call(r, opt ? opt->deadline_ms : 0);
    struct pairs p;
    call_pairs(r, opt, &p);
    grpc_op receive[2];
    receive_ops(r, &receive[0], &receive[1]);
    start(r, receive, 2, &r->finished);

    grpc_op send[3] = {metadata_op(&p, opt)};
    size_t n = 1;
    if (req) {
        send[n++] = message_op(r, req);
        send[n++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
        r->close_send = r->sent_close = true;
    }
    r->writing = true;
    start(r, send, n, &r->written);
    free_pairs(&p, ch->pairs.n);
    read_next(r);
    return r;
}

struct rpc_request *rpc_unary(struct rpc_channel *ch, const struct rpc_method *method,
                              const ProtobufCMessage *req, const struct rpc_call_options *opt,
                              void (*done)(void *user, const void *res, const sa_error *err), void *user)
{
    return rpc_gen_call(ch, method, req, opt, done, user);
}

struct rpc_request *rpc_gen_open(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt,
                                 const struct rpc_gen_client *ev, void *user)
{
    return request_open(ch, method, req, opt, false, ev, user);
}

/* ---- sending ---- */

static void flush(struct rpc_request *r)
{
    if (r->writing || r->sent_close || r->has_status)
        return;
    grpc_op ops[2] = {{0}};
    size_t n = 0;
    grpc_byte_buffer *b = outbox_pop(&r->outbox);
    if (b) {
        r->out = b;
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = b;
    }
    if (r->close_send && !r->outbox.count) {
        ops[n++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        r->sent_close = true;
    }
    if (!n)
        return;
    r->writing = true;
    start(r, ops, n, &r->written);
}

bool request_is_over(const struct rpc_request *r)
{
    return r->has_status || r->write_failed;
}

bool rpc_gen_write(struct rpc_request *r, const ProtobufCMessage *msg)
{
    if (r->close_send || request_is_over(r) || r->error)
        return false;
    sa_error *err = NULL;
    grpc_byte_buffer *b = wire_pack(msg, &err);
    if (b && outbox_push(&r->outbox, b)) {
        flush(r);
        return outbox_room(&r->outbox);
    }
    if (b)
        sa_fail(&err, SA_SLOW_READER, "%s: the server is %d bytes behind", r->method->path + 1, OUTBOX_MAX);
    fail_locally(r, err);
    return false;
}

void rpc_close_send(struct rpc_request *r)
{
    r->close_send = true;
    flush(r);
}

void rpc_cancel(struct rpc_request *r)
{
    r->cancelled = true;
    grpc_call_cancel(r->call, NULL);
    if (!r->done)
        rpc_pause_response(r, false); /* on_end must not wait for a reader that has given up */
}

void rpc_abandon(struct rpc_request *r)
{
    if (!r || r->finishing)
        return;
    r->abandoned = true;
    grpc_call_cancel(r->call, NULL);
    if (!r->outstanding)
        finish(r); /* it had paused, and all but its end was over */
    else if (!r->done)
        rpc_pause_response(r, false); /* gRPC tells the end behind the messages only */
}

void rpc_pause_response(struct rpc_request *r, bool paused)
{
    r->paused = paused;
    read_next(r);
}

/* ---- events ---- */

/* Moves our own error or the status into *err; false when all went well. */
static bool failed(struct rpc_request *r, sa_error **err)
{
    if (r->error) {
        sa_pass(err, steal_pointer(&r->error));
        return true;
    }
    if (r->status == GRPC_STATUS_OK)
        return false;
    /* A call that reaches a server which is just going is reset, and gRPC calls that cancelled. */
    grpc_status_code code = r->status;
    if (code == GRPC_STATUS_CANCELLED && !r->cancelled && !status_has_details(&r->trailing))
        code = GRPC_STATUS_UNAVAILABLE;
    status_error(code, r->status_message, &r->trailing, r->method->path, err);
    return true;
}

static void finish_unary(struct rpc_request *r)
{
    cleanup_error sa_error *err = NULL;
    ProtobufCMessage *m = NULL;
    if (!failed(r, &err)) {
        if (r->in)
            m = wire_unpack(r->method->output, r->in, r->owned ? NULL : r->arena, &err);
        else
            sa_fail(&err, SA_INTERNAL, "%s: there is no response", r->method->path + 1);
    }
    r->done(r->user, m, err);
}

static void finish(struct rpc_request *r)
{
    r->finishing = true;
    unlink_request(r);
    if (!r->abandoned && r->done) {
        finish_unary(r);
    } else if (!r->abandoned && r->events.on_end) {
        cleanup_error sa_error *err = NULL;
        failed(r, &err);
        r->events.on_end(r->user, err);
    }
    request_free(r);
}

static void batch_over(struct rpc_request *r)
{
    if (!--r->outstanding && r->has_status && (r->done || r->read_ended || r->abandoned))
        finish(r);
}

/* A sender of the blocking form that waits for room: there will be none, and the end may wait behind messages
 * that it has not read. */
static void wake_sender(struct rpc_request *r)
{
    if (r->owned && !r->done && !r->abandoned && r->events.on_writable)
        r->events.on_writable(r->user);
}

static void on_finished(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    struct rpc_request *r = container_of(tag, struct rpc_request, finished);
    r->has_status = true;
    outbox_clear(&r->outbox);
    wake_sender(r);
    batch_over(r);
}

static void on_read(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    struct rpc_request *r = container_of(tag, struct rpc_request, read);
    r->reading = false;
    if (!r->in) {
        r->read_ended = true;
    } else if (!r->abandoned) {
        sa_error *err = NULL;
        ProtobufCMessage *m = wire_unpack(r->method->output, r->in, r->owned ? NULL : r->arena, &err);
        wire_free(&r->in);
        if (!m)
            fail_locally(r, err);
        else if (r->events.on_message)
            r->events.on_message(r->user, m);
        else if (r->owned)
            rpc_message_free(m);
        sa_arena_reset(r->arena);
    }
    wire_free(&r->in);
    if (!r->finishing)
        read_next(r);
    batch_over(r);
}

static void on_written(struct rpc_tag *tag, bool ok)
{
    struct rpc_request *r = container_of(tag, struct rpc_request, written);
    r->writing = false;
    wire_free(&r->out);
    if (ok)
        flush(r);
    else
        outbox_clear(&r->outbox);
    r->write_failed = !ok;
    if (!ok)
        wake_sender(r);
    if (ok && !r->abandoned && !r->has_status && outbox_writable(&r->outbox) && r->events.on_writable)
        r->events.on_writable(r->user);
    batch_over(r);
}
