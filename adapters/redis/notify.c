/* Pub/sub on a second connection, and streams of changes on top of it: a notice is only the wake-up, the
 * entries are read by id over the first connection.
 *
 * Callbacks may free any subscription, and the client: while callbacks run (`dispatching`), what is freed is
 * only marked. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "adapters/redis/redis_internal.h"

enum {
    PING_MS = 5000,
    PAGE = 100,     /* entries in one read */
    RETRY_MS = 500, /* of a read that failed */
    STREAM_ID_MAX = 64,
};

struct redis_subscription {
    TAILQ_ENTRY(redis_subscription) link;
    struct redis_notify *notify; /* NULL: the client is gone */
    bool gone;
    char *channel;
    const struct redis_subscription_events *events;
    void *user;
};

struct redis_follow {
    TAILQ_ENTRY(redis_follow) link;
    struct redis_notify *notify; /* NULL: the client is gone */
    int refs;
    bool gone;
    bool waiting; /* for redis_follow_from */
    bool reading, again;
    char *key;
    char last[STREAM_ID_MAX], asked[STREAM_ID_MAX];
    struct redis_subscription *sub;
    struct sa_timer *retry;
    const struct redis_follow_events *events;
    void *user;
};

struct redis_notify {
    struct redis_client *client;
    struct sa_loop *loop;
    const struct redis_target *target;
    uint32_t deadline_ms;
    bool gone;
    int dispatching;
    struct redis_conn *conn; /* NULL until something is subscribed */
    struct sa_timer *ping;
    uint64_t heard_ms;
    TAILQ_HEAD(, redis_subscription) subs;
    TAILQ_HEAD(, redis_follow) follows;
};

static void poll_follow(struct redis_follow *f);

/* ---- the connection ---- */

static void send_words(struct redis_notify *n, const char *verb, const char *channel)
{
    struct redis_arg args[] = {redis_arg(verb), redis_arg(channel)};
    redis_conn_send(n->conn, args, channel ? 2 : 1);
}

static void destroy(struct redis_subscription *s)
{
    free(s->channel);
    free(s);
}

/* After callbacks: takes away what they freed. */
static void sweep(struct redis_notify *n)
{
    if (--n->dispatching)
        return;
    struct redis_subscription *s = TAILQ_FIRST(&n->subs), *next;
    for (; s; s = next) {
        next = TAILQ_NEXT(s, link);
        if (s->gone) {
            TAILQ_REMOVE(&n->subs, s, link);
            destroy(s);
        }
    }
    if (n->gone)
        free(n);
}

static void dispatch(struct redis_notify *n, const char *kind, const char *channel, const redisReply *payload)
{
    bool message = strcmp(kind, "message") == 0, again = strcmp(kind, "subscribe") == 0;
    if (!message && !again)
        return;
    struct redis_subscription *s;
    n->dispatching++;
    TAILQ_FOREACH(s, &n->subs, link)
    {
        if (s->gone || strcmp(s->channel, channel) != 0)
            continue;
        if (message)
            s->events->message(s->user, payload->str, payload->len);
        else if (s->events->again)
            s->events->again(s->user);
        if (n->gone)
            break;
    }
    sweep(n);
}

static void on_reply(void *user, const redisReply *r)
{
    struct redis_notify *n = user;
    n->heard_ms = sa_now_ms();
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3)
        return; /* PONG */
    const redisReply *kind = r->element[0], *channel = r->element[1], *payload = r->element[2];
    if (kind->type != REDIS_REPLY_STRING || channel->type != REDIS_REPLY_STRING)
        return;
    if (payload->type != REDIS_REPLY_STRING && strcmp(kind->str, "message") == 0)
        return;
    dispatch(n, kind->str, channel->str, payload);
}

static void on_up(void *user)
{
    struct redis_notify *n = user;
    struct redis_subscription *s;
    n->heard_ms = sa_now_ms();
    TAILQ_FOREACH(s, &n->subs, link)
    {
        if (!s->gone)
            send_words(n, "SUBSCRIBE", s->channel);
    }
    sa_timer_every(n->ping, PING_MS);
}

static void on_down(void *user, const sa_error *why)
{
    (void)why;
    struct redis_notify *n = user;
    sa_timer_stop(n->ping);
}

static const struct redis_conn_events conn_events = {on_up, on_down, on_reply};

static void on_ping(void *user)
{
    struct redis_notify *n = user;
    if (sa_now_ms() - n->heard_ms > PING_MS + n->deadline_ms) {
        cleanup_error sa_error *err = NULL;
        sa_fail(&err, SA_REDIS_UNAVAILABLE, "Redis is silent");
        redis_conn_reset(n->conn, err);
        return;
    }
    send_words(n, "PING", NULL);
}

struct redis_notify *redis_notify_new(struct redis_client *c, struct sa_loop *loop,
                                      const struct redis_target *target, uint32_t deadline_ms)
{
    struct redis_notify *n = sa_calloc(1, sizeof *n);
    n->client = c;
    n->loop = loop;
    n->target = target;
    n->deadline_ms = deadline_ms;
    n->ping = sa_timer_new(loop, on_ping, n);
    TAILQ_INIT(&n->subs);
    TAILQ_INIT(&n->follows);
    return n;
}

void redis_notify_free(struct redis_notify *n)
{
    n->gone = true;
    n->dispatching++;
    redis_conn_free(n->conn);
    sa_timer_free(n->ping);
    struct redis_subscription *s;
    for (struct redis_follow *f; (f = TAILQ_FIRST(&n->follows));) {
        TAILQ_REMOVE(&n->follows, f, link);
        f->notify = NULL;
        sa_timer_stop(f->retry);
    }
    /* Those that are not freed yet belong to their users. */
    struct redis_subscription *next;
    for (s = TAILQ_FIRST(&n->subs); s; s = next) {
        next = TAILQ_NEXT(s, link);
        s->notify = NULL;
        if (!s->gone)
            TAILQ_REMOVE(&n->subs, s, link);
    }
    sweep(n);
}

void redis_notify_online(struct redis_notify *n)
{
    struct redis_follow *f, *next;
    for (f = TAILQ_FIRST(&n->follows); f; f = next) {
        next = TAILQ_NEXT(f, link);
        poll_follow(f); /* calls nobody back */
    }
}

/* ---- subscriptions ---- */

struct redis_subscription *redis_subscribe(struct redis_client *c, const char *channel,
                                           const struct redis_subscription_events *events, void *user)
{
    struct redis_notify *n = redis_client_notify(c);
    struct redis_subscription *s = sa_calloc(1, sizeof *s);
    s->notify = n;
    s->channel = sa_strdup(channel);
    s->events = events;
    s->user = user;
    TAILQ_INSERT_TAIL(&n->subs, s, link);
    if (!n->conn)
        n->conn = redis_conn_new(n->loop, n->target, n->deadline_ms, &conn_events, n);
    else if (redis_conn_up(n->conn))
        send_words(n, "SUBSCRIBE", channel); /* again, if another has it: the answer is what we wait for */
    return s;
}

void redis_subscription_free(struct redis_subscription *s)
{
    if (!s)
        return;
    struct redis_notify *n = s->notify;
    if (!n) {
        destroy(s);
        return;
    }
    s->gone = true;
    bool wanted = false;
    struct redis_subscription *other;
    TAILQ_FOREACH(other, &n->subs, link)
    {
        wanted = wanted || (!other->gone && strcmp(other->channel, s->channel) == 0);
    }
    if (!wanted && redis_conn_up(n->conn))
        send_words(n, "UNSUBSCRIBE", s->channel);
    n->dispatching++;
    sweep(n);
}

/* ---- streams of changes ---- */

/* "reset" when the entry we stand at, or one after the beginning, is gone. */
static const struct redis_script follow_script = {
    "follow",
    "local last = ARGV[1]\n"
    "if last ~= '0-0' then\n"
    "  if #redis.call('XRANGE', KEYS[1], last, last) == 0 then return 'reset' end\n"
    "elseif redis.call('EXISTS', KEYS[1]) == 1 then\n"
    "  local info, length, added = redis.call('XINFO', 'STREAM', KEYS[1]), nil, nil\n"
    "  for i = 1, #info, 2 do\n"
    "    if info[i] == 'length' then length = info[i + 1] end\n"
    "    if info[i] == 'entries-added' then added = info[i + 1] end\n"
    "  end\n"
    "  if added and added > length then return 'reset' end\n"
    "end\n"
    "return redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', ARGV[2])\n",
};

static void follow_release(struct redis_follow *f)
{
    if (--f->refs)
        return;
    free(f->key);
    free(f);
}

static bool take_entries(struct redis_follow *f, const struct redis_reply *reply)
{
    for (size_t i = 0; i < redis_count(reply); i++) {
        const struct redis_reply *e = redis_at(reply, i);
        size_t n;
        const char *id = redis_str(redis_at(e, 0), &n);
        if (n >= sizeof f->last)
            return false;
        memcpy(f->last, id, n + 1);
        memcpy(f->asked, id, n + 1); /* still where this read stands */
        f->events->entry(f->user, id, redis_at(e, 1));
        if (f->gone || f->waiting || strcmp(f->last, f->asked) != 0)
            return false;
    }
    return redis_count(reply) == PAGE;
}

static void on_poll(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct redis_follow *f = user;
    f->reading = false;
    bool more = f->again;
    if (f->gone || !f->notify) {
        follow_release(f);
        return;
    }
    if (err) {
        sa_timer_start(f->retry, RETRY_MS);
    } else if (f->waiting || strcmp(f->last, f->asked) != 0) {
        more = true; /* moved meanwhile */
    } else if (strcmp(redis_str(reply, NULL), "reset") == 0) {
        f->waiting = true;
        f->events->reset(f->user);
    } else {
        more = take_entries(f, reply) || more;
    }
    if (more || strcmp(f->last, f->asked) != 0)
        poll_follow(f);
    follow_release(f);
}

static void poll_follow(struct redis_follow *f)
{
    if (f->gone || f->waiting || !f->notify || !redis_online(f->notify->client))
        return;
    f->again = f->reading;
    if (f->reading)
        return;
    f->reading = true;
    f->refs++;
    memcpy(f->asked, f->last, sizeof f->asked);
    char page[24];
    struct redis_arg key = redis_arg(f->key), args[] = {redis_arg(f->last), redis_arg_int(PAGE, page)};
    redis_eval(f->notify->client, &follow_script, &key, 1, args, 2, on_poll, f);
}

static void on_notice(void *user, const char *payload, size_t n)
{
    (void)payload, (void)n;
    poll_follow(user);
}

static void on_wake(void *user)
{
    poll_follow(user);
}

static const struct redis_subscription_events follow_events = {on_notice, on_wake};

struct redis_follow *redis_follow(struct redis_client *c, const char *stream_key, const char *after_id,
                                  const struct redis_follow_events *events, void *user)
{
    struct redis_notify *n = redis_client_notify(c);
    struct redis_follow *f = sa_calloc(1, sizeof *f);
    f->notify = n;
    f->refs = 1;
    f->waiting = true;
    f->key = sa_strdup(stream_key);
    f->events = events;
    f->user = user;
    f->retry = sa_timer_new(n->loop, on_wake, f);
    TAILQ_INSERT_TAIL(&n->follows, f, link);
    f->sub = redis_subscribe(c, stream_key, &follow_events, f);
    if (after_id)
        redis_follow_from(f, after_id);
    return f;
}

void redis_follow_from(struct redis_follow *f, const char *after_id)
{
    size_t n = strlen(after_id);
    if (n >= sizeof f->last)
        return; /* no id that Redis gives is as long */
    memcpy(f->last, after_id, n + 1);
    f->waiting = false;
    poll_follow(f);
}

void redis_follow_free(struct redis_follow *f)
{
    if (!f)
        return;
    if (f->notify)
        TAILQ_REMOVE(&f->notify->follows, f, link);
    redis_subscription_free(f->sub);
    sa_timer_free(f->retry);
    f->retry = NULL;
    f->gone = true;
    follow_release(f);
}
