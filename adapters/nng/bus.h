/* Facts between processes, over NNG publish/subscribe (mechanisms: "Bus").
 *
 * NNG loses messages when a subscriber is slow or away. So every message carries its number and the one
 * before it in its stream, each publisher sends a beat every 500 ms with the heads of what changed lately,
 * and a subscriber that finds something missing reads it from the owner through its user's `read` function.
 * What comes out of a subscriber is per stream complete, in order, and exactly once; only after compaction is
 * there a `gap`.
 *
 * A stream is a counter of its owner ("session/<id>"); a topic is the stream's id or a path below it
 * ("session/<id>/event"). An epoch belongs to the owner's store: it changes only when the store was lost or
 * restored, and makes all positions void.
 *
 * All functions are called with the service lock held; all callbacks run under it, on the loop thread. No
 * thread of NNG runs our code. Callbacks may call any function here, bus_subscriber_free too. */
#ifndef ADAPTERS_NNG_BUS_H_
#define ADAPTERS_NNG_BUS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"

enum {
    BUS_TOPIC_MAX = 255,        /* bytes of a topic or stream id; no NUL inside */
    BUS_PAYLOAD_MAX = 16 << 10, /* larger payloads are not sent: subscribers read them from the owner */
    BUS_BEAT_MS = 500,
    BUS_RECENT_MS = 10000,     /* a beat names the streams that changed within this time */
    BUS_BUFFER_MAX = 16 << 20, /* bytes a subscriber keeps while repairs run; beyond, it reads them again */
    BUS_STREAMS_MAX = 100000,  /* streams one subscriber follows */
};

/* ---- publisher: one per service ---- */

struct bus_publisher;

struct bus_publisher_options {
    const char *url;       /* "ipc:///dir/bus" or "tcp://host:port" */
    uint64_t epoch;        /* of the owner's store; not 0 */
    uint32_t drop_percent; /* tests: so many of 100 messages (beats too) are lost on purpose. Without it the
                            * environment variable SA_BUS_DROP_PERCENT is read */
};

/* Listens. ADDRESS_IN_USE names the url. */
struct bus_publisher *bus_publisher_new(struct sa_loop *loop, const struct bus_publisher_options *opt,
                                        sa_error **err);
void bus_publisher_free(struct bus_publisher *p); /* NULL is fine */

/* Tells what was committed; never blocks, never fails: whoever misses it reads it from the owner. topic:
 * stream_id or
 * "<stream_id>/...". The message takes a reader from prev_seq to seq (prev_seq < seq; one event, or a batch).
 * Copies. */
void bus_publish(struct bus_publisher *p, const char *topic, const char *stream_id, uint64_t seq,
                 uint64_t prev_seq, const void *payload, size_t n);

struct bus_publisher_stats {
    uint64_t published, dropped_on_purpose, payloads_omitted, beats;
    uint64_t refused; /* a topic or number that is not allowed: a mistake of the caller */
};
void bus_publisher_stats(const struct bus_publisher *p, struct bus_publisher_stats *ret);

/* ---- subscriber: one per publisher that a process listens to ---- */

struct bus_subscriber;
struct bus_read;
struct bus_list;

struct bus_message {
    const char *stream_id;
    const char *topic; /* the stream's id when the message came from a read */
    uint64_t seq, prev_seq;
    const void *payload;
    size_t payload_len;
    bool repaired; /* came through `read` */
};

struct bus_subscriber_events {
    /* The stream's next message. Memory lives for the call. */
    void (*message)(void *user, const struct bus_message *m);
    /* Get the stream's messages after `after_seq` up to `until_seq` (later ones are welcome too) from the
     * owner: give them in order with bus_read_add, then end with bus_read_done or bus_read_gap. May answer at
     * once or later, but answers every read, once. One read per stream at a time. */
    void (*read)(void *user, struct bus_read *read, const char *stream_id, uint64_t after_seq,
                 uint64_t until_seq);
    /* Get the heads of all streams from the owner (three beats were missed, or a prefix was followed):
     * bus_list_add for each, then bus_list_done. */
    void (*list_heads)(void *user, struct bus_list *list);
    /* Compaction: nothing after the stream's position and before first_available_seq can be had any more. The
     * stream goes on at first_available_seq; take a snapshot. May be NULL. */
    void (*gap)(void *user, const char *stream_id, uint64_t first_available_seq);
    /* The owner's store is another one: every position is void. All streams were unfollowed; follow them
     * again from where the new store says. Prefixes stay, and their streams begin at their heads again. May
     * be NULL. */
    void (*epoch_changed)(void *user, uint64_t old_epoch, uint64_t new_epoch);
};

struct bus_subscriber_options {
    const char *url; /* the publisher's; need not exist yet, is reconnected for ever */
    uint64_t epoch;  /* that the followed positions belong to; 0: the first that is seen */
    const struct bus_subscriber_events *events; /* kept by reference */
    void *user;
};

struct bus_subscriber *bus_subscriber_new(struct sa_loop *loop, const struct bus_subscriber_options *opt,
                                          sa_error **err);
/* Meant for the end of the process: NNG may fail to close a socket while messages arrive, and leaks it then
 * (this call waits at most 300 ms). Reads and lists under way become inert: answering them is still allowed,
 * and required. NULL is fine. */
void bus_subscriber_free(struct bus_subscriber *s);

/* Delivers everything of the stream after after_seq, in order. A stream that is followed already is moved to
 * after_seq. head_seq: what the caller knows to exist (0: nothing known); beyond after_seq it is read at
 * once. TOO_MANY beyond BUS_STREAMS_MAX; INVALID_REQUEST for a bad id. */
int bus_follow(struct bus_subscriber *s, const char *stream_id, uint64_t after_seq, uint64_t head_seq,
               sa_error **err);
void bus_unfollow(struct bus_subscriber *s, const char *stream_id); /* unknown: fine */
/* Delivers all streams whose id begins with the prefix: those that exist now from their present head on
 * (list_heads tells it), later ones from their beginning. bus_unfollow of such a stream only forgets its
 * position. */
int bus_follow_prefix(struct bus_subscriber *s, const char *prefix, sa_error **err);
void bus_unfollow_prefix(struct bus_subscriber *s, const char *prefix); /* its streams stay followed */
/* The last delivered number of a stream; false: not followed. */
bool bus_position(const struct bus_subscriber *s, const char *stream_id, uint64_t *ret_seq);

/* Answers to `read`. Messages at or before the stream's position are skipped. */
void bus_read_add(struct bus_read *read, uint64_t seq, uint64_t prev_seq, const void *payload, size_t n);
/* err (borrowed; NULL: fine): it is tried again with back-off from 100 ms to 5 s. The read is gone after
 * this. */
void bus_read_done(struct bus_read *read, const sa_error *err);
void bus_read_gap(struct bus_read *read, uint64_t first_available_seq);

/* Answers to `list_heads`. */
void bus_list_add(struct bus_list *list, const char *stream_id, uint64_t head_seq);
void bus_list_done(struct bus_list *list, uint64_t epoch, const sa_error *err);

struct bus_subscriber_stats {
    uint64_t received, delivered, duplicates,
        repaired; /* messages; repaired ones are delivered ones that were read */
    uint64_t reads, read_failures, lists, beats, overflowed, malformed, gaps;
    uint64_t streams, buffered_bytes;
};
void bus_subscriber_stats(const struct bus_subscriber *s, struct bus_subscriber_stats *ret);

#endif
