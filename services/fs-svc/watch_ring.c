#include "services/fs-svc/watch_ring.h"

#include <stdlib.h>
#include <string.h>

struct watch_event {
    uint8_t kind;
    bool directory;
    const char *reason;
    uint32_t path_len, old_len;
    char paths[]; /* path, then old_path; no NUL */
};

static size_t size_of(const struct watch_event *e)
{
    return sizeof *e + e->path_len + e->old_len + sizeof e;
}

static struct watch_event **slot(const struct watch_ring *r, uint64_t seq)
{
    return &r->events[seq % WATCH_RING_EVENTS];
}

static void drop_first(struct watch_ring *r)
{
    struct watch_event **at = slot(r, r->first++);
    r->bytes -= size_of(*at);
    free(*at);
    *at = NULL;
}

void watch_ring_init(struct watch_ring *r)
{
    *r = (struct watch_ring){.events = sa_calloc(WATCH_RING_EVENTS, sizeof(void *)), .first = 1};
}

void watch_ring_fini(struct watch_ring *r)
{
    while (r->first <= r->head)
        drop_first(r);
    free(r->events);
}

void watch_ring_add(struct watch_ring *r, const struct watch_change *w)
{
    size_t path_len = strlen(w->path), old_len = w->old_path ? strlen(w->old_path) : 0;
    struct watch_event *e = sa_malloc(sizeof *e + path_len + old_len);
    *e = (struct watch_event){.kind = (uint8_t)w->kind,
                              .directory = w->directory,
                              .reason = w->reason,
                              .path_len = (uint32_t)path_len,
                              .old_len = (uint32_t)old_len};
    memcpy(e->paths, w->path, path_len);
    if (old_len)
        memcpy(e->paths + path_len, w->old_path, old_len);
    while (r->first <= r->head &&
           (r->head - r->first + 1 == WATCH_RING_EVENTS || r->bytes + size_of(e) > WATCH_RING_BYTES))
        drop_first(r);
    *slot(r, ++r->head) = e;
    r->bytes += size_of(e);
}

static WatchEvent *to_proto(const struct watch_event *e, struct sa_arena *a)
{
    WatchEvent *m = sa_arena_alloc(a, sizeof *m);
    uint8_t *paths = (uint8_t *)(uintptr_t)e->paths;
    *m = (WatchEvent)WATCH_EVENT__INIT;
    m->kind = (WatchEventKind)e->kind;
    m->directory = e->directory;
    m->path = (ProtobufCBinaryData){e->path_len, paths};
    m->old_path = (ProtobufCBinaryData){e->old_len, paths + e->path_len};
    if (e->reason)
        m->reason = (char *)(uintptr_t)e->reason;
    return m;
}

WatchEventBatch *watch_ring_batch(const struct watch_ring *r, uint64_t after, size_t max_events,
                                  size_t max_bytes, struct sa_arena *a)
{
    WatchEventBatch *b = sa_arena_alloc(a, sizeof *b);
    *b = (WatchEventBatch)WATCH_EVENT_BATCH__INIT;
    size_t n = r->head - after < max_events ? (size_t)(r->head - after) : max_events, bytes = 0;
    b->events = sa_arena_alloc(a, n * sizeof *b->events);
    for (; b->n_events < n && (!b->n_events || bytes < max_bytes); b->n_events++) {
        const struct watch_event *e = *slot(r, after + 1 + b->n_events);
        b->events[b->n_events] = to_proto(e, a);
        bytes += size_of(e);
    }
    b->prev_seq = after;
    b->last_seq = after + b->n_events;
    return b;
}
