#include "services/session-svc/sessions.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "services/session-svc/follow.h"
#include "services/session-svc/import.h"
#include "services/session-svc/install.h"
#include "services/session-svc/job.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/permission_watch.h"
#include "services/session-svc/policies.h"
#include "services/session-svc/registry.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/terminals.h"

enum {
    PROGRESS_TICK_MS = 1000,
    SWEEP_MS = 3600 * 1000,
    KEY_AGE_S = 24 * 3600,
    RECENT_S = 600,
    BUCKETS_FIRST = 256,
};

/* ---- hash by id: its last bytes are random ---- */

static size_t bucket_of(const struct sessions *all, struct sa_id id)
{
    return store_u64(id.bytes + 8) & (all->n_buckets - 1);
}

static struct session *lookup(const struct sessions *all, struct sa_id id)
{
    struct session *s = all->buckets[bucket_of(all, id)];
    while (s && !sa_id_equal(s->id, id))
        s = s->hash_next;
    return s;
}

static void grow(struct sessions *all)
{
    struct session **old = all->buckets;
    size_t n = all->n_buckets;
    all->n_buckets = n ? 2 * n : BUCKETS_FIRST;
    all->buckets = sa_calloc(all->n_buckets, sizeof *all->buckets);
    for (size_t i = 0; i < n; i++)
        for (struct session *s = old[i], *next; s; s = next) {
            next = s->hash_next;
            struct session **b = &all->buckets[bucket_of(all, s->id)];
            s->hash_next = *b;
            *b = s;
        }
    free(old);
}

struct sa_id sessions_new_id(struct sessions *all)
{
    struct sa_id id = sa_id_new();
    if (memcmp(id.bytes, all->last_id.bytes, sizeof id.bytes) <= 0) { /* the clock was set back */
        id = all->last_id;
        for (int i = sizeof id.bytes - 1; i >= 0 && ++id.bytes[i] == 0; i--)
            ;
    }
    return all->last_id = id;
}

void sessions_insert(struct sessions *all, struct session *s)
{
    if (++all->count > all->n_buckets)
        grow(all);
    struct session **b = &all->buckets[bucket_of(all, s->id)];
    s->hash_next = *b;
    *b = s;
}

static void free_later(void *user)
{
    session_free(user);
}

void sessions_forget(struct session *s)
{
    struct session **at = &s->all->buckets[bucket_of(s->all, s->id)];
    while (*at && *at != s)
        at = &(*at)->hash_next;
    if (!*at)
        return;
    *at = s->hash_next;
    s->all->count--;
    sa_defer(s->all->loop, free_later, s);
}

void sessions_each(struct sessions *all, bool (*fn)(void *user, struct session *s), void *user)
{
    for (size_t i = 0; i < all->n_buckets; i++)
        for (struct session *s = all->buckets[i], *next; s; s = next) {
            next = s->hash_next;
            if (!fn(user, s))
                return;
        }
}

int sessions_parse_id(const char *text, struct sa_id *ret_id, sa_error **err)
{
    if (!*text)
        return sa_fail(err, SA_INVALID_REQUEST, "session_id: is empty");
    if (!sa_id_parse(text, ret_id))
        return sa_fail(err, SA_SESSION_NOT_FOUND, "session \"%.64s\" does not exist", text);
    return 0;
}

StoredSession *sessions_read(struct sessions *all, const char *text, struct sa_id *ret_id, sa_error **err)
{
    StoredSession *row = NULL;
    if (sessions_parse_id(text, ret_id, err))
        return NULL;
    struct store_key key = db_key(*ret_id);
    if (store_get(all->store, DB_SESSIONS, &key, &row, err) == 0)
        sa_fail(err, SA_SESSION_NOT_FOUND, "session %s does not exist", text);
    return row;
}

struct session *sessions_find_to_read(struct sessions *all, const char *text, sa_error **err)
{
    struct sa_id id;
    if (sessions_parse_id(text, &id, err))
        return NULL;
    struct session *s = lookup(all, id);
    if (s && s->committed_batch) /* one that is being created is not there yet */
        return s;
    if (s || !(s = session_new(all, id))) {
        sa_fail(err, SA_SESSION_NOT_FOUND, "session %s does not exist", text);
        return NULL;
    }
    int found = session_load(s, err);
    if (found <= 0) {
        if (!found)
            sa_fail(err, SA_SESSION_NOT_FOUND, "session %s does not exist", text);
        session_free(s);
        return NULL;
    }
    sessions_insert(all, s);
    session_take_up(s);
    return s;
}

struct session *sessions_find_to_change(struct sessions *all, const char *text, sa_error **err)
{
    struct session *s = sessions_find_to_read(all, text, err);
    if (!s || session_usable(s))
        return s;
    sa_fail(err, SA_UNAVAILABLE, "session %s: the store cannot be written for now", text);
    return NULL;
}

/* ---- start ---- */

struct found {
    struct sa_id *ids;
    size_t n, cap;
    sa_error *err;
};

/* Sessions that have something to do, and those that changed lately: their heads are asked for. */
static bool collect(void *user, const struct store_row *row)
{
    struct found *f = user;
    cleanup_message StoredSession *m = store_row_unpack(row, &f->err);
    if (!m)
        return false;
    bool recent = m->change_time_us > sa_wall_us() - (int64_t)RECENT_S * 1000000;
    if (!recent && m->state != SESSION_STATE_STARTING && !m->phase && !m->n_condemned && !m->n_queued_turns &&
        !m->resume_wanted && !m->doomed_terminals)
        return true;
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 64;
        f->ids = sa_realloc(f->ids, f->cap * sizeof *f->ids);
    }
    f->ids[f->n++] = db_key_id(row);
    return true;
}

static int take_up_all(struct sessions *all, sa_error **err)
{
    struct found f = {0};
    struct store_range range = {.table = DB_SESSIONS};
    int r = store_scan(all->store, &range, collect, &f, err) < 0 ? -1 : 0;
    if (!r && f.err)
        r = sa_pass(err, f.err);
    for (size_t i = 0; !r && i < f.n; i++) {
        char name[SA_ID_TEXT + 1];
        sa_id_format(f.ids[i], name);
        r = sessions_find_to_read(all, name, err) ? 0 : -1;
    }
    sa_log(SA_LOG_INFO, "sessions.taken_up", "count=%zu", f.n);
    free(f.ids);
    return r;
}

/* ---- timers ---- */

static void progress_due(void *user)
{
    follow_progress(user);
    permission_watch_progress(user);
}

static bool delete_old_key(void *user, const struct store_row *row)
{
    struct store_set *set = user;
    if (row->key[0] != 'c')
        return false; /* those of prompts stay as long as their session */
    cleanup_message StoredKey *m = store_row_unpack(row, NULL);
    struct store_key key = store_key_of(row->key, row->key_len);
    if (m && m->time_us < sa_wall_us() - (int64_t)KEY_AGE_S * 1000000)
        store_delete(set, DB_KEYS, &key);
    return true;
}

static void sweep_due(void *user)
{
    struct sessions *all = user;
    struct store_set *set = store_set_new();
    struct store_key prefix = store_key_of("c", 1);
    struct store_range range = {.table = DB_KEYS, .prefix = &prefix};
    cleanup_error sa_error *err = NULL;
    if (store_scan(all->store, &range, delete_old_key, set, &err) < 0)
        store_set_free(set);
    else
        store_commit(all->store, set, NULL, NULL, &err);
    if (err)
        sa_log(SA_LOG_WARN, "sessions.sweep_failed", "error=\"%s\"", err->message);
}

static struct store *open_store(struct sessions *all, sa_error **err)
{
    cleanup_free char *dir = sa_format("%s/store", service_data_dir(all->svc));
    struct store_options opt = {
        .dir = dir,
        .tables = db_tables,
        .n_tables = DB_TABLES_,
        .map_size = all->config.store_bytes,
        .durability = store_durability_of(service_text(all->svc, "durability")),
    };
    sa_loop_unlock(all->loop); /* it starts the writer's thread */
    struct store *store = store_open(all->loop, &opt, err);
    sa_loop_lock(all->loop);
    return store;
}

static void mask_line(void *user, char *line, size_t n)
{
    secrets_mask(user, line, n);
}

/* What is passed on to agents from our own environment is masked like what callers have set. */
static void know_environment(struct sessions *all)
{
    sa_log_filter(mask_line, all->secrets);
    for (const struct agent *const *a = agents_all(); all->config.pass_credentials && *a; a++)
        for (const char *const *name = (*a)->credentials; *name; name++)
            if (getenv(*name) && mask_is_secret(*name, strlen(*name)))
                secrets_know(all->secrets, getenv(*name));
}

struct sessions *sessions_new(struct service *svc, const struct sessions_config *config, sa_error **err)
{
    struct sessions *all = sa_calloc(1, sizeof *all);
    all->svc = svc;
    all->loop = service_loop(svc);
    all->config = *config;
    grow(all);
    all->process = service_peer(svc, "process");
    all->files = service_peer(svc, "fs");
    all->progress = sa_timer_new(all->loop, progress_due, all);
    all->sweep = sa_timer_new(all->loop, sweep_due, all);
    all->store = open_store(all, err);
    if (all->store) {
        all->epoch = store_epoch(all->store);
        all->bus = service_bus(svc, all->epoch, err);
    }
    snprintf(all->epoch_text, sizeof all->epoch_text, "%016llx", (unsigned long long)all->epoch);
    if (all->bus)
        all->secrets = secrets_open(all->loop, service_data_dir(svc), err);
    if (all->secrets)
        all->blobs = blobs_new(all, err);
    if (all->blobs)
        know_environment(all);
    if (!all->blobs || registry_load(all, config->agents_file, err) || installs_load(all, err) ||
        policies_load(all, NULL, err) || take_up_all(all, err) || import_clean(all, err)) {
        sa_loop_unlock(all->loop);
        sessions_free(all);
        sa_loop_lock(all->loop);
        return NULL;
    }
    sa_timer_every(all->progress, PROGRESS_TICK_MS);
    sa_timer_every(all->sweep, SWEEP_MS);
    retention_start(all);
    return all;
}

static bool detach(void *user, struct session *s)
{
    (void)user;
    link_detach(s);
    requests_abandon(s);
    terminals_abandon(s);
    return true;
}

static bool free_one(void *user, struct session *s)
{
    (void)user;
    session_free(s);
    return true;
}

void sessions_free(struct sessions *all)
{
    if (!all)
        return;
    sa_loop_lock(all->loop);
    all->stopped = true;
    sessions_each(all, detach, NULL);
    sa_loop_unlock(all->loop);
    store_free(all->store); /* what is decided is committed */
    sa_loop_lock(all->loop);
    sessions_each(all, free_one, NULL);
    policies_clear(&all->policy, &all->policy_request_id);
    jobs_free(all);
    installs_free(all);
    registry_free(all);
    sa_log_filter(NULL, NULL);
    secrets_free(all->secrets);
    sa_timer_free(all->progress);
    sa_timer_free(all->sweep);
    sa_timer_free(all->retention);
    blobs_free(all->blobs);
    sa_loop_unlock(all->loop);
    free(all->buckets);
    free(all);
}
