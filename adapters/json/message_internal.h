/* Shared by the printer and the reader of messages. */
#ifndef ADAPTERS_JSON_MESSAGE_INTERNAL_H_
#define ADAPTERS_JSON_MESSAGE_INTERNAL_H_

#include <string.h>

#include "adapters/json/message.h"

static inline bool json_is_timestamp(const ProtobufCMessageDescriptor *d)
{
    return strcmp(d->name, "google.protobuf.Timestamp") == 0;
}

/* A map is a list of entries; descriptors of protobuf-c do not say so, but its entry type is named after the
 * field, with a key and a value. */
static inline bool json_is_map(const ProtobufCFieldDescriptor *f)
{
    if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE)
        return false;
    const ProtobufCMessageDescriptor *d = f->descriptor;
    size_t n = strlen(d->short_name);
    return n > 5 && strcmp(d->short_name + n - 5, "Entry") == 0 && d->n_fields == 2 &&
           strcmp(d->fields[0].name, "key") == 0 && strcmp(d->fields[1].name, "value") == 0;
}

static inline enum json_bytes json_bytes_form(const struct json_mapping *map,
                                              const ProtobufCMessageDescriptor *d,
                                              const ProtobufCFieldDescriptor *f)
{
    return map && map->bytes ? map->bytes(d, f) : JSON_BYTES_BASE64;
}

/* Does it look like bytes that are no JSON value? */
static inline bool json_is_base64_form(struct json v)
{
    return json_type(v) == JSON_OBJECT && json_count(v) == 1 &&
           json_type(json_member(v, "base64", 6)) == JSON_STRING;
}

/* Bytes that one value takes in its message or list. */
static inline size_t json_value_size(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    default:
        return 8;
    }
}

/* The next character of the lowerCamel form of a field name. *name moves on. */
static inline char json_camel(const char **name)
{
    const char *p = *name;
    bool upper = false;
    while (*p == '_') {
        upper = true;
        p++;
    }
    *name = *p ? p + 1 : p;
    return upper && *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
}

/* RFC 3339 in UTC with as many digits of the second as it takes (0, 3, 6 or 9); false: out of range. */
enum { JSON_TIME_TEXT = 32 };
bool json_time_print(char ret[static JSON_TIME_TEXT], int64_t seconds, int32_t nanos);
bool json_time_parse(const char *text, int64_t *ret_seconds, int32_t *ret_nanos);

#endif
