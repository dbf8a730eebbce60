/* ListSessions. */
#include <ctype.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/page_token.h"

enum {
    CHUNK = 64,          /* sessions looked up at once */
    EXAMINED_MAX = 2000, /* for one page */
};

/* ---- what fits ---- */

static bool has_label(const Session *s, const char *key, const char *value)
{
    for (size_t i = 0; i < s->n_labels; i++)
        if (!strcmp(s->labels[i]->key, key))
            return !*value || !strcmp(s->labels[i]->value, value);
    return false;
}

static bool has_labels(const Session *s, const ListSessionsRequest *req)
{
    if (*req->label_key && !has_label(s, req->label_key, req->label_value))
        return false;
    for (size_t i = 0; i < req->n_labels; i++)
        if (!has_label(s, req->labels[i]->key, req->labels[i]->value))
            return false;
    return true;
}

static bool has_state(const Session *s, const ListSessionsRequest *req)
{
    for (size_t i = 0; i < req->n_states; i++)
        if (req->states[i] == s->state)
            return true;
    return !req->n_states;
}

static bool contains(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; strlen(text) >= n; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == n)
            return true;
        if (!*text)
            break;
    }
    return false;
}

static bool is_after(const Google__Protobuf__Timestamp *a, const Google__Protobuf__Timestamp *b)
{
    return a->seconds != b->seconds ? a->seconds > b->seconds : a->nanos > b->nanos;
}

static bool fits(const Session *s, const ListSessionsRequest *req)
{
    bool archived = s->archive_time != NULL;
    bool wanted = req->archived == ARCHIVED_FILTER_ALL || archived == (req->archived == ARCHIVED_FILTER_ONLY);
    return wanted && (!*req->agent || !strcmp(req->agent, s->agent)) && has_state(s, req) &&
           has_labels(s, req) && contains(s->title, req->title_contains) &&
           (!req->created_after || is_after(s->create_time, req->created_after));
}

/* ---- pages ---- */

struct chunk {
    struct sa_id ids[CHUNK];
    size_t n;
};

static bool take_id(void *user, const struct store_row *row)
{
    struct chunk *c = user;
    c->ids[c->n++] = db_key_id(row);
    return c->n < CHUNK;
}

/* What is asked for, apart from the page: a token belongs to one such list. */
static char *filter_of(struct sa_arena *arena, const ListSessionsRequest *req)
{
    ListSessionsRequest plain = *req;
    plain.page_size = 0;
    plain.page_token = (char[]){""};
    size_t n = list_sessions_request__get_packed_size(&plain);
    uint8_t *packed = sa_arena_alloc(arena, n + 1);
    list_sessions_request__pack(&plain, packed);
    char digest[SA_SHA256_TEXT + 1];
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, packed, n);
    sa_sha256_end_text(&sum, digest);
    return sa_arena_format(arena, "sessions\n%s", digest);
}

struct page {
    Session **sessions;
    size_t n, max, examined;
    struct sa_id last; /* looked at */
    bool begin, more;
};

/* 1: go on. 0: the page or the list is full. */
static int add_chunk(struct sessions *all, const ListSessionsRequest *req, struct sa_arena *arena,
                     struct page *p, sa_error **err)
{
    struct chunk c = {.n = 0};
    struct store_key from = db_key(p->last);
    struct store_range range = {
        .table = DB_SPECS, .from = p->begin ? NULL : &from, .after = true, .reverse = true};
    if (store_scan(all->store, &range, take_id, &c, err) < 0)
        return -1;
    for (size_t i = 0; i < c.n; i++) {
        if (p->n == p->max || p->examined == EXAMINED_MAX) {
            p->more = true;
            return 0;
        }
        Session *s = session_describe(all, c.ids[i], arena, err);
        if (!s)
            return -1;
        p->last = c.ids[i];
        p->begin = false;
        p->examined++;
        if (fits(s, req))
            p->sessions[p->n++] = s;
    }
    return c.n == CHUNK;
}

void api_list_sessions(void *api, struct rpc_call *call, const ListSessionsRequest *req)
{
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    uint32_t size;
    char *filter = filter_of(arena, req);
    struct page p = {.begin = !*req->page_token};
    if (api_page_size(req->page_size, 50, &size, &err) ||
        (!p.begin && page_token_read(req->page_token, filter, all->epoch, &p.last, &err))) {
        rpc_fail(call, err);
        return;
    }
    p.max = size;
    p.sessions = sa_arena_alloc(arena, size * sizeof *p.sessions);
    int r;
    while ((r = add_chunk(all, req, arena, &p, &err)) > 0)
        ;
    if (r < 0) {
        rpc_fail(call, err);
        return;
    }
    ListSessionsResponse res = LIST_SESSIONS_RESPONSE__INIT;
    res.sessions = p.sessions;
    res.n_sessions = p.n;
    if (p.more)
        res.next_page_token = page_token_make(arena, p.last, filter, all->epoch);
    list_sessions_reply(call, &res);
}
