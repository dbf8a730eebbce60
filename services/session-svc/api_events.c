#include <stdlib.h>

#include "services/session-svc/api.h"
#include "services/session-svc/follow.h"

enum { PAGE_BYTES_MAX = 1 << 20, HEADS_MAX = 1000, RECENT_S = 600 };

void api_stream_events(void *api, struct rpc_call *call, const StreamEventsRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_read(api, req->session_id, &err);
    if (s)
        follow_stream(s, call, req);
    else
        rpc_fail(call, err);
}

struct page {
    struct packed_event **events;
    size_t n;
};

static bool page_row(void *user, const struct store_row *row)
{
    struct page *p = user;
    p->events[p->n++] = packed_event_of(db_key_number(row), row->value, row->value_len);
    return true;
}

void api_list_events(void *api, struct rpc_call *call, const ListEventsRequest *req)
{
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    uint32_t size;
    struct sa_id id;
    cleanup_message StoredSession *s = sessions_read(all, req->session_id, &id, &err);
    if (!s || api_page_size(req->page_size, 100, &size, &err)) {
        rpc_fail(call, err);
        return;
    }
    uint64_t head = s->head_seq;
    if (req->after_seq > head) {
        sa_fail(&err, SA_SEQ_AHEAD, "after_seq %llu is beyond the head %llu of session %s",
                (unsigned long long)req->after_seq, (unsigned long long)head, req->session_id);
        rpc_fail(call, err);
        return;
    }
    struct page page = {.events = sa_arena_alloc(arena, size * sizeof *page.events)};
    struct store_key prefix = db_key(id), from = db_numbered_key(id, req->after_seq + 1);
    bool smaller = req->page_bytes && req->page_bytes < PAGE_BYTES_MAX;
    struct store_range range = {.table = DB_EVENTS,
                                .prefix = &prefix,
                                .from = &from,
                                .limit = size,
                                .limit_bytes = smaller ? req->page_bytes : PAGE_BYTES_MAX};
    if (store_scan(all->store, &range, page_row, &page, &err) < 0) {
        rpc_fail(call, err);
    } else {
        ListEventsResponse res = LIST_EVENTS_RESPONSE__INIT;
        res.head_seq = head;
        /* Events may be removed between our two reads: the later one counts. */
        bool removed = page.n && page.events[0]->seq > req->after_seq + 1;
        res.first_seq = removed ? page.events[0]->seq : s->first_seq;
        res.epoch = all->epoch_text;
        packed_events_attach(&res.base, 1, page.events, page.n,
                             sa_arena_alloc(arena, (page.n + 1) * sizeof(ProtobufCMessageUnknownField)));
        list_events_reply(call, &res);
    }
    for (size_t i = 0; i < page.n; i++)
        packed_event_unref(page.events[i]);
}

/* ---- heads ---- */

struct heads {
    struct sa_arena *arena;
    ListHeadsResponse *res;
    char *epoch;
    size_t cap;
};

static void add_head(struct heads *h, const char *name, uint64_t seq)
{
    if (h->res->n_heads == h->cap) {
        SessionHead **old = h->res->heads;
        h->cap = h->cap ? 2 * h->cap : 64;
        h->res->heads = sa_arena_alloc(h->arena, h->cap * sizeof *old);
        for (size_t i = 0; i < h->res->n_heads; i++)
            h->res->heads[i] = old[i];
    }
    SessionHead *head = sa_arena_alloc(h->arena, sizeof *head);
    *head = (SessionHead)SESSION_HEAD__INIT;
    head->session_id = sa_arena_strdup(h->arena, name);
    head->head_seq = seq;
    head->epoch = h->epoch;
    h->res->heads[h->res->n_heads++] = head;
}

static bool add_recent(void *user, struct session *s)
{
    if (s->committed_seq && s->change_time_us > sa_wall_us() - (int64_t)RECENT_S * 1000000)
        add_head(user, s->name, s->committed_seq);
    return true;
}

void api_list_heads(void *api, struct rpc_call *call, const ListHeadsRequest *req)
{
    struct sessions *all = api;
    ListHeadsResponse res = LIST_HEADS_RESPONSE__INIT;
    struct heads h = {rpc_arena(call), &res, all->epoch_text, 0};
    res.epoch = all->epoch_text;
    if (req->n_session_ids > HEADS_MAX) {
        sa_error *err = NULL;
        sa_fail(&err, SA_INVALID_REQUEST, "session_ids: more than %d", HEADS_MAX);
        rpc_fail(call, err);
        return;
    }
    for (size_t i = 0; i < req->n_session_ids; i++) {
        struct sa_id id;
        cleanup_message StoredSession *s = sessions_read(all, req->session_ids[i], &id, NULL);
        if (s)
            add_head(&h, req->session_ids[i], s->head_seq);
    }
    if (!req->n_session_ids)
        sessions_each(all, add_recent, &h);
    list_heads_reply(call, &res);
}
