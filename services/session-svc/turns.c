#include "services/session-svc/turns.h"
#include "adapters/os/fault.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/blob_prompt.h"
#include "services/session-svc/budget.h"
#include "services/session-svc/config.h"
#include "services/session-svc/history.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

enum { PREVIEW_MAX = 200 };

static void turn_free(struct turn *t)
{
    free(t->request_id);
    free(t->author);
    free(t->preview);
    sa_buf_fini(&t->stored);
    blob_prompt_drop(t->blobs);
    free(t);
}

void turns_clear(struct session *s)
{
    for (struct turn *t = s->turns, *next; t; t = next) {
        next = t->next;
        turn_free(t);
    }
    s->turns = NULL;
}

void turns_insert(struct session *s, struct turn *t, uint32_t position)
{
    struct turn **at = &s->turns;
    for (uint32_t waiting = 0; *at && (waiting += turns_wait(s, *at)) < position;)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
}

struct turn *turns_find(struct session *s, uint64_t number)
{
    struct turn *t = s->turns;
    while (t && t->number != number)
        t = t->next;
    return t;
}

bool turns_wait(const struct session *s, const struct turn *t)
{
    return !t->ended_batch && t->number != s->current_turn;
}

size_t turns_count_waiting(const struct session *s)
{
    size_t n = 0;
    for (const struct turn *t = s->turns; t; t = t->next)
        n += turns_wait(s, t);
    return n;
}

uint64_t *turns_queued(const struct session *s, struct sa_arena *arena, size_t *ret_n)
{
    uint64_t *list = sa_arena_alloc(arena, (turns_count_waiting(s) + 1) * sizeof *list);
    *ret_n = 0;
    for (const struct turn *t = s->turns; t; t = t->next)
        if (turns_wait(s, t))
            list[(*ret_n)++] = t->number;
    return list;
}

void turns_sweep(struct session *s)
{
    for (struct turn **at = &s->turns, *t; (t = *at);) {
        if (t->accept_batch <= s->committed_batch && t->stored.cap) {
            sa_buf_fini(&t->stored); /* the store has it now */
            t->stored = (struct sa_buf){0};
        }
        if (t->ended_batch && t->ended_batch <= s->committed_batch) {
            *at = t->next;
            turn_free(t);
        } else {
            at = &t->next;
        }
    }
}

/* ---- stored form ---- */

static struct turn *from_stored(uint64_t number, const StoredTurn *row)
{
    struct turn *t = sa_calloc(1, sizeof *t);
    t->number = number;
    t->request_id = sa_strdup(row->request_id);
    t->author = sa_strdup(row->author);
    if (row->digest.len == sizeof t->digest)
        memcpy(t->digest, row->digest.data, sizeof t->digest);
    t->accept_seq = row->accept_seq;
    t->start_seq = row->start_seq;
    t->accept_time_us = row->accept_time_us;
    t->start_time_us = row->start_time_us;
    t->preview = sa_strdup(row->preview);
    t->has_blobs = row->has_blobs;
    return t;
}

static void fill_stored(struct turn *t, StoredTurn *row)
{
    row->author = t->author;
    row->request_id = t->request_id;
    row->digest = (ProtobufCBinaryData){sizeof t->digest, t->digest};
    row->accept_seq = t->accept_seq;
    row->start_seq = t->start_seq;
    row->accept_time_us = t->accept_time_us;
    row->start_time_us = t->start_time_us;
    row->preview = t->preview;
    row->has_blobs = t->has_blobs;
}

static int load_one(struct session *s, uint64_t number, sa_error **err)
{
    struct store_key key = db_numbered_key(s->id, number);
    cleanup_message StoredTurn *row = NULL;
    int found = store_get(s->all->store, DB_TURNS, &key, &row, err);
    if (found <= 0)
        return found < 0 ? -1
                         : sa_fail(err, SA_STORE_CORRUPT, "turn %llu of session %s is missing",
                                   (unsigned long long)number, s->name);
    turns_insert(s, from_stored(number, row), UINT32_MAX);
    return 0;
}

int turns_load(struct session *s, const StoredSession *row, sa_error **err)
{
    if (row->current_turn && load_one(s, row->current_turn, err))
        return -1;
    for (size_t i = 0; i < row->n_queued_turns; i++)
        if (load_one(s, row->queued_turns[i], err))
            return -1;
    return 0;
}

/* The turn with its content: from memory while it is not committed. */
static StoredTurn *read_turn(struct session *s, const struct turn *t, sa_error **err)
{
    if (t->stored.cap)
        return rpc_unpack(&stored_turn__descriptor, t->stored.data, t->stored.len, err);
    struct store_key key = db_numbered_key(s->id, t->number);
    StoredTurn *row = NULL;
    if (store_get(s->all->store, DB_TURNS, &key, &row, err) == 0)
        sa_fail(err, SA_STORE_CORRUPT, "turn %llu is missing", (unsigned long long)t->number);
    return row;
}

/* ---- accept ---- */

static int check_content(ContentBlock *const *content, size_t n, sa_error **err)
{
    if (n < 1 || n > 100)
        return sa_fail(err, SA_INVALID_REQUEST, "content: 1 to 100 blocks, not %zu", n);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        struct json v;
        sa_error *why = NULL;
        bytes += content_block__get_packed_size(content[i]);
        if (content[i]->kind_case == CONTENT_BLOCK__KIND__NOT_SET)
            return sa_fail(err, SA_INVALID_REQUEST, "content[%zu]: no kind is set", i);
        if (content[i]->kind_case != CONTENT_BLOCK__KIND_JSON)
            continue;
        if (json_check(content[i]->json.data, content[i]->json.len, &v, &why)) {
            sa_fail(err, SA_INVALID_REQUEST, "content[%zu].json: %s", i, why->message);
            sa_error_free(why);
            return -1;
        }
        if (json_type(v) != JSON_OBJECT)
            return sa_fail(err, SA_INVALID_REQUEST, "content[%zu].json: not an object", i);
    }
    if (bytes > SESSION_PROMPT_BYTES)
        return sa_fail(err, SA_MESSAGE_TOO_LARGE, "content: %zu bytes; a prompt has at most %d", bytes,
                       SESSION_PROMPT_BYTES);
    return 0;
}

static void digest_content(ContentBlock *const *content, size_t n, uint8_t ret[32])
{
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    for (size_t i = 0; i < n; i++) {
        cleanup_free uint8_t *packed = sa_malloc(content_block__get_packed_size(content[i]) + 1);
        size_t len = content_block__pack(content[i], packed);
        sa_sha256_add(&sum, &len, sizeof len);
        sa_sha256_add(&sum, packed, len);
    }
    sa_sha256_end(&sum, ret);
}

static int same_prompt(const uint8_t *a, const uint8_t *b, const char *request_id, sa_error **err)
{
    if (!memcmp(a, b, 32))
        return 0;
    return sa_fail(err, SA_REQUEST_ID_REUSED, "request_id \"%s\" was used for another prompt", request_id);
}

static int find_by_digest(struct session *s, const char *request_id, const uint8_t digest[32],
                          struct accepted_turn *ret, sa_error **err)
{
    for (struct turn *t = s->turns; t; t = t->next)
        if (!strcmp(t->request_id, request_id)) {
            *ret = (struct accepted_turn){t->number, t->accept_seq, true};
            return same_prompt(t->digest, digest, request_id, err) ? -1 : 1;
        }
    struct store_key key = db_prompt_key(s->id, request_id);
    cleanup_message StoredKey *known = NULL;
    int found = store_get(s->all->store, DB_KEYS, &key, &known, err);
    if (found <= 0)
        return found;
    if (known->digest.len != 32 || same_prompt(known->digest.data, digest, request_id, err))
        return -1;
    cleanup_message StoredTurn *turn = NULL;
    key = db_numbered_key(s->id, known->turn);
    if (store_get(s->all->store, DB_TURNS, &key, &turn, err) <= 0)
        return -1;
    *ret = (struct accepted_turn){known->turn, turn->accept_seq, true};
    return 1;
}

int turns_find_repeated(struct session *s, const struct prompt *p, struct accepted_turn *ret, sa_error **err)
{
    uint8_t digest[32];
    digest_content(p->content, p->n_content, digest);
    return *p->request_id ? find_by_digest(s, p->request_id, digest, ret, err) : 0;
}

static void store_key_of_prompt(struct session *s, struct turn *t)
{
    StoredKey row = STORED_KEY__INIT;
    row.digest = (ProtobufCBinaryData){sizeof t->digest, t->digest};
    row.session_id = s->name;
    row.turn = t->number;
    row.time_us = sa_wall_us();
    struct store_key key = db_prompt_key(s->id, t->request_id);
    store_put(session_set(s), DB_KEYS, &key, &row.base);
}

/* The first text, cut where a character ends. */
static char *make_preview(const struct prompt *p)
{
    const char *text = "";
    for (size_t i = 0; i < p->n_content && !*text; i++)
        if (p->content[i]->kind_case == CONTENT_BLOCK__KIND_TEXT)
            text = p->content[i]->text;
    size_t n = strnlen(text, PREVIEW_MAX + 1);
    if (n > PREVIEW_MAX)
        for (n = PREVIEW_MAX; n && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    return sa_strndup(text, n);
}

static void tell_accepted(struct session *s, struct turn *t, const struct prompt *p, uint32_t position)
{
    PromptAccepted accepted = PROMPT_ACCEPTED__INIT;
    accepted.content = (ContentBlock **)(uintptr_t)p->content;
    accepted.n_content = p->n_content;
    accepted.author = t->author;
    accepted.request_id = t->request_id;
    accepted.position = position;
    Event e = EVENT__INIT;
    e.turn = t->number;
    e.kind_case = EVENT__KIND_PROMPT_ACCEPTED;
    e.prompt_accepted = &accepted;
    t->accept_seq = session_event(s, &e);
    t->accept_batch = s->batch;
}

int turns_accept(struct session *s, const struct prompt *p, struct accepted_turn *ret, sa_error **err)
{
    bool has_blobs = false;
    if (check_content(p->content, p->n_content, err) ||
        blob_prompt_check(s, p->content, p->n_content, &has_blobs, err))
        return -1;
    int repeated = turns_find_repeated(s, p, ret, err);
    if (repeated)
        return repeated < 0 ? -1 : 0;
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (profile_is_archived(s))
        return sa_fail(err, SA_SESSION_ARCHIVED, "session %s is archived", s->name);
    if (budget_allows(s, err))
        return -1;
    size_t waiting = turns_count_waiting(s);
    if (waiting >= SESSION_QUEUE_MAX)
        return sa_fail(err, SA_TOO_MANY, "session %s: %d prompts wait already", s->name, SESSION_QUEUE_MAX);

    struct turn *t = sa_calloc(1, sizeof *t);
    t->number = ++s->last_turn;
    t->request_id = sa_strdup(p->request_id);
    t->author = sa_strdup(p->author);
    t->preview = make_preview(p);
    t->accept_time_us = sa_wall_us();
    digest_content(p->content, p->n_content, t->digest);
    uint32_t position = p->first ? 1 : (uint32_t)waiting + 1;
    t->has_blobs = has_blobs;
    tell_accepted(s, t, p, position);
    blob_prompt_use(s, p->content, p->n_content, t->accept_seq);
    turns_insert(s, t, position);

    StoredTurn row = STORED_TURN__INIT;
    fill_stored(t, &row);
    row.content = (ContentBlock **)(uintptr_t)p->content;
    row.n_content = p->n_content;
    t->stored.len = stored_turn__pack(&row, sa_buf_reserve(&t->stored, stored_turn__get_packed_size(&row)));
    struct store_key key = db_numbered_key(s->id, t->number);
    store_put(session_set(s), DB_TURNS, &key, &row.base);
    if (*p->request_id)
        store_key_of_prompt(s, t);
    *ret = (struct accepted_turn){t->number, t->accept_seq, false};
    return 0;
}

/* ---- run ---- */

static struct turn *next_waiting(struct session *s)
{
    struct turn *t = s->turns;
    while (t && !turns_wait(s, t))
        t = t->next;
    return t;
}

static void start(struct session *s, struct turn *t)
{
    sa_error *err = NULL;
    /* What refers to blobs was read before, with them. */
    struct blob_prompt *blobs = steal_pointer(&t->blobs);
    StoredTurn *row = blobs ? blob_prompt_take(blobs, &err) : read_turn(s, t, &err);
    s->current_turn = t->number;
    usage_turn_starts(&s->usage, !s->has_history);
    t->start_time_us = sa_wall_us();
    TurnStarted started = TURN_STARTED__INIT;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_TURN_STARTED;
    e.turn_started = &started;
    t->start_seq = session_event(s, &e);
    session_move(s, STATE_TURN_STARTS, NULL, NULL);
    if (!row) {
        turns_end(s, STOP_REASON_ERROR, err->reason, err->message, (struct json){0});
        sa_error_free(err);
        blob_prompt_drop(blobs);
        return;
    }
    cleanup_buf struct sa_buf context = {0};
    if (s->replay_history)
        history_text(s, t->accept_seq, &context);
    s->replay_history = false;
    s->has_history = true;
    talk_prompt(s, row->content, row->n_content, &context);
    store_message_free(row);
    blob_prompt_drop(blobs);
    /* Its content is in the log. */
    StoredTurn now = STORED_TURN__INIT;
    fill_stored(t, &now);
    struct store_key key = db_numbered_key(s->id, t->number);
    store_put(session_set(s), DB_TURNS, &key, &now.base);
    link_arm_quiet(s);
    SA_FAULT("turn.start");
}

/* The blobs of a prompt are read before it starts; then turns_advance comes again. */
static void prepare(struct session *s, struct turn *t)
{
    sa_error *err = NULL;
    if (t->blobs)
        return;
    StoredTurn *row = read_turn(s, t, &err);
    t->blobs = blob_prompt_read(s, row, err);
}

/* ---- end ---- */

struct ending {
    StopReason stop;
    const char *reason, *message, *author; /* "": none */
    struct json raw;
};

static void end(struct session *s, struct turn *t, const struct ending *how)
{
    int64_t now = sa_wall_us();
    TurnEnded ended = TURN_ENDED__INIT;
    ended.stop_reason = how->stop;
    ended.error_reason = (char *)(uintptr_t)how->reason;
    ended.message = (char *)(uintptr_t)how->message;
    ended.author = (char *)(uintptr_t)how->author;
    if (t->start_time_us && now > t->start_time_us)
        ended.duration_ms = (uint64_t)(now - t->start_time_us) / 1000;
    Event e = EVENT__INIT;
    e.turn = t->number;
    e.kind_case = EVENT__KIND_TURN_ENDED;
    e.turn_ended = &ended;
    if (how->raw.n && how->raw.n <= ACP_RAW_MAX) {
        e.agent_json = (ProtobufCBinaryData){how->raw.n, (uint8_t *)(uintptr_t)how->raw.p};
        e.protocol_version = ACP_VERSION;
    }
    TurnUsage usage = TURN_USAGE__INIT;
    StoredTurn row = STORED_TURN__INIT;
    fill_stored(t, &row);
    if (t->start_seq) {
        usage_turn_ends(&s->usage, json_get(how->raw, "result.usage"), &usage);
        row.usage = ended.usage = &usage;
    }
    row.end_seq = session_event(s, &e);
    row.end_time_us = now;
    row.stop_reason = ended.stop_reason;
    row.error_reason = ended.error_reason;
    row.message = ended.message;
    struct store_key key = db_numbered_key(s->id, t->number);
    store_put(session_set(s), DB_TURNS, &key, &row.base);
    t->ended_batch = s->batch;
}

void turns_advance(struct session *s)
{
    if (s->state == SESSION_STATE_DESTROYED || s->current_turn || s->all->draining)
        return;
    if (s->link.phase == AGENT_PHASE_READY && config_busy(s))
        return; /* a wish that came first is told first */
    struct turn *t = next_waiting(s);
    for (char *why; t && (why = budget_refuses(s, t->number)); t = next_waiting(s)) {
        end(s, t, &(struct ending){STOP_REASON_BUDGET, sa_reason_name(SA_BUDGET_EXCEEDED), why, "", {0}});
        free(why);
    }
    if (t && s->link.phase == AGENT_PHASE_READY && t->has_blobs && !blob_prompt_ready(t->blobs))
        prepare(s, t);
    else if (t && s->link.phase == AGENT_PHASE_READY)
        start(s, t);
    else if ((t || s->resume_wanted) && link_may_start(s))
        link_start(s);
}

void turns_end(struct session *s, StopReason stop, const char *reason, const char *message, struct json raw)
{
    struct turn *t = turns_find(s, s->current_turn);
    if (!t)
        return;
    permissions_end_all(s, s->link.ending ? PERMISSION_OUTCOME_WITHDRAWN : PERMISSION_OUTCOME_CANCELLED);
    const char *author = stop == STOP_REASON_CANCELLED ? s->canceller : "";
    end(s, t, &(struct ending){stop, reason, message, author, raw});
    SA_FAULT("turn.end");
    s->current_turn = 0;
    s->cancelling = false;
    session_set_text(&s->canceller, "");
    link_arm_cancel(s);
    link_arm_quiet(s);
    link_arm_deadline(s);
    link_arm_idle(s);
    if (!s->link.ending)
        session_move(s, STATE_TURN_ENDS, NULL, NULL);
}

void turns_end_queued(struct session *s, StopReason stop, const char *reason, const char *message)
{
    for (struct turn *t; (t = next_waiting(s));)
        end(s, t, &(struct ending){stop, reason, message, "", {0}});
}

void turns_drop(struct session *s, struct turn *t, const char *author)
{
    cleanup_free char *message = sa_format("withdrawn by %s", author);
    end(s, t, &(struct ending){STOP_REASON_CANCELLED, "", message, author, {0}});
}

/* ---- cancel ---- */

int turns_cancel(struct session *s, uint64_t turn, const char *author, uint64_t *ret_turn, sa_error **err)
{
    uint64_t number = turn ? turn : s->current_turn;
    struct turn *t = turns_find(s, number);
    if (turn && turn > s->last_turn)
        return sa_fail(err, SA_TURN_NOT_FOUND, "session %s has no turn %llu", s->name,
                       (unsigned long long)turn);
    if (!number)
        return sa_fail(err, SA_NO_TURN_RUNNING, "session %s: no turn is running", s->name);
    if (!t || t->ended_batch)
        return sa_fail(err, SA_NO_TURN_RUNNING, "session %s: turn %llu has ended", s->name,
                       (unsigned long long)number);
    *ret_turn = number;
    if (number != s->current_turn) {
        turns_drop(s, t, author);
        return 0;
    }
    if (s->cancelling)
        return 0;
    s->cancelling = true;
    session_set_text(&s->canceller, author);
    session_changed(s);
    SA_FAULT("turn.cancel");
    talk_cancel(s); /* before the answers: the agent is to know why they are what they are */
    permissions_end_all(s, PERMISSION_OUTCOME_CANCELLED);
    link_arm_cancel(s);
    return 0;
}
