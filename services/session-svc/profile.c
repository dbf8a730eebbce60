#include "services/session-svc/profile.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/turns.h"

int profile_check_title(const char *title, sa_error **err)
{
    if (strlen(title) <= PROFILE_TEXT_MAX)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "title: over %d bytes", PROFILE_TEXT_MAX);
}

int profile_check_labels(size_t n, sa_error **err)
{
    if (n <= PROFILE_LABELS_MAX)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "labels: more than %d", PROFILE_LABELS_MAX);
}

int profile_check_label(const char *key, const char *value, sa_error **err)
{
    if (*key && strlen(key) <= PROFILE_TEXT_MAX && strlen(value) <= PROFILE_TEXT_MAX)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "labels: a key is empty, or a key or value is over %d bytes",
                   PROFILE_TEXT_MAX);
}

int profile_check_idle(uint64_t ms, sa_error **err)
{
    if (ms <= PROFILE_IDLE_MAX)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "idle_suspend_ms: over %d", PROFILE_IDLE_MAX);
}

uint64_t profile_idle_ms(const struct sessions *all, const StoredProfile *p)
{
    return p->_idle_suspend_ms_case ? p->idle_suspend_ms : all->config.idle_suspend_ms;
}

static StoredProfile *copy_of(const StoredProfile *p)
{
    cleanup_buf struct sa_buf packed = {0};
    packed.len = stored_profile__pack(p, sa_buf_reserve(&packed, stored_profile__get_packed_size(p) + 1));
    return rpc_unpack(&stored_profile__descriptor, packed.data, packed.len, NULL);
}

void profile_replace(struct session *s, const StoredProfile *now)
{
    StoredProfile *copy = copy_of(now);
    store_message_free(s->profile);
    s->profile = copy;
    struct store_key key = db_key(s->id);
    store_put(session_set(s), DB_T_PROFILES, &key, &copy->base);
}

bool profile_is_archived(const struct session *s)
{
    return s->profile && s->profile->archive_time_us;
}

static void tell(struct session *s, const char *author)
{
    StoredProfile *p = s->profile;
    SessionUpdated updated = SESSION_UPDATED__INIT;
    updated.title = p->title;
    updated.n_labels = p->n_labels;
    cleanup_free SessionUpdated__LabelsEntry *entries = sa_calloc(p->n_labels + 1, sizeof *entries);
    cleanup_free SessionUpdated__LabelsEntry **labels = sa_calloc(p->n_labels + 1, sizeof *labels);
    for (size_t i = 0; i < p->n_labels; i++) {
        entries[i] = (SessionUpdated__LabelsEntry)SESSION_UPDATED__LABELS_ENTRY__INIT;
        entries[i].key = p->labels[i]->key;
        entries[i].value = p->labels[i]->value;
        labels[i] = &entries[i];
    }
    updated.labels = labels;
    updated.archived = profile_is_archived(s);
    updated.author = (char *)(uintptr_t)author;
    if (p->_idle_suspend_ms_case)
        updated._idle_suspend_ms_case = SESSION_UPDATED___IDLE_SUSPEND_MS_IDLE_SUSPEND_MS;
    updated.idle_suspend_ms = p->idle_suspend_ms;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_SESSION_UPDATED;
    e.session_updated = &updated;
    session_event(s, &e);
    SA_FAULT("profile.change");
}

static int check_etag(struct session *s, const char *etag, sa_error **err)
{
    cleanup_free char *now = sa_format("%llu", (unsigned long long)s->profile->version);
    if (!*etag || !strcmp(etag, now))
        return 0;
    return sa_fail(err, SA_ETAG_MISMATCH,
                   "session %s was changed meanwhile: its etag is \"%s\", not \"%.64s\"", s->name, now, etag);
}

/* ---- update ---- */

struct mask {
    bool title, labels, idle;
};

static int read_mask(const UpdateSessionRequest *req, struct mask *ret, sa_error **err)
{
    if (!req->update_mask || !req->update_mask->n_paths)
        return sa_fail(err, SA_INVALID_REQUEST, "update_mask: names no field");
    for (size_t i = 0; i < req->update_mask->n_paths; i++) {
        const char *path = req->update_mask->paths[i];
        if (!strcmp(path, "title"))
            ret->title = true;
        else if (!strcmp(path, "labels"))
            ret->labels = true;
        else if (!strcmp(path, "idle_suspend_ms"))
            ret->idle = true;
        else
            return sa_fail(err, SA_INVALID_REQUEST, "update_mask: there is no field \"%.64s\" to change",
                           path);
    }
    return 0;
}

static bool same_labels(const StoredProfile *a, const StoredProfile *b)
{
    if (a->n_labels != b->n_labels)
        return false;
    for (size_t i = 0; i < a->n_labels; i++) {
        size_t j = 0;
        while (j < b->n_labels && (strcmp(a->labels[i]->key, b->labels[j]->key) ||
                                   strcmp(a->labels[i]->value, b->labels[j]->value)))
            j++;
        if (j == b->n_labels)
            return false;
    }
    return true;
}

static int fill_labels(const UpdateSessionRequest *req, StoredProfile *ret, struct sa_arena *arena,
                       sa_error **err)
{
    if (profile_check_labels(req->n_labels, err))
        return -1;
    ret->labels = sa_arena_alloc(arena, (req->n_labels + 1) * sizeof *ret->labels);
    for (ret->n_labels = 0; ret->n_labels < req->n_labels; ret->n_labels++) {
        const UpdateSessionRequest__LabelsEntry *from = req->labels[ret->n_labels];
        if (profile_check_label(from->key, from->value, err))
            return -1;
        StoredProfile__LabelsEntry *l = sa_arena_alloc(arena, sizeof *l);
        *l = (StoredProfile__LabelsEntry)STORED_PROFILE__LABELS_ENTRY__INIT;
        l->key = from->key;
        l->value = from->value;
        ret->labels[ret->n_labels] = l;
    }
    return 0;
}

static int update(struct session *s, const UpdateSessionRequest *req, const char *author,
                  struct sa_arena *arena, sa_error **err)
{
    struct mask mask = {0};
    StoredProfile now = *s->profile;
    if (read_mask(req, &mask, err) || profile_check_title(req->title, err) ||
        profile_check_idle(req->idle_suspend_ms, err))
        return -1;
    if (mask.idle) {
        now._idle_suspend_ms_case = req->_idle_suspend_ms_case
                                        ? STORED_PROFILE___IDLE_SUSPEND_MS_IDLE_SUSPEND_MS
                                        : STORED_PROFILE___IDLE_SUSPEND_MS__NOT_SET;
        now.idle_suspend_ms = req->idle_suspend_ms;
    }
    if (mask.title)
        now.title = req->title;
    if (mask.labels && fill_labels(req, &now, arena, err))
        return -1;
    bool same_idle = now._idle_suspend_ms_case == s->profile->_idle_suspend_ms_case &&
                     now.idle_suspend_ms == s->profile->idle_suspend_ms;
    if (!strcmp(now.title, s->profile->title) && same_labels(&now, s->profile) && same_idle)
        return 0;
    if (check_etag(s, req->etag, err))
        return -1;
    now.version++;
    profile_replace(s, &now);
    tell(s, author);
    link_arm_idle(s);
    return 0;
}

int profile_update(struct session *s, const UpdateSessionRequest *req, const char *author, sa_error **err)
{
    struct sa_arena *arena = sa_arena_new();
    int r = update(s, req, author, arena, err);
    sa_arena_free(arena);
    return r;
}

/* ---- archive ---- */

int profile_archive(struct session *s, bool archived, const char *etag, const char *author, sa_error **err)
{
    if (archived == profile_is_archived(s))
        return 0;
    if (check_etag(s, etag, err))
        return -1;
    if (archived && (s->current_turn || turns_count_waiting(s)))
        return sa_fail(err, SA_TURN_RUNNING, "session %s: a turn runs or prompts wait", s->name);
    StoredProfile now = *s->profile;
    now.archive_time_us = archived ? sa_wall_us() : 0;
    now.version++;
    profile_replace(s, &now);
    tell(s, author);
    if (archived)
        link_suspend(s, "ARCHIVED", "the session was archived");
    return 0;
}

/* ---- stored ---- */

static StoredProfile *from_spec(const StoredSpec *spec)
{
    StoredProfile p = STORED_PROFILE__INIT;
    cleanup_free StoredProfile__LabelsEntry *entries = sa_calloc(spec->n_labels + 1, sizeof *entries);
    cleanup_free StoredProfile__LabelsEntry **labels = sa_calloc(spec->n_labels + 1, sizeof *labels);
    for (; p.n_labels < spec->n_labels; p.n_labels++) {
        entries[p.n_labels] = (StoredProfile__LabelsEntry)STORED_PROFILE__LABELS_ENTRY__INIT;
        entries[p.n_labels].key = spec->labels[p.n_labels]->key;
        entries[p.n_labels].value = spec->labels[p.n_labels]->value;
        labels[p.n_labels] = &entries[p.n_labels];
    }
    p.labels = labels;
    return copy_of(&p);
}

StoredProfile *profile_read(struct sessions *all, struct sa_id id, const StoredSpec *spec, sa_error **err)
{
    struct store_key key = db_key(id);
    StoredProfile *p = NULL;
    return store_get(all->store, DB_T_PROFILES, &key, &p, err) == 0 ? from_spec(spec) : p;
}

int profile_load(struct session *s, const StoredSpec *spec, sa_error **err)
{
    profile_clear(s);
    s->profile = profile_read(s->all, s->id, spec, err);
    return s->profile ? 0 : -1;
}

void profile_clear(struct session *s)
{
    store_message_free(s->profile);
    s->profile = NULL;
}
