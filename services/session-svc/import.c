/* Lines are checked and become events on a worker, a few MiB at a time; each portion is committed before the
 * next one is begun. Until the last commit, which makes the session, nobody can see the events: a record
 * says that they are there, and they are removed when the transcript is refused, the caller leaves or we die.
 */
#include "services/session-svc/import.h"
#include "services/session-svc/profile.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "adapters/transcript/transcript.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/api.h"

enum {
    MESSAGE_MAX = 1 << 20, /* of data in one message */
    PENDING_MAX = 1 << 20, /* data that waits: more makes the caller wait */
    PORTION = 2 << 20,     /* bytes of events in one commit */
    PURGE_STEP = 10000,    /* events removed in one commit */
    TEXT_MAX = 4095,       /* of a text in the header */
};

struct import {
    struct import *next;
    struct sessions *all;
    struct rpc_call *call;
    struct sa_arena *arena;
    const ImportOpen *open; /* NULL: it has not come yet. A copy, in the arena */
    char *principal;
    struct transcript_reader reader;
    struct sa_buf pending, chunk; /* what came, and what a worker reads */
    bool unread;                  /* the reader has more lines than went into the portion */
    struct store_set *portion;    /* events to be committed; NULL: none */
    size_t portion_bytes;
    bool recorded; /* something is in the store */
    const TranscriptHeader *header;
    struct sa_id id;
    uint64_t head, last_turn, log_bytes;
    int64_t first_time_us;
    bool busy, ended, paused, cancelled;
    sa_error *err;
    struct sa_id repeated; /* the session that this request made before */
    bool is_repeated;
};

/* Of an import that is not to be, or of one before the last start. */
struct purge {
    struct sessions *all;
    struct sa_id id;
};

static void import_free(struct import *m)
{
    struct import **at = &m->all->imports;
    while (*at && *at != m)
        at = &(*at)->next;
    if (*at)
        *at = m->next;
    transcript_reader_fini(&m->reader);
    sa_buf_fini(&m->pending);
    sa_buf_fini(&m->chunk);
    store_set_free(m->portion);
    sa_error_free(m->err);
    free(m->principal);
    sa_arena_free(m->arena);
    rpc_call_unref(m->call);
    free(m);
}

/* ---- what must not stay ---- */

static bool first_key(void *user, const struct store_row *row)
{
    *(uint64_t *)user = db_key_number(row);
    return false;
}

static void purge_step(void *user, const sa_error *failed)
{
    struct purge *p = user;
    struct service *svc = p->all->svc;
    struct store_key prefix = db_key(p->id);
    struct store_range range = {.table = DB_EVENTS, .prefix = &prefix};
    cleanup_error sa_error *err = sa_error_copy(failed);
    uint64_t seq = 0;
    int64_t n = err ? -1 : store_scan(p->all->store, &range, first_key, &seq, &err);
    if (n > 0) {
        struct store_set *set = store_set_new();
        struct store_key until = db_numbered_key(p->id, seq + PURGE_STEP);
        store_delete_range(set, DB_EVENTS, &prefix, NULL, &until);
        service_hold(svc);
        if (store_commit(p->all->store, set, purge_step, p, &err))
            service_release(svc);
        else
            p = NULL;
    } else if (n == 0) {
        struct store_set *set = store_set_new();
        store_delete(set, DB_LOG_IMPORTS, &prefix);
        store_commit(p->all->store, set, NULL, NULL, &err);
    }
    if (err) /* the record stays: the next start does it */
        sa_log(SA_LOG_WARN, "import.purge_failed", "reason=%s", err->reason);
    free(p);
    service_release(svc);
}

static void purge(struct sessions *all, struct sa_id id)
{
    struct purge *p = sa_calloc(1, sizeof *p);
    *p = (struct purge){all, id};
    service_hold(all->svc);
    purge_step(p, NULL);
}

struct found {
    struct sa_id *ids;
    size_t n;
};

static bool collect(void *user, const struct store_row *row)
{
    struct found *f = user;
    f->ids = sa_realloc(f->ids, (f->n + 1) * sizeof *f->ids);
    f->ids[f->n++] = db_key_id(row);
    return true;
}

int import_clean(struct sessions *all, sa_error **err)
{
    struct found f = {0};
    struct store_range range = {.table = DB_LOG_IMPORTS};
    int r = store_scan(all->store, &range, collect, &f, err) < 0 ? -1 : 0;
    for (size_t i = 0; !r && i < f.n; i++)
        purge(all, f.ids[i]);
    free(f.ids);
    return r;
}

/* ---- lines, on a worker ---- */

static int refuse(struct import *m, const char *problem)
{
    return sa_fail(&m->err, SA_INVALID_TRANSCRIPT, "line %llu: %s", (unsigned long long)m->reader.line,
                   problem);
}

static ProtobufCMessage *read_message(struct import *m, struct sa_arena *arena, struct json v,
                                      const ProtobufCMessageDescriptor *d)
{
    static const struct json_mapping mapping = {.bytes = json_bytes_by_name};
    cleanup_error sa_error *why = NULL;
    ProtobufCMessage *read = json_read_message(arena, v, d, &mapping, &why);
    if (!read)
        refuse(m, why->message);
    return read;
}

static void take_header(struct import *m, struct json v)
{
    TranscriptHeader *h = (TranscriptHeader *)read_message(m, m->arena, v, &transcript_header__descriptor);
    if (!h)
        return;
    if (!*h->agent || strlen(h->agent) > TEXT_MAX || h->cwd.len > TEXT_MAX || strlen(h->creator) > TEXT_MAX ||
        strlen(h->session_id) > TEXT_MAX || !h->create_time)
        refuse(m, "names no agent or no time, or a text is longer than 4095 bytes");
    m->header = h;
}

static void take_event(struct import *m, struct json v, struct sa_arena *arena)
{
    Event *e = (Event *)read_message(m, arena, v, &event__descriptor);
    if (!e)
        return;
    size_t n = event__get_packed_size(e);
    if (e->kind_case == EVENT__KIND__NOT_SET || !e->time)
        refuse(m, "the event has no kind or no time");
    else if (!m->head && e->seq != m->header->first_seq)
        refuse(m, "the first event has another seq than the header says");
    else if (n > ACP_EVENT_MAX + 4096)
        refuse(m, "the event is larger than an event may be");
    if (m->err)
        return;
    uint8_t *packed = sa_arena_alloc_raw(arena, n);
    event__pack(e, packed);
    struct store_key key = db_numbered_key(m->id, e->seq);
    if (!m->portion)
        m->portion = store_set_new();
    store_put_bytes(m->portion, DB_EVENTS, &key, packed, n);
    m->portion_bytes += n;
    if (!m->head)
        m->first_time_us = e->time->seconds * 1000000 + e->time->nanos / 1000;
    m->log_bytes += n;
    m->head = e->seq;
    if (e->turn > m->last_turn)
        m->last_turn = e->turn;
}

static void work(void *user)
{
    struct import *m = user;
    struct transcript_line line;
    struct sa_arena *arena = sa_arena_new();
    transcript_feed(&m->reader, m->chunk.data, m->chunk.len);
    m->chunk.len = 0;
    m->unread = false;
    while (!m->err && !m->unread && transcript_next(&m->reader, &line, &m->err) == 1) {
        if (line.kind == TRANSCRIPT_HEADER)
            take_header(m, line.content);
        else if (line.kind == TRANSCRIPT_EVENT)
            take_event(m, line.content, arena);
        m->unread = m->portion_bytes >= PORTION;
        sa_arena_reset(arena);
    }
    sa_arena_free(arena);
}

/* ---- steps, under the lock ---- */

static void advance(struct import *m);

static void step_begins(struct import *m)
{
    m->busy = true;
    service_hold(m->all->svc);
}

static void step_ends(struct import *m)
{
    struct service *svc = m->all->svc;
    m->busy = false;
    advance(m);
    service_release(svc);
}

static void work_done(void *user)
{
    step_ends(user);
}

static void stored(void *user, const sa_error *err)
{
    struct import *m = user;
    if (err && !m->err)
        m->err = sa_error_copy(err);
    SA_FAULT("import.portion");
    step_ends(m);
}

static void commit(struct import *m, struct store_set *set, store_done_fn *done)
{
    step_begins(m);
    if (store_commit(m->all->store, set, done, m, &m->err))
        step_ends(m);
}

static void commit_portion(struct import *m)
{
    struct store_set *set = steal_pointer(&m->portion);
    m->portion_bytes = 0;
    if (!m->recorded) {
        struct store_key key = db_key(m->id);
        StoredImport row = STORED_IMPORT__INIT;
        row.time_us = sa_wall_us();
        store_put(set, DB_LOG_IMPORTS, &key, &row.base);
        m->recorded = true;
    }
    commit(m, set, stored);
}

static void read_more(struct import *m)
{
    struct sa_buf empty = m->chunk;
    m->chunk = m->pending;
    m->pending = empty;
    m->pending.len = 0;
    if (m->paused)
        rpc_pause_request(m->call, m->paused = false);
    step_begins(m);
    sa_work(m->all->loop, work, work_done, m);
}

/* ---- the end ---- */

static void answer(struct import *m, struct sa_id id)
{
    char name[SA_ID_TEXT + 1];
    sa_id_format(id, name);
    ImportSessionResponse res = IMPORT_SESSION_RESPONSE__INIT;
    res.session_id = name;
    res.events = m->reader.events;
    res.head_seq = m->head + 1;
    res.hash = m->reader.hash;
    import_session_reply(m->call, &res);
}

static void give_up(struct import *m)
{
    if (m->recorded)
        purge(m->all, m->id);
    if (!m->cancelled && m->err)
        rpc_fail(m->call, steal_pointer(&m->err));
    else if (!m->cancelled)
        answer(m, m->repeated);
    import_free(m);
}

static void made(void *user, const sa_error *err)
{
    struct import *m = user;
    struct service *svc = m->all->svc;
    SA_FAULT("import.made");
    m->busy = false;
    if (err) {
        m->err = sa_error_copy(err);
        give_up(m);
    } else {
        char name[SA_ID_TEXT + 1];
        sa_id_format(m->id, name);
        sa_log(SA_LOG_INFO, "session.imported", "session=%s events=%llu", name,
               (unsigned long long)m->reader.events);
        if (!m->cancelled)
            answer(m, m->id);
        import_free(m);
    }
    service_release(svc);
}

static struct store_key key_of_request(const struct import *m)
{
    char *text = sa_arena_format(m->arena, "import %s", m->open->request_id);
    return db_create_key(m->principal, text);
}

static void digest_of(const struct import *m, uint8_t ret[32])
{
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, m->reader.hash, SA_SHA256_TEXT);
    sa_sha256_end(&sum, ret);
}

/* Was this done before? */
static int find_repeated(struct import *m, sa_error **err)
{
    if (!*m->open->request_id)
        return 0;
    uint8_t digest[32];
    struct store_key key = key_of_request(m);
    cleanup_message StoredKey *known = NULL;
    int found = store_get(m->all->store, DB_KEYS, &key, &known, err);
    if (found <= 0)
        return found;
    digest_of(m, digest);
    if (known->digest.len != sizeof digest || memcmp(known->digest.data, digest, sizeof digest))
        return sa_fail(err, SA_REQUEST_ID_REUSED, "request_id \"%s\" was used for another transcript",
                       m->open->request_id);
    m->is_repeated = sa_id_parse(known->session_id, &m->repeated);
    return 0;
}

static void put_spec(struct import *m, struct store_set *set)
{
    StoredSpec spec = STORED_SPEC__INIT;
    spec.agent = m->header->agent;
    spec.cwd = m->header->cwd;
    spec.creator = m->header->creator;
    spec.create_time_us = m->header->create_time->seconds * 1000000 + m->header->create_time->nanos / 1000;
    spec.n_labels = m->open->n_labels;
    spec.labels = sa_arena_alloc(m->arena, (spec.n_labels + 1) * sizeof *spec.labels);
    for (size_t i = 0; i < spec.n_labels; i++) {
        spec.labels[i] = sa_arena_alloc(m->arena, sizeof *spec.labels[i]);
        *spec.labels[i] = (StoredSpec__LabelsEntry)STORED_SPEC__LABELS_ENTRY__INIT;
        spec.labels[i]->key = m->open->labels[i]->key;
        spec.labels[i]->value = m->open->labels[i]->value;
    }
    struct store_key key = db_key(m->id);
    store_put(set, DB_SPECS, &key, &spec.base);
}

/* The session is over from its first moment; its last event says so, and where it is from. */
static void put_session(struct import *m, struct store_set *set)
{
    SessionStateChanged changed = SESSION_STATE_CHANGED__INIT;
    changed.state = SESSION_STATE_DESTROYED;
    changed.reason = (char[]){"IMPORTED"};
    changed.message = sa_arena_format(m->arena, "imported by %s; it was session %s, up to hash %s",
                                      m->principal, m->header->session_id, m->reader.hash);
    Event e = EVENT__INIT;
    e.seq = m->head + 1;
    e.time = api_timestamp(m->arena, sa_wall_us());
    e.kind_case = EVENT__KIND_STATE_CHANGED;
    e.state_changed = &changed;
    struct store_key key = db_numbered_key(m->id, e.seq);
    size_t n = event__get_packed_size(&e);
    uint8_t *packed = sa_arena_alloc(m->arena, n);
    event__pack(&e, packed);
    store_put_bytes(set, DB_EVENTS, &key, packed, n);

    StoredSession row = STORED_SESSION__INIT;
    row.state = SESSION_STATE_DESTROYED;
    row.state_reason = changed.reason;
    row.state_message = changed.message;
    row.head_seq = e.seq;
    row.first_seq = m->reader.events ? m->header->first_seq : e.seq;
    row.last_turn = m->last_turn;
    row.log_bytes = m->log_bytes + n;
    row.first_time_us = m->reader.events ? m->first_time_us : sa_wall_us();
    row.change_time_us = sa_wall_us();
    key = db_key(m->id);
    store_put(set, DB_SESSIONS, &key, &row.base);
}

static void finish(struct import *m)
{
    if (transcript_complete(&m->reader, &m->err) || find_repeated(m, &m->err) || m->is_repeated) {
        give_up(m);
        return;
    }
    struct store_set *set = store_set_new();
    struct store_key key = db_key(m->id);
    put_spec(m, set);
    put_session(m, set);
    store_delete(set, DB_LOG_IMPORTS, &key);
    if (*m->open->request_id) {
        uint8_t digest[32];
        char name[SA_ID_TEXT + 1];
        StoredKey row = STORED_KEY__INIT;
        sa_id_format(m->id, name);
        digest_of(m, digest);
        row.digest = (ProtobufCBinaryData){sizeof digest, digest};
        row.session_id = name;
        row.time_us = sa_wall_us();
        key = key_of_request(m);
        store_put(set, DB_KEYS, &key, &row.base);
    }
    SA_FAULT("import.finish");
    step_begins(m);
    if (store_commit(m->all->store, set, made, m, &m->err)) {
        struct service *svc = m->all->svc;
        m->busy = false;
        give_up(m);
        service_release(svc);
    }
}

static void advance(struct import *m)
{
    if (m->busy)
        return;
    if (m->cancelled || m->err)
        give_up(m);
    else if (m->portion)
        commit_portion(m);
    else if (m->unread || m->pending.len)
        read_more(m);
    else if (m->ended)
        finish(m);
}

/* ---- the stream ---- */

static int open_import(struct import *m, const ImportOpen *open, sa_error **err)
{
    if (m->open)
        return sa_fail(err, SA_INVALID_REQUEST, "`open` comes once, as the first message");
    if (api_check_request_id(open->request_id, err) || profile_check_labels(open->n_labels, err))
        return -1;
    ImportOpen *copy = sa_arena_alloc(m->arena, sizeof *copy);
    *copy = (ImportOpen)IMPORT_OPEN__INIT;
    copy->request_id = sa_arena_strdup(m->arena, open->request_id);
    copy->labels = sa_arena_alloc(m->arena, (open->n_labels + 1) * sizeof *copy->labels);
    for (size_t i = 0; i < open->n_labels; i++) {
        const ImportOpen__LabelsEntry *from = open->labels[i];
        if (profile_check_label(from->key, from->value, err))
            return -1;
        ImportOpen__LabelsEntry *to = sa_arena_alloc(m->arena, sizeof *to);
        *to = (ImportOpen__LabelsEntry)IMPORT_OPEN__LABELS_ENTRY__INIT;
        to->key = sa_arena_strdup(m->arena, from->key);
        to->value = sa_arena_strdup(m->arena, from->value);
        copy->labels[copy->n_labels++] = to;
    }
    for (const struct import *other = m->all->imports; other && *copy->request_id; other = other->next)
        if (other != m && other->open && !strcmp(other->open->request_id, copy->request_id) &&
            !strcmp(other->principal, m->principal))
            return sa_fail(err, SA_UNAVAILABLE, "request `%s` is under way; try again", copy->request_id);
    m->open = copy;
    return 0;
}

static int take(struct import *m, const ImportSessionRequest *msg, sa_error **err)
{
    if (msg->kind_case == IMPORT_SESSION_REQUEST__KIND_OPEN)
        return open_import(m, msg->open, err);
    if (msg->kind_case != IMPORT_SESSION_REQUEST__KIND_DATA || !m->open)
        return sa_fail(err, SA_INVALID_REQUEST, "the first message is `open`, the others are `data`");
    if (msg->data.len > MESSAGE_MAX)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "a message has %zu bytes of data, the limit is %d",
                       msg->data.len, MESSAGE_MAX);
    sa_buf_add(&m->pending, msg->data.data, msg->data.len);
    if (m->pending.len >= PENDING_MAX && !m->paused)
        rpc_pause_request(m->call, m->paused = true);
    return 0;
}

static void on_message(void *user, struct rpc_call *call, const ImportSessionRequest *msg)
{
    (void)call;
    struct import *m = user;
    sa_error *err = NULL;
    /* A worker may be about to write its own: the first one counts. */
    if (take(m, msg, &err)) {
        rpc_fail(m->call, err);
        m->cancelled = true;
    }
    advance(m);
}

static void on_end(void *user, struct rpc_call *call)
{
    (void)call;
    struct import *m = user;
    m->ended = true;
    if (!m->open && !m->cancelled) {
        sa_error *err = NULL;
        sa_fail(&err, SA_INVALID_REQUEST, "the first message is `open`");
        rpc_fail(m->call, err);
        m->cancelled = true;
    }
    advance(m);
}

static void on_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct import *m = user;
    m->cancelled = true;
    advance(m);
}

void api_import_session(void *api, struct rpc_call *call)
{
    static const struct import_session_events events = {on_message, on_end, on_cancel};
    struct import *m = sa_calloc(1, sizeof *m);
    m->all = api;
    m->call = rpc_call_ref(call);
    m->arena = sa_arena_new();
    m->principal = sa_strdup(rpc_principal(call));
    m->id = sessions_new_id(m->all);
    m->next = m->all->imports;
    m->all->imports = m;
    transcript_reader_init(&m->reader);
    import_session_accept(call, &events, m);
}
