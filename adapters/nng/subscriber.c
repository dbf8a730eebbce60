/* The listening side: the socket, what arrives on it, and the heads that tell what did not. */
#include "adapters/nng/bus_internal.h"

#include <nng/protocol/pubsub0/sub.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/subscriber_internal.h"
#include "adapters/os/clock.h"

enum {
    MESSAGES_PER_TURN = 512, /* then other watchers get theirs */
    SILENCE_MS = 3 * BUS_BEAT_MS,
    LIST_AGAIN_MAX_MS = 30000,
};

static void ask_heads(struct bus_subscriber *s);

/* ---- what arrives ---- */

static struct prefix *prefix_of(const struct bus_subscriber *s, const char *id)
{
    struct prefix *p = s->prefixes;
    while (p && strncmp(id, p->text, p->n) != 0)
        p = p->next;
    return p;
}

/* The stream, when it is followed; a new one of a listed prefix begins with 0. */
static struct bus_stream *followed(struct bus_subscriber *s, const char *id)
{
    struct bus_stream *st = bus_stream_find(s, id);
    if (st)
        return st;
    struct prefix *p = prefix_of(s, id);
    return p && p->listed && s->stats.streams < BUS_STREAMS_MAX ? bus_stream_add(s, id, 0) : NULL;
}

static void note_head(struct bus_subscriber *s, const char *id, uint64_t head)
{
    struct bus_stream *st = followed(s, id);
    if (!st || head <= st->head)
        return;
    st->head = head;
    bus_stream_pump(st);
}

static void change_epoch(struct bus_subscriber *s, uint64_t epoch)
{
    uint64_t old = s->epoch;
    s->epoch = epoch;
    if (!old || old == epoch)
        return;
    s->old_epoch = old;
    for (struct bus_stream *st; (st = TAILQ_FIRST(&s->streams));)
        bus_stream_drop(st);
    for (struct prefix *p = s->prefixes; p; p = p->next)
        p->listed = false;
    if (s->events->epoch_changed)
        s->events->epoch_changed(s->user, old, epoch);
    if (!s->gone && s->prefixes)
        ask_heads(s);
}

static void on_fact(struct bus_subscriber *s, const Envelope *e, const char *topic)
{
    char id[BUS_TOPIC_MAX + 1];
    memcpy(id, e->stream_id.data, e->stream_id.len);
    id[e->stream_id.len] = 0;
    struct bus_stream *st = followed(s, id);
    if (!st)
        return;
    if (e->seq <= st->position) {
        s->stats.duplicates++;
        return;
    }
    bus_stream_take(st, e, topic);
}

static void on_beat(struct bus_subscriber *s, const Beat *beat)
{
    s->stats.beats++;
    s->last_beat_ms = sa_now_ms();
    s->list_wait_ms = 0;
    bool restarted = s->instance && s->instance != beat->instance;
    s->instance = beat->instance;
    for (size_t i = 0; i < beat->n_heads && !s->gone; i++) {
        char id[BUS_TOPIC_MAX + 1];
        ProtobufCBinaryData name = beat->heads[i]->stream_id;
        if (name.len)
            memcpy(id, name.data, name.len);
        id[name.len] = 0;
        if (id[0])
            note_head(s, id, beat->heads[i]->seq);
    }
    /* What the last instance told at its end may be lost, and this one does not name it. */
    if (restarted && !s->gone)
        ask_heads(s);
}

static void on_message(struct bus_subscriber *s, nng_msg *msg)
{
    char topic[BUS_TOPIC_MAX + 1];
    Envelope *e = bus_open(msg, topic);
    s->stats.received++;
    if (!e) {
        s->stats.malformed++;
        return;
    }
    bool stale = e->epoch == s->old_epoch; /* an epoch never comes back */
    if (!stale)
        change_epoch(s, e->epoch);
    if (stale)
        s->stats.duplicates++;
    else if (!s->gone && e->beat)
        on_beat(s, e->beat);
    else if (!s->gone)
        on_fact(s, e, topic);
    sandboxagent__broker__v1__envelope__free_unpacked(e, NULL);
}

static void on_readable(void *user, int fd, int events)
{
    (void)fd, (void)events;
    struct bus_subscriber *s = user;
    nng_msg *msg;
    s->refs++;
    for (int i = 0; i < MESSAGES_PER_TURN && !s->gone && !nng_recvmsg(s->socket, &msg, NNG_FLAG_NONBLOCK);
         i++)
        on_message(s, msg);
    bus_sub_release(s);
}

/* ---- asking for the heads ---- */

static void ask_heads(struct bus_subscriber *s)
{
    if (s->list) {
        s->list_again = true;
        return;
    }
    s->list = sa_calloc(1, sizeof *s->list);
    s->list->sub = s;
    s->list_again = false;
    s->stats.lists++;
    s->events->list_heads(s->user, s->list);
}

static void on_tick(void *user)
{
    struct bus_subscriber *s = user;
    uint64_t now = sa_now_ms();
    bool needed = now - s->last_beat_ms >= SILENCE_MS;
    for (struct prefix *p = s->prefixes; p; p = p->next)
        needed = needed || !p->listed;
    if (!needed || s->list || now < s->list_not_before_ms)
        return;
    s->list_wait_ms = s->list_wait_ms ? s->list_wait_ms * 2 : SILENCE_MS;
    if (s->list_wait_ms > LIST_AGAIN_MAX_MS)
        s->list_wait_ms = LIST_AGAIN_MAX_MS;
    s->list_not_before_ms = now + s->list_wait_ms;
    ask_heads(s);
}

void bus_list_add(struct bus_list *list, const char *stream_id, uint64_t head_seq)
{
    if (!list->sub || !bus_valid_id(stream_id))
        return;
    if (list->n == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 64;
        list->items = sa_realloc(list->items, list->cap * sizeof *list->items);
    }
    list->items[list->n++] = (struct listed){sa_strdup(stream_id), head_seq};
}

static void apply_list(struct bus_subscriber *s, const struct bus_list *list)
{
    for (size_t i = 0; i < list->n && !s->gone; i++) {
        const struct listed *item = &list->items[i];
        struct prefix *p = prefix_of(s, item->id);
        if (p && !p->listed && !bus_stream_find(s, item->id) && s->stats.streams < BUS_STREAMS_MAX)
            bus_stream_add(s, item->id, item->head); /* what exists now begins at its head */
        else
            note_head(s, item->id, item->head);
    }
    if (s->gone || s->list_again)
        return;
    for (struct prefix *p = s->prefixes; p; p = p->next)
        p->listed = true;
}

void bus_list_done(struct bus_list *list, uint64_t epoch, const sa_error *err)
{
    struct bus_subscriber *s = list->sub;
    if (s) {
        s->refs++;
        s->list = NULL;
        bool usable = !err && epoch && epoch != s->old_epoch;
        if (usable)
            change_epoch(s, epoch);
        if (usable && !s->gone)
            apply_list(s, list);
        if (!s->gone && s->list_again && !s->list)
            ask_heads(s);
        bus_sub_release(s);
    }
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i].id);
    free(list->items);
    free(list);
}

/* ---- public ---- */

struct bus_subscriber *bus_subscriber_new(struct sa_loop *loop, const struct bus_subscriber_options *opt,
                                          sa_error **err)
{
    nng_socket socket;
    int fd = -1, rc = nng_sub0_open(&socket);
    if (rc) {
        bus_fail_nng(err, rc, "open a subscriber for", opt->url);
        return NULL;
    }
    rc = nng_socket_set_int(socket, NNG_OPT_RECVBUF, BUS_QUEUE);
    if (!rc)
        rc = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, BUS_MESSAGE_MAX);
    if (!rc)
        rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, 50);
    if (!rc)
        rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, 1000);
    if (!rc) /* everything: NNG would compare each topic in turn, and filters only here anyway */
        rc = nng_socket_set(socket, NNG_OPT_SUB_SUBSCRIBE, "", 0);
    if (!rc)
        rc = nng_socket_get_int(socket, NNG_OPT_RECVFD, &fd);
    if (!rc)
        rc = nng_dial(socket, opt->url, NULL, NNG_FLAG_NONBLOCK);
    if (rc) {
        bus_close(socket);
        bus_fail_nng(err, rc, "subscribe to", opt->url);
        return NULL;
    }
    struct bus_subscriber *s = sa_calloc(1, sizeof *s);
    s->loop = loop;
    s->events = opt->events;
    s->user = opt->user;
    s->epoch = opt->epoch;
    s->refs = 1;
    s->socket = socket;
    TAILQ_INIT(&s->streams);
    TAILQ_INIT(&s->waiting);
    s->last_beat_ms = sa_now_ms();
    s->io = sa_io_new(loop, fd, on_readable, s);
    sa_io_set(s->io, SA_IO_READ);
    s->timer = sa_timer_new(loop, on_tick, s);
    sa_timer_every(s->timer, BUS_BEAT_MS);
    return s;
}

void bus_subscriber_free(struct bus_subscriber *s)
{
    if (!s)
        return;
    s->gone = true;
    sa_io_free(s->io);
    sa_timer_free(s->timer);
    bus_close(s->socket);
    for (struct bus_stream *st; (st = TAILQ_FIRST(&s->streams));)
        bus_stream_drop(st);
    for (struct prefix *p; (p = s->prefixes);) {
        s->prefixes = p->next;
        free(p);
    }
    if (s->list)
        s->list->sub = NULL;
    bus_sub_release(s);
}

int bus_follow(struct bus_subscriber *s, const char *stream_id, uint64_t after_seq, uint64_t head_seq,
               sa_error **err)
{
    if (!bus_valid_id(stream_id))
        return sa_fail(err, SA_INVALID_REQUEST, "bus: a stream id has 1 to %d bytes", BUS_TOPIC_MAX);
    struct bus_stream *st = bus_stream_find(s, stream_id);
    if (!st && s->stats.streams >= BUS_STREAMS_MAX)
        return sa_fail(err, SA_TOO_MANY, "bus: %d streams are followed already", BUS_STREAMS_MAX);
    if (st)
        bus_stream_reset(st);
    else
        st = bus_stream_add(s, stream_id, after_seq);
    st->position = after_seq;
    st->head = head_seq > after_seq ? head_seq : after_seq;
    bus_stream_pump(st);
    return 0;
}

void bus_unfollow(struct bus_subscriber *s, const char *stream_id)
{
    struct bus_stream *st = bus_stream_find(s, stream_id);
    if (st)
        bus_stream_drop(st);
}

int bus_follow_prefix(struct bus_subscriber *s, const char *prefix, sa_error **err)
{
    size_t n = strlen(prefix);
    if (n > BUS_TOPIC_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "bus: a prefix has at most %d bytes", BUS_TOPIC_MAX);
    struct prefix *p = sa_calloc(1, sizeof *p + n + 1);
    p->n = n;
    memcpy(p->text, prefix, n + 1);
    p->next = s->prefixes;
    s->prefixes = p;
    ask_heads(s);
    return 0;
}

void bus_unfollow_prefix(struct bus_subscriber *s, const char *prefix)
{
    for (struct prefix **at = &s->prefixes, *p; (p = *at);) {
        if (strcmp(p->text, prefix) == 0) {
            *at = p->next;
            free(p);
        } else {
            at = &p->next;
        }
    }
}

bool bus_position(const struct bus_subscriber *s, const char *stream_id, uint64_t *ret_seq)
{
    struct bus_stream *st = bus_stream_find(s, stream_id);
    if (st)
        *ret_seq = st->position;
    return st != NULL;
}

void bus_subscriber_stats(const struct bus_subscriber *s, struct bus_subscriber_stats *ret)
{
    *ret = s->stats;
}
