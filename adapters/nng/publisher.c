/* The publishing side: sends and forgets, but for the heads of the streams that changed lately, which go into
 * the beats. */
#include "adapters/nng/bus_internal.h"

#include <nng/protocol/pubsub0/pub.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "adapters/os/clock.h"

struct recent {
    char *id; /* first: the tree compares it */
    uint64_t head;
    uint64_t changed_ms;
    TAILQ_ENTRY(recent) link;
};

struct bus_publisher {
    nng_socket socket;
    struct sa_timer *timer;
    uint64_t epoch, instance;
    unsigned drop_percent;
    uint64_t random;
    void *by_id;                 /* tsearch tree of struct recent */
    TAILQ_HEAD(, recent) recent; /* the one changed last at the end */
    struct bus_publisher_stats stats;
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool drop(struct bus_publisher *p)
{
    if (!p->drop_percent)
        return false;
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    if (p->random % 100 >= p->drop_percent)
        return false;
    p->stats.dropped_on_purpose++;
    return true;
}

static void send_envelope(struct bus_publisher *p, const char *topic, Envelope *e)
{
    e->schema = BUS_SCHEMA;
    e->epoch = p->epoch;
    e->sent_at_us = sa_wall_us();
    if (drop(p))
        return;
    nng_msg *msg = bus_seal(topic, e);
    /* A publisher never blocks: what a subscriber has no room for is dropped by NNG. */
    if (msg && nng_sendmsg(p->socket, msg, NNG_FLAG_NONBLOCK))
        nng_msg_free(msg);
}

/* ---- beats ---- */

static void forget(struct bus_publisher *p, struct recent *r)
{
    tdelete(r, &p->by_id, compare);
    TAILQ_REMOVE(&p->recent, r, link);
    free(r->id);
    free(r);
}

static void send_beat(struct bus_publisher *p, StreamHead **heads, size_t n)
{
    Beat beat = SANDBOXAGENT__BROKER__V1__BEAT__INIT;
    Envelope e = SANDBOXAGENT__BROKER__V1__ENVELOPE__INIT;
    beat.heads = heads;
    beat.n_heads = n;
    beat.instance = p->instance;
    e.beat = &beat;
    p->stats.beats++;
    send_envelope(p, BUS_BEAT_TOPIC, &e);
}

static void on_beat(void *user)
{
    struct bus_publisher *p = user;
    uint64_t now = sa_now_ms();
    StreamHead heads[BUS_BEAT_HEADS], *pointers[BUS_BEAT_HEADS];
    size_t n = 0;
    for (struct recent *r; (r = TAILQ_FIRST(&p->recent)) && now - r->changed_ms > BUS_RECENT_MS;)
        forget(p, r);
    struct recent *r;
    TAILQ_FOREACH(r, &p->recent, link)
    {
        if (n == BUS_BEAT_HEADS) {
            send_beat(p, pointers, n);
            n = 0;
        }
        sandboxagent__broker__v1__stream_head__init(&heads[n]);
        heads[n].stream_id = (ProtobufCBinaryData){strlen(r->id), (uint8_t *)r->id};
        heads[n].seq = r->head;
        pointers[n] = &heads[n];
        n++;
    }
    send_beat(p, pointers, n);
}

static void note_head(struct bus_publisher *p, const char *stream_id, uint64_t seq)
{
    struct recent key = {.id = (char *)stream_id};
    struct recent **found = tfind(&key, &p->by_id, compare), *r = found ? *found : NULL;
    if (r) {
        TAILQ_REMOVE(&p->recent, r, link);
    } else {
        r = sa_calloc(1, sizeof *r);
        r->id = sa_strdup(stream_id);
        if (!tsearch(r, &p->by_id, compare))
            abort(); /* out of memory */
    }
    r->head = seq > r->head ? seq : r->head;
    r->changed_ms = sa_now_ms();
    TAILQ_INSERT_TAIL(&p->recent, r, link);
}

/* ---- public ---- */

struct bus_publisher *bus_publisher_new(struct sa_loop *loop, const struct bus_publisher_options *opt,
                                        sa_error **err)
{
    nng_socket socket;
    int rc = nng_pub0_open(&socket);
    if (rc) {
        bus_fail_nng(err, rc, "open a publisher for", opt->url);
        return NULL;
    }
    rc = nng_socket_set_int(socket, NNG_OPT_SENDBUF, BUS_QUEUE); /* only before listening */
    if (!rc)
        rc = nng_listen(socket, opt->url, NULL, 0);
    if (rc) {
        bus_close(socket);
        bus_fail_nng(err, rc, "listen on", opt->url);
        return NULL;
    }
    const char *env = getenv("SA_BUS_DROP_PERCENT");
    struct bus_publisher *p = sa_calloc(1, sizeof *p);
    p->socket = socket;
    p->epoch = opt->epoch;
    p->drop_percent = opt->drop_percent ? opt->drop_percent : env ? (unsigned)strtoul(env, NULL, 10) : 0;
    sa_random(&p->instance, sizeof p->instance);
    p->random = p->instance | 1;
    TAILQ_INIT(&p->recent);
    p->timer = sa_timer_new(loop, on_beat, p);
    sa_timer_every(p->timer, BUS_BEAT_MS);
    return p;
}

void bus_publisher_free(struct bus_publisher *p)
{
    if (!p)
        return;
    sa_timer_free(p->timer);
    bus_close(p->socket);
    for (struct recent *r; (r = TAILQ_FIRST(&p->recent));)
        forget(p, r);
    free(p);
}

void bus_publish(struct bus_publisher *p, const char *topic, const char *stream_id, uint64_t seq,
                 uint64_t prev_seq, const void *payload, size_t n)
{
    size_t id_len = strlen(stream_id);
    if (!bus_valid_id(stream_id) || strlen(topic) > BUS_TOPIC_MAX || strncmp(topic, stream_id, id_len) != 0 ||
        (topic[id_len] && topic[id_len] != '/') || prev_seq >= seq) {
        p->stats.refused++;
        return;
    }
    Envelope e = SANDBOXAGENT__BROKER__V1__ENVELOPE__INIT;
    e.stream_id = (ProtobufCBinaryData){id_len, (uint8_t *)stream_id};
    e.seq = seq;
    e.prev_seq = prev_seq;
    e.payload_omitted = n > BUS_PAYLOAD_MAX;
    if (e.payload_omitted)
        p->stats.payloads_omitted++;
    else
        e.payload = (ProtobufCBinaryData){n, (uint8_t *)payload};
    p->stats.published++;
    note_head(p, stream_id, seq);
    send_envelope(p, topic, &e);
}

void bus_publisher_stats(const struct bus_publisher *p, struct bus_publisher_stats *ret)
{
    *ret = p->stats;
}
