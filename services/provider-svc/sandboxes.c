/* Design notes
 *
 *                   create                        driver: done
 *     (nothing) ──────────────▶ CREATING ───────────────────────────────▶ RUNNING
 *                                  │ driver: failed                          │ ended by itself
 *                                  ▼                                         ▼
 *                               FAILED ◀─────────────────────────────────────┘
 *                                  │ destroy (also of CREATING and RUNNING)
 *                                  ▼
 *                              DESTROYING ──driver: done──▶ DESTROYED ──a day──▶ (nothing)
 *
 * Every arrow is one write set; what follows it (asking the driver, answering callers) happens in its
 * completion. A change that could not be committed is tried again. `busy` spans driver and store, so there is
 * one thing at a time per sandbox; what comes meanwhile is kept in `unwanted` and `ended` and looked at in
 * `settle`. */
#include "services/provider-svc/sandboxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/nng/bus.h"
#include "adapters/os/log.h"
#include "services/provider-svc/records.h"

enum { PROVIDERS_MAX = 16, AGAIN_MS = 1000, SWEEP_MS = 3600 * 1000 };

struct waiter {
    struct waiter *next;
    sandbox_done_fn *done;
    void *user;
};

struct sandboxes {
    struct sa_loop *loop;
    struct records *records;
    struct bus_publisher *bus;
    struct provider *providers[PROVIDERS_MAX];
    size_t n_providers;
    struct sandbox *list;
    size_t n; /* not ended */
    struct sa_timer *sweep;
    void (*degraded)(void *user, const char *message);
    void *degraded_user;
    bool closing;
};

static void settle(struct sandbox *s);

/* ---- waiters ---- */

static void wait_for(struct waiter **list, sandbox_done_fn *done, void *user)
{
    struct waiter *w = sa_calloc(1, sizeof *w);
    *w = (struct waiter){*list, done, user};
    *list = w;
}

/* The list is taken first: a waiter may add another one. */
static void tell(struct waiter **list, struct sandbox *s, const sa_error *err)
{
    struct waiter *w = steal_pointer(list);
    while (w) {
        struct waiter *next = w->next;
        w->done(w->user, s, err);
        free(w);
        w = next;
    }
}

static void drop(struct waiter **list)
{
    for (struct waiter *w = steal_pointer(list), *next; w; w = next) {
        next = w->next;
        free(w);
    }
}

/* ---- the list ---- */

static void insert(struct sandboxes *all, struct sandbox *s)
{
    struct sandbox **at = &all->list;
    while (*at && strcmp((*at)->id, s->id) > 0)
        at = &(*at)->next;
    s->next = *at;
    *at = s;
}

static void sandbox_free(struct sandbox *s)
{
    for (struct sandbox **at = &s->all->list; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    drop(&s->creators);
    drop(&s->destroyers);
    records_free_one(s->record);
    records_free_one(s->change);
    sa_timer_free(s->again);
    free(s->ended);
    free(s);
}

struct sandbox *sandboxes_find(struct sandboxes *all, const char *id, sa_error **err)
{
    for (struct sandbox *s = all->list; s; s = s->next)
        if (!strcmp(s->id, id) && s->record)
            return s;
    sa_fail(err, SA_SANDBOX_NOT_FOUND, "sandbox %.64s does not exist", id);
    return NULL;
}

struct sandbox *sandboxes_first(struct sandboxes *all, const char *before)
{
    struct sandbox *s = all->list;
    while (s && before && strcmp(s->id, before) >= 0)
        s = s->next;
    return s;
}

static struct provider *find_provider(struct sandboxes *all, const char *name)
{
    for (size_t i = 0; i < all->n_providers; i++)
        if (!strcmp(all->providers[i]->ops->name, name))
            return all->providers[i];
    return NULL;
}

static bool is_over(const struct sandbox *s)
{
    return s->record && s->record->state == SANDBOX_STATE_DESTROYED;
}

static struct provider_state driver_state(const struct sandbox *s)
{
    return (struct provider_state){s->record->driver_state.data, s->record->driver_state.len};
}

/* ---- changing the record ---- */

static void publish(struct sandbox *s)
{
    struct sa_arena *a = sa_arena_new();
    Sandbox *m = sandbox_to_proto(a, s);
    size_t n = sandbox__get_packed_size(m);
    uint8_t *packed = sa_arena_alloc(a, n);
    sandbox__pack(m, packed);
    char *stream = sa_arena_format(a, "sandbox/%s", s->id), *topic = sa_arena_format(a, "%s/state", stream);
    if (s->all->bus)
        bus_publish(s->all->bus, topic, stream, s->record->seq, s->record->seq - 1, packed, n);
    sa_arena_free(a);
}

static void commit(struct sandbox *s);

static void on_again(void *user)
{
    commit(user);
}

static void committed(void *user, const sa_error *err)
{
    struct sandbox *s = user;
    if (s->all->degraded)
        s->all->degraded(s->all->degraded_user, err ? err->message : NULL);
    if (err && !s->record) {
        /* It never was. */
        tell(&s->creators, NULL, err);
        s->all->n--;
        sandbox_free(s);
        return;
    }
    if (err) {
        sa_log(SA_LOG_ERROR, "sandbox.not_stored", "sandbox=%s reason=%s", s->id, err->reason);
        sa_timer_start(s->again, AGAIN_MS);
        return;
    }
    records_free_one(s->record);
    s->record = steal_pointer(&s->change);
    s->busy = false;
    if (is_over(s))
        s->all->n--;
    sa_log(SA_LOG_INFO, "sandbox.state", "sandbox=%s provider=%s state=%d message=\"%s\"", s->id,
           s->record->provider, s->record->state, s->record->message);
    publish(s);
    settle(s);
}

static void commit(struct sandbox *s)
{
    cleanup_error sa_error *err = NULL;
    if (records_put(s->all->records, s->id, s->change, committed, s, &err) < 0)
        committed(s, err);
}

/* Begins a change of state; `settle` goes on from there. driver_state: NULL keeps it. */
static void change(struct sandbox *s, SandboxState state, const char *message,
                   const struct provider_state *driver)
{
    SandboxRecord *next = records_copy(s->record);
    next->state = (int32_t)state;
    next->seq++;
    records_set_message(next, message);
    if (driver)
        records_set_driver_state(next, driver->data, driver->n);
    if (state == SANDBOX_STATE_DESTROYED)
        next->end_time_us = sa_wall_us();
    s->change = next;
    s->busy = true;
    commit(s);
}

/* ---- what a state asks for ---- */

static void created(void *user, const struct provider_state *state, const sa_error *err)
{
    struct sandbox *s = user;
    if (!err)
        change(s, SANDBOX_STATE_RUNNING, "", state);
    else
        change(s, SANDBOX_STATE_FAILED, err->message, NULL);
}

static void destroyed(void *user, const sa_error *err)
{
    struct sandbox *s = user;
    if (err) {
        s->unwanted = false;
        change(s, SANDBOX_STATE_FAILED, err->message, NULL);
        tell(&s->destroyers, s, err);
    } else {
        change(s, SANDBOX_STATE_DESTROYED, "", NULL);
    }
}

static void ask_driver(struct sandbox *s)
{
    struct provider_state state = driver_state(s);
    s->busy = true;
    free(steal_pointer(&s->ended));
    if (!s->provider) {
        cleanup_error sa_error *err = NULL;
        sa_fail(&err, SA_UNKNOWN_PROVIDER, "this server has no provider `%s`", s->record->provider);
        destroyed(s, err);
    } else if (s->record->state == SANDBOX_STATE_CREATING) {
        s->provider->ops->create(s->provider, s->id, &state, created, s);
    } else {
        s->provider->ops->destroy(s->provider, s->id, &state, destroyed, s);
    }
}

/* Nothing works on the sandbox: what comes next? */
static void settle(struct sandbox *s)
{
    SandboxState state = (SandboxState)s->record->state;
    if (s->all->closing)
        return;
    tell(&s->creators, s, NULL);
    if (state == SANDBOX_STATE_DESTROYED) {
        tell(&s->destroyers, s, NULL);
    } else if (state == SANDBOX_STATE_DESTROYING || (state == SANDBOX_STATE_CREATING && !s->unwanted)) {
        ask_driver(s);
    } else if (s->unwanted) {
        change(s, SANDBOX_STATE_DESTROYING, "", NULL);
    } else if (state == SANDBOX_STATE_RUNNING && s->ended) {
        cleanup_free char *message = steal_pointer(&s->ended);
        change(s, SANDBOX_STATE_FAILED, message, NULL);
    }
    /* The sandbox may have become busy again. */
}

void sandboxes_ended(void *user, const char *sandbox_id, const char *message)
{
    struct sandbox *s = sandboxes_find(user, sandbox_id, NULL);
    if (!s)
        return;
    free(s->ended);
    s->ended = sa_strdup(message);
    if (!s->busy)
        settle(s);
}

/* ---- requests ---- */

static struct sandbox *sandbox_new(struct sandboxes *all, const char *id, struct provider *p)
{
    struct sandbox *s = sa_calloc(1, sizeof *s);
    s->all = all;
    s->provider = p;
    snprintf(s->id, sizeof s->id, "%s", id);
    s->again = sa_timer_new(all->loop, on_again, s);
    insert(all, s);
    return s;
}

static struct sandbox *find_request(struct sandboxes *all, const char *principal, const char *request_id)
{
    for (struct sandbox *s = all->list; s && *request_id; s = s->next) {
        const SandboxRecord *r = s->record ? s->record : s->change;
        if (!strcmp(r->request_id, request_id) && !strcmp(r->principal, principal))
            return s;
    }
    return NULL;
}

static void tell_creators(void *user)
{
    struct sandbox *s = user;
    tell(&s->creators, s, NULL);
}

/* The sandbox that the same request made before. */
static int repeat(struct sandbox *s, const CreateSandboxRequest *req, sandbox_done_fn *done, void *user,
                  sa_error **err)
{
    const SandboxRecord *r = s->record ? s->record : s->change;
    if (strcmp(r->provider, req->provider))
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request `%s` asked provider `%s`", req->request_id,
                       r->provider);
    wait_for(&s->creators, done, user);
    if (s->record)
        sa_defer(s->all->loop, tell_creators, s);
    return 0;
}

int sandboxes_create(struct sandboxes *all, const char *principal, const CreateSandboxRequest *req,
                     sandbox_done_fn *done, void *user, sa_error **err)
{
    struct sandbox *known = find_request(all, principal, req->request_id);
    if (known)
        return repeat(known, req, done, user, err);
    struct provider *p = find_provider(all, req->provider);
    cleanup_free char *why = NULL;
    if (!p)
        return sa_fail(err, SA_UNKNOWN_PROVIDER, "there is no provider `%.64s`; ListProviders tells them",
                       req->provider);
    if (!p->ops->available(p, &why))
        return sa_fail(err, SA_PROVIDER_ERROR, "provider `%s` cannot be used: %s", req->provider, why);
    if (all->n >= SANDBOXES_MAX)
        return sa_fail(err, SA_TOO_MANY, "there are %d sandboxes, that is the limit", SANDBOXES_MAX);
    char id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), id);
    struct sandbox *s = sandbox_new(all, id, p);
    all->n++;
    s->change = records_new(principal, req);
    s->busy = true;
    wait_for(&s->creators, done, user);
    commit(s);
    return 0;
}

static void tell_destroyers(void *user)
{
    struct sandbox *s = user;
    tell(&s->destroyers, s, NULL);
}

void sandboxes_destroy(struct sandbox *s, sandbox_done_fn *done, void *user)
{
    wait_for(&s->destroyers, done, user);
    if (is_over(s)) {
        sa_defer(s->all->loop, tell_destroyers, s);
        return;
    }
    s->unwanted = true;
    if (!s->busy)
        settle(s);
    else if (s->record->state == SANDBOX_STATE_CREATING)
        s->provider->ops->cancel(s->provider, s->id);
}

Sandbox *sandbox_to_proto(struct sa_arena *a, const struct sandbox *s)
{
    return records_to_proto(a, s->id, s->record);
}

/* ---- starting is recovering ---- */

static void adopted(void *user, const sa_error *err)
{
    struct sandbox *s = user;
    s->busy = false;
    if (err)
        /* It ended while nobody watched, or with the machine: made again, with its data. */
        change(s, SANDBOX_STATE_CREATING, "", NULL);
    else
        settle(s);
}

static void take_up(struct sandbox *s)
{
    struct provider_state state = driver_state(s);
    if (!s->provider) {
        if (s->record->state != SANDBOX_STATE_DESTROYED)
            sa_log(SA_LOG_WARN, "sandbox.orphan", "sandbox=%s provider=%s", s->id, s->record->provider);
    } else if (s->record->state == SANDBOX_STATE_RUNNING) {
        s->busy = true;
        s->provider->ops->adopt(s->provider, s->id, &state, adopted, s);
    } else {
        settle(s);
    }
}

static void loaded(void *user, const char *id, SandboxRecord *record)
{
    struct sandboxes *all = user;
    struct sandbox *s = sandbox_new(all, id, find_provider(all, record->provider));
    s->record = record;
    all->n += !is_over(s);
}

static void on_sweep(void *user)
{
    struct sandboxes *all = user;
    int64_t until = sa_wall_us() - (int64_t)SANDBOX_KEEP_S * 1000000;
    for (struct sandbox *s = all->list, *next; s; s = next) {
        next = s->next;
        if (!is_over(s) || s->busy || s->record->end_time_us > until || s->creators || s->destroyers)
            continue;
        records_drop(all->records, s->id);
        sandbox_free(s);
    }
}

struct sandboxes *sandboxes_open(const struct sandboxes_options *opt, sa_error **err)
{
    struct sandboxes *all = sa_calloc(1, sizeof *all);
    all->loop = opt->loop;
    all->degraded = opt->degraded;
    all->degraded_user = opt->user;
    all->records = records_open(opt->loop, opt->dir, opt->durability, err);
    if (!all->records) {
        free(all);
        return NULL;
    }
    all->sweep = sa_timer_new(all->loop, on_sweep, all);
    return all;
}

uint64_t sandboxes_epoch(const struct sandboxes *all)
{
    return records_epoch(all->records);
}

void sandboxes_add_provider(struct sandboxes *all, struct provider *p)
{
    if (all->n_providers == PROVIDERS_MAX)
        abort();
    all->providers[all->n_providers++] = p;
}

struct provider *sandboxes_provider(const struct sandboxes *all, size_t i)
{
    return i < all->n_providers ? all->providers[i] : NULL;
}

void sandboxes_recover(struct sandboxes *all, struct bus_publisher *bus)
{
    all->bus = bus;
    records_load(all->records, loaded, all);
    for (struct sandbox *s = all->list; s; s = s->next)
        take_up(s);
    on_sweep(all);
    sa_timer_every(all->sweep, SWEEP_MS);
}

void sandboxes_free(struct sandboxes *all)
{
    if (!all)
        return;
    sa_loop_lock(all->loop);
    for (size_t i = 0; i < all->n_providers; i++)
        all->providers[i]->ops->free(all->providers[i]);
    all->bus = NULL;
    all->degraded = NULL;
    all->closing = true;
    sa_loop_unlock(all->loop);
    /* What was queued is committed, and its completions still find the sandboxes. */
    records_free(all->records);
    sa_loop_lock(all->loop);
    while (all->list)
        sandbox_free(all->list);
    sa_timer_free(all->sweep);
    sa_loop_unlock(all->loop);
    free(all);
}
