/* The glue between libmicrohttpd and the loop. Its rules, learnt the hard way:
 *  - after MHD_resume_connection the daemon must be run again: resuming does not wake its epoll;
 *  - while MHD_get_timeout is 0 the daemon has more to do and must be run again;
 *  - MHD_run must not be called from inside one of its callbacks: a timer of 0 ms does it a moment later;
 *  - a suspended connection has no timeout and notices nothing, so whoever suspends one looks after it. */
#include "services/gateway-svc/http_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/log.h"
#include "services/gateway-svc/listen.h"

enum {
    CONNECTION_MEMORY = HTTP_HEADER_MAX,
    RUNS_AT_ONCE = 8, /* of the daemon, before the loop gets a turn */
    STREAM_BLOCK = 16 << 10,
    SIZED_BLOCK = 128 << 10,
    CHECK_MS = 1000, /* between looks for connections that are over time */
};

/* ---- running the daemon ---- */

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG wait = 0;
    for (int i = 0; i < RUNS_AT_ONCE; i++) {
        MHD_run(s->daemon);
        if (MHD_get_timeout(s->daemon, &wait) != MHD_YES) {
            sa_timer_stop(s->timer);
            return;
        }
        if (wait > 0)
            break;
    }
    sa_timer_start(s->timer, wait);
}

static void on_timer(void *user)
{
    run(user);
}

static void on_epoll(void *user, int fd, int events)
{
    (void)fd;
    (void)events;
    run(user);
}

/* Goes on with a request, a moment later. */
static void resume(struct http_request *r)
{
    if (!r->suspended)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn);
    sa_timer_start(r->server->timer, 0);
}

static void suspend(struct http_request *r)
{
    r->suspended = true;
    MHD_suspend_connection(r->conn);
}

/* ---- requests ---- */

static struct http_request *request_new(struct http_server *s, struct MHD_Connection *conn,
                                        const char *method, const char *url)
{
    struct http_request *r = sa_calloc(1, sizeof(*r));
    r->server = s;
    r->conn = conn;
    r->arena = sa_arena_new();
    r->method = sa_arena_strdup(r->arena, method);
    r->path = sa_arena_strdup(r->arena, url);
    r->next = s->requests;
    r->link = &s->requests;
    if (r->next)
        r->next->link = &r->next;
    s->requests = r;
    s->active++;
    return r;
}

static void request_free(struct http_request *r)
{
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    r->server->active--;
    if (r->response)
        MHD_destroy_response(r->response);
    sa_buf_fini(&r->body);
    sa_arena_free(r->arena);
    free(r);
}

/* ---- connections ---- */

static void on_connection(void *cls, struct MHD_Connection *conn, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = cls;
    struct http_connection *c = *context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        *c->link = c->next;
        if (c->next)
            c->next->link = c->link;
        free(c);
        return;
    }
    *context = c = sa_calloc(1, sizeof(*c));
    c->fd = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    c->deadline_ms = sa_now_ms() + s->opt.idle_ms + s->opt.head_ms;
    c->next = s->connections;
    c->link = &s->connections;
    if (c->next)
        c->next->link = &c->next;
    s->connections = c;
}

static void set_deadline(struct MHD_Connection *conn, uint64_t after_ms)
{
    struct http_connection *c =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    c->deadline_ms = after_ms ? sa_now_ms() + after_ms : 0;
}

/* The library notices that the socket is at its end, and does the rest. */
static void on_check(void *user)
{
    struct http_server *s = user;
    uint64_t now = sa_now_ms();
    for (struct http_connection *c = s->connections; c; c = c->next) {
        if (!c->deadline_ms || now < c->deadline_ms)
            continue;
        c->deadline_ms = 0;
        shutdown(c->fd, SHUT_RDWR);
    }
}

/* ---- a request from its head to its end ---- */

static enum MHD_Result count_length_headers(void *user, enum MHD_ValueKind kind, const char *name,
                                            const char *value)
{
    unsigned *count = user;
    (void)kind;
    if (strcasecmp(name, "content-length") == 0)
        count[0]++;
    if (strcasecmp(name, "transfer-encoding") == 0)
        count[value && strcasecmp(value, "chunked") == 0 ? 1 : 2]++;
    return MHD_YES;
}

/* Could two readers of this request see different bodies in it? */
static bool is_ambiguous(struct http_request *r)
{
    unsigned count[3] = {0}; /* Content-Length, chunked, any other Transfer-Encoding */
    MHD_get_connection_values(r->conn, MHD_HEADER_KIND, count_length_headers, count);
    return count[0] + count[1] > 1 || count[2] > 0;
}

static const char *const close_header[] = {"Connection", "close", NULL};

static uint64_t announced_length(const struct http_request *r)
{
    const char *text = http_header(r, "Content-Length");
    return text ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result queue(struct http_request *r)
{
    r->queued = true;
    return MHD_queue_response(r->conn, r->status, r->response);
}

static void refuse_body(struct http_request *r)
{
    r->refused = true;
    if (!r->response && r->too_large)
        r->too_large(r, r->body_max);
    if (!r->response)
        http_reply(r, 413, NULL, NULL, 0, NULL);
}

/* The head was read. An answer that is known already waits until a body of bearable size was read and thrown
 * away, so that the connection can go on; otherwise it is sent at once and the connection closed. */
static enum MHD_Result begin(struct http_request *r)
{
    uint64_t length = announced_length(r);
    if (is_ambiguous(r)) {
        http_reply(r, 400, NULL, NULL, 0, close_header);
        return queue(r);
    }
    r->server->opt.head(r->server->opt.user, r);
    if (r->response)
        r->refused = true;
    else if (!r->sink.take && length > r->body_max)
        refuse_body(r);
    if (r->refused && (length > HTTP_DISCARD_MAX || http_header(r, "Expect")))
        return queue(r);
    return MHD_YES;
}

/* Whoever takes a body in pieces and has no room gets the rest again. The time in which a body must come is
 * for those who send slowly, not for those who wait for us. */
static void pass_body(struct http_request *r, const char *data, size_t *size)
{
    *size -= r->sink.take(r->sink_user, data, *size);
    set_deadline(r->conn, *size ? 0 : r->server->opt.body_ms);
    if (*size && !r->response)
        suspend(r);
}

static enum MHD_Result take_body(struct http_request *r, const char *data, size_t *size)
{
    size_t n = *size;
    if (r->sink.take && !r->response) {
        pass_body(r, data, size);
        return MHD_YES;
    }
    *size = 0;
    if (r->sink.take && !r->refused) { /* answered in the middle: the answer goes out after the rest */
        r->refused = true;
        set_deadline(r->conn, r->server->opt.body_ms);
    }
    if (!r->refused && r->body.len + n > r->body_max)
        refuse_body(r);
    if (!r->refused) {
        sa_buf_add(&r->body, data, n);
        return MHD_YES;
    }
    r->discarded += n;
    return r->discarded > HTTP_DISCARD_MAX && !r->sink.take ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context)
{
    struct http_server *s = cls;
    struct http_request *r = *context;
    (void)version;
    if (!r) {
        *context = r = request_new(s, conn, method, url);
        set_deadline(conn, s->opt.body_ms);
        return begin(r);
    }
    if (r->queued)
        return MHD_YES;
    if (*size)
        return take_body(r, data, size);
    if (!r->handled) {
        r->handled = true;
        set_deadline(conn, 0);
        if (!r->response && r->sink.take)
            r->sink.end(r->sink_user);
        else if (!r->response)
            s->opt.handle(s->opt.user, r);
    }
    if (r->response)
        return queue(r);
    suspend(r);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http_server *s = cls;
    struct http_request *r = *context;
    (void)code;
    if (!r)
        return;
    *context = NULL;
    set_deadline(conn, s->opt.idle_ms + s->opt.head_ms);
    s->opt.finished(s->opt.user, r);
    request_free(r);
}

/* Paths and queries are decoded by whoever looks at them, part by part. */
static size_t leave_escapes(void *cls, struct MHD_Connection *conn, char *text)
{
    (void)cls;
    (void)conn;
    return strlen(text);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
    char text[256];
    (void)cls;
    vsnprintf(text, sizeof(text), fmt, ap);
    text[strcspn(text, "\n")] = 0;
    sa_log(SA_LOG_DEBUG, "http.library", "message=\"%s\"", text);
}

/* ---- what was asked ---- */

const char *http_method(const struct http_request *r)
{
    return r->method;
}

const char *http_path(const struct http_request *r)
{
    return r->path;
}

const char *http_header(const struct http_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

const void *http_body(const struct http_request *r, size_t *ret_len)
{
    *ret_len = r->body.len;
    return r->body.data ? r->body.data : (const uint8_t *)"";
}

struct sa_arena *http_arena(struct http_request *r)
{
    return r->arena;
}

void http_set_user(struct http_request *r, void *user)
{
    r->user = user;
}

void *http_user(const struct http_request *r)
{
    return r->user;
}

struct query {
    struct http_request *r;
    int (*fn)(void *user, const char *name, const char *value);
    void *user;
    int result;
};

static enum MHD_Result on_argument(void *user, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct query *q = user;
    (void)kind;
    const char *n = http_decode(q->r->arena, name, strlen(name));
    const char *v = http_decode(q->r->arena, value ? value : "", value ? strlen(value) : 0);
    q->result = n && v ? q->fn(q->user, n, v) : -1;
    return q->result < 0 ? MHD_NO : MHD_YES;
}

int http_query_each(struct http_request *r, int (*fn)(void *user, const char *name, const char *value),
                    void *user)
{
    struct query q = {r, fn, user, 0};
    MHD_get_connection_values(r->conn, MHD_GET_ARGUMENT_KIND, on_argument, &q);
    return q.result;
}

bool http_peer_gone(const struct http_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    return info && recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* ---- the answer ---- */

void http_accept_body(struct http_request *r, size_t max,
                      void (*too_large)(struct http_request *r, size_t max))
{
    r->body_max = max;
    r->too_large = too_large;
}

bool http_answered(const struct http_request *r)
{
    return r->response != NULL;
}

void http_answer(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                 struct MHD_Response *response)
{
    if (r->response || !response)
        abort();
    r->response = response;
    r->status = status;
    if (type)
        MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (r->server->draining)
        MHD_add_response_header(response, "Connection", "close");
    for (; headers && headers[0]; headers += 2)
        MHD_add_response_header(response, headers[0], headers[1]);
    resume(r);
}

void http_reply(struct http_request *r, unsigned status, const char *type, const void *body, size_t n,
                const char *const *headers)
{
    /* The library takes void * but only copies. */
    http_answer(r, status, type, headers,
                MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY));
}

void http_reply_static(struct http_request *r, unsigned status, const char *type, const void *body, size_t n,
                       const char *const *headers)
{
    http_answer(r, status, type, headers,
                MHD_create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_PERSISTENT));
}

static ssize_t on_fill(void *cls, uint64_t position, char *buf, size_t max)
{
    struct http_request *r = cls;
    (void)position;
    ssize_t n = r->stream.fill(r->stream_user, buf, max);
    if (n > 0)
        return n;
    if (n == HTTP_STREAM_END)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == HTTP_STREAM_ABORT)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    suspend(r);
    return 0;
}

static void answer_stream(struct http_request *r, unsigned status, const char *type,
                          const char *const *headers, uint64_t size, size_t block,
                          const struct http_stream *stream, void *user)
{
    r->stream = *stream;
    r->stream_user = user;
    http_answer(r, status, type, headers, MHD_create_response_from_callback(size, block, on_fill, r, NULL));
}

void http_stream(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                 const struct http_stream *stream, void *user)
{
    answer_stream(r, status, type, headers, MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream, user);
}

void http_stream_sized(struct http_request *r, unsigned status, const char *type, const char *const *headers,
                       uint64_t size, const struct http_stream *stream, void *user)
{
    answer_stream(r, status, type, headers, size, SIZED_BLOCK, stream, user);
}

void http_receive(struct http_request *r, const struct http_sink *sink, void *user)
{
    r->sink = *sink;
    r->sink_user = user;
}

void http_wake(struct http_request *r)
{
    resume(r);
}

/* ---- the server ---- */

static int start_daemon(struct http_server *s, sa_error **err)
{
    const struct http_options *o = &s->opt;
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, s->listen_fd,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned)o->max_per_address,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)((o->idle_ms + 999) / 1000), MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    if (!s->daemon)
        return sa_fail(err, SA_SYSTEM_ERROR, "the HTTP server cannot start");
    s->epoll_fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    return 0;
}

struct http_server *http_server_new(struct sa_loop *loop, const struct http_options *opt, sa_error **err)
{
    int fd = listen_tcp(opt->host, opt->port, err);
    if (fd < 0)
        return NULL;
    struct http_server *s = sa_calloc(1, sizeof(*s));
    s->loop = loop;
    s->opt = *opt;
    s->listen_fd = fd;
    s->port = listen_port(fd, &s->local);
    if (start_daemon(s, err) < 0) {
        close(fd);
        free(s);
        return NULL;
    }
    s->timer = sa_timer_new(loop, on_timer, s);
    s->io = sa_io_new(loop, s->epoll_fd, on_epoll, s);
    sa_io_set(s->io, SA_IO_READ);
    sa_timer_start(s->timer, 0);
    s->check = sa_timer_new(loop, on_check, s);
    sa_timer_every(s->check, CHECK_MS);
    return s;
}

uint16_t http_server_port(const struct http_server *s)
{
    return s->port;
}

bool http_server_is_local(const struct http_server *s)
{
    return s->local;
}

void http_server_drain(struct http_server *s)
{
    if (s->draining)
        return;
    s->draining = true;
    int fd = MHD_quiesce_daemon(s->daemon);
    if (fd >= 0)
        close(fd);
    sa_timer_start(s->timer, 0);
}

uint32_t http_server_active(const struct http_server *s)
{
    return s->active;
}

void http_server_turn(struct http_server *s, int timeout_ms)
{
    MHD_UNSIGNED_LONG_LONG wait;
    sa_loop_lock(s->loop);
    MHD_run(s->daemon);
    bool more = MHD_get_timeout(s->daemon, &wait) == MHD_YES && wait == 0;
    sa_loop_unlock(s->loop);
    if (!more)
        poll(&(struct pollfd){.fd = s->epoll_fd, .events = POLLIN}, 1, timeout_ms);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    sa_io_free(s->io);
    sa_timer_free(s->timer);
    sa_timer_free(s->check);
    s->timer = NULL;
    for (struct http_request *r = s->requests; r; r = r->next) {
        if (r->upgraded)
            http_end_upgrade(r);
        else if (r->suspended)
            MHD_resume_connection(r->conn); /* the library cannot stop otherwise */
        r->suspended = false;
    }
    MHD_stop_daemon(s->daemon);
    free(s);
}
