/* The HTTP/1.1 server: libmicrohttpd in external epoll mode on the service's loop. It knows requests, bodies
 * and streams; routes and JSON are others' business. Only http.c includes microhttpd.h.
 *
 * Everything is called, and every callback runs, under the service lock. */
#ifndef SERVICES_GATEWAY_SVC_HTTP_H_
#define SERVICES_GATEWAY_SVC_HTTP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

struct http_server;
struct http_request;

enum {
    HTTP_HEADER_MAX = 32 << 10, /* bytes of memory for request line and headers: beyond, 431 or 414 */
    HTTP_DISCARD_MAX = 8 << 20, /* bytes of a refused body that are read, so that the refusal arrives */
};

struct http_options {
    const char *host; /* address or name to listen on */
    uint16_t port;    /* 0: any */
    uint32_t max_connections;
    uint32_t max_per_address; /* 0: no limit */
    uint32_t idle_ms; /* a connection on which nothing moves for so long is closed; rounded to seconds */
    /* Request line and headers are there. Sets the body limit (http_accept_body), or answers at once. */
    /* A request whose head has not come in idle_ms + head_ms since the connection began or its last answer,
     * or whose body has not come in body_ms after its head, is cut off, however busily it trickles. */
    uint32_t head_ms, body_ms;
    void (*head)(void *user, struct http_request *r);
    /* The body is there, too. Answers once, now or later. Not called when `head` answered. */
    void (*handle)(void *user, struct http_request *r);
    /* The request is over: answered in full, or the client has gone. After this r does not exist. */
    void (*finished)(void *user, struct http_request *r);
    void *user;
};

/* Listens. ADDRESS_IN_USE and INVALID_CONFIG name the address. */
struct http_server *http_server_new(struct sa_loop *loop, const struct http_options *opt, sa_error **err);
uint16_t http_server_port(const struct http_server *s);
bool http_server_is_local(const struct http_server *s); /* on the loopback only */
/* No new connections; those that exist close with their next answer. */
void http_server_drain(struct http_server *s);
uint32_t http_server_active(const struct http_server *s); /* requests under way */
/* One turn of the server by hand, waiting up to timeout_ms for the network: for the time when the loop has
 * ended. Called without the lock, which it takes. */
void http_server_turn(struct http_server *s, int timeout_ms);
/* Ends every request. NULL is fine. */
void http_server_free(struct http_server *s);

/* ---- what was asked; all texts live as long as the request ---- */

const char *http_method(const struct http_request *r);
const char *http_path(const struct http_request *r); /* as it came: not decoded, without the query */
const char *http_header(const struct http_request *r, const char *name); /* NULL: absent; the first one */
/* Each name and value of the query, decoded. -1: bad encoding, or fn said so. */
int http_query_each(struct http_request *r, int (*fn)(void *user, const char *name, const char *value),
                    void *user);
const void *http_body(const struct http_request *r, size_t *ret_len);
struct sa_arena *http_arena(struct http_request *r);
/* Percent-decodes into the arena; NULL: bad escapes, NUL or invalid UTF-8. */
char *http_decode(struct sa_arena *a, const char *p, size_t n);
bool http_is_utf8(const void *p, size_t n); /* without NUL */

/* Whoever routes the request keeps its own state with it. */
void http_set_user(struct http_request *r, void *user);
void *http_user(const struct http_request *r);

/* ---- the answer ---- */

/* From `head`: a body up to max bytes is wanted. Default 0; a longer one is answered with too_large. */
void http_accept_body(struct http_request *r, size_t max,
                      void (*too_large)(struct http_request *r, size_t max));
/* From `head`: the body goes to the sink as it comes, whatever its size, and `handle` is not called. */
struct http_sink {
    /* Takes up to n bytes and returns how many. Fewer: the rest comes again after http_wake; until then the
     * client is slowed down. Not called after an answer: what comes then is thrown away for body_ms at most,
     * so that the answer arrives. */
    size_t (*take)(void *user, const void *data, size_t n);
    /* All of it was taken. Answers once, now or later. */
    void (*end)(void *user);
};
void http_receive(struct http_request *r, const struct http_sink *sink, void *user);
/* Was the request answered (or begun to be)? */
bool http_answered(const struct http_request *r);
/* The whole answer. body is copied unless keep (then it must live for ever). type NULL: no body. headers:
 * name, value, ..., NULL; may be NULL. A second answer is a bug: aborts. */
void http_reply(struct http_request *r, unsigned status, const char *type, const void *body, size_t n,
                const char *const *headers);
void http_reply_static(struct http_request *r, unsigned status, const char *type, const void *body, size_t n,
                       const char *const *headers);

/* An answer that is written as it becomes known. */
enum { HTTP_STREAM_END = -1, HTTP_STREAM_ABORT = -2 /* closes the connection */ };
struct http_stream {
    /* Writes up to max bytes. 0: nothing for now, until http_wake. */
    ssize_t (*fill)(void *user, char *buf, size_t max);
};
void http_stream(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                 const struct http_stream *stream, void *user);
/* The same with a Content-Length; a stream that ends before it closes the connection. HEAD calls no fill. */
void http_stream_sized(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                       uint64_t size, const struct http_stream *stream, void *user);
/* There may be something to write, or room for more of the body. Any callback but the request's own `fill`
 * may call it. */
void http_wake(struct http_request *r);
/* Hands the connection over to another protocol: 101 with the headers, then `open` gets the socket, which
 * does not block, and what was already read from it. It is closed by http_close, or by http_server_free after
 * `closing`; then `finished` comes as for any request. */
struct http_upgrade {
    void (*open)(void *user, int fd, const void *data, size_t n);
    void (*closing)(void *user);
};
void http_switch(struct http_request *r, const char *const *headers, const struct http_upgrade *upgrade,
                 void *user);
/* Once `open` was called; the socket is not to be used after it. Never from inside `open`. */
void http_close(struct http_request *r);
/* The client has closed its end: nobody reads any more. */
bool http_peer_gone(const struct http_request *r);

#endif
