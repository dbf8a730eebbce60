/* The check in front of protobuf-c. It walks the wire bytes with the descriptor, one loop and a fixed stack,
 * and lets through only what protobuf_c_message_unpack can take: that one recurses as deep as its input says,
 * cuts strings at NUL, takes any bytes for text, spends 32 bytes on each unknown field of 2, and copies a
 * repeated list again whenever the message that holds it comes twice. */
#include <string.h>

#include "adapters/grpc/rpc.h"

enum { FIELDS_MAX = 512 }; /* of a message type; the plug-in refuses more */

struct level {
    const ProtobufCMessageDescriptor *type;
    const uint8_t *end;
    uint8_t seen[FIELDS_MAX / 8]; /* single message fields that occurred */
};

struct cursor {
    const uint8_t *at;
    size_t elements;
    int depth;
    struct level level[RPC_DEPTH_MAX];
    sa_error **err;
};

static int malformed(struct cursor *c, const ProtobufCFieldDescriptor *f, const char *what)
{
    const struct level *l = &c->level[c->depth];
    if (f)
        return sa_fail(c->err, SA_MALFORMED_MESSAGE, "%s.%s %s", l->type->name, f->name, what);
    return sa_fail(c->err, SA_MALFORMED_MESSAGE, "message %s %s", l->type->name, what);
}

/* 0: cut short or over `max` bytes. */
static size_t varint(const uint8_t *p, const uint8_t *end, size_t max, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < max && p + i < end; i++) {
        v |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (!(p[i] & 0x80)) {
            *ret = v;
            return i + 1;
        }
    }
    return 0;
}

/* Bytes of the UTF-8 sequence at p, 0 when it is none (RFC 3629: no surrogates, nothing overlong) or NUL. */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    uint8_t c = p[0];
    if (c < 0x80)
        return c ? 1 : 0;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < len)
        return 0;
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Bytes from p that are text without NUL. */
static size_t utf8_prefix(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        while (n - i >= sizeof w) {
            memcpy(&w, p + i, sizeof w);
            if ((w | (w - 0x0101010101010101u)) & 0x8080808080808080u)
                break; /* not plain ASCII, or perhaps a NUL */
            i += sizeof w;
        }
        if (i == n)
            break;
        size_t len = utf8_sequence(p + i, n - i);
        if (!len)
            break;
        i += len;
    }
    return i;
}

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LENGTH = 2, WIRE_32 = 5 };

static enum wire wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LENGTH;
    default:
        return WIRE_VARINT;
    }
}

static int check_packed(struct cursor *c, const ProtobufCFieldDescriptor *f, const uint8_t *p, size_t n)
{
    enum wire wire = wire_of(f->type);
    if (wire != WIRE_VARINT) {
        size_t size = wire == WIRE_64 ? 8 : 4;
        if (n % size)
            return malformed(c, f, "is cut short");
        c->elements += n / size;
    } else {
        uint64_t ignored;
        for (const uint8_t *end = p + n; p < end; c->elements++) {
            size_t used = varint(p, end, 10, &ignored);
            if (!used)
                return malformed(c, f, "has a bad number");
            p += used;
        }
    }
    return c->elements > RPC_ELEMENTS_MAX ? malformed(c, f, "has too many elements") : 0;
}

static int enter(struct cursor *c, const ProtobufCFieldDescriptor *f, size_t n)
{
    struct level *l = &c->level[c->depth];
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        unsigned i = (unsigned)(f - l->type->fields);
        if (l->seen[i / 8] & 1u << i % 8)
            return malformed(c, f, "occurs twice");
        l->seen[i / 8] |= (uint8_t)(1u << i % 8);
    }
    if (c->depth + 1 == RPC_DEPTH_MAX)
        return malformed(c, f, "nests too deep (limit 32)");
    const ProtobufCMessageDescriptor *type = f->descriptor;
    if (type->n_fields > FIELDS_MAX)
        return malformed(c, f, "has a type with too many fields");
    l = &c->level[++c->depth];
    l->type = type;
    l->end = c->at + n;
    memset(l->seen, 0, (type->n_fields + 7) / 8);
    return 0;
}

/* The n bytes at c->at belong to f; moves on past them, or into them when they are a message. */
static int check_length(struct cursor *c, const ProtobufCFieldDescriptor *f, size_t n)
{
    if (f && f->type == PROTOBUF_C_TYPE_MESSAGE)
        return enter(c, f, n);
    if (f && f->type == PROTOBUF_C_TYPE_STRING) {
        if (utf8_prefix(c->at, n) != n)
            return malformed(c, f, "is not UTF-8 text, or has a NUL");
    } else if (f && f->type != PROTOBUF_C_TYPE_BYTES && check_packed(c, f, c->at, n) < 0) {
        return -1;
    }
    c->at += n;
    return 0;
}

static int check_field(struct cursor *c)
{
    const struct level *l = &c->level[c->depth];
    uint64_t tag, v;
    size_t used = varint(c->at, l->end, 5, &tag);
    if (!used || tag > UINT32_MAX || tag >> 3 == 0)
        return malformed(c, NULL, "has a bad field number");
    c->at += used;
    if (++c->elements > RPC_ELEMENTS_MAX)
        return malformed(c, NULL, "has too many elements (limit 100000)");

    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field(l->type, (unsigned)(tag >> 3));
    enum wire wire = (enum wire)(tag & 7);
    bool packed = f && wire == WIRE_LENGTH && f->label == PROTOBUF_C_LABEL_REPEATED;
    if (f && wire != wire_of(f->type) && !packed)
        return malformed(c, f, "has the wrong wire type");

    size_t left = (size_t)(l->end - c->at);
    switch (wire) {
    case WIRE_VARINT:
        used = varint(c->at, l->end, 10, &v);
        if (!used)
            return malformed(c, f, "has a bad number");
        c->at += used;
        return 0;
    case WIRE_64:
    case WIRE_32:
        used = wire == WIRE_64 ? 8 : 4;
        if (left < used)
            return malformed(c, f, "is cut short");
        c->at += used;
        return 0;
    case WIRE_LENGTH:
        used = varint(c->at, l->end, 5, &v);
        if (!used || v > left - used)
            return malformed(c, f, "is cut short");
        c->at += used;
        return check_length(c, f, (size_t)v);
    default:
        return malformed(c, f, "has an unknown wire type");
    }
}

int rpc_validate(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len, sa_error **err)
{
    struct cursor c;
    c.at = data;
    c.elements = 0;
    c.depth = 0;
    c.err = err;
    c.level[0].type = d;
    c.level[0].end = data + len;
    if (d->n_fields > FIELDS_MAX)
        return malformed(&c, NULL, "has a type with too many fields");
    memset(c.level[0].seen, 0, (d->n_fields + 7) / 8);
    for (;;) {
        while (c.at == c.level[c.depth].end)
            if (c.depth-- == 0)
                return 0;
        if (check_field(&c) < 0)
            return -1;
    }
}

char *rpc_utf8(struct sa_arena *a, const void *p, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    const uint8_t *in = p;
    size_t good = n ? utf8_prefix(in, n) : 0, bad = 0;
    for (size_t i = good; i < n;) {
        bad++;
        i++;
        i += i < n ? utf8_prefix(in + i, n - i) : 0;
    }
    char *out = sa_arena_alloc(a, n + bad * 2 + 1), *to = out;
    for (size_t i = 0; i < n;) {
        good = utf8_prefix(in + i, n - i);
        memcpy(to, in + i, good);
        to += good;
        i += good;
        if (i < n) {
            memcpy(to, replacement, 3);
            to += 3;
            i++;
        }
    }
    return out;
}
