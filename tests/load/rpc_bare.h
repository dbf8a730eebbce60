/* The least that can be written on the gRPC C core and protobuf-c: the yardstick of rpc_bench. */
#ifndef TESTS_LOAD_RPC_BARE_H_
#define TESTS_LOAD_RPC_BARE_H_

#include <grpc/grpc.h>

#include "sandboxagent/test/v1/echo_service.rpc.h"

/* Serves EchoOnce and EchoMany on one completion-queue thread: this one. Does not return. */
void bare_serve(const char *address);

grpc_byte_buffer *bare_pack(const ProtobufCMessage *m);
void *bare_unpack(const ProtobufCMessageDescriptor *d, grpc_byte_buffer *b);

#endif
