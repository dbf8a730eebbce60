/* What generated code (X.rpc.c) calls: the functions of rpc.h with the message types rubbed off. Nobody else
 * includes this. */
#ifndef ADAPTERS_GRPC_GENERATED_H_
#define ADAPTERS_GRPC_GENERATED_H_

#include "adapters/grpc/rpc.h"

typedef void rpc_gen_message_fn(void *user, struct rpc_call *call, const void *msg);
typedef void rpc_gen_response_fn(void *user, const void *res);
typedef void rpc_gen_done_fn(void *user, const void *res, const sa_error *err);

struct rpc_gen_events {
    rpc_gen_message_fn *on_message;
    void (*on_writable)(void *user, struct rpc_call *call);
    void (*on_end)(void *user, struct rpc_call *call);
    void (*on_cancel)(void *user, struct rpc_call *call);
};

struct rpc_gen_client {
    rpc_gen_response_fn *on_message;
    void (*on_writable)(void *user);
    void (*on_end)(void *user, const sa_error *err);
};

void rpc_gen_reply(struct rpc_call *call, const ProtobufCMessage *res);
bool rpc_gen_send(struct rpc_call *call, const ProtobufCMessage *msg);
void rpc_gen_on(struct rpc_call *call, const struct rpc_call_events *ev, void *user);
void rpc_gen_accept(struct rpc_call *call, const struct rpc_gen_events *ev, void *user);

struct rpc_request *rpc_gen_call(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt,
                                 rpc_gen_done_fn *done, void *user);
/* req: NULL when the client streams. */
struct rpc_request *rpc_gen_open(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt,
                                 const struct rpc_gen_client *ev, void *user);
bool rpc_gen_write(struct rpc_request *r, const ProtobufCMessage *msg);

ProtobufCMessage *rpc_gen_wait(struct rpc_channel *ch, const struct rpc_method *method,
                               const ProtobufCMessage *req, const struct rpc_call_options *opt,
                               sa_error **err);
struct rpc_stream *rpc_gen_begin(struct rpc_channel *ch, const struct rpc_method *method,
                                 const ProtobufCMessage *req, const struct rpc_call_options *opt);
int rpc_gen_put(struct rpc_stream *s, const ProtobufCMessage *msg, sa_error **err);
int rpc_gen_next(struct rpc_stream *s, ProtobufCMessage **ret_message, sa_error **err);

#endif
