/* HTTP/1.1 to the peer: just enough of a client to cost next to nothing beside the server. Blocks; what goes
 * wrong ends the program. */
#ifndef TESTS_LOAD_HTTP_H_
#define TESTS_LOAD_HTTP_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/mem.h"

struct connection {
    int fd;
    struct sa_buf in; /* what came and was not used yet */
};

struct connection *http_new(unsigned port);
void http_free(struct connection *c);
void http_send(struct connection *c, const void *p, size_t n);
/* false: the end, or nothing came within the connection's timeout. */
bool http_more(struct connection *c);
/* Reads the head of an answer: its length with the blank line. */
size_t http_read_head(struct connection *c);
void http_request(struct connection *c, const char *method, const char *path, const char *body);
/* The body of the answer; free() it. what: for the message when it is no success. */
char *http_answer(struct connection *c, const char *what);
/* Reads the answer and drops it; the bytes of its body. */
uint64_t http_drain(struct connection *c, const char *what);
/* Both. */
char *http_call(struct connection *c, const char *method, const char *path, const char *body);

#endif
