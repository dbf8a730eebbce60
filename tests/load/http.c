#include "tests/load/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/load/bench.h"

struct connection *http_new(unsigned port)
{
    struct connection *c = sa_calloc(1, sizeof *c);
    c->fd = connect_to(port);
    return c;
}

void http_free(struct connection *c)
{
    close(c->fd);
    sa_buf_fini(&c->in);
    free(c);
}

void http_send(struct connection *c, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t r = send(c->fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (r <= 0)
            die("peer: send: %s", strerror(errno));
        at += (size_t)r;
    }
}

/* false: the end, or nothing for IDLE_S on a connection with a timeout. */
bool http_more(struct connection *c)
{
    ssize_t r = recv(c->fd, sa_buf_reserve(&c->in, 65536), 65536, 0);
    if (r <= 0)
        return false;
    c->in.len += (size_t)r;
    return true;
}

/* Reads the head of an answer: its length with the blank line. */
size_t http_read_head(struct connection *c)
{
    for (;;) {
        const char *end = c->in.len ? memmem(c->in.data, c->in.len, "\r\n\r\n", 4) : NULL;
        if (end)
            return (size_t)(end - (const char *)c->in.data) + 4;
        if (!http_more(c))
            die("peer: no answer");
    }
}

void http_request(struct connection *c, const char *method, const char *path, const char *body)
{
    cleanup_free char *text =
        sa_format("%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                  "content-length: %zu\r\n\r\n%s",
                  method, path, strlen(body), body);
    http_send(c, text, strlen(text));
}

/* Bytes of the body that follows a head; what is no success ends the program. */
static size_t body_length(const struct connection *c, size_t head, const char *what)
{
    cleanup_free char *text = sa_strndup((const char *)c->in.data, head);
    const char *length = strcasestr(text, "content-length:");
    if (strncmp(text, "HTTP/1.1 2", 10) != 0)
        die("peer: %s: %.60s", what, text);
    return length ? strtoul(length + strlen("content-length:"), NULL, 10) : 0;
}

char *http_answer(struct connection *c, const char *what)
{
    size_t head = http_read_head(c);
    size_t n = body_length(c, head, what);
    while (c->in.len < head + n)
        if (!http_more(c))
            die("peer: an answer is cut");
    char *answer = sa_strndup((const char *)c->in.data + head, n);
    sa_buf_consume(&c->in, head + n);
    return answer;
}

uint64_t http_drain(struct connection *c, const char *what)
{
    size_t head = http_read_head(c);
    uint64_t n = body_length(c, head, what), left = n - (c->in.len - head);
    uint8_t *piece = sa_malloc(256 << 10);
    while (left) {
        ssize_t r = recv(c->fd, piece, left < 256 << 10 ? (size_t)left : 256 << 10, 0);
        if (r <= 0)
            die("peer: %s: the answer is cut", what);
        left -= (uint64_t)r;
    }
    free(piece);
    c->in.len = 0;
    return n;
}

char *http_call(struct connection *c, const char *method, const char *path, const char *body)
{
    http_request(c, method, path, body);
    return http_answer(c, path);
}
