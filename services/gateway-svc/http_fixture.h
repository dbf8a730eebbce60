/* The HTTP server with a tiny service behind it, and a client of bytes. */
#ifndef SERVICES_GATEWAY_SVC_HTTP_FIXTURE_H_
#define SERVICES_GATEWAY_SVC_HTTP_FIXTURE_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "services/gateway-svc/http.h"

enum { WAIT_MS = 10000, BODY_MAX = 1000, STREAM_BYTES = 1 << 20 };

struct fixture {
    struct sa_loop *loop;
    struct http_server *server;
    pthread_t thread;
    struct http_request *held; /* /hold waits until somebody answers */
    struct http_request *stream;
    size_t streamed, to_stream, stream_end;
    int finished;
    struct http_request
        *sink; /* /sink takes its body as far as there is room, /refuse gives up at its start */
    size_t room, taken;
    struct http_request *switched; /* /switch */
    int switched_fd;
    char early[16]; /* what came behind its head */
    bool closing;
};

/* ---- the tiny service ---- */

static void too_large(struct http_request *r, size_t max)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "at most %zu", max);
    http_reply(r, 413, "text/plain", text, (size_t)n, NULL);
}

static size_t take(void *user, const void *data, size_t n)
{
    struct fixture *f = user;
    (void)data;
    if (strcmp(http_path(f->sink), "/refuse") == 0)
        http_reply(f->sink, 507, "text/plain", "full", 4, NULL);
    n = n < f->room - f->taken ? n : f->room - f->taken;
    f->taken += n;
    return n;
}

static void all_taken(void *user)
{
    struct fixture *f = user;
    http_reply(f->sink, 200, "text/plain", "taken", 5, NULL);
}

static void on_head(void *user, struct http_request *r)
{
    static const struct http_sink sink = {.take = take, .end = all_taken};
    struct fixture *f = user;
    http_accept_body(r, BODY_MAX, too_large);
    if (strcmp(http_path(r), "/sink") == 0 || strcmp(http_path(r), "/refuse") == 0) {
        f->sink = r;
        http_receive(r, &sink, f);
    }
    if (strcmp(http_path(r), "/no") == 0)
        http_reply(r, 404, "text/plain", "no", 2, NULL);
}

static ssize_t fill(void *user, char *buf, size_t max)
{
    struct fixture *f = user;
    if (f->streamed == f->stream_end)
        return HTTP_STREAM_END;
    size_t n = f->to_stream - f->streamed;
    if (n > max)
        n = max;
    memset(buf, 'x', n);
    f->streamed += n;
    return (ssize_t)n;
}

static int print_query(void *user, const char *name, const char *value)
{
    sa_buf_addf(user, "%s=%s;", name, value);
    return 0;
}

static void on_open(void *user, int fd, const void *data, size_t n)
{
    struct fixture *f = user;
    f->switched_fd = fd;
    memcpy(f->early, data, n < sizeof(f->early) - 1 ? n : sizeof(f->early) - 1);
}

static void on_closing(void *user)
{
    struct fixture *f = user;
    f->closing = true;
}

static void on_handle(void *user, struct http_request *r)
{
    struct fixture *f = user;
    static const struct http_upgrade upgrade = {.open = on_open, .closing = on_closing};
    static const char *const protocol[] = {"Upgrade", "test", NULL};
    static const struct http_stream stream = {.fill = fill};
    cleanup_buf struct sa_buf text = {0};
    size_t n;
    if (strcmp(http_path(r), "/hold") == 0) {
        f->held = r;
    } else if (strcmp(http_path(r), "/stream") == 0) {
        f->stream = r;
        http_stream(r, 200, "text/plain", NULL, &stream, f);
    } else if (strcmp(http_path(r), "/sized") == 0) {
        f->stream = r;
        http_stream_sized(r, 200, "text/plain", NULL, STREAM_BYTES, &stream, f);
    } else if (strcmp(http_path(r), "/switch") == 0) {
        f->switched = r;
        http_switch(r, protocol, &upgrade, f);
    } else if (strcmp(http_path(r), "/query") == 0) {
        int bad = http_query_each(r, print_query, &text);
        http_reply(r, bad ? 400 : 200, "text/plain", text.data, text.len, NULL);
    } else {
        const void *body = http_body(r, &n);
        sa_buf_addf(&text, "%s %s ", http_method(r), http_path(r));
        sa_buf_add(&text, body, n);
        http_reply(r, 200, "text/plain", text.data, text.len, NULL);
    }
}

static void on_finished(void *user, struct http_request *r)
{
    struct fixture *f = user;
    if (f->held == r)
        f->held = NULL;
    if (f->stream == r)
        f->stream = NULL;
    if (f->sink == r)
        f->sink = NULL;
    if (f->switched == r)
        f->switched = NULL;
    f->finished++;
}

static void *run_loop(void *arg)
{
    sa_loop_run(arg);
    return NULL;
}

static int set_up_with(void **state, uint32_t idle_ms)
{
    struct fixture *f = calloc(1, sizeof(*f));
    const struct http_options opt = {.host = "127.0.0.1",
                                     .max_connections = 100,
                                     .idle_ms = idle_ms,
                                     .head_ms = 500,
                                     .body_ms = 1000,
                                     .head = on_head,
                                     .handle = on_handle,
                                     .finished = on_finished,
                                     .user = f};
    f->stream_end = STREAM_BYTES;
    f->loop = sa_loop_new(NULL);
    sa_loop_lock(f->loop);
    f->server = http_server_new(f->loop, &opt, NULL);
    sa_loop_unlock(f->loop);
    pthread_create(&f->thread, NULL, run_loop, f->loop);
    *state = f;
    return f->server ? 0 : -1;
}

static int set_up(void **state)
{
    return set_up_with(state, 60000);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    http_server_free(f->server);
    sa_loop_stop(f->loop);
    sa_loop_unlock(f->loop);
    pthread_join(f->thread, NULL);
    sa_loop_free(f->loop);
    free(f);
    return 0;
}

/* ---- a client of bytes ---- */

static int connect_to(struct fixture *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(http_server_port(f->server))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void put(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Reads until the text so far contains `end`, or to the end of the connection when that is NULL. */
static char *get(int fd, const char *end)
{
    struct sa_buf text = {0};
    uint64_t deadline = sa_now_ms() + WAIT_MS;
    while (!end || !text.data || !strstr(sa_buf_string(&text), end)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (sa_now_ms() > deadline || poll(&p, 1, WAIT_MS) <= 0)
            fail_msg("no \"%s\" in time, only: %s", end ? end : "end", sa_buf_string(&text));
        ssize_t n = recv(fd, sa_buf_reserve(&text, 65536), 65536, 0);
        if (n <= 0)
            break;
        text.len += (size_t)n;
    }
    char *result = sa_strdup(sa_buf_string(&text));
    sa_buf_fini(&text);
    return result;
}

static void await_text(int fd, const char *end)
{
    free(get(fd, end));
}

static void assert_answer(struct fixture *f, const char *request, const char *end, const char *expected)
{
    int fd = connect_to(f);
    put(fd, request);
    cleanup_free char *text = get(fd, end);
    if (!strstr(text, expected))
        fail_msg("expected \"%s\" in: %s", expected, text);
    close(fd);
}

static void wait_until(struct fixture *f, bool (*is)(struct fixture *f))
{
    uint64_t deadline = sa_now_ms() + WAIT_MS;
    for (;;) {
        sa_loop_lock(f->loop);
        bool yes = is(f);
        sa_loop_unlock(f->loop);
        if (yes)
            return;
        if (sa_now_ms() > deadline)
            fail_msg("it did not happen in time");
        sched_yield();
    }
}

#endif
