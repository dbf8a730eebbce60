/* Any bytes from the broker: opened or refused. What is opened keeps the promises that the subscriber builds
 * on, and a fact that is sealed again opens to the same. */
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/bus_internal.h"

#define MUST(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            abort();                                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static nng_msg *message(const uint8_t *data, size_t size)
{
    nng_msg *msg;
    MUST(!nng_msg_alloc(&msg, size));
    if (size)
        memcpy(nng_msg_body(msg), data, size);
    return msg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char topic[BUS_TOPIC_MAX + 1], again[BUS_TOPIC_MAX + 1];
    Envelope *e = bus_open(message(data, size), topic);
    if (!e)
        return 0;
    MUST(e->schema == BUS_SCHEMA && e->epoch && e->stream_id.len <= BUS_TOPIC_MAX);
    MUST(e->beat || (e->stream_id.len && e->prev_seq < e->seq));
    for (size_t i = 0; e->beat && i < e->beat->n_heads; i++)
        MUST(e->beat->heads[i]->stream_id.len <= BUS_TOPIC_MAX);
    if (!e->beat && !e->base.n_unknown_fields) { /* protobuf-c does not write back every unknown field */
        Envelope *same = bus_open(bus_seal(topic, e), again);
        MUST(same && !strcmp(topic, again) && same->seq == e->seq && same->payload.len == e->payload.len);
        sandboxagent__broker__v1__envelope__free_unpacked(same, NULL);
    }
    sandboxagent__broker__v1__envelope__free_unpacked(e, NULL);
    return 0;
}
