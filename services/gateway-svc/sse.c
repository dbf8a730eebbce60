/* Events over HTTP: one page as JSON, or a stream that follows the session.
 *
 *     event: opened   data {"epoch", "firstSeq", "headSeq"}        the first message
 *     (message)       id <epoch>-<seq>, data the Event             history, then live
 *     event: gap      data {"firstAvailableSeq"}                   what is before is no longer kept
 *     event: reset    data {"epoch"}                               another log: forget everything, it begins
 * anew event: closed   data {"reason"}                              the last message : heartbeat every 15 s
 * of silence
 *
 * A viewer holds its cursor and at most one page. While its socket is full nothing is read for it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/clock.h"
#include "services/gateway-svc/events.h"

enum {
    HISTORY_PAGE = 500,
    HISTORY_BYTES = 64 << 10, /* of a page, its last event excepted: what a slow viewer may hold */
    HEARTBEAT_MS = 15000,
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
};

struct viewer {
    struct exchange *x;
    struct feed *feed;
    struct feed_viewer in_feed;
    const char *session_id;
    char *epoch;       /* NULL: not known yet */
    uint64_t cursor;   /* the last event that was written or is in `out` */
    bool explicit;     /* the client named the epoch of its cursor */
    bool started;      /* 200 was sent */
    bool ahead;        /* the client's cursor is beyond the log: another epoch, or nonsense */
    bool closing;      /* after `out` comes the end */
    struct sa_buf out; /* to be written next */
    size_t out_at;
    struct rpc_request *rpc; /* a page under way */
    struct sa_timer *retry;
    uint64_t retry_ms, last_write_ms;
};

static const char *const stream_headers[] = {"Cache-Control", "no-cache, no-store", "X-Accel-Buffering", "no",
                                             NULL};
static const char *const plain_headers[] = {"Cache-Control", "no-store", NULL};

/* ---- what is written ---- */

static void put_notice(struct viewer *v, const char *name, const char *key, const char *value)
{
    struct json_writer w = json_writer(&v->out);
    sa_buf_addf(&v->out, "event: %s\ndata: ", name);
    json_begin_object(&w);
    json_key(&w, key);
    json_put_string(&w, value);
    json_end_object(&w);
    sa_buf_add(&v->out, "\n\n", 2);
}

static void put_opened(struct viewer *v, const ListEventsResponse *page)
{
    sa_buf_addf(&v->out,
                "event: opened\ndata: {\"epoch\":\"%s\",\"firstSeq\":\"%" PRIu64 "\",\"headSeq\":\"%" PRIu64
                "\"}\n\n",
                page->epoch, page->first_seq, page->head_seq);
}

static void put_gap(struct viewer *v, uint64_t first)
{
    sa_buf_addf(&v->out, "id: %s-%" PRIu64 "\nevent: gap\ndata: {\"firstAvailableSeq\":\"%" PRIu64 "\"}\n\n",
                v->epoch, first - 1, first);
}

static void put_closed(struct viewer *v, const char *reason)
{
    put_notice(v, "closed", "reason", reason);
    v->closing = true;
}

static ssize_t take_out(struct viewer *v, char *buf, size_t max)
{
    size_t n = v->out.len - v->out_at;
    if (n > max)
        n = max;
    memcpy(buf, v->out.data + v->out_at, n);
    v->out_at += n;
    if (v->out_at == v->out.len) {
        sa_buf_fini(&v->out); /* a page may be large: an idle viewer keeps none */
        v->out_at = 0;
    }
    return (ssize_t)n;
}

/* ---- history: a page from the owner at a time ---- */

static void fetch(struct viewer *v);

static void on_retry(void *user)
{
    fetch(user);
}

static void fetch_later(struct viewer *v)
{
    v->retry_ms = v->retry_ms ? v->retry_ms * 2 : RETRY_MIN_MS;
    if (v->retry_ms > RETRY_MAX_MS)
        v->retry_ms = RETRY_MAX_MS;
    if (!v->retry)
        v->retry = sa_timer_new(service_loop(v->x->gw->svc), on_retry, v);
    sa_timer_start(v->retry, v->retry_ms);
}

static bool is_passing(const sa_error *err)
{
    switch (err->code) {
    case SA_CODE_UNAVAILABLE:
    case SA_CODE_DEADLINE_EXCEEDED:
    case SA_CODE_RESOURCE_EXHAUSTED:
    case SA_CODE_ABORTED:
    case SA_CODE_CANCELLED:
        return true;
    default:
        return false;
    }
}

static void page_failed(struct viewer *v, const sa_error *err)
{
    if (!v->ahead && sa_error_is(err, SA_SEQ_AHEAD) && (v->explicit || v->started)) {
        v->ahead = true; /* the epoch will tell */
        v->cursor = 0;
        fetch(v);
    } else if (!v->started) {
        problem_reply(v->x->http, sa_error_copy(err));
    } else if (is_passing(err)) {
        fetch_later(v);
    } else {
        put_closed(v, err->reason);
        http_wake(v->x->http);
    }
}

static bool page_is_other_log(struct viewer *v, const ListEventsResponse *page)
{
    return v->epoch && strcmp(v->epoch, page->epoch) != 0;
}

static void adopt_epoch(struct viewer *v, const char *epoch)
{
    free(v->epoch);
    v->epoch = sa_strdup(epoch);
}

/* Writes the page's events after the cursor. */
static void put_page(struct viewer *v, const ListEventsResponse *page)
{
    if (page->first_seq > v->cursor + 1) {
        put_gap(v, page->first_seq);
        v->cursor = page->first_seq - 1;
    }
    for (size_t i = 0; i < page->n_events; i++) {
        const Event *event = page->events[i];
        if (event->seq <= v->cursor)
            continue;
        event_frame(&v->out, v->epoch, event);
        v->cursor = event->seq;
        if (event_is_last(event))
            put_closed(v, "SESSION_DESTROYED");
    }
}

static const struct http_stream stream;

/* The first page decides what is answered. Returns false when that is no stream. */
static bool start(struct viewer *v, const ListEventsResponse *page, bool other_log)
{
    bool at_end = page->n_events == 1 && page->events[0]->seq == v->cursor && page->head_seq == v->cursor;
    if (!other_log && (v->ahead || page->head_seq < v->cursor)) {
        sa_error *err = NULL;
        sa_fail(&err, SA_SEQ_AHEAD, "the last event of session %s is %" PRIu64, v->session_id,
                page->head_seq);
        problem_reply(v->x->http, err);
        return false;
    }
    if (!other_log && at_end && event_is_last(page->events[0])) {
        http_reply(v->x->http, 204, NULL, NULL, 0, plain_headers); /* tells an EventSource to stop */
        return false;
    }
    v->started = true;
    put_opened(v, page);
    http_stream(v->x->http, 200, "text/event-stream", stream_headers, &stream, v);
    return true;
}

static void on_page(void *user, const ListEventsResponse *page, const sa_error *err)
{
    struct viewer *v = user;
    v->rpc = NULL;
    if (err) {
        page_failed(v, err);
        return;
    }
    bool other_log = page_is_other_log(v, page) || (v->started && v->ahead);
    v->retry_ms = 0;
    if (!v->started && !start(v, page, other_log))
        return;
    bool usable = !other_log || v->cursor == 0;
    if (other_log) {
        put_notice(v, "reset", "epoch", page->epoch);
        v->cursor = 0;
    }
    v->ahead = false;
    adopt_epoch(v, page->epoch);
    if (usable)
        put_page(v, page);
    if (v->cursor >= page->head_seq && !v->closing && !feed_follows(v->feed, v->epoch) &&
        !feed_follow(v->feed, v->epoch, page->head_seq))
        fetch_later(v); /* until then this viewer polls */
    http_wake(v->x->http);
}

/* The very first page begins with the event that the client has seen last: it tells whether that was the end.
 */
static void fetch(struct viewer *v)
{
    ListEventsRequest req = LIST_EVENTS_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(v->x);
    if (v->rpc)
        return;
    req.session_id = (char *)(uintptr_t)v->session_id;
    req.after_seq = v->cursor > 0 && !v->started ? v->cursor - 1 : v->cursor;
    req.page_size = HISTORY_PAGE;
    req.page_bytes = HISTORY_BYTES;
    v->rpc = list_events_call(v->x->gw->session, &req, &opt, on_page, v);
}

/* ---- the stream ---- */

static ssize_t take_window(struct viewer *v, char *buf, size_t max)
{
    const struct window *w = feed_window(v->feed);
    const struct window_frame *f = NULL;
    size_t n = 0;
    while (!v->closing && (f = window_get(w, v->cursor + 1)) && f->len <= max - n) {
        memcpy(buf + n, f->text, f->len);
        n += f->len;
        v->cursor++;
        if (f->last)
            put_closed(v, "SESSION_DESTROYED");
    }
    if (n == 0 && f) { /* larger than the buffer: the window may not keep it so long */
        sa_buf_add(&v->out, f->text, f->len);
        v->cursor++;
        if (f->last)
            put_closed(v, "SESSION_DESTROYED");
        return take_out(v, buf, max);
    }
    return (ssize_t)n;
}

static ssize_t next_bytes(struct viewer *v, char *buf, size_t max)
{
    if (v->out.len)
        return take_out(v, buf, max);
    if (v->closing)
        return HTTP_STREAM_END;
    if (v->rpc || (v->retry && sa_timer_active(v->retry)))
        return 0;
    if (!feed_follows(v->feed, v->epoch) || v->cursor + 1 < feed_window(v->feed)->first) {
        fetch(v);
        return 0;
    }
    return take_window(v, buf, max);
}

static ssize_t on_fill(void *user, char *buf, size_t max)
{
    struct viewer *v = user;
    ssize_t n = http_peer_gone(v->x->http) ? HTTP_STREAM_ABORT : next_bytes(v, buf, max);
    if (n > 0)
        v->last_write_ms = sa_now_ms();
    return n;
}

static const struct http_stream stream = {.fill = on_fill};

static void on_news(void *user)
{
    struct viewer *v = user;
    if (v->started)
        http_wake(v->x->http);
}

static void tick_viewer(struct feed_viewer *in_feed, void *arg)
{
    struct viewer *v = in_feed->user;
    (void)arg;
    if (!v->started)
        return;
    if (sa_now_ms() - v->last_write_ms >= HEARTBEAT_MS && v->out.len == 0 && !v->closing)
        sa_buf_add(&v->out, ": heartbeat\n\n", 13);
    http_wake(v->x->http); /* also notices that the client is gone */
}

void sse_tick(struct gateway *gw)
{
    feed_each_viewer(gw->events, tick_viewer, NULL);
}

static void drain_viewer(struct feed_viewer *in_feed, void *arg)
{
    struct viewer *v = in_feed->user;
    (void)arg;
    if (!v->started || v->closing)
        return;
    put_closed(v, "DRAINING");
    http_wake(v->x->http);
}

void sse_drain(struct gateway *gw)
{
    feed_each_viewer(gw->events, drain_viewer, NULL);
}

/* ---- the request ---- */

static void viewer_abandon(struct exchange *x)
{
    struct viewer *v = x->state;
    rpc_abandon(v->rpc);
    sa_timer_free(v->retry);
    feed_leave(v->feed, &v->in_feed);
    sa_buf_fini(&v->out);
    free(v->epoch);
    free(v);
}

static bool parse_seq(const char *text, uint64_t *ret)
{
    size_t n = strlen(text);
    if (n == 0 || n > 19 || strspn(text, "0123456789") != n)
        return false;
    *ret = strtoull(text, NULL, 10);
    return true;
}

bool sse_parse_id(const char *id, char **ret_epoch, uint64_t *ret_seq)
{
    size_t n = strspn(id, "0123456789abcdef");
    if (n == 0 || n > 16 || id[n] != '-' || !parse_seq(id + n + 1, ret_seq))
        return false;
    *ret_epoch = sa_strndup(id, n);
    return true;
}

static int on_query(void *user, const char *name, const char *value)
{
    struct viewer *v = user;
    return strcmp(name, "afterSeq") == 0 && parse_seq(value, &v->cursor) ? 0 : -1;
}

static bool read_position(struct viewer *v)
{
    struct http_request *r = v->x->http;
    const char *id = http_header(r, "Last-Event-ID");
    if (http_query_each(r, on_query, v) < 0) {
        problem_bad_request(r, "a stream of events takes the query afterSeq, a number, only");
        return false;
    }
    if (id && *id) {
        v->explicit = sse_parse_id(id, &v->epoch, &v->cursor);
        if (!v->explicit)
            problem_bad_request(r, "Last-Event-ID must be the id of an event, <epoch>-<seq>");
        return v->explicit;
    }
    return true;
}

static bool wants_stream(const struct http_request *r)
{
    const char *accept = http_header(r, "Accept");
    return accept && strcasestr(accept, "text/event-stream");
}

void sse_events(struct exchange *x)
{
    if (!wants_stream(x->http)) {
        calls_unary(x);
        return;
    }
    struct viewer *v = sa_calloc(1, sizeof(*v));
    v->x = x;
    v->session_id = exchange_param(x, "sessionId");
    v->in_feed.wake = on_news;
    v->in_feed.user = v;
    v->feed = feed_join(x->gw->events, v->session_id, &v->in_feed);
    v->last_write_ms = sa_now_ms();
    x->state = v;
    x->abandon = viewer_abandon;
    if (read_position(v))
        fetch(v);
}
