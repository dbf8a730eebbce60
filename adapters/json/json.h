/* JSON where every byte counts: JSON-RPC lines of agents are checked once, strictly, and then looked at in
 * place. A `struct json` is a slice of the text that was checked: the raw bytes of one value exactly as they
 * came, so that key order, big numbers and escapes pass through unchanged.
 *
 * Strict means RFC 8259: one value, nothing after it but blanks, valid UTF-8, no control characters in
 * strings, at most JSON_DEPTH_MAX levels. Duplicate keys are legal; the first one counts. Lone surrogates
 * (\ud800) are legal in raw text; decoding replaces or refuses them.
 *
 * Everything here is plain functions over memory: any thread, no allocation unless it says so. The functions
 * that take a `struct json` expect a value that json_check or json_rpc_parse accepted, or a part of one;
 * given anything else they answer "absent" or nonsense, but never read outside the slice. */
#ifndef ADAPTERS_JSON_JSON_H_
#define ADAPTERS_JSON_JSON_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"

enum { JSON_DEPTH_MAX = 128 };

struct json {
    const char *p; /* not NUL-terminated */
    size_t n;      /* 0: absent */
};

enum json_type { JSON_ABSENT, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Checks that p[0..n) is one JSON value and gives it without the blanks around it.
 * MALFORMED_MESSAGE names the byte offset and what is wrong. */
int json_check(const void *p, size_t n, struct json *ret, sa_error **err);

/* ---- lines and JSON-RPC ---- */

/* The next complete line of a stream's buffer. Returns the bytes it takes up, newline included, and gives the
 * line without
 * "\n" or "\r\n" (which may be empty); 0: no newline yet. *scanned (start with 0) remembers what was
 * searched, so that a growing buffer is searched once; it is reset when a line is found. The caller bounds
 * the buffer: at its limit without a newline the line is too long. */
size_t json_line(const void *data, size_t n, size_t *scanned, struct json *ret_line);

enum json_rpc_kind { JSON_RPC_REQUEST, JSON_RPC_NOTIFICATION, JSON_RPC_RESPONSE, JSON_RPC_ERROR };

struct json_rpc {
    enum json_rpc_kind kind;
    struct json raw;                   /* the whole message */
    struct json id;                    /* string, number or null, raw; absent in a notification */
    struct json method;                /* raw string; absent in a response */
    struct json params, result, error; /* absent when absent */
};
/* Checks the whole line and finds the parts. Batches are not JSON-RPC messages of ACP: refused. A missing
 * "jsonrpc" member is let pass (some agents leave it out), another version than "2.0" is not.
 * MALFORMED_MESSAGE. */
int json_rpc_parse(const void *line, size_t n, struct json_rpc *ret, sa_error **err);

/* ---- looking at a value ---- */

enum json_type json_type(struct json v);
/* "params.update.sessionUpdate", "options.0.kind": members and array indices; absent when any step is. A key
 * that contains a dot is reached by json_member only. */
struct json json_get(struct json v, const char *path);
struct json json_member(struct json object, const char *key, size_t key_len);

bool json_is(struct json v, const char *text); /* a string that decodes to exactly this text */
bool json_int(struct json v, int64_t *ret); /* false: no integer, or out of range; 1.0 and 1e3 are integers */
bool json_uint(struct json v, uint64_t *ret);
bool json_double(struct json v, double *ret);
bool json_bool(struct json v, bool *ret);
bool json_true(struct json v); /* present and true */

/* What to do with lone surrogates and \u0000, which no C or protobuf string can hold. */
enum json_invalid { JSON_REPLACE /* by U+FFFD */, JSON_REFUSE };
/* Appends the decoded string to *ret. -1: not a string, or refused (MALFORMED_MESSAGE); *ret unchanged then.
 */
int json_decode(struct json v, enum json_invalid invalid, struct sa_buf *ret, sa_error **err);
/* The decoded string (JSON_REPLACE) as a C string; NULL when v is no string. */
char *json_string(struct json v);                           /* free() it */
char *json_arena_string(struct sa_arena *a, struct json v); /* "" instead of NULL: for protobuf fields */

/* Members of an object or elements of an array, in order:
 *     for (struct json_iter it = json_iter(v); json_next(&it, &key, &value);) */
struct json_iter {
    const char *at, *end;
    bool object;
};
struct json_iter json_iter(struct json container); /* anything else: empty */
/* ret_key: the raw string of the key (absent in an array); may be NULL. */
bool json_next(struct json_iter *it, struct json *ret_key, struct json *ret_value);
size_t json_count(struct json container);

/* Appends `whole` to *out with the bytes of `part`, a slice of it, replaced. Every other byte is kept. */
void json_replace(struct json whole, struct json part, struct json replacement, struct sa_buf *out);
/* A slice over a C string, for literals: json_of("null"). */
struct json json_of(const char *text);

/* ---- writing ---- */

/* Appends to a buffer and sets the commas. The caller keeps begin and end balanced and writes a key before
 * each value of an object. */
struct json_writer {
    struct sa_buf *out;
    bool comma;
};
struct json_writer json_writer(struct sa_buf *out);
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
/* What is not UTF-8 is written as U+FFFD, so that the output always is valid JSON; "/" and non-ASCII stay. */
void json_put_string(struct json_writer *w, const char *s); /* NULL: null */
void json_put_bytes(struct json_writer *w, const void *p, size_t n);
void json_put_int(struct json_writer *w, int64_t v);
void json_put_uint(struct json_writer *w, uint64_t v);
void json_put_double(struct json_writer *w, double v); /* shortest that reads back; not finite: null */
void json_put_bool(struct json_writer *w, bool v);
void json_put_null(struct json_writer *w);
void json_put_raw(struct json_writer *w, struct json v); /* as it is; absent: null */

#endif
