/* One stream of a subscriber: delivery and repair.
 *
 * Design notes
 *
 * A stream has a position (the last delivered number) and a head (the highest number heard of). A message
 * that continues the position is delivered. Anything else that is newer is kept in the stream's buffer while
 * a read closes the hole; when the buffers are full it is only remembered in `head`, which causes another
 * read. So there is one rule: while position < head and nothing in the buffer continues the position, a read
 * is under way, waits for its turn (at most READS_MAX at once) or for its back-off. bus_stream_pump() keeps
 * it.
 *
 * Callbacks may unfollow the stream or free the subscriber: what runs holds both by a reference and looks at
 * `gone` afterwards. A read or list that is under way then loses its pointer and becomes inert. */
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/subscriber_internal.h"

enum {
    READS_MAX = 64,
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
};

/* ---- lifetimes ---- */

void bus_sub_release(struct bus_subscriber *s)
{
    if (!--s->refs)
        free(s);
}

void bus_stream_release(struct bus_stream *st)
{
    if (--st->refs)
        return;
    struct bus_subscriber *s = st->sub;
    free(st->id);
    free(st);
    bus_sub_release(s);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

struct bus_stream *bus_stream_find(const struct bus_subscriber *s, const char *id)
{
    struct bus_stream key = {.id = (char *)id}, **found = tfind(&key, &s->by_id, compare);
    return found ? *found : NULL;
}

struct bus_stream *bus_stream_add(struct bus_subscriber *s, const char *id, uint64_t position)
{
    struct bus_stream *st = sa_calloc(1, sizeof *st);
    st->id = sa_strdup(id);
    st->sub = s;
    st->refs = 1;
    st->position = st->head = position;
    STAILQ_INIT(&st->buffer);
    if (!tsearch(st, &s->by_id, compare))
        abort(); /* out of memory */
    TAILQ_INSERT_TAIL(&s->streams, st, link);
    s->refs++;
    s->stats.streams++;
    return st;
}

static void drop_first(struct bus_stream *st)
{
    struct buffered *b = STAILQ_FIRST(&st->buffer);
    STAILQ_REMOVE_HEAD(&st->buffer, link);
    st->sub->stats.buffered_bytes -= b->size;
    free(b->topic);
    free(b);
}

static void start_waiting(struct bus_subscriber *s)
{
    if (s->starting) /* a read that answers at once comes here again */
        return;
    s->starting = true;
    for (struct bus_stream *st; s->n_reads < READS_MAX && (st = TAILQ_FIRST(&s->waiting));) {
        TAILQ_REMOVE(&s->waiting, st, wait_link);
        st->waiting = false;
        bus_stream_pump(st);
    }
    s->starting = false;
}

/* Ends what the stream has under way; its position is set anew, or it goes. */
void bus_stream_reset(struct bus_stream *st)
{
    struct bus_subscriber *s = st->sub;
    while (!STAILQ_EMPTY(&st->buffer))
        drop_first(st);
    if (st->read) {
        st->read->stream = NULL;
        st->read = NULL;
        s->n_reads--;
    }
    if (st->waiting)
        TAILQ_REMOVE(&s->waiting, st, wait_link);
    st->waiting = false;
    sa_timer_free(st->retry);
    st->retry = NULL;
    st->retry_ms = 0;
}

void bus_stream_drop(struct bus_stream *st)
{
    struct bus_subscriber *s = st->sub;
    bus_stream_reset(st);
    tdelete(st, &s->by_id, compare);
    TAILQ_REMOVE(&s->streams, st, link);
    s->stats.streams--;
    st->gone = true;
    bus_stream_release(st);
}

/* ---- delivery and repair ---- */

/* False: the stream is gone. */
static bool deliver(struct bus_stream *st, const struct bus_message *m)
{
    struct bus_subscriber *s = st->sub;
    st->position = m->seq;
    if (st->head < m->seq)
        st->head = m->seq;
    s->stats.delivered++;
    s->stats.repaired += m->repaired;
    s->events->message(s->user, m);
    return !st->gone;
}

/* Delivers what the buffer has in order. False: the stream is gone. */
static bool deliver_buffered(struct bus_stream *st)
{
    for (struct buffered *b; (b = STAILQ_FIRST(&st->buffer));) {
        if (b->seq <= st->position) {
            st->sub->stats.duplicates++;
            drop_first(st);
            continue;
        }
        if (b->prev_seq != st->position)
            break;
        STAILQ_REMOVE_HEAD(&st->buffer, link);
        st->sub->stats.buffered_bytes -= b->size;
        struct bus_message m = {
            .stream_id = st->id, .topic = b->topic, .seq = b->seq, .prev_seq = b->prev_seq};
        m.payload = b->payload;
        m.payload_len = b->payload_len;
        bool alive = deliver(st, &m);
        free(b->topic);
        free(b);
        if (!alive)
            return false;
    }
    return true;
}

/* Up to where a read has to close the hole; the position: there is none. */
static uint64_t hole_end(const struct bus_stream *st)
{
    const struct buffered *b = STAILQ_FIRST(&st->buffer);
    if (b)
        return b->prev_seq > st->position ? b->prev_seq : b->seq;
    return st->head;
}

static void start_read(struct bus_stream *st, uint64_t until)
{
    struct bus_subscriber *s = st->sub;
    if (s->n_reads >= READS_MAX) {
        if (!st->waiting)
            TAILQ_INSERT_TAIL(&s->waiting, st, wait_link);
        st->waiting = true;
        return;
    }
    struct bus_read *r = sa_calloc(1, sizeof *r);
    *r = (struct bus_read){st, st->position, until};
    st->read = r;
    s->n_reads++;
    s->stats.reads++;
    s->events->read(s->user, r, st->id, r->after, r->until);
}

/* Delivers what can be delivered and sees to it that what is missing is being read. The stream may be gone
 * afterwards. */
void bus_stream_pump(struct bus_stream *st)
{
    if (st->pumping)
        return;
    st->pumping = true;
    st->refs++;
    while (!st->gone && !st->read && !st->waiting && !st->retry && deliver_buffered(st)) {
        uint64_t until = hole_end(st);
        if (until <= st->position || st->read || st->retry)
            break;
        start_read(st, until); /* may have answered already */
    }
    st->pumping = false;
    bus_stream_release(st);
}

static void keep(struct bus_stream *st, const Envelope *e, const char *topic)
{
    struct bus_subscriber *s = st->sub;
    size_t size = sizeof(struct buffered) + e->payload.len + strlen(topic) + 1;
    if (s->stats.buffered_bytes + size > BUS_BUFFER_MAX) {
        s->stats.overflowed++;
        return; /* `head` knows of it: it will be read */
    }
    struct buffered *b = sa_malloc(sizeof *b + e->payload.len);
    *b = (struct buffered){
        .seq = e->seq, .prev_seq = e->prev_seq, .size = size, .payload_len = e->payload.len};
    b->topic = sa_strdup(topic);
    if (e->payload.len)
        memcpy(b->payload, e->payload.data, e->payload.len);
    STAILQ_INSERT_TAIL(&st->buffer, b, link);
    s->stats.buffered_bytes += size;
}

void bus_stream_take(struct bus_stream *st, const Envelope *e, const char *topic)
{
    bool next = e->prev_seq == st->position && !e->payload_omitted && !st->read && STAILQ_EMPTY(&st->buffer);
    st->refs++;
    if (next) {
        struct bus_message m = {.stream_id = st->id, .topic = topic, .seq = e->seq, .prev_seq = e->prev_seq};
        m.payload = e->payload.data;
        m.payload_len = e->payload.len;
        deliver(st, &m);
    } else {
        if (st->head < e->seq)
            st->head = e->seq;
        if (!e->payload_omitted)
            keep(st, e, topic);
    }
    if (!st->gone)
        bus_stream_pump(st);
    bus_stream_release(st);
}

static void on_retry(void *user)
{
    struct bus_stream *st = user;
    sa_timer_free(st->retry);
    st->retry = NULL;
    bus_stream_pump(st);
}

static void read_failed(struct bus_stream *st)
{
    st->sub->stats.read_failures++;
    st->retry_ms = st->retry_ms ? st->retry_ms * 2 : RETRY_MIN_MS;
    if (st->retry_ms > RETRY_MAX_MS)
        st->retry_ms = RETRY_MAX_MS;
    st->retry = sa_timer_new(st->sub->loop, on_retry, st);
    sa_timer_start(st->retry, st->retry_ms);
}

void bus_read_add(struct bus_read *read, uint64_t seq, uint64_t prev_seq, const void *payload, size_t n)
{
    struct bus_stream *st = read->stream;
    /* A hole in the answer: nothing after it counts, and the rest is read again. */
    if (!st || seq <= st->position || prev_seq > st->position)
        return;
    struct bus_message m = {
        .stream_id = st->id, .topic = st->id, .seq = seq, .prev_seq = prev_seq, .repaired = true};
    m.payload = payload;
    m.payload_len = n;
    st->refs++;
    (void)deliver(st, &m);
    bus_stream_release(st);
}

/* Takes the read from its stream; NULL: inert. */
static struct bus_stream *end_read(struct bus_read *read, uint64_t *ret_after)
{
    struct bus_stream *st = read->stream;
    *ret_after = read->after;
    free(read);
    if (st) {
        st->read = NULL;
        st->sub->n_reads--;
    }
    return st;
}

void bus_read_done(struct bus_read *read, const sa_error *err)
{
    uint64_t after;
    struct bus_stream *st = end_read(read, &after);
    if (!st)
        return;
    struct bus_subscriber *s = st->sub;
    s->refs++;
    if (err || st->position == after)
        read_failed(st);
    else
        st->retry_ms = 0;
    bus_stream_pump(st);
    start_waiting(s);
    bus_sub_release(s);
}

void bus_read_gap(struct bus_read *read, uint64_t first_available_seq)
{
    uint64_t after;
    struct bus_stream *st = end_read(read, &after);
    if (!st)
        return;
    struct bus_subscriber *s = st->sub;
    s->refs++;
    st->refs++;
    if (first_available_seq <= st->position + 1) {
        read_failed(st); /* it is available, says the answer: ask again */
    } else {
        st->retry_ms = 0;
        st->position = first_available_seq - 1;
        if (st->head < st->position)
            st->head = st->position;
        s->stats.gaps++;
        if (s->events->gap)
            s->events->gap(s->user, st->id, first_available_seq);
    }
    if (!st->gone)
        bus_stream_pump(st);
    bus_stream_release(st);
    start_waiting(s);
    bus_sub_release(s);
}
