#include "services/session-svc/turns.h"
#include "adapters/os/fault.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/acp_read.h"
#include "services/session-svc/acp_write.h"
#include "services/session-svc/blob_prompt.h"
#include "services/session-svc/history.h"
#include "services/session-svc/permissions.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

static void turn_free(struct turn *t)
{
    free(t->request_id);
    free(t->author);
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

static void append(struct session *s, struct turn *t)
{
    struct turn **at = &s->turns;
    while (*at)
        at = &(*at)->next;
    *at = t;
}

struct turn *turns_find(struct session *s, uint64_t number)
{
    struct turn *t = s->turns;
    while (t && t->number != number)
        t = t->next;
    return t;
}

static bool waits(const struct session *s, const struct turn *t)
{
    return !t->ended_batch && t->number != s->current_turn;
}

static size_t count_waiting(const struct session *s)
{
    size_t n = 0;
    for (const struct turn *t = s->turns; t; t = t->next)
        n += waits(s, t);
    return n;
}

uint64_t *turns_queued(const struct session *s, struct sa_arena *arena, size_t *ret_n)
{
    uint64_t *list = sa_arena_alloc(arena, (count_waiting(s) + 1) * sizeof *list);
    *ret_n = 0;
    for (const struct turn *t = s->turns; t; t = t->next)
        if (waits(s, t))
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
    t->start_time_us = row->start_time_us;
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
    row->start_time_us = t->start_time_us;
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
    append(s, from_stored(number, row));
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

/* 1: this request_id stands for a turn. */
static int find_repeated(struct session *s, const char *request_id, const uint8_t digest[32],
                         struct accepted_turn *ret, sa_error **err)
{
    for (struct turn *t = s->turns; t; t = t->next)
        if (!strcmp(t->request_id, request_id)) {
            *ret = (struct accepted_turn){.turn = t->number, .seq = t->accept_seq};
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
    *ret = (struct accepted_turn){.turn = known->turn, .seq = turn->accept_seq};
    return 1;
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

int turns_accept(struct session *s, ContentBlock *const *content, size_t n_content, const char *request_id,
                 const char *author, struct accepted_turn *ret, sa_error **err)
{
    uint8_t digest[32];
    bool has_blobs = false;
    if (check_content(content, n_content, err) || blob_prompt_check(s, content, n_content, &has_blobs, err))
        return -1;
    digest_content(content, n_content, digest);
    int repeated = *request_id ? find_repeated(s, request_id, digest, ret, err) : 0;
    if (repeated)
        return repeated < 0 ? -1 : 0;
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (count_waiting(s) >= SESSION_QUEUE_MAX)
        return sa_fail(err, SA_TOO_MANY, "session %s: %d prompts wait already", s->name, SESSION_QUEUE_MAX);

    PromptAccepted accepted = PROMPT_ACCEPTED__INIT;
    accepted.content = (ContentBlock **)(uintptr_t)content;
    accepted.n_content = n_content;
    accepted.author = (char *)(uintptr_t)author;
    accepted.request_id = (char *)(uintptr_t)request_id;
    Event e = EVENT__INIT;
    e.turn = ++s->last_turn;
    e.kind_case = EVENT__KIND_PROMPT_ACCEPTED;
    e.prompt_accepted = &accepted;

    struct turn *t = sa_calloc(1, sizeof *t);
    t->number = s->last_turn;
    t->request_id = sa_strdup(request_id);
    t->author = sa_strdup(author);
    memcpy(t->digest, digest, sizeof digest);
    t->has_blobs = has_blobs;
    t->accept_seq = session_event(s, &e);
    blob_prompt_use(s, content, n_content, t->accept_seq);
    t->accept_batch = s->batch;
    append(s, t);

    StoredTurn row = STORED_TURN__INIT;
    fill_stored(t, &row);
    row.content = (ContentBlock **)(uintptr_t)content;
    row.n_content = n_content;
    t->stored.len = stored_turn__pack(&row, sa_buf_reserve(&t->stored, stored_turn__get_packed_size(&row)));
    struct store_key key = db_numbered_key(s->id, t->number);
    store_put(session_set(s), DB_TURNS, &key, &row.base);
    if (*request_id)
        store_key_of_prompt(s, t);
    *ret = (struct accepted_turn){.turn = t->number, .seq = t->accept_seq};
    return 0;
}

/* ---- run ---- */

static struct turn *next_waiting(struct session *s)
{
    struct turn *t = s->turns;
    while (t && !waits(s, t))
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

void turns_advance(struct session *s)
{
    if (s->state == SESSION_STATE_DESTROYED || s->current_turn || s->all->draining)
        return;
    struct turn *t = next_waiting(s);
    if (!t)
        return;
    if (s->link.phase == AGENT_PHASE_READY && t->has_blobs && !blob_prompt_ready(t->blobs))
        prepare(s, t);
    else if (s->link.phase == AGENT_PHASE_READY)
        start(s, t);
    else if (s->link.phase == AGENT_PHASE_NONE)
        link_start(s);
}

/* ---- end ---- */

static void end(struct session *s, struct turn *t, StopReason stop, const char *reason, const char *message,
                struct json raw)
{
    TurnEnded ended = TURN_ENDED__INIT;
    ended.stop_reason = stop;
    ended.error_reason = (char *)(uintptr_t)reason;
    ended.message = (char *)(uintptr_t)message;
    if (t->start_time_us) {
        int64_t us = sa_wall_us() - t->start_time_us;
        ended.duration_ms = us > 0 ? (uint64_t)us / 1000 : 0;
    }
    Event e = EVENT__INIT;
    e.turn = t->number;
    e.kind_case = EVENT__KIND_TURN_ENDED;
    e.turn_ended = &ended;
    if (raw.n && raw.n <= ACP_RAW_MAX) {
        e.agent_json = (ProtobufCBinaryData){raw.n, (uint8_t *)(uintptr_t)raw.p};
        e.protocol_version = ACP_VERSION;
    }
    StoredTurn row = STORED_TURN__INIT;
    fill_stored(t, &row);
    row.end_seq = session_event(s, &e);
    struct store_key key = db_numbered_key(s->id, t->number);
    store_put(session_set(s), DB_TURNS, &key, &row.base);
    t->ended_batch = s->batch;
}

void turns_end(struct session *s, StopReason stop, const char *reason, const char *message, struct json raw)
{
    struct turn *t = turns_find(s, s->current_turn);
    if (!t)
        return;
    permissions_end_all(s, s->link.ending ? PERMISSION_OUTCOME_WITHDRAWN : PERMISSION_OUTCOME_CANCELLED);
    end(s, t, stop, reason, message, raw);
    SA_FAULT("turn.end");
    s->current_turn = 0;
    s->cancelling = false;
    link_arm_cancel(s);
    link_arm_quiet(s);
    if (!s->link.ending)
        session_move(s, STATE_TURN_ENDS, NULL, NULL);
}

void turns_end_queued(struct session *s, StopReason stop, const char *reason, const char *message)
{
    for (struct turn *t; (t = next_waiting(s));)
        end(s, t, stop, reason, message, (struct json){0});
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
        cleanup_free char *message = sa_format("withdrawn by %s", author);
        end(s, t, STOP_REASON_CANCELLED, "", message, (struct json){0});
        return 0;
    }
    if (s->cancelling)
        return 0;
    s->cancelling = true;
    session_changed(s);
    SA_FAULT("turn.cancel");
    talk_cancel(s); /* before the answers: the agent is to know why they are what they are */
    permissions_end_all(s, PERMISSION_OUTCOME_CANCELLED);
    link_arm_cancel(s);
    return 0;
}
