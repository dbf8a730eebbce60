/* JSON to messages. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "adapters/json/message_internal.h"

#define AT(type, p) (*(type *)(p))

/* Where the reader is, for error messages: a chain of stack frames. */
struct place {
    const struct place *parent;
    const char *name; /* of the field; NULL: a list's element */
    size_t index;
};

struct reader {
    struct sa_arena *arena;
    const struct json_mapping *map;
    sa_error **err;
};

static void print_place(struct sa_buf *out, const struct place *at)
{
    if (!at)
        return;
    print_place(out, at->parent);
    if (!at->name) {
        sa_buf_addf(out, "[%zu]", at->index);
        return;
    }
    if (out->len)
        sa_buf_add(out, ".", 1);
    for (const char *p = at->name; *p;) {
        char c = json_camel(&p);
        sa_buf_add(out, &c, 1);
    }
}

static int fail(struct reader *r, const struct place *at, const char *what)
{
    cleanup_buf struct sa_buf name = {0};
    print_place(&name, at);
    if (name.len == 0)
        return sa_fail(r->err, SA_INVALID_REQUEST, "%s", what);
    return sa_fail(r->err, SA_INVALID_REQUEST, "field %s: %s", sa_buf_string(&name), what);
}

/* ---- scalars: a number, or the text of one in a string ---- */

/* The text of a scalar without quotes, in the arena; NULL: not a scalar, or not decodable. */
static const char *scalar_text(struct reader *r, struct json v, size_t *ret_len)
{
    cleanup_buf struct sa_buf text = {0};
    switch (json_type(v)) {
    case JSON_STRING:
        if (json_decode(v, JSON_REFUSE, &text, NULL) < 0)
            return NULL;
        break;
    case JSON_NUMBER:
    case JSON_BOOL:
        sa_buf_add(&text, v.p, v.n);
        break;
    default:
        return NULL;
    }
    *ret_len = text.len;
    sa_buf_add(&text, "", 1);
    return sa_arena_memdup(r->arena, text.data, text.len);
}

static bool parse_signed(const char *text, int64_t min, int64_t max, int64_t *ret)
{
    char *end;
    const char *digits = text + (*text == '-');
    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || v < min || v > max)
        return false;
    *ret = v;
    return true;
}

static bool parse_unsigned(const char *text, uint64_t max, uint64_t *ret)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || v > max)
        return false;
    *ret = v;
    return true;
}

/* 1.0 and 1e3 are integers, too: the number is read by the JSON adapter where it is one. */
static bool read_signed(struct json v, const char *text, int64_t min, int64_t max, int64_t *ret)
{
    int64_t n;
    if (json_type(v) == JSON_NUMBER)
        return json_int(v, &n) && n >= min && n <= max && (*ret = n, true);
    return parse_signed(text, min, max, ret);
}

static bool read_unsigned(struct json v, const char *text, uint64_t max, uint64_t *ret)
{
    uint64_t n;
    if (json_type(v) == JSON_NUMBER)
        return json_uint(v, &n) && n <= max && (*ret = n, true);
    return parse_unsigned(text, max, ret);
}

static bool read_double(const char *text, double *ret)
{
    char *end;
    if (strcmp(text, "NaN") == 0 || strcmp(text, "Infinity") == 0 || strcmp(text, "-Infinity") == 0) {
        *ret = strtod(text, NULL);
        return true;
    }
    if ((*text < '0' || *text > '9') && *text != '-')
        return false;
    double v = strtod(text, &end);
    if (*end || !isfinite(v) || strpbrk(text, "xX"))
        return false;
    *ret = v;
    return true;
}

static int read_number(struct reader *r, const ProtobufCFieldDescriptor *f, struct json v, const char *text,
                       void *to, const struct place *at)
{
    int64_t i;
    uint64_t u;
    double d;
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!read_signed(v, text, INT32_MIN, INT32_MAX, &i))
            return fail(r, at, "wants an integer of 32 bits");
        AT(int32_t, to) = (int32_t)i;
        return 0;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!read_unsigned(v, text, UINT32_MAX, &u))
            return fail(r, at, "wants an unsigned integer of 32 bits");
        AT(uint32_t, to) = (uint32_t)u;
        return 0;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        if (!read_signed(v, text, INT64_MIN, INT64_MAX, &i))
            return fail(r, at, "wants an integer of 64 bits");
        AT(int64_t, to) = i;
        return 0;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        if (!read_unsigned(v, text, UINT64_MAX, &u))
            return fail(r, at, "wants an unsigned integer of 64 bits");
        AT(uint64_t, to) = u;
        return 0;
    default:
        if (!read_double(text, &d))
            return fail(r, at, "wants a number");
        if (f->type == PROTOBUF_C_TYPE_FLOAT)
            AT(float, to) = (float)d;
        else
            AT(double, to) = d;
        return 0;
    }
}

static int read_enum(struct reader *r, const ProtobufCFieldDescriptor *f, struct json v, const char *text,
                     void *to, const struct place *at)
{
    const ProtobufCEnumDescriptor *d = f->descriptor;
    int64_t n;
    if (json_type(v) == JSON_NUMBER && json_int(v, &n) && n >= INT32_MIN && n <= INT32_MAX) {
        AT(int, to) = (int)n;
        return 0;
    }
    for (unsigned i = 0; i < d->n_values; i++) {
        if (strcmp(d->values[i].name, text) == 0) {
            AT(int, to) = d->values[i].value;
            return 0;
        }
    }
    return fail(r, at, "is not a value of its enumeration");
}

/* ---- bytes ---- */

static int set_base64(struct reader *r, ProtobufCBinaryData *to, struct json v, const struct place *at)
{
    size_t n;
    const char *text = json_type(v) == JSON_STRING ? scalar_text(r, v, &n) : NULL;
    cleanup_buf struct sa_buf data = {0};
    if (!text || json_unbase64(&data, text, n) < 0)
        return fail(r, at, "wants base64");
    to->len = data.len;
    to->data = sa_arena_memdup(r->arena, data.data, data.len);
    return 0;
}

static int read_bytes(struct reader *r, struct json v, enum json_bytes form, ProtobufCBinaryData *to,
                      const struct place *at)
{
    if (form == JSON_BYTES_JSON && !json_is_base64_form(v)) {
        to->len = v.n;
        to->data = sa_arena_memdup(r->arena, v.p, v.n);
        return 0;
    }
    if (form == JSON_BYTES_BASE64)
        return set_base64(r, to, v, at);
    if (form == JSON_BYTES_JSON || (json_type(v) == JSON_OBJECT && json_count(v) == 1))
        return set_base64(r, to, json_get(v, "base64"), at);
    const char *text = json_type(v) == JSON_STRING ? scalar_text(r, v, &to->len) : NULL;
    if (!text)
        return fail(r, at, "wants a string, or {\"base64\": \"...\"}");
    to->data = (uint8_t *)text;
    return 0;
}

/* ---- values, lists, messages ---- */

static ProtobufCMessage *read_message(struct reader *r, struct json v, const ProtobufCMessageDescriptor *d,
                                      const struct place *at);

static int read_scalar(struct reader *r, const ProtobufCFieldDescriptor *f, struct json v, void *to,
                       const struct place *at)
{
    size_t n;
    const char *text = scalar_text(r, v, &n);
    if (!text)
        return fail(r, at, "wants a plain value; a string must be Unicode without NUL");
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (json_type(v) != JSON_STRING)
            return fail(r, at, "wants a string");
        AT(char *, to) = (char *)text;
        return 0;
    case PROTOBUF_C_TYPE_BOOL:
        if (strcmp(text, "true") && strcmp(text, "false"))
            return fail(r, at, "wants true or false");
        AT(protobuf_c_boolean, to) = *text == 't';
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return read_enum(r, f, v, text, to, at);
    default:
        return read_number(r, f, v, text, to, at);
    }
}

static int read_value(struct reader *r, const ProtobufCMessageDescriptor *owner,
                      const ProtobufCFieldDescriptor *f, struct json v, void *to, const struct place *at)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *m = read_message(r, v, f->descriptor, at);
        if (!m)
            return -1;
        AT(ProtobufCMessage *, to) = m;
        return 0;
    }
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return read_bytes(r, v, json_bytes_form(r->map, owner, f), to, at);
    return read_scalar(r, f, v, to, at);
}

static ProtobufCMessage *new_message(struct reader *r, const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = sa_arena_alloc(r->arena, d->sizeof_message);
    protobuf_c_message_init(d, m);
    return m;
}

/* A member of a map: its key is text. */
static int read_entry(struct reader *r, const ProtobufCFieldDescriptor *f, struct json key, struct json v,
                      void *to, const struct place *at)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;
    ProtobufCMessage *entry = new_message(r, d);
    if (read_scalar(r, &d->fields[0], key, (char *)entry + d->fields[0].offset, at) < 0 ||
        read_value(r, d, &d->fields[1], v, (char *)entry + d->fields[1].offset, at) < 0)
        return -1;
    AT(ProtobufCMessage *, to) = entry;
    return 0;
}

static int read_list(struct reader *r, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct json v,
                     const struct place *at)
{
    bool is_map = json_is_map(f);
    if (json_type(v) != (is_map ? JSON_OBJECT : JSON_ARRAY))
        return fail(r, at, is_map ? "wants an object" : "wants an array");
    size_t n = json_count(v), i = 0;
    if (n > JSON_ELEMENTS_MAX)
        return fail(r, at, "has too many elements");
    char *list = sa_arena_alloc(r->arena, (n + 1) * json_value_size(f));
    struct json key, element;
    for (struct json_iter it = json_iter(v); json_next(&it, &key, &element); i++) {
        struct place here = {at, NULL, i};
        void *to = list + i * json_value_size(f);
        if (json_type(element) == JSON_NULL)
            return fail(r, &here, "must not be null");
        if ((is_map ? read_entry(r, f, key, element, to, &here)
                    : read_value(r, m->descriptor, f, element, to, &here)) < 0)
            return -1;
    }
    AT(void *, (char *)m + f->offset) = list;
    AT(size_t, (char *)m + f->quantifier_offset) = n;
    return 0;
}

static int mark_present(struct reader *r, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                        const struct place *at)
{
    void *quantifier = (char *)m + f->quantifier_offset;
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        if (AT(uint32_t, quantifier) && AT(uint32_t, quantifier) != f->id)
            return fail(r, at, "only one of these fields may be set");
        AT(uint32_t, quantifier) = f->id;
    } else if (f->label == PROTOBUF_C_LABEL_OPTIONAL && f->type != PROTOBUF_C_TYPE_MESSAGE &&
               f->type != PROTOBUF_C_TYPE_STRING) {
        AT(protobuf_c_boolean, quantifier) = 1;
    }
    return 0;
}

static int read_field(struct reader *r, ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, struct json v,
                      const struct place *at)
{
    if (json_type(v) == JSON_NULL)
        return 0;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return read_list(r, m, f, v, at);
    if (mark_present(r, m, f, at) < 0)
        return -1;
    return read_value(r, m->descriptor, f, v, (char *)m + f->offset, at);
}

static bool is_name_of(const char *text, const char *field)
{
    if (strcmp(text, field) == 0)
        return true;
    while (*text && *text == json_camel(&field))
        text++;
    return !*text && !*field;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *d, const char *name)
{
    for (unsigned i = 0; i < d->n_fields; i++)
        if (is_name_of(name, d->fields[i].name))
            return &d->fields[i];
    return NULL;
}

static int read_timestamp(struct reader *r, struct json v, ProtobufCMessage *m, const struct place *at)
{
    size_t n;
    const char *text = json_type(v) == JSON_STRING ? scalar_text(r, v, &n) : NULL;
    const ProtobufCFieldDescriptor *f = m->descriptor->fields;
    int64_t seconds;
    int32_t nanos;
    if (!text || !json_time_parse(text, &seconds, &nanos))
        return fail(r, at, "wants a time as RFC 3339 has it");
    AT(int64_t, (char *)m + f[0].offset) = seconds;
    AT(int32_t, (char *)m + f[1].offset) = nanos;
    return 0;
}

/* Every member of the object, each field at most once. */
static int read_members(struct reader *r, struct json v, ProtobufCMessage *m, const struct place *at)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    bool *seen = sa_arena_alloc(r->arena, d->n_fields + 1);
    struct json key, value;
    for (struct json_iter it = json_iter(v); json_next(&it, &key, &value);) {
        size_t n;
        const char *name = scalar_text(r, key, &n);
        const ProtobufCFieldDescriptor *f = name ? find_field(d, name) : NULL;
        struct place unknown = {at, name && n < 64 ? name : "?", 0};
        if (!f)
            return fail(r, &unknown, "is not known");
        struct place here = {at, f->name, 0};
        if (seen[f - d->fields])
            return fail(r, &here, "is there twice");
        seen[f - d->fields] = true;
        if (read_field(r, m, f, value, &here) < 0)
            return -1;
    }
    return 0;
}

static ProtobufCMessage *read_message(struct reader *r, struct json v, const ProtobufCMessageDescriptor *d,
                                      const struct place *at)
{
    ProtobufCMessage *m = new_message(r, d);
    if (json_is_timestamp(d))
        return read_timestamp(r, v, m, at) < 0 ? NULL : m;
    if (json_type(v) != JSON_OBJECT) {
        fail(r, at, "wants an object");
        return NULL;
    }
    return read_members(r, v, m, at) < 0 ? NULL : m;
}

ProtobufCMessage *json_read_message(struct sa_arena *a, struct json v, const ProtobufCMessageDescriptor *d,
                                    const struct json_mapping *map, sa_error **err)
{
    struct reader r = {a, map, err};
    return read_message(&r, v, d, NULL);
}

int json_set_field(struct sa_arena *a, ProtobufCMessage *m, const char *name, const char *text,
                   const struct json_mapping *map, sa_error **err)
{
    struct reader r = {a, map, err};
    const ProtobufCFieldDescriptor *f = find_field(m->descriptor, name);
    struct place here = {NULL, name, 0};
    if (!f || f->label == PROTOBUF_C_LABEL_REPEATED || f->type == PROTOBUF_C_TYPE_MESSAGE)
        return fail(&r, &here, "is not known");
    cleanup_buf struct sa_buf quoted = {0};
    struct json_writer w = json_writer(&quoted);
    json_put_string(&w, text);
    return read_field(&r, m, f, (struct json){(char *)quoted.data, quoted.len}, &here);
}
