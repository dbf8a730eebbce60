/* Recent committed events of a session, packed once, for all who follow it live. Plain memory, no thread. */
#ifndef SERVICES_SESSION_SVC_WINDOW_H_
#define SERVICES_SESSION_SVC_WINDOW_H_

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandboxagent/session/v1/event.rpc.h"

enum { WINDOW_EVENTS = 512, WINDOW_BYTES = 1 << 20 };

/* A packed event behind its length as a varint: the form it has as an element of a repeated field. */
struct packed_event {
    unsigned refs;
    uint64_t seq;
    uint64_t ended_turn; /* of a turn_ended event; else 0 */
    size_t prefix;       /* bytes of the length */
    size_t size;         /* bytes of prefix and event */
    uint8_t data[];
};

struct packed_event *packed_event_new(const Event *e);
/* From bytes as stored. */
struct packed_event *packed_event_of(uint64_t seq, const void *p, size_t n);
struct packed_event *packed_event_ref(struct packed_event *p);
void packed_event_unref(struct packed_event *p); /* NULL is fine */

/* Lets message m (whose repeated Event field has this number and is empty) carry packed events: they are
 * appended to its unknown fields, which are written out as they are. fields: room for n, lives as long as m.
 */
void packed_events_attach(ProtobufCMessage *m, unsigned field_number, struct packed_event *const *events,
                          size_t n, ProtobufCMessageUnknownField *fields);

struct window {
    struct packed_event **ring; /* WINDOW_EVENTS; NULL while it is empty */
    size_t first, n, bytes;
};

void window_push(struct window *w, struct packed_event *p); /* takes a reference; contiguous seqs */
void window_clear(struct window *w);
/* Events after `seq`, at most max and about max_bytes; 0 when the window does not begin there. Borrowed. */
size_t window_read(const struct window *w, uint64_t seq, struct packed_event **ret, size_t max,
                   size_t max_bytes);

#endif
