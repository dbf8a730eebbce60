/* Nothing is freed while wslay is at work: a callback only notes that the end has come. */
#include "services/gateway-svc/websocket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#include "adapters/os/clock.h"

enum {
    READ_AT_ONCE = 64 << 10, /* bytes of a client before the others get a turn */
    QUEUE_MAX = 64,          /* messages to a client that does not read: its own are not read either then */
    CHECK_MS = 5000,
    PING_MS = 30000,
    SILENCE_MS = 90000, /* without a sign of life */
    CLOSE_MS = 5000,    /* for the client to answer a close */
};

struct websocket {
    struct sa_loop *loop;
    struct http_request *http;
    struct websocket_events events;
    void *user;
    wslay_event_context_ptr ws;
    int fd;
    struct sa_io *io;
    struct sa_timer *timer;
    struct sa_buf extra; /* what the HTTP server had read already */
    size_t budget;
    uint64_t heard_ms, sent_ms, pinged_ms, close_ms; /* sent_ms: when something last moved towards it */
    unsigned close_code;                             /* to be sent after all that is queued; 0: none */
    bool paused, busy, over;
    bool
        lingering; /* all is said: what the client still sends is thrown away, so that it gets to read that */
};

/* ---- the handshake ---- */

/* Is the word among those of a list? */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p && *p; p += strcspn(p, ","), p += *p == ',') {
        p += strspn(p, " \t");
        if (strncasecmp(p, word, n) == 0 && strchr(", \t", p[n]))
            return true;
    }
    return false;
}

bool websocket_is_asked(const struct http_request *r, const char **ret_detail)
{
    char key[WEBSOCKET_KEY_TEXT + 1];
    const char *version = http_header(r, "Sec-WebSocket-Version");
    if (!has_word(http_header(r, "Connection"), "upgrade"))
        *ret_detail = "Connection header did not include 'upgrade'";
    else if (!has_word(http_header(r, "Upgrade"), "websocket"))
        *ret_detail = "`Upgrade` header did not include 'websocket'";
    else if (!version || strcmp(version, "13") != 0)
        *ret_detail = "`Sec-WebSocket-Version` header did not include '13'";
    else if (!websocket_accept_key(http_header(r, "Sec-WebSocket-Key"), key))
        *ret_detail = "`Sec-WebSocket-Key` header missing or not 16 bytes as base64";
    else
        return true;
    return false;
}

/* ---- the end ---- */

/* The connection goes; `finished` of the request comes, and with it websocket_free. */
static void end(struct websocket *ws)
{
    if (ws->over)
        return;
    ws->over = true;
    sa_timer_start(ws->timer, 0);
}

/* ---- the socket ---- */

/* wslay sends a close before what is queued. */
static void close_if_due(struct websocket *ws)
{
    if (!ws->close_code || wslay_event_want_write(ws->ws))
        return;
    wslay_event_queue_close(ws->ws, (uint16_t)ws->close_code, NULL, 0);
    ws->close_code = 0;
}

static bool may_read(const struct websocket *ws)
{
    bool closing = wslay_event_get_close_sent(ws->ws);
    bool full = wslay_event_get_queued_msg_count(ws->ws) > QUEUE_MAX;
    return wslay_event_want_read(ws->ws) && (closing || (!full && !ws->paused));
}

static void linger(struct websocket *ws)
{
    ws->lingering = true;
    if (!ws->close_ms)
        ws->close_ms = sa_now_ms();
    shutdown(ws->fd, SHUT_WR);
    sa_io_set(ws->io, SA_IO_READ);
}

static void update(struct websocket *ws)
{
    int events = 0;
    if (ws->over || ws->lingering)
        return;
    close_if_due(ws);
    if (may_read(ws)) /* what was read already needs no event of the socket */
        events |= ws->extra.len ? SA_IO_WRITE : SA_IO_READ;
    if (wslay_event_want_write(ws->ws))
        events |= SA_IO_WRITE;
    if (!wslay_event_want_read(ws->ws) && !wslay_event_want_write(ws->ws))
        linger(ws);
    else
        sa_io_set(ws->io, events);
}

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t n, int flags, void *user)
{
    struct websocket *ws = user;
    (void)flags;
    if (ws->extra.len) {
        n = n < ws->extra.len ? n : ws->extra.len;
        memcpy(buf, ws->extra.data, n);
        sa_buf_consume(&ws->extra, n);
        return (ssize_t)n;
    }
    n = n < ws->budget ? n : ws->budget;
    ssize_t got = n ? recv(ws->fd, buf, n, MSG_DONTWAIT) : -1;
    bool later = n == 0 || (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
    if (got > 0) {
        ws->budget -= (size_t)got;
        ws->heard_ms = sa_now_ms();
        return got;
    }
    wslay_event_set_error(ctx, later ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t n, int flags, void *user)
{
    struct websocket *ws = user;
    ssize_t sent =
        send(ws->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL | (flags & WSLAY_MSG_MORE ? MSG_MORE : 0));
    if (sent >= 0) {
        ws->sent_ms = sa_now_ms();
        return sent;
    }
    bool later = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    wslay_event_set_error(ctx, later ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    return -1;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg, void *user)
{
    struct websocket *ws = user;
    (void)ctx;
    if (!wslay_is_ctrl_frame(arg->opcode) && !wslay_event_get_close_sent(ws->ws))
        ws->events.message(ws->user, arg->opcode == WSLAY_TEXT_FRAME, arg->msg, arg->msg_length);
}

/* Also after an error wslay may have a close frame to send. */
static void work(struct websocket *ws)
{
    ws->budget = READ_AT_ONCE;
    ws->busy = true;
    if (may_read(ws) && wslay_event_recv(ws->ws) < 0)
        wslay_event_shutdown_read(ws->ws);
    bool had = wslay_event_want_write(ws->ws);
    if (had && wslay_event_send(ws->ws) < 0)
        end(ws);
    ws->busy = false;
    if (!ws->over && had && !wslay_event_want_write(ws->ws))
        ws->events.drained(ws->user);
    update(ws);
}

static void throw_away(struct websocket *ws)
{
    uint8_t waste[4096];
    ssize_t n = recv(ws->fd, waste, sizeof(waste), MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
        end(ws);
}

static void on_io(void *user, int fd, int events)
{
    struct websocket *ws = user;
    (void)fd;
    (void)events;
    if (ws->lingering)
        throw_away(ws);
    else
        work(ws);
}

/* ---- signs of life ---- */

static bool is_dead(const struct websocket *ws, uint64_t now)
{
    bool stalled = wslay_event_want_write(ws->ws) && now - ws->sent_ms > WEBSOCKET_STALL_MS;
    bool silent = !ws->paused && now - ws->heard_ms > SILENCE_MS;
    bool unanswered = ws->close_ms && now - ws->close_ms > CLOSE_MS;
    return stalled || silent || unanswered;
}

static void on_later(void *user)
{
    struct websocket *ws = user;
    uint64_t now = sa_now_ms();
    if (!ws->over && is_dead(ws, now))
        ws->over = true;
    if (ws->over) {
        http_close(ws->http);
        return;
    }
    if (now - ws->heard_ms > PING_MS && now - ws->pinged_ms > PING_MS) {
        struct wslay_event_msg ping = {.opcode = WSLAY_PING};
        ws->pinged_ms = now;
        wslay_event_queue_msg(ws->ws, &ping);
    }
    update(ws);
    sa_timer_start(ws->timer, ws->over ? 0 : CHECK_MS);
}

/* ---- the connection ---- */

static void on_open(void *user, int fd, const void *data, size_t n)
{
    struct websocket *ws = user;
    ws->fd = fd;
    ws->heard_ms = ws->sent_ms = ws->pinged_ms = sa_now_ms();
    sa_buf_add(&ws->extra, data, n);
    ws->io = sa_io_new(ws->loop, fd, on_io, ws);
    sa_timer_start(ws->timer, CHECK_MS);
    ws->events.opened(ws->user);
    sa_io_set(ws->io, SA_IO_READ | SA_IO_WRITE);
}

static void on_closing(void *user)
{
    struct websocket *ws = user;
    ws->over = true;
    sa_io_free(steal_pointer(&ws->io));
    sa_timer_stop(ws->timer);
}

struct websocket *websocket_new(struct sa_loop *loop, struct http_request *r, size_t message_max,
                                const struct websocket_events *events, void *user)
{
    static const struct http_upgrade upgrade = {.open = on_open, .closing = on_closing};
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv, .send_callback = on_send, .on_msg_recv_callback = on_message};
    char key[WEBSOCKET_KEY_TEXT + 1];
    struct websocket *ws = sa_calloc(1, sizeof(*ws));
    *ws = (struct websocket){.loop = loop, .http = r, .events = *events, .user = user, .fd = -1};
    if (wslay_event_context_server_init(&ws->ws, &callbacks, ws) < 0)
        abort(); /* out of memory */
    wslay_event_config_set_max_recv_msg_length(ws->ws, message_max);
    ws->timer = sa_timer_new(loop, on_later, ws);
    websocket_accept_key(http_header(r, "Sec-WebSocket-Key"), key);
    const char *headers[] = {"Upgrade", "websocket", "Sec-WebSocket-Accept", key, NULL};
    http_switch(r, headers, &upgrade, ws);
    return ws;
}

void websocket_free(struct websocket *ws)
{
    if (!ws)
        return;
    sa_io_free(ws->io);
    sa_timer_free(ws->timer);
    wslay_event_context_free(ws->ws);
    sa_buf_fini(&ws->extra);
    free(ws);
}

void websocket_send(struct websocket *ws, bool text, const void *data, size_t n)
{
    struct wslay_event_msg m = {text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, data, n};
    if (ws->over || ws->close_ms)
        return;
    if (!wslay_event_want_write(ws->ws))
        ws->sent_ms = sa_now_ms();
    wslay_event_queue_msg(ws->ws, &m);
    if (!ws->busy && ws->io)
        update(ws);
}

void websocket_close(struct websocket *ws, unsigned code)
{
    if (ws->over || ws->close_ms)
        return;
    ws->close_ms = sa_now_ms();
    ws->close_code = code;
    if (!ws->busy && ws->io)
        update(ws);
}

size_t websocket_unsent(const struct websocket *ws)
{
    return wslay_event_get_queued_msg_length(ws->ws);
}

void websocket_pause(struct websocket *ws, bool paused)
{
    ws->paused = paused;
    if (!ws->busy && ws->io)
        update(ws);
}
