#include "services/session-svc/walk.h"

int walk_init(struct walk *w, struct sessions *all, const char *session_id, sa_error **err)
{
    struct sa_id id;
    cleanup_message StoredSession *row = sessions_read(all, session_id, &id, err);
    if (!row)
        return -1;
    *w = (struct walk){.all = all, .id = id, .next = row->first_seq, .last = row->head_seq};
    if (!w->last)
        w->next = 1;
    return 0;
}

void walk_fini(struct walk *w)
{
    store_page_fini(&w->page);
    w->page = (struct store_page){0};
    sa_error_free(w->err);
    w->err = NULL;
}

bool walk_is_over(const struct walk *w)
{
    return w->err || w->next > w->last;
}

uint64_t walk_seq(const struct store_row *row)
{
    return db_key_number(row);
}

/* What is missing at the front was removed by retention if the session says so; elsewhere it is a loss. */
static int missing(struct walk *w, uint64_t seq, sa_error **err)
{
    char name[SA_ID_TEXT + 1];
    sa_id_format(w->id, name);
    cleanup_message StoredSession *row = sessions_read(w->all, name, &w->id, err);
    if (!row)
        return -1;
    if (row->first_seq > seq)
        return sa_fail(err, SA_EVENTS_REMOVED,
                       "events of session %s before %llu are no longer kept: retention was faster", name,
                       (unsigned long long)row->first_seq);
    return sa_fail(err, SA_STORE_CORRUPT, "event %llu of session %s is missing", (unsigned long long)seq,
                   name);
}

/* Rows from w->next on without a hole; what is behind one is left for the next page. */
static int read_page(struct walk *w, sa_error **err)
{
    struct store_key prefix = db_key(w->id), from = db_numbered_key(w->id, w->next);
    uint64_t left = w->last - w->next + 1;
    struct store_range range = {.table = DB_EVENTS,
                                .prefix = &prefix,
                                .from = &from,
                                .limit = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX,
                                .limit_bytes = WALK_PAGE_BYTES};
    if (store_read_page(w->all->store, &range, &w->page, err))
        return -1;
    size_t n = 0;
    while (n < w->page.n && walk_seq(&w->page.rows[n]) == w->next + n)
        n++;
    w->page.n = n;
    return n ? 0 : missing(w, w->next, err);
}

static void work(void *user)
{
    struct walk *w = user;
    if (!w->err && w->work)
        w->work(w);
}

static void done(void *user)
{
    struct walk *w = user;
    struct service *svc = w->all->svc;
    w->busy = false;
    if (!w->err)
        w->next += w->page.n;
    store_page_fini(&w->page);
    w->page = (struct store_page){0};
    w->done(w);
    service_release(svc);
}

void walk_next(struct walk *w)
{
    w->busy = true;
    service_hold(w->all->svc);
    read_page(w, &w->err);
    sa_work(w->all->loop, work, done, w);
}
