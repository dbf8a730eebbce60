/* The shapes of the API of the npm package `sandbox-agent`, which /v1/processes and /v1/fs keep: queries,
 * JSON bodies and problems. Its clients match on status and detail, so both are as they know them; `reason`
 * is ours beside them. */
#ifndef SERVICES_GATEWAY_SVC_PEER_H_
#define SERVICES_GATEWAY_SVC_PEER_H_

#include "services/gateway-svc/gateway.h"

/* ---- what was asked. Functions that answer return false then, and nothing is left to do. ---- */

/* Is the query percent-encoded UTF-8? Answers 400. To be asked first. */
bool peer_check_query(struct exchange *x);
/* A value of the query, decoded; NULL: absent. Unknown names are let pass. */
const char *peer_query(struct exchange *x, const char *name);
/* "true" or "false", and a number; *ret stays as it is when absent. Answer 400. */
bool peer_query_flag(struct exchange *x, const char *name, bool *ret);
bool peer_query_uint(struct exchange *x, const char *name, uint64_t *ret);

/* The body, a JSON object: answers 415, 400 (no JSON) and 422 (no object). */
bool peer_body(struct exchange *x, struct json *ret);
/* Members of it, in the request's arena. null counts as absent: *ret stays as it is, or with `required` 422,
 * as for a wrong type. */
bool peer_string(struct exchange *x, struct json object, const char *name, bool required, char **ret);
bool peer_flag(struct exchange *x, struct json object, const char *name, bool *ret);
bool peer_uint(struct exchange *x, struct json object, const char *name, bool required, uint64_t max,
               uint64_t *ret);
/* 422: the body is JSON of another shape. */
void peer_wrong_shape(struct exchange *x, const char *name, const char *expected);

/* ---- answers ---- */

/* The families of problems, each with its status, type and title. */
enum peer_problem {
    PEER_INVALID,   /* 400 invalid_request */
    PEER_TOO_LARGE, /* 413 invalid_request */
    PEER_CONFLICT,  /* 409 conflict */
    PEER_STREAM,    /* 502 stream_error */
};

/* message: what the detail says after the family's own words. reason: ours, or NULL. */
void peer_problem(struct exchange *x, enum peer_problem family, const char *reason, const char *message);
/* 404 not_found: process <id>. */
void peer_no_process(struct exchange *x, const char *id);
/* An error that has no other form here. Takes it. */
void peer_fail(struct exchange *x, sa_error *err);
/* 200 with a JSON body. */
void peer_reply(struct exchange *x, const struct sa_buf *body);

/* Bytes on their way out: takes up to max of them and empties the buffer at its end. */
struct peer_out {
    struct sa_buf buf;
    size_t at;
};
ssize_t peer_take(struct peer_out *out, char *buf, size_t max);

#endif
