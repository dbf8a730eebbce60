/* The npm package sandbox-agent over HTTP/1.1: just enough of a client to cost next to nothing beside the
 * server. What comes is counted, not decoded. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/load/http.h"
#include "tests/load/process_bench.h"

enum { IDLE_S = 2, POLL_US = 2000 };

struct peer {
    unsigned port;
};

static void *lane_new(void *user)
{
    struct peer *p = user;
    return http_new(p->port);
}

static void lane_free(void *lane)
{
    http_free(lane);
}

static void run_true(void *lane)
{
    cleanup_free char *answer =
        http_call(lane, "POST", "/v1/processes/run", "{\"command\":\"true\",\"args\":[]}");
    if (!strstr(answer, "\"exitCode\":0"))
        die("peer: %s", answer);
}

/* ---- processes ---- */

/* The path of the new process; free() it. */
static char *start(struct connection *c, const char *command, bool tty)
{
    struct sa_buf body = {0};
    sa_buf_addf(&body, "{\"command\":\"sh\",\"args\":[\"-c\",\"");
    for (const char *p = command; *p; p++)
        sa_buf_addf(&body, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    sa_buf_addf(&body, "\"],\"tty\":%s}", tty ? "true" : "false");
    cleanup_free char *answer = http_call(c, "POST", "/v1/processes", sa_buf_string(&body));
    sa_buf_fini(&body);
    const char *id = strstr(answer, "\"id\":\"");
    if (!id)
        die("peer: %s", answer);
    id += strlen("\"id\":\"");
    return sa_format("/v1/processes/%.*s", (int)strcspn(id, "\""), id);
}

static bool is_running(struct connection *c, const char *path)
{
    cleanup_free char *answer = http_call(c, "GET", path, "");
    return strstr(answer, "\"status\":\"running\"") != NULL;
}

static void end(struct connection *c, const char *path)
{
    cleanup_free char *kill = sa_format("%s/kill?waitMs=2000", path);
    free(http_call(c, "POST", kill, ""));
    while (is_running(c, path))
        usleep(POLL_US);
    free(http_call(c, "DELETE", path, ""));
}

/* It has no call that waits for an end. */
static void capture(void *user, const char *command)
{
    struct peer *p = user;
    struct connection *c = http_new(p->port);
    cleanup_free char *path = start(c, command, false);
    while (is_running(c, path))
        usleep(POLL_US);
    end(c, path);
    http_free(c);
}

static void set_timeout(struct connection *c)
{
    struct timeval t = {.tv_sec = IDLE_S};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
}

/* Bytes that the base64 texts in the complete lines of the buffer stand for; drops these. */
static uint64_t count_data(struct sa_buf *lines)
{
    uint64_t got = 0;
    size_t used = 0;
    for (const uint8_t *nl; (nl = memchr(lines->data + used, '\n', lines->len - used));) {
        const uint8_t *line = lines->data + used;
        size_t n = (size_t)(nl - line);
        const uint8_t *at = memmem(line, n, "\"data\":\"", 8);
        const uint8_t *quote = at ? memchr(at + 8, '"', (size_t)(nl - at - 8)) : NULL;
        if (quote)
            got += (uint64_t)(quote - at - 8) / 4 * 3 - (quote[-1] == '=') - (quote[-2] == '=');
        used += n + 1;
    }
    sa_buf_consume(lines, used);
    return got;
}

/* Moves complete chunks of a chunked answer to `lines`. false: a whole one is not there yet. */
static bool take_chunk(struct connection *c, struct sa_buf *lines)
{
    const char *end = c->in.len ? memmem(c->in.data, c->in.len, "\r\n", 2) : NULL;
    if (!end)
        return false;
    size_t head = (size_t)(end - (const char *)c->in.data) + 2;
    size_t n = strtoul((const char *)c->in.data, NULL, 16);
    if (c->in.len < head + n + 2)
        return false;
    sa_buf_add(lines, c->in.data + head, n);
    sa_buf_consume(&c->in, head + n + 2);
    return true;
}

/* The stream does not end with the process: it is over when nothing came for a while. */
static uint64_t follow(void *user, const char *command, uint64_t *ret_last_ns)
{
    struct peer *p = user;
    struct connection *c = http_new(p->port), *s = http_new(p->port);
    struct sa_buf lines = {0};
    uint64_t got = 0;
    cleanup_free char *path = start(c, command, false);
    cleanup_free char *logs = sa_format("%s/logs?stream=stdout&follow=true", path);
    http_request(s, "GET", logs, "");
    sa_buf_consume(&s->in, http_read_head(s));
    set_timeout(s);
    do {
        uint64_t before = got;
        while (take_chunk(s, &lines))
            ;
        if (lines.len)
            got += count_data(&lines);
        if (got != before)
            *ret_last_ns = sa_now_ns();
    } while (http_more(s) || is_running(c, path));
    sa_buf_fini(&lines);
    end(c, path);
    http_free(s);
    http_free(c);
    return got;
}

/* ---- terminals: a websocket ---- */

struct view {
    struct connection *c, *s;
    char *path;
};

static void open_view(struct view *v, struct peer *p, const char *command)
{
    v->c = http_new(p->port);
    v->s = http_new(p->port);
    v->path = start(v->c, command, true);
    cleanup_free char *request = sa_format("GET %s/terminal/ws HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                                           "connection: Upgrade\r\nupgrade: websocket\r\n"
                                           "sec-websocket-version: 13\r\n"
                                           "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                                           v->path);
    http_send(v->s, request, strlen(request));
    size_t head = http_read_head(v->s);
    if (strncmp((const char *)v->s->in.data, "HTTP/1.1 101", 12) != 0)
        die("peer: no websocket");
    sa_buf_consume(&v->s->in, head);
    set_timeout(v->s);
}

static void close_view(struct view *v)
{
    end(v->c, v->path);
    http_free(v->s);
    http_free(v->c);
    free(v->path);
}

static void type(struct view *v, const char *key)
{
    cleanup_free char *text = sa_format("{\"type\":\"input\",\"data\":\"%s\"}", key);
    uint8_t frame[128] = {0x81, (uint8_t)(0x80 | strlen(text))}; /* the mask is 0 */
    memcpy(frame + 6, text, strlen(text));
    http_send(v->s, frame, 6 + strlen(text));
}

/* The next frame's payload, valid until the next call; its opcode, or -1: nothing came. */
static int next_frame(struct view *v, size_t *used, const uint8_t **ret_data, size_t *ret_n)
{
    sa_buf_consume(&v->s->in, *used);
    *used = 0;
    for (;;) {
        const uint8_t *b = v->s->in.data;
        size_t len = v->s->in.len, head = 2;
        uint64_t n = len >= 2 ? b[1] & 0x7f : 0;
        if (n >= 126)
            head = n == 126 ? 4 : 10;
        if (len >= head && n >= 126) {
            size_t bytes = head - 2;
            n = 0;
            for (size_t i = 0; i < bytes; i++)
                n = n << 8 | b[2 + i];
        }
        if (len >= head && len - head >= n) {
            *ret_data = b + head;
            *ret_n = (size_t)n;
            *used = head + (size_t)n;
            return b[0] & 0x0f;
        }
        if (!http_more(v->s))
            return -1;
    }
}

enum { FRAME_TEXT = 1, FRAME_BINARY = 2, FRAME_CLOSE = 8 };

static void echo(void *user, uint64_t *ret_ns, size_t n)
{
    struct view v;
    const uint8_t *data;
    size_t len, used = 0;
    open_view(&v, user, "exec cat");
    for (size_t i = 0; i < n; i++) {
        uint64_t start_ns = sa_now_ns();
        type(&v, "x");
        for (int frame = 0; frame != FRAME_BINARY;)
            if ((frame = next_frame(&v, &used, &data, &len)) < 0)
                die("peer: a key did not come back");
        ret_ns[i] = sa_now_ns() - start_ns;
    }
    close_view(&v);
}

static void terminal(void *user, const char *command, uint64_t *ret_got, uint64_t *ret_start_ns,
                     uint64_t *ret_last_ns)
{
    struct view v;
    const uint8_t *data;
    size_t n, used = 0;
    open_view(&v, user, command);
    *ret_start_ns = *ret_last_ns = sa_now_ns();
    type(&v, "\\n");
    for (int frame; (frame = next_frame(&v, &used, &data, &n)) >= 0 && frame != FRAME_CLOSE;) {
        if (frame != FRAME_BINARY)
            continue;
        for (size_t i = 0; i < n; i++)
            *ret_got += data[i] == 'x';
        *ret_last_ns = sa_now_ns();
    }
    close_view(&v);
}

/* ---- the server ---- */

struct way peer_way(const char *program, const char *directory, unsigned port)
{
    struct peer *p = sa_calloc(1, sizeof *p);
    cleanup_free char *text = sa_format("%u", port);
    p->port = port;
    start_program((const char *const[]){program, "server", "--no-token", "--no-telemetry", "--host",
                                        "127.0.0.1", "--port", text, NULL},
                  directory);
    close(connect_to(port));
    return (struct way){
        .name = "sandbox-agent",
        .user = p,
        .lane_new = lane_new,
        .lane_free = lane_free,
        .run_true = run_true,
        .capture = capture,
        .follow = follow,
        .echo = echo,
        .terminal = terminal,
    };
}

void peer_free(struct way *w)
{
    free(w->user);
}
