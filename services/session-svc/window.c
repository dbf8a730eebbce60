#include "services/session-svc/window.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        p[n++] = (uint8_t)(v | 0x80);
    p[n++] = (uint8_t)v;
    return n;
}

static struct packed_event *make(uint64_t seq, size_t n)
{
    uint8_t length[10];
    size_t prefix = put_varint(length, n);
    struct packed_event *p = sa_malloc(sizeof *p + prefix + n);
    *p = (struct packed_event){.refs = 1, .seq = seq, .prefix = prefix, .size = prefix + n};
    memcpy(p->data, length, prefix);
    return p;
}

struct packed_event *packed_event_new(const Event *e)
{
    struct packed_event *p = make(e->seq, event__get_packed_size(e));
    event__pack(e, p->data + p->prefix);
    if (e->kind_case == EVENT__KIND_TURN_ENDED)
        p->ended_turn = e->turn;
    return p;
}

struct packed_event *packed_event_of(uint64_t seq, const void *data, size_t n)
{
    struct packed_event *p = make(seq, n);
    memcpy(p->data + p->prefix, data, n);
    return p;
}

struct packed_event *packed_event_ref(struct packed_event *p)
{
    p->refs++;
    return p;
}

void packed_event_unref(struct packed_event *p)
{
    if (p && --p->refs == 0)
        free(p);
}

void packed_events_attach(ProtobufCMessage *m, unsigned field_number, struct packed_event *const *events,
                          size_t n, ProtobufCMessageUnknownField *fields)
{
    for (size_t i = 0; i < n; i++)
        fields[i] = (ProtobufCMessageUnknownField){.tag = field_number,
                                                   .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
                                                   .len = events[i]->size,
                                                   .data = events[i]->data};
    m->unknown_fields = fields;
    m->n_unknown_fields = (unsigned)n;
}

void window_push(struct window *w, struct packed_event *p)
{
    if (!w->ring)
        w->ring = sa_calloc(WINDOW_EVENTS, sizeof *w->ring);
    while (w->n && (w->n == WINDOW_EVENTS || w->bytes + p->size > WINDOW_BYTES)) {
        struct packed_event *old = w->ring[w->first];
        w->bytes -= old->size;
        packed_event_unref(old);
        w->first = (w->first + 1) % WINDOW_EVENTS;
        w->n--;
    }
    w->ring[(w->first + w->n++) % WINDOW_EVENTS] = p;
    w->bytes += p->size;
}

void window_clear(struct window *w)
{
    for (size_t i = 0; i < w->n; i++)
        packed_event_unref(w->ring[(w->first + i) % WINDOW_EVENTS]);
    free(w->ring);
    *w = (struct window){0};
}

size_t window_read(const struct window *w, uint64_t seq, struct packed_event **ret, size_t max,
                   size_t max_bytes)
{
    if (!w->n || seq + 1 < w->ring[w->first]->seq)
        return 0;
    size_t skip = seq + 1 - w->ring[w->first]->seq, n = 0, bytes = 0;
    for (; skip + n < w->n && n < max && bytes < max_bytes; n++) {
        ret[n] = w->ring[(w->first + skip + n) % WINDOW_EVENTS];
        bytes += ret[n]->size;
    }
    return n;
}
