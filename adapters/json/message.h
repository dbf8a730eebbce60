/* Protobuf messages as JSON and back, by descriptor: the JSON mapping of proto3 (names in lowerCamel, 64-bit
 * integers as strings, enums by name, google.protobuf.Timestamp as RFC 3339, maps as objects). Where it goes
 * beyond that mapping: a `bytes` field may be shown as what it holds (enum json_bytes).
 *
 * Plain functions over memory: any thread. */
#ifndef ADAPTERS_JSON_MESSAGE_H_
#define ADAPTERS_JSON_MESSAGE_H_

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "adapters/json/json.h"
#include "adapters/os/error.h"
#include "adapters/os/mem.h"

enum { JSON_ELEMENTS_MAX = 10000 }; /* of one list or map that is read */

/* How a `bytes` field looks. */
enum json_bytes {
    JSON_BYTES_BASE64, /* as proto3 has it */
    JSON_BYTES_TEXT,   /* a string; what is not UTF-8 without NUL: {"base64": "..."} */
    /* The JSON value that it holds, as it is but for CR and LF. Anything else is {"base64": "..."}, and so is
     * a value that looks like that, or that is nested deeper than JSON_NESTED_MAX: reading gives back the
     * same bytes, and what the value is put into stays within JSON_DEPTH_MAX. */
    JSON_BYTES_JSON,
};

enum { JSON_NESTED_MAX = JSON_DEPTH_MAX - 32 };

struct json_mapping {
    /* Write fields that have no value, too (members of a oneof excepted). */
    bool defaults;
    /* NULL: everything is JSON_BYTES_BASE64. */
    enum json_bytes (*bytes)(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f);
};

/* The form of each `bytes` field of the project's API, by its name: what agents and blocks hold is JSON;
 * paths, names and values are text; the rest is base64. For `bytes` above. */
enum json_bytes json_bytes_by_name(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f);

/* Appends the message, on one line (no CR or LF). The same message always gives the same bytes. */
void json_put_message(struct json_writer *w, const ProtobufCMessage *m, const struct json_mapping *map);

/* Reads an object (checked by json_check) into a new message in the arena. Strict: unknown and double
 * members, values that do not fit, two members of a oneof, bad base64 and lone surrogates are errors; null
 * means unset. Both names of a field are taken. INVALID_REQUEST names the field ("content[2].text"). Not for
 * message types that contain themselves. */
ProtobufCMessage *json_read_message(struct sa_arena *a, struct json v, const ProtobufCMessageDescriptor *d,
                                    const struct json_mapping *map, sa_error **err);

/* Sets a scalar field from text, for instance of a query: "true", "12", "SESSION_STATE_IDLE". It replaces
 * what was there. INVALID_REQUEST: no such scalar field, or it does not fit. */
int json_set_field(struct sa_arena *a, ProtobufCMessage *m, const char *name, const char *text,
                   const struct json_mapping *map, sa_error **err);

/* What `bytes` fields use, for shapes that no descriptor describes. */

/* Base64 with padding. Appends. */
void json_base64(struct sa_buf *out, const uint8_t *p, size_t n);
/* Both alphabets, padding optional. -1: not base64; *out is undefined then. Appends. */
int json_unbase64(struct sa_buf *out, const char *p, size_t n);

#endif
