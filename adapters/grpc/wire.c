#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/internal.h"

static grpc_slice pack(const ProtobufCMessage *m)
{
    grpc_slice s = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));
    protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(s));
    return s;
}

static void *arena_alloc(void *arena, size_t n)
{
    return sa_arena_alloc_raw(arena, n);
}

static void arena_free(void *arena, void *p)
{
    (void)arena, (void)p; /* with the arena */
}

static ProtobufCAllocator allocator(struct sa_arena *arena)
{
    return (ProtobufCAllocator){arena_alloc, arena_free, arena};
}

/* Replaces in `m`, which lives in the arena, all text that is not UTF-8. Our own messages: the depth is ours.
 */
static void mend(ProtobufCMessage *m, struct sa_arena *arena)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        char *at = (char *)m + f->offset;
        uint32_t *quantifier = (void *)((char *)m + f->quantifier_offset);
        size_t n = 1;
        if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && *quantifier != f->id)
            continue;
        void **value = (void **)(void *)at;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            memcpy(&n, quantifier, sizeof n);
            value = n ? *(void ***)(void *)at : NULL;
        }
        for (size_t k = 0; k < n; k++) {
            if (!value[k])
                continue;
            if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                mend(value[k], arena);
            else
                value[k] = rpc_utf8(arena, value[k], strlen(value[k]));
        }
    }
}

static int check(const ProtobufCMessage *m, grpc_slice s, sa_error **err)
{
    return rpc_validate(m->descriptor, GRPC_SLICE_START_PTR(s), GRPC_SLICE_LENGTH(s), err);
}

/* The slow path: a copy with its text mended. */
static grpc_slice pack_mended(const ProtobufCMessage *m, grpc_slice bad, sa_error **err)
{
    struct sa_arena *arena = sa_arena_new();
    ProtobufCAllocator a = allocator(arena);
    ProtobufCMessage *copy =
        protobuf_c_message_unpack(m->descriptor, &a, GRPC_SLICE_LENGTH(bad), GRPC_SLICE_START_PTR(bad));
    grpc_slice s = grpc_empty_slice();
    if (copy) {
        mend(copy, arena);
        s = pack(copy);
        check(copy, s, err);
    } else {
        sa_fail(err, SA_INTERNAL, "message %s cannot be sent", m->descriptor->name);
    }
    sa_arena_free(arena);
    return s;
}

grpc_byte_buffer *wire_pack(const ProtobufCMessage *m, sa_error **err)
{
    grpc_slice s = pack(m);
    /* What the peer would refuse never leaves: a receiver fails the whole call for one bad byte of text. */
    if (check(m, s, NULL) < 0) {
        cleanup_error sa_error *why = NULL;
        grpc_slice mended = pack_mended(m, s, &why);
        grpc_slice_unref(s);
        s = mended;
        if (why) {
            grpc_slice_unref(s);
            sa_fail(err, SA_INTERNAL, "cannot send: %s", why->message);
            return NULL;
        }
    }
    grpc_byte_buffer *b = grpc_raw_byte_buffer_create(&s, 1);
    grpc_slice_unref(s);
    return b;
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, grpc_slice s, struct sa_arena *arena,
                                sa_error **err)
{
    const uint8_t *p = GRPC_SLICE_START_PTR(s);
    size_t n = GRPC_SLICE_LENGTH(s);
    if (!arena)
        return rpc_unpack(d, p, n, err);
    if (rpc_validate(d, p, n, err) < 0)
        return NULL;
    ProtobufCAllocator a = allocator(arena);
    ProtobufCMessage *m = protobuf_c_message_unpack(d, &a, n, p);
    if (!m)
        sa_fail(err, SA_MALFORMED_MESSAGE, "message %s cannot be parsed", d->name);
    return m;
}

ProtobufCMessage *wire_unpack(const ProtobufCMessageDescriptor *d, grpc_byte_buffer *b,
                              struct sa_arena *arena, sa_error **err)
{
    grpc_byte_buffer_reader r;
    if (!grpc_byte_buffer_reader_init(&r, b)) {
        sa_fail(err, SA_MALFORMED_MESSAGE, "message %s cannot be read", d->name);
        return NULL;
    }
    ProtobufCMessage *m;
    grpc_slice *only;
    if (b->data.raw.slice_buffer.count == 1 && grpc_byte_buffer_reader_peek(&r, &only)) {
        m = unpack(d, *only, arena, err);
    } else {
        grpc_slice all = grpc_byte_buffer_reader_readall(&r);
        m = unpack(d, all, arena, err);
        grpc_slice_unref(all);
    }
    grpc_byte_buffer_reader_destroy(&r);
    return m;
}

void wire_free(grpc_byte_buffer **b)
{
    if (*b)
        grpc_byte_buffer_destroy(*b);
    *b = NULL;
}

/* ---- outbox ---- */

struct out_message {
    struct out_message *next;
    grpc_byte_buffer *buffer;
    size_t n;
};

void outbox_init(struct outbox *o)
{
    *o = (struct outbox){.tail = &o->head};
}

bool outbox_push(struct outbox *o, grpc_byte_buffer *b)
{
    struct out_message *m = sa_malloc(sizeof *m);
    *m = (struct out_message){.buffer = b, .n = grpc_byte_buffer_length(b)};
    /* A backlog of small messages costs memory too. */
    o->bytes += m->n + sizeof *m;
    o->count++;
    *o->tail = m;
    o->tail = &m->next;
    return o->bytes <= OUTBOX_MAX || o->head == m;
}

grpc_byte_buffer *outbox_pop(struct outbox *o)
{
    struct out_message *m = o->head;
    if (!m)
        return NULL;
    if (!(o->head = m->next))
        o->tail = &o->head;
    o->bytes -= m->n + sizeof *m;
    o->count--;
    grpc_byte_buffer *b = m->buffer;
    free(m);
    return b;
}

void outbox_clear(struct outbox *o)
{
    for (grpc_byte_buffer *b; (b = outbox_pop(o));)
        grpc_byte_buffer_destroy(b);
    o->full = false;
}

bool outbox_room(struct outbox *o)
{
    if (o->bytes < OUTBOX_HIGH)
        return true;
    o->full = true;
    return false;
}

bool outbox_writable(struct outbox *o)
{
    if (!o->full || o->bytes >= OUTBOX_LOW)
        return false;
    o->full = false;
    return true;
}
