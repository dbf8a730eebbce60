/* What the two sides of the bus share: a message on the wire is the topic, a NUL, and a packed Envelope. */
#ifndef ADAPTERS_NNG_BUS_INTERNAL_H_
#define ADAPTERS_NNG_BUS_INTERNAL_H_

#include <nng/nng.h>

#include "adapters/nng/bus.h"
#include "adapters/os/mem.h"
#include "sandboxagent/broker/v1/envelope.pb-c.h"

typedef Sandboxagent__Broker__V1__Envelope Envelope;
typedef Sandboxagent__Broker__V1__Beat Beat;
typedef Sandboxagent__Broker__V1__StreamHead StreamHead;

enum {
    BUS_SCHEMA = 1,
    BUS_QUEUE = 8192,            /* messages; NNG's limit. Its default loses 97 % of a burst */
    BUS_BEAT_HEADS = 1000,       /* heads in one message; more are sent in several */
    BUS_MESSAGE_MAX = 256 << 10, /* bytes on the wire; larger ones are not ours */
};

#define BUS_BEAT_TOPIC "*" /* no stream id begins so */

int bus_fail_nng(sa_error **err, int rc, const char *what, const char *url);
/* NULL: out of memory or not ours. Frees the message. */
Envelope *bus_open(nng_msg *msg, char ret_topic[static BUS_TOPIC_MAX + 1]);
nng_msg *bus_seal(const char *topic, const Envelope *e);
/* Closes; returns at the latest after 300 ms, then the rest happens by itself. */
void bus_close(nng_socket socket);
/* 1 to BUS_TOPIC_MAX bytes that do not begin with the beats' topic. */
bool bus_valid_id(const char *id);

#endif
