/* WebSocket (RFC 6455) over a connection that was switched to it: wslay on a socket of the loop. Only
 * websocket.c includes wslay.h.
 *
 * Everything is called, and every callback runs, under the service lock. Frames that break the protocol, text
 * that is no UTF-8 and messages over the limit end the connection with a close frame. A client that
 * reads nothing for WEBSOCKET_STALL_MS, or does not answer pings, is dropped. */
#ifndef SERVICES_GATEWAY_SVC_WEBSOCKET_H_
#define SERVICES_GATEWAY_SVC_WEBSOCKET_H_

#include "services/gateway-svc/http.h"

enum {
    WEBSOCKET_STALL_MS = 60000,
    WEBSOCKET_KEY_TEXT = 28, /* characters of Sec-WebSocket-Accept */
};

/* Codes of an end. */
enum { WEBSOCKET_NORMAL = 1000, WEBSOCKET_GOING_AWAY = 1001, WEBSOCKET_INTERNAL = 1011 };

struct websocket;

struct websocket_events {
    void (*opened)(void *user);
    void (*message)(void *user, bool text, const void *data, size_t n);
    /* All that was sent is with the kernel. */
    void (*drained)(void *user);
};

/* Does the request ask for a WebSocket as the RFC has it? *ret_detail: what is wrong. */
bool websocket_is_asked(const struct http_request *r, const char **ret_detail);
/* Switches the connection. message_max: bytes of a message that is received. Freed by websocket_free, at the
 * latest when the request is over. */
struct websocket *websocket_new(struct sa_loop *loop, struct http_request *r, size_t message_max,
                                const struct websocket_events *events, void *user);
void websocket_free(struct websocket *ws); /* NULL is fine */
/* A message goes out, or a close frame, after which nothing does. No-ops once it is closed. */
void websocket_send(struct websocket *ws, bool text, const void *data, size_t n);
void websocket_close(struct websocket *ws, unsigned code);
size_t websocket_unsent(const struct websocket *ws); /* bytes that wait for the kernel */
/* Stops reading from the client, and goes on. */
void websocket_pause(struct websocket *ws, bool paused);

/* The answer to Sec-WebSocket-Key (websocket_key.c); false: the key is none. */
bool websocket_accept_key(const char *key, char ret[static WEBSOCKET_KEY_TEXT + 1]);

#endif
