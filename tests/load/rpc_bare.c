#include "tests/load/rpc_bare.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

enum { ACCEPTS = 8 };

struct call {
    bool many;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *in, *out;
    int cancelled;
    enum { ACCEPTED, SENDING, ENDING } state;
    uint64_t seq, count;
    EchoManyRequest *req;
};

static grpc_server *server;
static grpc_completion_queue *cq;
static void *methods[2];

grpc_byte_buffer *bare_pack(const ProtobufCMessage *m)
{
    grpc_slice s = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));
    protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
    grpc_byte_buffer *b = grpc_raw_byte_buffer_create(&s, 1);
    grpc_slice_unref(s);
    return b;
}

void *bare_unpack(const ProtobufCMessageDescriptor *d, grpc_byte_buffer *b)
{
    grpc_byte_buffer_reader r;
    grpc_byte_buffer_reader_init(&r, b);
    grpc_slice s = grpc_byte_buffer_reader_readall(&r);
    void *m = protobuf_c_message_unpack(d, NULL, GRPC_SLICE_LENGTH(s), GRPC_SLICE_START_PTR(s));
    grpc_slice_unref(s);
    grpc_byte_buffer_reader_destroy(&r);
    return m;
}

static void accept_one(bool many)
{
    struct call *c = sa_calloc(1, sizeof *c);
    c->many = many;
    grpc_metadata_array_init(&c->metadata);
    grpc_server_request_registered_call(server, methods[many], &c->call, &c->deadline, &c->metadata, &c->in,
                                        cq, cq, c);
}

static grpc_op close_op(struct call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    op.data.recv_close_on_server.cancelled = &c->cancelled;
    return op;
}

static grpc_op message_op(struct call *c, const ProtobufCMessage *m)
{
    c->out = bare_pack(m);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};
    op.data.send_message.send_message = c->out;
    return op;
}

static void answer_once(struct call *c)
{
    EchoOnceRequest *req = bare_unpack(&echo_once_request__descriptor, c->in);
    EchoOnceResponse res = ECHO_ONCE_RESPONSE__INIT;
    res.text = req->text;
    res.payload = req->payload;
    grpc_op ops[] = {close_op(c),
                     {.op = GRPC_OP_SEND_INITIAL_METADATA},
                     message_op(c, &res.base),
                     {.op = GRPC_OP_SEND_STATUS_FROM_SERVER}};
    c->state = ENDING;
    grpc_call_start_batch(c->call, ops, 4, c, NULL);
    rpc_message_free(req);
}

static void send_next(struct call *c)
{
    if (c->out)
        grpc_byte_buffer_destroy(c->out);
    c->out = NULL;
    if (c->seq == c->count) {
        grpc_op ops[] = {{.op = GRPC_OP_SEND_STATUS_FROM_SERVER}, close_op(c)};
        c->state = ENDING;
        grpc_call_start_batch(c->call, ops, 2, c, NULL);
        return;
    }
    EchoManyResponse res = ECHO_MANY_RESPONSE__INIT;
    res.seq = ++c->seq;
    res.payload = c->req->payload;
    grpc_op ops[] = {message_op(c, &res.base), {.op = GRPC_OP_SEND_INITIAL_METADATA}};
    grpc_call_start_batch(c->call, ops, c->seq == 1 ? 2 : 1, c, NULL);
}

static void on_event(struct call *c, bool ok)
{
    switch (c->state) {
    case ACCEPTED:
        accept_one(c->many);
        if (!c->many) {
            answer_once(c);
            return;
        }
        c->req = bare_unpack(&echo_many_request__descriptor, c->in);
        c->count = c->req->count;
        c->state = SENDING;
        send_next(c);
        return;
    case SENDING:
        if (!ok)
            c->count = c->seq; /* the client is gone */
        send_next(c);
        return;
    case ENDING:
        if (c->out)
            grpc_byte_buffer_destroy(c->out);
        grpc_byte_buffer_destroy(c->in);
        grpc_metadata_array_destroy(&c->metadata);
        rpc_message_free(c->req);
        grpc_call_unref(c->call);
        free(c);
        return;
    }
}

void bare_serve(const char *address)
{
    grpc_init();
    server = grpc_server_create(NULL, NULL);
    cq = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server, cq, NULL);
    for (int i = 0; i < 2; i++)
        methods[i] = grpc_server_register_method(server, echo_service.methods[i].path, NULL,
                                                 GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    grpc_server_credentials *creds = grpc_insecure_server_credentials_create();
    grpc_server_add_http2_port(server, address, creds);
    grpc_server_start(server);
    for (int i = 0; i < ACCEPTS; i++) {
        accept_one(false);
        accept_one(true);
    }
    for (;;) {
        grpc_event e = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        on_event(e.tag, e.success);
    }
}
