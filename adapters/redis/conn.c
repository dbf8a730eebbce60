/* One connection: resolve, connect, handshake (AUTH, SELECT, PING), then replies are handed up as they come;
 * after any failure again, with back-off. Names are resolved on a worker thread, everything else is
 * non-blocking. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "adapters/redis/redis_internal.h"

enum {
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 2000,
    REPLY_MAX = 64 << 20, /* bytes of one reply: more is no Redis of ours */
    READ_SIZE = 16 << 10,
    READS_PER_TURN = 16,
};

enum state { WAITING, RESOLVING, CONNECTING, HANDSHAKE, UP };

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* A name being resolved; outlives the connection when that is freed meanwhile. */
struct resolving {
    struct redis_conn *conn; /* NULL: nobody waits */
    char *host, *port;
    int rc;
    struct address address;
};

struct redis_conn {
    struct sa_loop *loop;
    const struct redis_target *target;
    uint32_t deadline_ms;
    const struct redis_conn_events *events;
    void *user;
    int refs;
    bool gone;
    enum state state;
    struct sa_timer *timer; /* back-off, or the deadline of connecting */
    uint32_t backoff_ms;
    struct resolving *resolving;
    int fd;
    struct sa_io *io;
    struct sa_buf out;
    redisReader *reader;
    int handshake_left; /* replies */
    char *error;
};

static void try_connect(struct redis_conn *c);

static void release(struct redis_conn *c)
{
    if (--c->refs)
        return;
    sa_buf_fini(&c->out);
    free(c->error);
    free(c);
}

static void close_socket(struct redis_conn *c)
{
    sa_io_free(c->io);
    c->io = NULL;
    c->fd = sa_close(c->fd);
    if (c->reader)
        redisReaderFree(c->reader);
    c->reader = NULL;
    sa_buf_fini(&c->out);
}

void redis_conn_reset(struct redis_conn *c, const sa_error *why)
{
    bool was_up = c->state == UP;
    c->refs++;
    close_socket(c);
    free(c->error);
    c->error = sa_strdup(why->message);
    c->state = WAITING;
    c->backoff_ms = c->backoff_ms ? 2 * c->backoff_ms : BACKOFF_MIN_MS;
    if (c->backoff_ms > BACKOFF_MAX_MS)
        c->backoff_ms = BACKOFF_MAX_MS;
    sa_timer_start(c->timer, c->backoff_ms);
    if (was_up)
        c->events->down(c->user, why);
    release(c);
}

static void fail(struct redis_conn *c, const char *what, const char *why)
{
    cleanup_error sa_error *err = NULL;
    const struct redis_target *t = c->target;
    sa_fail(&err, SA_REDIS_UNAVAILABLE, "Redis at %s%s%s: %s%s%s", t->path ? t->path : t->host,
            t->path ? "" : ":", t->path ? "" : t->port, what, why ? ": " : "", why ? why : "");
    redis_conn_reset(c, err);
}

/* ---- writing ---- */

/* False: the connection broke. */
static bool flush(struct redis_conn *c)
{
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            fail(c, "write", strerror(errno));
            return false;
        }
        sa_buf_consume(&c->out, (size_t)n);
    }
    sa_io_set(c->io, SA_IO_READ | (c->out.len ? SA_IO_WRITE : 0));
    return true;
}

void redis_conn_send(struct redis_conn *c, const struct redis_arg *args, size_t n)
{
    sa_buf_addf(&c->out, "*%zu\r\n", n);
    for (size_t i = 0; i < n; i++) {
        sa_buf_addf(&c->out, "$%zu\r\n", args[i].n);
        sa_buf_add(&c->out, args[i].p, args[i].n);
        sa_buf_add(&c->out, "\r\n", 2);
    }
    sa_io_set(c->io, SA_IO_READ | SA_IO_WRITE);
}

/* ---- handshake ---- */

static void send_words(struct redis_conn *c, const char *a, const char *b, const char *d)
{
    struct redis_arg args[3] = {redis_arg(a)};
    size_t n = 1;
    if (b)
        args[n++] = redis_arg(b);
    if (d)
        args[n++] = redis_arg(d);
    redis_conn_send(c, args, n);
    c->handshake_left++;
}

static void start_handshake(struct redis_conn *c)
{
    const struct redis_target *t = c->target;
    char db[24];
    c->state = HANDSHAKE;
    c->reader = redisReaderCreate();
    if (!c->reader)
        abort(); /* out of memory */
    c->handshake_left = 0;
    if (t->password)
        send_words(c, "AUTH", t->user ? t->user : t->password, t->user ? t->password : NULL);
    if (t->db) {
        redis_arg_int(t->db, db);
        send_words(c, "SELECT", db, NULL);
    }
    send_words(c, "PING", NULL, NULL);
}

/* False: the connection broke or is gone. */
static bool on_handshake(struct redis_conn *c, const redisReply *r)
{
    if (r->type == REDIS_REPLY_ERROR) {
        fail(c, "refused", r->str);
        return false;
    }
    if (--c->handshake_left)
        return true;
    c->state = UP;
    c->backoff_ms = 0;
    sa_timer_stop(c->timer);
    free(c->error);
    c->error = NULL;
    c->events->up(c->user);
    return c->state == UP && !c->gone;
}

/* ---- reading ---- */

/* Hands up what the reader has. False: the connection broke or is gone. */
static bool take_replies(struct redis_conn *c)
{
    for (;;) {
        void *reply = NULL;
        redisReader *reader = c->reader;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            fail(c, "protocol error", reader->errstr);
            return false;
        }
        if (!reply)
            return true;
        bool alive = true;
        if (c->state == HANDSHAKE)
            alive = on_handshake(c, reply);
        else
            c->events->reply(c->user, reply);
        freeReplyObject(reply);
        if (!alive || c->gone || c->reader != reader)
            return false;
    }
}

static void on_readable(struct redis_conn *c)
{
    char b[READ_SIZE];
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(c->fd, b, sizeof b, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            fail(c, n ? "read" : "closed by the server", n ? strerror(errno) : NULL);
            return;
        }
        if (c->reader->len - c->reader->pos > REPLY_MAX ||
            redisReaderFeed(c->reader, b, (size_t)n) != REDIS_OK) {
            fail(c, "a reply is too large", NULL);
            return;
        }
        if (!take_replies(c) || n < (ssize_t)sizeof b)
            return;
    }
}

static void on_connected(struct redis_conn *c)
{
    int e = 0, one = 1;
    socklen_t n = sizeof e;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
    if (e) {
        fail(c, "connect", strerror(e));
        return;
    }
    if (!c->target->path) {
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    }
    start_handshake(c);
    flush(c);
}

static void on_io(void *user, int fd, int events)
{
    (void)fd;
    struct redis_conn *c = user;
    struct sa_io *io = c->io;
    c->refs++;
    if (c->state == CONNECTING) {
        on_connected(c);
    } else {
        if (events & SA_IO_WRITE)
            flush(c);
        if (c->io == io && !c->gone && (events & SA_IO_READ))
            on_readable(c);
    }
    release(c);
}

/* ---- connecting ---- */

static void connect_to(struct redis_conn *c, const struct address *a)
{
    c->fd = socket(a->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        fail(c, "socket", strerror(errno));
        return;
    }
    int rc = connect(c->fd, (const struct sockaddr *)&a->storage, a->len);
    if (rc && errno != EINPROGRESS) {
        fail(c, "connect", strerror(errno));
        return;
    }
    c->state = CONNECTING;
    c->io = sa_io_new(c->loop, c->fd, on_io, c);
    sa_io_set(c->io, SA_IO_WRITE);
    sa_timer_start(c->timer, c->deadline_ms);
}

/* On a worker thread. */
static void resolve(void *user)
{
    struct resolving *r = user;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    r->rc = getaddrinfo(r->host, r->port, &hints, &list);
    if (r->rc)
        return;
    memcpy(&r->address.storage, list->ai_addr, list->ai_addrlen);
    r->address.len = list->ai_addrlen;
    freeaddrinfo(list);
}

static void resolved(void *user)
{
    struct resolving *r = user;
    struct redis_conn *c = r->conn;
    if (c) {
        c->resolving = NULL;
        if (r->rc)
            fail(c, "resolve the name", gai_strerror(r->rc));
        else
            connect_to(c, &r->address);
    }
    free(r->host);
    free(r->port);
    free(r);
}

static void try_connect(struct redis_conn *c)
{
    const struct redis_target *t = c->target;
    if (t->path) {
        struct address a = {.len = sizeof(struct sockaddr_un)};
        struct sockaddr_un *un = (struct sockaddr_un *)&a.storage;
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, t->path); /* its length was checked */
        connect_to(c, &a);
        return;
    }
    struct resolving *r = sa_calloc(1, sizeof *r);
    r->conn = c;
    r->host = sa_strdup(t->host);
    r->port = sa_strdup(t->port);
    c->resolving = r;
    c->state = RESOLVING;
    sa_work(c->loop, resolve, resolved, r);
}

static void on_timer(void *user)
{
    struct redis_conn *c = user;
    if (c->state == WAITING)
        try_connect(c);
    else if (c->state == CONNECTING || c->state == HANDSHAKE)
        fail(c, "no answer", NULL);
}

/* ---- for the client ---- */

struct redis_conn *redis_conn_new(struct sa_loop *loop, const struct redis_target *target,
                                  uint32_t deadline_ms, const struct redis_conn_events *events, void *user)
{
    struct redis_conn *c = sa_calloc(1, sizeof *c);
    c->loop = loop;
    c->target = target;
    c->deadline_ms = deadline_ms;
    c->events = events;
    c->user = user;
    c->refs = 1;
    c->fd = -1;
    c->timer = sa_timer_new(loop, on_timer, c);
    sa_timer_start(c->timer, 0);
    return c;
}

void redis_conn_free(struct redis_conn *c)
{
    if (!c)
        return;
    c->gone = true;
    close_socket(c);
    sa_timer_free(c->timer);
    if (c->resolving)
        c->resolving->conn = NULL;
    release(c);
}

bool redis_conn_up(const struct redis_conn *c)
{
    return c->state == UP;
}

const char *redis_conn_error(const struct redis_conn *c)
{
    return c->error ? c->error : "";
}
