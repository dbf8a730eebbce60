/* Messages to JSON. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "adapters/json/message_internal.h"

#define AT(type, p) (*(const type *)(p))

static void put_key(struct json_writer *w, const char *name)
{
    char camel[128];
    size_t n = 0;
    while (*name && n < sizeof(camel) - 1)
        camel[n++] = json_camel(&name);
    camel[n] = 0;
    json_key(w, camel);
}

/* The value with CR and LF, which can only be blanks in it, as spaces. */
static void put_one_line(struct json_writer *w, struct json v)
{
    if (!memchr(v.p, '\n', v.n) && !memchr(v.p, '\r', v.n)) {
        json_put_raw(w, v);
        return;
    }
    cleanup_buf struct sa_buf line = {0};
    sa_buf_add(&line, v.p, v.n);
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] == '\n' || line.data[i] == '\r')
            line.data[i] = ' ';
    json_put_raw(w, (struct json){(char *)line.data, line.len});
}

static bool is_text(const ProtobufCBinaryData *b)
{
    cleanup_buf struct sa_buf quoted = {0};
    struct json_writer w = json_writer(&quoted);
    if (b->len && memchr(b->data, 0, b->len))
        return false;
    /* The writer replaces what is not UTF-8: reading it back tells whether it had to. */
    json_put_bytes(&w, b->data, b->len);
    cleanup_buf struct sa_buf back = {0};
    if (json_decode((struct json){(char *)quoted.data, quoted.len}, JSON_REPLACE, &back, NULL) < 0)
        return false;
    return back.len == b->len && (b->len == 0 || memcmp(back.data, b->data, b->len) == 0);
}

static void put_base64(struct json_writer *w, const ProtobufCBinaryData *b)
{
    cleanup_buf struct sa_buf text = {0};
    json_base64(&text, b->data, b->len);
    json_put_bytes(w, text.data, text.len);
}

static bool nested_deeply(struct json v)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < v.n; i++) {
        char c = v.p[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
        if (depth > JSON_NESTED_MAX)
            return true;
    }
    return false;
}

static bool is_plain_json(const ProtobufCBinaryData *b, struct json *ret)
{
    return json_check(b->data, b->len, ret, NULL) == 0 && !json_is_base64_form(*ret) && !nested_deeply(*ret);
}

static void put_data(struct json_writer *w, const ProtobufCBinaryData *b, enum json_bytes form)
{
    struct json v;
    if (form == JSON_BYTES_BASE64) {
        put_base64(w, b);
    } else if (form == JSON_BYTES_JSON && b->len == 0) {
        json_put_null(w);
    } else if (form == JSON_BYTES_JSON && is_plain_json(b, &v)) {
        put_one_line(w, v);
    } else if (form == JSON_BYTES_TEXT && is_text(b)) {
        json_put_bytes(w, b->data, b->len);
    } else {
        json_begin_object(w);
        json_key(w, "base64");
        put_base64(w, b);
        json_end_object(w);
    }
}

static void put_double(struct json_writer *w, double v)
{
    if (isnan(v))
        json_put_string(w, "NaN");
    else if (isinf(v))
        json_put_string(w, v > 0 ? "Infinity" : "-Infinity");
    else
        json_put_double(w, v);
}

static void put_enum(struct json_writer *w, const ProtobufCEnumDescriptor *d, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(d, value);
    if (known)
        json_put_string(w, known->name);
    else
        json_put_int(w, value);
}

static void put_timestamp(struct json_writer *w, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    int64_t seconds = AT(int64_t, (const char *)m + d->fields[0].offset);
    int32_t nanos = AT(int32_t, (const char *)m + d->fields[1].offset);
    char text[JSON_TIME_TEXT];
    if (json_time_print(text, seconds, nanos))
        json_put_string(w, text);
    else
        json_put_null(w);
}

static void put_value(struct json_writer *w, const ProtobufCFieldDescriptor *f, const void *p,
                      const ProtobufCMessageDescriptor *owner, const struct json_mapping *map)
{
    char text[32];
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        json_put_int(w, AT(int32_t, p));
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        json_put_uint(w, AT(uint32_t, p));
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        snprintf(text, sizeof(text), "%" PRId64, AT(int64_t, p));
        json_put_string(w, text);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        snprintf(text, sizeof(text), "%" PRIu64, AT(uint64_t, p));
        json_put_string(w, text);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        put_double(w, (double)AT(float, p));
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        put_double(w, AT(double, p));
        break;
    case PROTOBUF_C_TYPE_BOOL:
        json_put_bool(w, AT(protobuf_c_boolean, p));
        break;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(w, f->descriptor, AT(int, p));
        break;
    case PROTOBUF_C_TYPE_STRING:
        json_put_string(w, AT(char *, p) ? AT(char *, p) : "");
        break;
    case PROTOBUF_C_TYPE_BYTES:
        put_data(w, p, json_bytes_form(map, owner, f));
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        json_put_message(w, AT(ProtobufCMessage *, p), map);
        break;
    }
}

static void put_map_key(struct json_writer *w, const ProtobufCFieldDescriptor *f, const void *p)
{
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        json_key(w, AT(char *, p) ? AT(char *, p) : "");
        return;
    }
    cleanup_buf struct sa_buf text = {0};
    struct json_writer key = json_writer(&text);
    put_value(&key, f, p, NULL, NULL);
    bool quoted = text.len && text.data[0] == '"';
    if (quoted)
        text.data[text.len - 1] = 0;
    else
        sa_buf_add(&text, "", 1);
    json_key(w, (char *)text.data + quoted);
}

static void put_list(struct json_writer *w, const ProtobufCFieldDescriptor *f, const void *list, size_t n,
                     const ProtobufCMessageDescriptor *owner, const struct json_mapping *map)
{
    bool is_map = json_is_map(f);
    if (is_map)
        json_begin_object(w);
    else
        json_begin_array(w);
    for (size_t i = 0; i < n; i++) {
        const char *p = (const char *)list + i * json_value_size(f);
        if (!is_map) {
            put_value(w, f, p, owner, map);
            continue;
        }
        const char *entry = AT(char *, p);
        const ProtobufCFieldDescriptor *pair = ((const ProtobufCMessageDescriptor *)f->descriptor)->fields;
        put_map_key(w, &pair[0], entry + pair[0].offset);
        put_value(w, &pair[1], entry + pair[1].offset, f->descriptor, map);
    }
    if (is_map)
        json_end_object(w);
    else
        json_end_array(w);
}

/* Is there nothing in this field, which has no presence of its own? */
static bool is_default(const ProtobufCFieldDescriptor *f, const void *p)
{
    static const char zero[16];
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return !AT(char *, p) || !*AT(char *, p);
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)p)->len == 0;
    return memcmp(p, zero, json_value_size(f)) == 0;
}

static bool has_presence(const ProtobufCFieldDescriptor *f)
{
    return f->type == PROTOBUF_C_TYPE_MESSAGE || f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF ||
           f->label == PROTOBUF_C_LABEL_OPTIONAL;
}

static bool is_present(const ProtobufCFieldDescriptor *f, const char *m)
{
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return AT(uint32_t, m + f->quantifier_offset) == f->id;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING)
        return AT(void *, m + f->offset) != NULL;
    return f->label != PROTOBUF_C_LABEL_OPTIONAL || AT(protobuf_c_boolean, m + f->quantifier_offset);
}

static void put_field(struct json_writer *w, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                      const struct json_mapping *map)
{
    const char *base = (const char *)m;
    bool defaults = map && map->defaults;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = AT(size_t, base + f->quantifier_offset);
        if (n == 0 && !defaults)
            return;
        put_key(w, f->name);
        put_list(w, f, AT(void *, base + f->offset), n, m->descriptor, map);
        return;
    }
    if (has_presence(f) ? !is_present(f, base) : !defaults && is_default(f, base + f->offset))
        return;
    put_key(w, f->name);
    put_value(w, f, base + f->offset, m->descriptor, map);
}

void json_put_message(struct json_writer *w, const ProtobufCMessage *m, const struct json_mapping *map)
{
    if (json_is_timestamp(m->descriptor)) {
        put_timestamp(w, m);
        return;
    }
    json_begin_object(w);
    for (unsigned i = 0; i < m->descriptor->n_fields; i++)
        put_field(w, m, &m->descriptor->fields[i], map);
    json_end_object(w);
}
