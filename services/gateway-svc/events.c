#include "services/gateway-svc/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/bus.h"
#include "adapters/os/log.h"

enum {
    BUCKETS = 1024, /* a power of two */
    REPAIR_PAGE = 200,
    HEADS_PAGE = 1000,
};

struct feed {
    struct events *events;
    struct feed *next, **link; /* in its bucket */
    char *session_id, *stream_id;
    char *epoch; /* NULL: not following */
    struct feed_viewer *viewers;
    struct window window;
};

struct events {
    struct gateway *gw;
    struct bus_subscriber *bus; /* NULL until the log's epoch is known */
    uint64_t epoch;             /* that the bus speaks of */
    struct job *jobs;           /* calls under way for the subscriber */
    struct feed *buckets[BUCKETS];
};

/* A question of the subscriber that a call to the owner answers. */
struct job {
    struct events *events;
    struct job *next, **link;
    struct rpc_request *rpc;
    struct bus_read *read;
    struct bus_list *list;
    char *session_id;
    uint64_t after, until;
    char **ids; /* of ListHeads */
    size_t n_ids, at;
    uint64_t epoch;
};

/* ---- frames ---- */

void event_frame(struct sa_buf *out, const char *epoch, const Event *event)
{
    struct json_writer w = json_writer(out);
    sa_buf_addf(out, "id: %s-%" PRIu64 "\ndata: ", epoch, event->seq);
    json_put_message(&w, &event->base, &gateway_event_json);
    sa_buf_add(out, "\n\n", 2);
}

bool event_is_last(const Event *event)
{
    return event->kind_case == EVENT__KIND_STATE_CHANGED &&
           event->state_changed->state == SESSION_STATE_DESTROYED;
}

/* ---- feeds ---- */

static struct feed **bucket_of(struct events *e, const char *session_id)
{
    uint32_t h = 2166136261u;
    for (const char *p = session_id; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return &e->buckets[h & (BUCKETS - 1)];
}

static struct feed *find(struct events *e, const char *session_id)
{
    struct feed *f = *bucket_of(e, session_id);
    while (f && strcmp(f->session_id, session_id) != 0)
        f = f->next;
    return f;
}

static struct feed *feed_of_stream(struct events *e, const char *stream_id)
{
    return strncmp(stream_id, "session/", 8) == 0 ? find(e, stream_id + 8) : NULL;
}

static struct feed *feed_new(struct events *e, const char *session_id)
{
    struct feed *f = sa_calloc(1, sizeof(*f));
    f->events = e;
    f->session_id = sa_strdup(session_id);
    f->stream_id = sa_format("session/%s", session_id);
    f->link = bucket_of(e, session_id);
    f->next = *f->link;
    if (f->next)
        f->next->link = &f->next;
    *f->link = f;
    return f;
}

static void feed_free(struct feed *f)
{
    if (f->events->bus)
        bus_unfollow(f->events->bus, f->stream_id);
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    window_reset(&f->window, 0);
    free(f->session_id);
    free(f->stream_id);
    free(f->epoch);
    free(f);
}

struct feed *feed_join(struct events *e, const char *session_id, struct feed_viewer *v)
{
    struct feed *f = find(e, session_id);
    if (!f)
        f = feed_new(e, session_id);
    v->next = f->viewers;
    v->link = &f->viewers;
    if (v->next)
        v->next->link = &v->next;
    f->viewers = v;
    return f;
}

void feed_leave(struct feed *f, struct feed_viewer *v)
{
    *v->link = v->next;
    if (v->next)
        v->next->link = v->link;
    if (!f->viewers)
        feed_free(f);
}

bool feed_follows(const struct feed *f, const char *epoch)
{
    return f->epoch && strcmp(f->epoch, epoch) == 0;
}

static bool open_bus(struct events *e, uint64_t epoch, sa_error **err);

/* Log and bus may, for a moment, speak of different epochs: then it is too early to follow. */
bool feed_follow(struct feed *f, const char *epoch, uint64_t head)
{
    struct events *e = f->events;
    cleanup_error sa_error *err = NULL;
    uint64_t number = strtoull(epoch, NULL, 16);
    if ((!e->bus && !open_bus(e, number, &err)) ||
        (e->epoch == number && bus_follow(e->bus, f->stream_id, head, head, &err) < 0)) {
        sa_log(SA_LOG_WARN, "events.follow_failed", "session=%s error=\"%s\"", f->session_id, err->message);
        return false;
    }
    if (e->epoch != number)
        return false;
    free(f->epoch);
    f->epoch = sa_strdup(epoch);
    window_reset(&f->window, head + 1);
    return true;
}

const struct window *feed_window(const struct feed *f)
{
    return &f->window;
}

void feed_each_viewer(struct events *e, void (*fn)(struct feed_viewer *v, void *arg), void *arg)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct feed *f = e->buckets[i], *next_feed; f; f = next_feed) {
            next_feed = f->next;
            for (struct feed_viewer *v = f->viewers, *next; v; v = next) {
                next = v->next;
                fn(v, arg);
            }
        }
    }
}

static void wake(struct feed *f)
{
    for (struct feed_viewer *v = f->viewers; v; v = v->next)
        v->wake(v->user);
}

static void stop_following(struct feed *f)
{
    free(f->epoch);
    f->epoch = NULL;
    window_reset(&f->window, 0);
}

/* ---- what the bus tells ---- */

static void add_event(struct feed *f, const Event *event)
{
    struct sa_buf frame = {0};
    if (event->seq < f->window.next)
        return;
    if (event->seq > f->window.next) /* after a gap: viewers read what is before from the owner */
        window_reset(&f->window, event->seq);
    event_frame(&frame, f->epoch, event);
    window_add(&f->window, (char *)frame.data, frame.len, event_is_last(event));
}

static void on_message(void *user, const struct bus_message *m)
{
    struct feed *f = feed_of_stream(user, m->stream_id);
    cleanup_error sa_error *err = NULL;
    if (!f || !f->epoch)
        return;
    Event *event = rpc_unpack(&event__descriptor, m->payload, m->payload_len, &err);
    if (!event) {
        sa_log(SA_LOG_ERROR, "events.malformed", "session=%s error=\"%s\"", f->session_id, err->message);
        return;
    }
    add_event(f, event);
    protobuf_c_message_free_unpacked(&event->base, NULL);
    wake(f);
}

static void on_gap(void *user, const char *stream_id, uint64_t first_available_seq)
{
    struct feed *f = feed_of_stream(user, stream_id);
    if (!f)
        return;
    window_reset(&f->window, first_available_seq);
    wake(f);
}

static void on_epoch_changed(void *user, uint64_t old_epoch, uint64_t new_epoch)
{
    struct events *e = user;
    e->epoch = new_epoch;
    sa_log(SA_LOG_WARN, "events.epoch_changed", "old=%" PRIu64 " new=%" PRIu64, old_epoch, new_epoch);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct feed *f = e->buckets[i]; f; f = f->next) {
            stop_following(f);
            wake(f);
        }
    }
}

/* ---- what the bus asks ---- */

static struct job *job_new(struct events *e)
{
    struct job *j = sa_calloc(1, sizeof(*j));
    j->events = e;
    j->next = e->jobs;
    j->link = &e->jobs;
    if (j->next)
        j->next->link = &j->next;
    e->jobs = j;
    return j;
}

static void job_free(struct job *j)
{
    *j->link = j->next;
    if (j->next)
        j->next->link = j->link;
    for (size_t i = 0; i < j->n_ids; i++)
        free(j->ids[i]);
    free(j->ids);
    free(j->session_id);
    free(j);
}

static const struct rpc_call_options own_call = {.deadline_ms = GATEWAY_CALL_MS, .wait_for_ready = true};

static void read_page(struct job *j);

static void give(struct job *j, const Event *event)
{
    size_t n = protobuf_c_message_get_packed_size(&event->base);
    cleanup_free uint8_t *bytes = sa_malloc(n + 1);
    protobuf_c_message_pack(&event->base, bytes);
    bus_read_add(j->read, event->seq, event->seq - 1, bytes, n);
    j->after = event->seq;
}

static void on_page(void *user, const ListEventsResponse *res, const sa_error *err)
{
    struct job *j = user;
    j->rpc = NULL;
    if (!err && res->first_seq > j->after + 1) {
        bus_read_gap(j->read, res->first_seq);
        job_free(j);
        return;
    }
    for (size_t i = 0; !err && i < res->n_events; i++)
        give(j, res->events[i]);
    if (!err && res->n_events && j->after < j->until) {
        read_page(j);
        return;
    }
    bus_read_done(j->read, err);
    job_free(j);
}

static void read_page(struct job *j)
{
    ListEventsRequest req = LIST_EVENTS_REQUEST__INIT;
    req.session_id = j->session_id;
    req.after_seq = j->after;
    req.page_size = REPAIR_PAGE;
    j->rpc = list_events_call(j->events->gw->session, &req, &own_call, on_page, j);
}

static void on_read(void *user, struct bus_read *read, const char *stream_id, uint64_t after, uint64_t until)
{
    struct job *j = job_new(user);
    j->read = read;
    j->session_id = sa_strdup(strchr(stream_id, '/') + 1);
    j->after = after;
    j->until = until;
    read_page(j);
}

static void list_page(struct job *j);

static void on_heads(void *user, const ListHeadsResponse *res, const sa_error *err)
{
    struct job *j = user;
    j->rpc = NULL;
    for (size_t i = 0; !err && i < res->n_heads; i++) {
        cleanup_free char *stream = sa_format("session/%s", res->heads[i]->session_id);
        bus_list_add(j->list, stream, res->heads[i]->head_seq);
    }
    if (!err)
        j->epoch = strtoull(res->epoch, NULL, 16);
    if (!err && j->at < j->n_ids) {
        list_page(j);
        return;
    }
    bus_list_done(j->list, j->epoch, err);
    job_free(j);
}

static void list_page(struct job *j)
{
    ListHeadsRequest req = LIST_HEADS_REQUEST__INIT;
    size_t n = j->n_ids - j->at;
    req.n_session_ids = n < HEADS_PAGE ? n : HEADS_PAGE;
    req.session_ids = j->ids + j->at;
    j->at += req.n_session_ids;
    j->rpc = list_heads_call(j->events->gw->session, &req, &own_call, on_heads, j);
}

static void on_list_heads(void *user, struct bus_list *list)
{
    struct events *e = user;
    struct job *j = job_new(e);
    j->list = list;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct feed *f = e->buckets[i]; f; f = f->next) {
            j->ids = sa_realloc(j->ids, (j->n_ids + 1) * sizeof(*j->ids));
            j->ids[j->n_ids++] = sa_strdup(f->session_id);
        }
    }
    list_page(j);
}

/* ---- the subscription ---- */

static const struct bus_subscriber_events bus_events = {
    .message = on_message,
    .read = on_read,
    .list_heads = on_list_heads,
    .gap = on_gap,
    .epoch_changed = on_epoch_changed,
};

static bool open_bus(struct events *e, uint64_t epoch, sa_error **err)
{
    cleanup_free char *url = service_bus_url(e->gw->svc, "session");
    const struct bus_subscriber_options opt = {.url = url, .epoch = epoch, .events = &bus_events, .user = e};
    e->bus = bus_subscriber_new(service_loop(e->gw->svc), &opt, err);
    e->epoch = epoch;
    return e->bus != NULL;
}

struct events *events_new(struct gateway *gw)
{
    struct events *e = sa_calloc(1, sizeof(*e));
    e->gw = gw;
    return e;
}

void events_free(struct events *e)
{
    if (!e)
        return;
    while (e->jobs) { /* the subscriber wants every question answered */
        struct job *j = e->jobs;
        rpc_abandon(j->rpc);
        if (j->read)
            bus_read_done(j->read, NULL);
        else
            bus_list_done(j->list, 0, NULL);
        job_free(j);
    }
    bus_subscriber_free(e->bus);
    free(e);
}
