#include "services/session-svc/search.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/api.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/search_text.h"
#include "services/session-svc/walk.h"

enum {
    SEARCHES_MAX = 4,
    BUDGET_MS = 5000,
    OVERLAP = 64, /* events before a page that are read again: a text may have begun there */
    SEQ_TEXT = 16,
};

struct search {
    struct walk walk;
    struct rpc_call *call;
    struct sa_arena *arena;
    char *session_id; /* the one that is asked for, or "" */
    char *text;
    struct search_scan scan;
    struct sa_id at; /* the session that is looked at */
    char name[SA_ID_TEXT + 1];
    uint64_t after; /* its hits up to here were told */
    uint64_t last;  /* event that was looked at last */
    uint64_t end_ms;
    SearchHit **hits;
    size_t n_hits, max;
    uint64_t events;
    bool full, cancelled;
};

static void search_free(struct search *x)
{
    x->walk.all->searches--;
    walk_fini(&x->walk);
    search_scan_fini(&x->scan);
    rpc_call_unref(x->call);
    sa_arena_free(x->arena);
    free(x);
}

/* ---- on a worker ---- */

static void add_hit(struct search *x, const Event *e, const struct sa_buf *snippet)
{
    SearchHit *h = sa_arena_alloc(x->arena, sizeof *h);
    *h = (SearchHit)SEARCH_HIT__INIT;
    h->session_id = sa_arena_strdup(x->arena, x->name);
    h->seq = e->seq;
    h->turn = e->turn;
    if (e->time)
        h->time = api_timestamp(x->arena, e->time->seconds * 1000000 + e->time->nanos / 1000);
    h->snippet = rpc_utf8(x->arena, snippet->data, snippet->len);
    x->hits[x->n_hits++] = h;
    x->full = x->n_hits == x->max;
}

static void work(struct walk *w)
{
    struct search *x = (struct search *)w;
    for (size_t i = 0; i < w->page.n && !x->full && !w->err; i++) {
        const struct store_row *row = &w->page.rows[i];
        cleanup_buf struct sa_buf snippet = {0};
        Event *e = rpc_unpack(&event__descriptor, row->value, row->value_len, &w->err);
        if (!e)
            return;
        x->events++;
        x->last = walk_seq(row);
        if (search_scan_event(&x->scan, e, &snippet) && x->last > x->after)
            add_hit(x, e, &snippet);
        event__free_unpacked(e, NULL);
    }
}

/* ---- page tokens: a session, and the last event that was looked at ---- */

static char *filter_of(const struct search *x, uint64_t seq)
{
    return sa_arena_format(x->arena, "search\n%s\n%s\n%llu", x->session_id, x->text, (unsigned long long)seq);
}

static char *token_of(struct search *x)
{
    uint64_t seq = x->last > x->after ? x->last : x->after;
    char *filter = filter_of(x, seq);
    char *token = page_token_make(x->arena, x->at, filter, x->walk.all->epoch);
    return sa_arena_format(x->arena, "%s%016llx", token, (unsigned long long)seq);
}

static int read_token(struct search *x, const char *token, sa_error **err)
{
    size_t n = strlen(token);
    if (n <= SEQ_TEXT)
        return sa_fail(err, SA_INVALID_PAGE_TOKEN, "page_token does not belong to this search");
    x->after = strtoull(token + n - SEQ_TEXT, NULL, 16);
    cleanup_free char *sealed = sa_strndup(token, n - SEQ_TEXT);
    return page_token_read(sealed, filter_of(x, x->after), x->walk.all->epoch, &x->at, err);
}

/* ---- which session ---- */

struct next {
    struct sa_id id;
    bool found;
};

static bool take_id(void *user, const struct store_row *row)
{
    *(struct next *)user = (struct next){db_key_id(row), true};
    return false;
}

/* 1: walk over x->at from behind x->after; 0: there is no such session any more. */
static int enter(struct search *x, sa_error **err)
{
    struct sessions *all = x->walk.all;
    cleanup_error sa_error *why = NULL;
    sa_id_format(x->at, x->name);
    walk_fini(&x->walk);
    if (walk_init(&x->walk, all, x->name, &why)) {
        x->walk.all = all;
        bool gone = !*x->session_id && sa_error_is(why, SA_SESSION_NOT_FOUND);
        return gone ? 0 : sa_pass(err, steal_pointer(&why));
    }
    if (x->after > OVERLAP && x->after - OVERLAP > x->walk.next)
        x->walk.next = x->after - OVERLAP;
    x->scan.before = EVENT__KIND__NOT_SET;
    x->last = 0;
    return 1;
}

/* 1: there is an older session; 0: there is none, or one only was asked for. */
static int next_session(struct search *x, bool first, sa_error **err)
{
    struct next n = {.found = false};
    struct store_key from = db_key(x->at);
    struct store_range range = {
        .table = DB_SPECS, .from = first ? NULL : &from, .after = true, .reverse = true, .limit = 1};
    if (*x->session_id)
        return 0;
    if (store_scan(x->walk.all->store, &range, take_id, &n, err) < 0)
        return -1;
    x->at = n.id;
    x->after = 0;
    return n.found;
}

/* ---- under the lock ---- */

static void answer(struct search *x, bool more)
{
    SearchEventsResponse res = SEARCH_EVENTS_RESPONSE__INIT;
    res.hits = x->hits;
    res.n_hits = x->n_hits;
    res.events = x->events;
    if (more)
        res.next_page_token = token_of(x);
    search_events_reply(x->call, &res);
}

static void looked(struct walk *w);

/* Goes on to the next page, or session, or ends. The search may be gone after it. */
static void go_on(struct search *x)
{
    struct walk *w = &x->walk;
    sa_error *err = NULL;
    bool over = walk_is_over(w), more = x->full || sa_now_ms() > x->end_ms;
    while (over && !more) {
        int r = next_session(x, false, &err);
        if (r > 0)
            r = enter(x, &err);
        else if (r == 0)
            break;
        if (r < 0) {
            rpc_fail(x->call, err);
            search_free(x);
            return;
        }
        w->work = work;
        w->done = looked;
        over = r == 0 || walk_is_over(w);
    }
    if (more || over) {
        answer(x, more);
        search_free(x);
        return;
    }
    walk_next(w);
}

static void looked(struct walk *w)
{
    struct search *x = (struct search *)w;
    if (x->cancelled) {
        search_free(x);
    } else if (w->err && !*x->session_id && sa_error_is(w->err, SA_EVENTS_REMOVED)) {
        x->after = x->last; /* one of many: from where it begins now */
        sa_error *err = NULL;
        if (enter(x, &err) < 0) {
            rpc_fail(x->call, err);
            search_free(x);
            return;
        }
        w->work = work;
        w->done = looked;
        go_on(x);
    } else if (w->err) {
        rpc_fail(x->call, steal_pointer(&w->err));
        search_free(x);
    } else {
        go_on(x);
    }
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    ((struct search *)user)->cancelled = true; /* a worker has it: `looked` comes */
}

static int begin(struct search *x, const SearchEventsRequest *req, sa_error **err)
{
    uint32_t size;
    if (api_page_size(req->page_size, 50, &size, err))
        return -1;
    size_t n = strlen(req->text);
    if (!n || n > SEARCH_TEXT_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "text: 1 to %d bytes, not %zu", SEARCH_TEXT_MAX, n);
    if (x->walk.all->searches > SEARCHES_MAX)
        return sa_fail(err, SA_TOO_MANY, "%d searches run already", SEARCHES_MAX);
    x->text = sa_arena_strdup(x->arena, req->text);
    x->session_id = sa_arena_strdup(x->arena, req->session_id);
    x->max = size;
    x->hits = sa_arena_alloc(x->arena, size * sizeof *x->hits);
    x->end_ms = sa_now_ms() + BUDGET_MS;
    search_scan_init(&x->scan, x->text);
    if (*req->page_token)
        return read_token(x, req->page_token, err);
    if (*req->session_id)
        return sessions_parse_id(req->session_id, &x->at, err);
    return next_session(x, true, err) < 0 ? -1 : 0;
}

void api_search_events(void *api, struct rpc_call *call, const SearchEventsRequest *req)
{
    struct search *x = sa_calloc(1, sizeof *x);
    sa_error *err = NULL;
    x->walk.all = api;
    x->walk.all->searches++;
    x->call = rpc_call_ref(call);
    x->arena = sa_arena_new();
    int r = begin(x, req, &err);
    if (r == 0)
        r = enter(x, &err) < 0 ? -1 : 0;
    if (r < 0) {
        rpc_fail(call, err);
        search_free(x);
        return;
    }
    x->walk.work = work;
    x->walk.done = looked;
    rpc_on_cancel(call, on_cancel, x);
    go_on(x);
}
