#include "adapters/grpc/rpc.h"

void *rpc_unpack(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len, sa_error **err)
{
    if (rpc_validate(d, data, len, err) < 0)
        return NULL;
    ProtobufCMessage *m = protobuf_c_message_unpack(d, NULL, len, data);
    if (!m)
        sa_fail(err, SA_MALFORMED_MESSAGE, "message %s cannot be parsed", d->name);
    return m;
}

void rpc_message_free(void *message)
{
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}
