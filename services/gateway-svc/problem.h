/* Errors as application/problem+json (RFC 9457):
 *     {"type": "urn:sandbox-agent:error:session_not_found", "title": "Session Not Found", "status": 404,
 *      "detail": "session 01h... does not exist"}
 * The type is the reason in lower case; the status comes from the error's code. */
#ifndef SERVICES_GATEWAY_SVC_PROBLEM_H_
#define SERVICES_GATEWAY_SVC_PROBLEM_H_

#include "services/gateway-svc/http.h"

/* Answers with the error; takes it. */
void problem_reply(struct http_request *r, sa_error *err);

/* What only HTTP knows; detail is a sentence. */
void problem_not_found(struct http_request *r);                        /* 404: no such path */
void problem_method(struct http_request *r, const char *allow);        /* 405 */
void problem_token(struct http_request *r);                            /* 401 */
void problem_too_large(struct http_request *r, size_t max);            /* 413 */
void problem_media_type(struct http_request *r, const char *expected); /* 415 */
void problem_bad_request(struct http_request *r, const char *detail);  /* 400 */
void problem_forbidden(struct http_request *r, const char *detail);    /* 403 */

/* The problem of an error as JSON, for streams. */
void problem_print(struct sa_buf *out, const sa_error *err);

#endif
