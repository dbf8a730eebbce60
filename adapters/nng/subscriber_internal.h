/* The subscriber's parts: stream.c (one stream: delivery and repair) and subscriber.c (the socket, beats,
 * heads). */
#ifndef ADAPTERS_NNG_SUBSCRIBER_INTERNAL_H_
#define ADAPTERS_NNG_SUBSCRIBER_INTERNAL_H_

#include <sys/queue.h>

#include "adapters/nng/bus_internal.h"

struct buffered {
    STAILQ_ENTRY(buffered) link;
    uint64_t seq, prev_seq;
    size_t size; /* counted in the subscriber */
    char *topic;
    size_t payload_len;
    uint8_t payload[];
};

struct bus_stream {
    char *id; /* first: the tree compares it */
    struct bus_subscriber *sub;
    TAILQ_ENTRY(bus_stream) link, wait_link;
    int refs;
    bool gone, waiting, pumping;
    uint64_t position, head;
    STAILQ_HEAD(, buffered) buffer;
    struct bus_read *read;
    struct sa_timer *retry; /* NULL unless a read failed */
    uint32_t retry_ms;
};

struct prefix {
    struct prefix *next;
    bool listed; /* the heads of its streams are known */
    size_t n;
    char text[];
};

struct bus_read {
    struct bus_stream *stream; /* NULL: inert */
    uint64_t after, until;
};

struct listed {
    char *id;
    uint64_t head;
};

struct bus_list {
    struct bus_subscriber *sub; /* NULL: inert */
    struct listed *items;
    size_t n, cap;
};

struct bus_subscriber {
    struct sa_loop *loop;
    const struct bus_subscriber_events *events;
    void *user;
    int refs;
    bool gone;
    nng_socket socket;
    struct sa_io *io;
    struct sa_timer *timer;    /* looks for silence */
    uint64_t epoch, old_epoch; /* old: 0 until it changed */
    uint64_t instance;         /* of the publisher */
    uint64_t last_beat_ms, list_not_before_ms;
    uint32_t list_wait_ms;
    struct bus_list *list;
    bool list_again;
    struct prefix *prefixes;
    void *by_id; /* tsearch tree of struct bus_stream */
    TAILQ_HEAD(, bus_stream) streams;
    TAILQ_HEAD(, bus_stream) waiting; /* for a read's turn */
    size_t n_reads;
    bool starting; /* waiting reads */
    struct bus_subscriber_stats stats;
};

void bus_sub_release(struct bus_subscriber *s);
void bus_stream_release(struct bus_stream *st);
struct bus_stream *bus_stream_find(const struct bus_subscriber *s, const char *id);
struct bus_stream *bus_stream_add(struct bus_subscriber *s, const char *id, uint64_t position);
/* Ends what the stream has under way: its position is to be set anew. */
void bus_stream_reset(struct bus_stream *st);
void bus_stream_drop(struct bus_stream *st);
/* A message that is newer than the position. The stream may be gone afterwards. */
void bus_stream_take(struct bus_stream *st, const Envelope *e, const char *topic);
/* Delivers what can be delivered and sees to it that what is missing is being read. The stream may be gone
 * afterwards. */
void bus_stream_pump(struct bus_stream *st);

#endif
