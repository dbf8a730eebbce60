/* What the validator lets through, protobuf-c must be able to take: it unpacks, in memory that is bounded by
 * the input, and packs again to something that is valid too. The first byte picks the message type. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/rpc.h"
#include "google/protobuf/struct.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sandboxagent/test/v1/echo_service.rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_PER_BYTE = 1024 }; /* of memory for one of input: a list element of 2 bytes is a whole message */

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void *count_alloc(void *user, size_t n)
{
    size_t *total = user;
    *total += n;
    return malloc(n ? n : 1);
}

static void count_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static void check_message(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t size)
{
    if (rpc_validate(d, data, size, NULL) < 0)
        return;
    size_t total = 0;
    ProtobufCAllocator a = {count_alloc, count_free, &total};
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &a, size, data);
    check(m, "a valid message does not unpack");
    check(total <= size * BYTES_PER_BYTE + 65536, "a message takes too much memory");
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = malloc(n + 1);
    protobuf_c_message_pack(m, packed);
    check(!rpc_validate(d, packed, n, NULL), "a message packs to something that is not valid");
    free(packed);
    protobuf_c_message_free_unpacked(m, &a);
}

static void check_text(const uint8_t *data, size_t size)
{
    struct sa_arena *arena = sa_arena_new();
    EchoTree tree = ECHO_TREE__INIT;
    tree.name = rpc_utf8(arena, data, size);
    size_t n = echo_tree__get_packed_size(&tree);
    uint8_t *packed = malloc(n + 1);
    echo_tree__pack(&tree, packed);
    check(!rpc_validate(&echo_tree__descriptor, packed, n, NULL), "rpc_utf8 gives text that is not UTF-8");
    free(packed);
    sa_arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[] = {
        &echo_once_request__descriptor,
        &google__protobuf__value__descriptor,
        &google__protobuf__struct__descriptor,
        &grpc__reflection__v1__server_reflection_response__descriptor,
    };
    if (!size)
        return 0;
    check_message(types[data[0] % 4], data + 1, size - 1);
    check_text(data + 1, size - 1);
    return 0;
}
