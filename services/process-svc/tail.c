#include "services/process-svc/tail.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

enum {
    WINDOW = 128 << 10,
    STEP_BYTES = 16 << 20, /* read in one step */
    STEP_PIECES = 100000,  /* looked at in one step */
    RECORD_US = 5000,      /* what a record covers at most */
};

void tail_init(struct tail *t, const struct reader *r, enum tail_kind kind, uint64_t count, int64_t since_us)
{
    *t = (struct tail){.reader = r, .kind = kind, .left = count, .since_us = since_us};
}

void tail_range(struct tail *t, int stream, uint64_t first, uint64_t end)
{
    struct tail_stream *s = &t->stream[stream];
    struct shim_index_record r;
    *s = (struct tail_stream){
        .wanted = true, .first = first < end ? first : end, .end = end, .start = end, .at = end};
    s->index = index_cursor(t->reader->index_fd[stream]);
    s->above = end ? index_find(&s->index, end - 1) : 0;
    if (index_get(&s->index, s->above, &r) && r.offset < end)
        s->above++;
}

/* ---- pieces, from the end ---- */

struct back_piece {
    uint64_t offset;  /* it goes from here to `at` */
    uint64_t arrival; /* as in merge.h */
    bool record;      /* it is a record's */
};

static struct back_piece back_piece(struct tail_stream *s)
{
    struct shim_index_record r, next;
    struct back_piece p = {s->first, UINT64_MAX, false};
    bool before = s->above && index_get(&s->index, s->above - 1, &r) && r.offset < s->at;
    uint64_t offset = before ? r.offset : 0;
    p.record = before && r.offset + r.length >= s->at;
    if (p.record) {
        p.arrival = r.arrival;
    } else {
        offset = before ? r.offset + r.length : 0;
        if (index_get(&s->index, s->above, &next) && next.offset >= s->at)
            p.arrival = next.arrival;
    }
    if (offset > p.offset)
        p.offset = offset;
    return p;
}

/* Moves to `to`, which lies in the piece. */
static void move_back(struct tail_stream *s, const struct back_piece *p, uint64_t to)
{
    s->at = to;
    if (to == p->offset && p->record)
        s->above--;
}

/* Is there more to look at in this stream? */
static bool counts(const struct tail *t, const struct tail_stream *s)
{
    return s->wanted && s->at > s->first && (t->left || s->open);
}

/* The stream whose piece came last. -1: all is found. */
static int pick(struct tail *t, struct back_piece *ret)
{
    int found = -1;
    for (int i = 0; i < SHIM_STREAMS; i++) {
        if (!counts(t, &t->stream[i]))
            continue;
        struct back_piece p = back_piece(&t->stream[i]);
        if (found < 0 || p.arrival > ret->arrival) {
            *ret = p;
            found = i;
        }
    }
    return found;
}

/* ---- lines ---- */

/* Has the byte before `at` in the window: the number of bytes that were read for it, or -1. What was freed
 * meanwhile moves `first`, up to `at`. */
static ssize_t fill(struct tail *t, int stream, sa_error **err)
{
    struct tail_stream *s = &t->stream[stream];
    struct tail_window *w = &s->window;
    if (s->at > w->first && s->at <= w->end)
        return 0;
    uint64_t from = s->at - s->first > WINDOW ? s->at - WINDOW : s->first, first;
    size_t want = (size_t)(s->at - from);
    ssize_t n = reader_read(t->reader, stream, from, w->data, want, &first, err);
    if (n < 0)
        return -1;
    if (first > from) {
        s->first = first < s->at ? first : s->at;
        w->first = w->end = 0;
        return 0;
    }
    if ((size_t)n < want)
        return sa_fail(err, SA_JOURNAL_TRUNCATED, "the journal of standard %s ends before byte %llu",
                       stream ? "error" : "output", (unsigned long long)s->at);
    w->first = from;
    w->end = s->at;
    return n;
}

/* A line ends at `at`, and with a newline there another one begins after it. */
static void line_end(struct tail *t, struct tail_stream *s)
{
    if (s->open)
        s->start = s->at;
    s->open = t->left > 0;
    if (t->left)
        t->left--;
}

/* Looks for the next newline in a piece. Returns what was read, or -1. */
static ssize_t back_line(struct tail *t, int stream, const struct back_piece *p, sa_error **err)
{
    struct tail_stream *s = &t->stream[stream];
    struct tail_window *w = &s->window;
    ssize_t n = fill(t, stream, err);
    if (n < 0 || s->at <= s->first || s->at > w->end)
        return n;
    uint64_t from = p->offset > w->first ? p->offset : w->first;
    const uint8_t *data = w->data + (from - w->first), *newline = memrchr(data, '\n', (size_t)(s->at - from));
    if (!s->touched && newline != w->data + (s->at - 1 - w->first))
        line_end(t, s);
    s->touched = true;
    if (newline) {
        uint64_t at = from + (uint64_t)(newline - data);
        s->at = at + 1;
        line_end(t, s);
        move_back(s, p, at);
    } else {
        move_back(s, p, from);
    }
    return n;
}

static int step_lines(struct tail *t, sa_error **err)
{
    struct back_piece p;
    size_t bytes = 0;
    for (int i = 0; i < STEP_PIECES && bytes < STEP_BYTES; i++) {
        int stream = pick(t, &p);
        if (stream < 0)
            return 1;
        ssize_t n = back_line(t, stream, &p, err);
        if (n < 0)
            return -1;
        bytes += (size_t)n;
    }
    return 0;
}

/* ---- bytes, time ---- */

static int step_bytes(struct tail *t)
{
    struct back_piece p;
    for (int i = 0; i < STEP_PIECES; i++) {
        int stream = pick(t, &p);
        if (stream < 0)
            return 1;
        struct tail_stream *s = &t->stream[stream];
        uint64_t take = s->at - p.offset < t->left ? s->at - p.offset : t->left;
        t->left -= take;
        move_back(s, &p, s->at - take);
        s->start = s->at;
    }
    return 0;
}

/* Where nothing tells when bytes came, they are taken for new: better too much than a hole. */
static void find_time(struct tail *t, struct tail_stream *s)
{
    struct shim_index_record r;
    uint64_t oldest = index_find(&s->index, 0), n = index_find_time(&s->index, t->since_us - RECORD_US);
    uint64_t start = s->first;
    s->start = start;
    if (!index_get(&s->index, oldest, &r) || r.time_us > t->since_us)
        return;
    if (index_get(&s->index, n, &r))
        start = r.offset;
    else if (n && index_get(&s->index, n - 1, &r))
        start = r.offset + r.length;
    s->start = start < s->first ? s->first : start > s->end ? s->end : start;
}

int tail_step(struct tail *t, sa_error **err)
{
    cleanup_free uint8_t *windows = t->kind == TAIL_LINES ? sa_malloc(SHIM_STREAMS * WINDOW) : NULL;
    for (int i = 0; i < SHIM_STREAMS; i++)
        t->stream[i].window = (struct tail_window){windows ? windows + i * WINDOW : NULL, 0, 0};
    int r = 1;
    if (t->kind == TAIL_LINES)
        r = step_lines(t, err);
    else if (t->kind == TAIL_BYTES)
        r = step_bytes(t);
    for (int i = 0; i < SHIM_STREAMS; i++) {
        struct tail_stream *s = &t->stream[i];
        s->window.data = NULL;
        if (t->kind == TAIL_SINCE && s->wanted)
            find_time(t, s);
        /* A line that goes on in front of what is kept, or what was freed during the search. */
        if (r == 1 && s->wanted && (s->open || s->start < s->first))
            s->start = s->first;
    }
    return r;
}
