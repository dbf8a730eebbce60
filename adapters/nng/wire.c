/* Messages on the wire. */
#include <string.h>

#include "adapters/nng/bus_internal.h"

int bus_fail_nng(sa_error **err, int rc, const char *what, const char *url)
{
    enum sa_reason reason = rc == NNG_EADDRINUSE ? SA_ADDRESS_IN_USE
                            : rc == NNG_EADDRINVAL || rc == NNG_EINVAL || rc == NNG_ENOTSUP
                                ? SA_INVALID_CONFIG
                                : SA_UNAVAILABLE;
    return sa_fail(err, reason, "bus: %s %s: %s", what, url, nng_strerror(rc));
}

bool bus_valid_id(const char *id)
{
    size_t n = strlen(id);
    return n >= 1 && n <= BUS_TOPIC_MAX && id[0] != BUS_BEAT_TOPIC[0];
}

static bool has_nul(ProtobufCBinaryData b)
{
    return b.len > BUS_TOPIC_MAX || (b.len && memchr(b.data, 0, b.len));
}

Envelope *bus_open(nng_msg *msg, char ret_topic[static BUS_TOPIC_MAX + 1])
{
    const uint8_t *p = nng_msg_body(msg);
    size_t n = nng_msg_len(msg);
    const uint8_t *nul = n ? memchr(p, 0, n < BUS_TOPIC_MAX + 1 ? n : BUS_TOPIC_MAX + 1) : NULL;
    Envelope *e = NULL;
    if (nul) {
        memcpy(ret_topic, p, (size_t)(nul - p) + 1);
        size_t head = (size_t)(nul - p) + 1;
        e = sandboxagent__broker__v1__envelope__unpack(NULL, n - head, p + head);
    }
    nng_msg_free(msg);
    bool ours = e && e->schema == BUS_SCHEMA && e->epoch && !has_nul(e->stream_id) &&
                (e->beat || (e->stream_id.len && e->prev_seq < e->seq));
    for (size_t i = 0; ours && e->beat && i < e->beat->n_heads; i++)
        ours = !has_nul(e->beat->heads[i]->stream_id);
    if (e && !ours) {
        sandboxagent__broker__v1__envelope__free_unpacked(e, NULL);
        e = NULL;
    }
    return e;
}

nng_msg *bus_seal(const char *topic, const Envelope *e)
{
    size_t head = strlen(topic) + 1;
    nng_msg *msg;
    if (nng_msg_alloc(&msg, head + sandboxagent__broker__v1__envelope__get_packed_size(e)))
        return NULL;
    uint8_t *p = nng_msg_body(msg);
    memcpy(p, topic, head);
    sandboxagent__broker__v1__envelope__pack(e, p + head);
    return msg;
}
