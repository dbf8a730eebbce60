/* WatchTree. A reader is a cursor into its tree's ring: there is no queue per reader, and one that is slow
 * finds a gap when it comes back. */
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "adapters/nng/bus.h"
#include "services/fs-svc/watch.h"
#include "services/fs-svc/watch_tree.h"
#include "services/runtime/service.h"

struct reader {
    LIST_ENTRY(reader) link;
    struct shared *shared;
    struct rpc_call *call;
    bool told; /* `opened` is out */
    bool room;
    char *resume; /* the epoch it comes from; NULL: from now on */
    uint64_t at;  /* the last event that it has */
};

/* A tree and its readers. */
struct shared {
    LIST_ENTRY(shared) link;
    struct fs_watches *watches;
    struct watch_tree *tree;
    LIST_HEAD(, reader) readers;
    size_t n_readers;
    struct sa_timer *linger;
    uint64_t published; /* last event on the bus */
};

struct fs_watches {
    struct fs_service *fs;
    struct watch_budget budget;
    uint64_t linger_ms;
    LIST_HEAD(, shared) trees;
    size_t n_trees, n_readers;
    struct sa_timer *progress;
};

static void shared_free(struct shared *s)
{
    LIST_REMOVE(s, link);
    s->watches->n_trees--;
    sa_timer_free(s->linger);
    watch_tree_free(s->tree);
    free(s);
}

static void reader_free(struct reader *r)
{
    struct shared *s = r->shared;
    LIST_REMOVE(r, link);
    s->watches->n_readers--;
    if (--s->n_readers == 0)
        sa_timer_start(s->linger, s->watches->linger_ms);
    rpc_call_unref(r->call);
    free(r->resume);
    free(r);
}

/* ---- what a reader gets ---- */

static void send_gap(struct reader *r, uint64_t first)
{
    WatchTreeResponse res = WATCH_TREE_RESPONSE__INIT;
    WatchGap gap = WATCH_GAP__INIT;
    gap.first_available_seq = first;
    res.kind_case = WATCH_TREE_RESPONSE__KIND_GAP;
    res.gap = &gap;
    r->room = watch_tree_send(r->call, &res);
    r->at = first - 1;
}

static void send_progress(struct reader *r)
{
    WatchTreeResponse res = WATCH_TREE_RESPONSE__INIT;
    WatchProgress progress = WATCH_PROGRESS__INIT;
    progress.head_seq = r->at;
    res.kind_case = WATCH_TREE_RESPONSE__KIND_PROGRESS;
    res.progress = &progress;
    r->room = watch_tree_send(r->call, &res);
}

static WatchEvent *unwatched_event(struct sa_arena *a, const struct watch_change *w)
{
    WatchEvent *e = sa_arena_alloc(a, sizeof *e);
    *e = (WatchEvent)WATCH_EVENT__INIT;
    e->kind = WATCH_EVENT_KIND_UNWATCHED;
    e->path = (ProtobufCBinaryData){strlen(w->path), (uint8_t *)(uintptr_t)w->path};
    e->directory = true;
    e->reason = (char *)(uintptr_t)w->reason;
    return e;
}

static void send_opened(struct reader *r)
{
    const struct watch_tree *t = r->shared->tree;
    struct sa_arena *a = sa_arena_new();
    struct watch_change unwatched[WATCH_UNWATCHED_TOLD];
    WatchTreeResponse res = WATCH_TREE_RESPONSE__INIT;
    WatchOpened opened = WATCH_OPENED__INIT;
    opened.epoch = (char *)(uintptr_t)t->epoch;
    opened.head_seq = t->ring.head;
    opened.watched = t->nodes.n_watched;
    opened.n_unwatched = watch_tree_unwatched(t, unwatched, WATCH_UNWATCHED_TOLD, a);
    opened.unwatched = sa_arena_alloc(a, (opened.n_unwatched + 1) * sizeof *opened.unwatched);
    for (size_t i = 0; i < opened.n_unwatched; i++)
        opened.unwatched[i] = unwatched_event(a, &unwatched[i]);
    res.kind_case = WATCH_TREE_RESPONSE__KIND_OPENED;
    res.opened = &opened;
    r->room = watch_tree_send(r->call, &res);
    r->told = true;
    sa_arena_free(a);
}

/* False: the call has ended. */
static bool open_reader(struct reader *r)
{
    const struct watch_tree *t = r->shared->tree;
    sa_error *err = NULL;
    bool same = r->resume && !strcmp(r->resume, t->epoch);
    if (same && r->at > t->ring.head) {
        sa_fail(&err, SA_SEQ_AHEAD, "event %llu has not happened; the last is %llu",
                (unsigned long long)r->at, (unsigned long long)t->ring.head);
        rpc_fail(r->call, err);
        reader_free(r);
        return false;
    }
    send_opened(r);
    if (r->resume && !same)
        send_gap(r, t->ring.head + 1);
    else if (!same)
        r->at = t->ring.head;
    return true;
}

static void send_batch(struct reader *r)
{
    const struct watch_ring *ring = &r->shared->tree->ring;
    WatchTreeResponse res = WATCH_TREE_RESPONSE__INIT;
    res.kind_case = WATCH_TREE_RESPONSE__KIND_BATCH;
    res.batch = watch_ring_batch(ring, r->at, WATCH_BATCH_EVENTS, WATCH_BATCH_BYTES, rpc_send_arena(r->call));
    uint64_t last = res.batch->last_seq;
    r->room = watch_tree_send(r->call, &res);
    r->at = last;
}

static void send_closed(struct reader *r)
{
    const struct watch_tree *t = r->shared->tree;
    WatchTreeResponse res = WATCH_TREE_RESPONSE__INIT;
    WatchClosed closed = WATCH_CLOSED__INIT;
    closed.reason = t->err->reason;
    res.kind_case = WATCH_TREE_RESPONSE__KIND_CLOSED;
    res.closed = &closed;
    watch_tree_send(r->call, &res);
    rpc_end(r->call);
    reader_free(r);
}

/* Sends what there is, while there is room. */
static void deliver(struct reader *r)
{
    const struct watch_tree *t = r->shared->tree;
    bool ended = t->state == WATCH_ENDED;
    if (ended && !r->told) {
        rpc_fail(r->call, sa_error_copy(t->err));
        reader_free(r);
        return;
    }
    if (t->state == WATCH_STARTING || (!r->told && !open_reader(r)))
        return;
    while (r->room && r->at < t->ring.head) {
        if (r->at + 1 < t->ring.first)
            send_gap(r, t->ring.first);
        else
            send_batch(r);
    }
    if (r->room && ended)
        send_closed(r);
}

/* ---- facts ---- */

static void publish(struct shared *s)
{
    const struct watch_tree *t = s->tree;
    cleanup_free char *stream = sa_format("fs/%s/watch/%s", t->spec.root->name, t->epoch);
    if (s->published + 1 < t->ring.first)
        s->published = t->ring.first - 1;
    while (s->published < t->ring.head) {
        struct sa_arena *a = sa_arena_new();
        WatchEventBatch *b =
            watch_ring_batch(&t->ring, s->published, WATCH_BATCH_EVENTS, WATCH_FACT_BYTES, a);
        size_t n = watch_event_batch__get_packed_size(b);
        cleanup_free uint8_t *packed = sa_malloc(n);
        watch_event_batch__pack(b, packed);
        bus_publish(s->watches->fs->bus, stream, stream, b->last_seq, b->prev_seq, packed, n);
        s->published = b->last_seq;
        sa_arena_free(a);
    }
}

static void on_changed(void *user)
{
    struct shared *s = user;
    struct reader *next;
    publish(s);
    for (struct reader *r = LIST_FIRST(&s->readers); r; r = next) {
        next = LIST_NEXT(r, link);
        deliver(r);
    }
    if (s->tree->state == WATCH_ENDED && !s->n_readers)
        sa_timer_start(s->linger, 0);
}

static void on_linger(void *user)
{
    struct shared *s = user;
    if (!s->n_readers)
        shared_free(s);
}

/* ---- which tree ---- */

static int fill_spec(struct fs_watches *w, const WatchTreeRequest *req, struct watch_spec *s, sa_error **err)
{
    enum { PATTERNS_MAX = 64 };
    s->root = fs_roots_find(w->fs->roots, req->root, err);
    s->path = s->root ? fs_path_from_bytes(req->path.data, req->path.len, err) : NULL;
    s->recursive = req->recursive;
    s->gitignore = req->gitignore;
    if (!s->path)
        return -1;
    if (req->n_ignore > PATTERNS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "more than %d patterns", PATTERNS_MAX);
    sa_buf_add(&s->key, s->root->name, strlen(s->root->name) + 1);
    sa_buf_add(&s->key, s->path, strlen(s->path) + 1);
    sa_buf_addf(&s->key, "%d%d", s->recursive, s->gitignore);
    for (size_t i = 0; i < req->n_ignore; i++) {
        const ProtobufCBinaryData *p = &req->ignore[i];
        if (fs_globs_add(&s->ignore, (const char *)p->data, p->len, err) < 0)
            return -1;
        sa_buf_add(&s->key, p->data, p->len);
        sa_buf_add(&s->key, "", 1);
    }
    return 0;
}

static struct shared *find_shared(struct fs_watches *w, const struct watch_spec *spec)
{
    struct shared *s;
    LIST_FOREACH(s, &w->trees, link)
    {
        const struct sa_buf *key = &s->tree->spec.key;
        if (s->tree->state != WATCH_ENDED && key->len == spec->key.len &&
            !memcmp(key->data, spec->key.data, key->len))
            break;
    }
    return s;
}

/* Makes room by ending one that nobody reads. */
static bool end_lingering(struct fs_watches *w)
{
    struct shared *s, *oldest = NULL;
    LIST_FOREACH(s, &w->trees, link)
    if (!s->n_readers)
        oldest = s;
    if (oldest)
        shared_free(oldest);
    return oldest;
}

static struct shared *share(struct fs_watches *w, struct watch_spec *spec, sa_error **err)
{
    static const struct watch_tree_events events = {.changed = on_changed};
    struct shared *s = find_shared(w, spec);
    if (s) {
        watch_spec_fini(spec);
        return s;
    }
    if (w->n_trees >= WATCH_TREES_MAX && !end_lingering(w)) {
        watch_spec_fini(spec);
        sa_fail(err, SA_TOO_MANY, "%d trees are watched, that is the limit", WATCH_TREES_MAX);
        return NULL;
    }
    s = sa_calloc(1, sizeof *s);
    s->watches = w;
    LIST_INIT(&s->readers);
    s->tree = watch_tree_new(w->fs, spec, &w->budget, &events, s, err);
    if (!s->tree) {
        free(s);
        return NULL;
    }
    s->linger = sa_timer_new(w->fs->loop, on_linger, s);
    LIST_INSERT_HEAD(&w->trees, s, link);
    w->n_trees++;
    return s;
}

/* ---- the call ---- */

static void on_writable(void *user, struct rpc_call *call)
{
    (void)call;
    struct reader *r = user;
    r->room = true;
    deliver(r);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    reader_free(user);
}

void fs_watch_tree(void *api, struct rpc_call *call, const WatchTreeRequest *req)
{
    static const struct rpc_call_events events = {.on_writable = on_writable, .on_cancel = on_cancel};
    struct fs_watches *w = ((struct fs_service *)api)->watches;
    struct watch_spec spec = {0};
    struct shared *s = NULL;
    sa_error *err = NULL;
    if (w->n_readers >= WATCH_READERS_MAX)
        sa_fail(&err, SA_TOO_MANY, "%d watches are read, that is the limit", WATCH_READERS_MAX);
    else if (fill_spec(w, req, &spec, &err) == 0)
        s = share(w, &spec, &err);
    if (!s) {
        watch_spec_fini(&spec);
        rpc_fail(call, err);
        return;
    }
    struct reader *r = sa_calloc(1, sizeof *r);
    *r = (struct reader){.shared = s, .call = rpc_call_ref(call), .room = true};
    if (req->resume) {
        r->resume = sa_strdup(req->resume->epoch);
        r->at = req->resume->after_seq;
    }
    LIST_INSERT_HEAD(&s->readers, r, link);
    s->n_readers++;
    w->n_readers++;
    sa_timer_stop(s->linger);
    watch_tree_on(call, &events, r);
    deliver(r);
}

/* ---- life ---- */

static void on_progress(void *user)
{
    struct fs_watches *w = user;
    struct shared *s;
    struct reader *r;
    LIST_FOREACH(s, &w->trees, link)
    LIST_FOREACH(r, &s->readers, link)
    if (r->told && r->room && r->at == s->tree->ring.head)
        send_progress(r);
}

struct fs_watches *fs_watches_new(struct fs_service *fs, uint64_t max_directories, uint64_t linger_ms)
{
    struct fs_watches *w = sa_calloc(1, sizeof *w);
    w->fs = fs;
    w->budget.max = max_directories;
    w->linger_ms = linger_ms;
    LIST_INIT(&w->trees);
    w->progress = sa_timer_new(fs->loop, on_progress, w);
    sa_timer_every(w->progress, WATCH_PROGRESS_MS);
    return w;
}

void fs_watches_drain(struct fs_watches *w)
{
    while (!LIST_EMPTY(&w->trees)) {
        struct shared *s = LIST_FIRST(&w->trees);
        while (!LIST_EMPTY(&s->readers)) {
            struct reader *r = LIST_FIRST(&s->readers);
            sa_error *err = NULL;
            sa_fail(&err, SA_DRAINING, "the service is stopping");
            rpc_fail(r->call, err);
            reader_free(r);
        }
        shared_free(s);
    }
}

void fs_watches_free(struct fs_watches *w)
{
    if (!w)
        return;
    fs_watches_drain(w);
    sa_timer_free(w->progress);
    free(w);
}
