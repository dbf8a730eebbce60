/* Methods for turns and for the queue: MovePrompt, WithdrawPrompt, SteerTurn, GetTurn, ListTurns. */
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/api.h"
#include "services/session-svc/budget.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/turns.h"

/* A call that waits for its decision to be committed. */
struct waiting {
    struct rpc_call *call;
    struct accepted_turn turn;
    uint32_t position;
};

static void answer_later(struct session *s, struct rpc_call *call, session_after_fn *fn,
                         const struct waiting *what)
{
    struct waiting *w = sa_memdup(what, sizeof *what);
    w->call = rpc_call_ref(call);
    session_after(s, fn, w);
    session_settle(s);
}

static void waiting_free(struct waiting *w)
{
    rpc_call_unref(w->call);
    free(w);
}

static void moved(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    MovePromptResponse res = MOVE_PROMPT_RESPONSE__INIT;
    res.position = w->position;
    if (failed)
        api_fail_copy(w->call, failed);
    else
        move_prompt_reply(w->call, &res);
    waiting_free(w);
}

void api_move_prompt(void *api, struct rpc_call *call, const MovePromptRequest *req)
{
    sa_error *err = NULL;
    struct waiting w = {0};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || turns_move(s, req->turn, req->position, rpc_principal(call), &w.position, &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, moved, &w);
}

static void withdrawn(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    WithdrawPromptResponse res = WITHDRAW_PROMPT_RESPONSE__INIT;
    if (failed)
        api_fail_copy(w->call, failed);
    else
        withdraw_prompt_reply(w->call, &res);
    waiting_free(w);
}

void api_withdraw_prompt(void *api, struct rpc_call *call, const WithdrawPromptRequest *req)
{
    sa_error *err = NULL;
    struct waiting w = {0};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || turns_withdraw(s, req->turn, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, withdrawn, &w);
}

static void steered(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    SteerTurnResponse res = STEER_TURN_RESPONSE__INIT;
    res.turn = w->turn.turn;
    res.seq = w->turn.seq;
    if (failed)
        api_fail_copy(w->call, failed);
    else
        steer_turn_reply(w->call, &res);
    waiting_free(w);
}

void api_steer_turn(void *api, struct rpc_call *call, const SteerTurnRequest *req)
{
    sa_error *err = NULL;
    struct waiting w = {0};
    struct prompt p = {req->content, req->n_content, req->request_id, rpc_principal(call), true};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || api_check_request_id(req->request_id, &err) ||
        turns_steer(s, req->turn, &p, req->fallback, &w.turn, &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, steered, &w);
}

/* ---- get, list ---- */

static uint32_t place(const StoredSession *session, uint64_t turn)
{
    for (size_t i = 0; i < session->n_queued_turns; i++)
        if (session->queued_turns[i] == turn)
            return (uint32_t)i + 1;
    return 0;
}

static TurnState state_of(const StoredTurn *row)
{
    return row->end_seq ? TURN_STATE_ENDED : row->start_seq ? TURN_STATE_RUNNING : TURN_STATE_QUEUED;
}

static Turn *describe(struct sa_arena *arena, const StoredSession *session, uint64_t number,
                      const StoredTurn *row)
{
    Turn *t = sa_arena_alloc(arena, sizeof *t);
    *t = (Turn)TURN__INIT;
    t->turn = number;
    t->state = state_of(row);
    t->author = sa_arena_strdup(arena, row->author);
    t->request_id = sa_arena_strdup(arena, row->request_id);
    t->position = t->state == TURN_STATE_QUEUED ? place(session, number) : 0;
    t->stop_reason = row->stop_reason;
    t->error_reason = sa_arena_strdup(arena, row->error_reason);
    t->message = sa_arena_strdup(arena, row->message);
    t->accept_seq = row->accept_seq;
    t->start_seq = row->start_seq;
    t->end_seq = row->end_seq;
    t->accept_time = api_timestamp(arena, row->accept_time_us);
    if (row->start_time_us)
        t->start_time = api_timestamp(arena, row->start_time_us);
    if (row->end_time_us)
        t->end_time = api_timestamp(arena, row->end_time_us);
    t->preview = sa_arena_strdup(arena, row->preview);
    t->usage = budget_copy_turn(arena, row->usage);
    return t;
}

/* NULL: TURN_NOT_FOUND, or the store failed. */
static Turn *read_turn(struct sessions *all, struct sa_arena *arena, struct sa_id id,
                       const StoredSession *session, uint64_t number, sa_error **err)
{
    struct store_key key = db_numbered_key(id, number);
    cleanup_message StoredTurn *row = NULL;
    if (store_get(all->store, DB_TURNS, &key, &row, err) == 0)
        sa_fail(err, SA_TURN_NOT_FOUND, "the session has no turn %llu", (unsigned long long)number);
    return row ? describe(arena, session, number, row) : NULL;
}

void api_get_turn(void *api, struct rpc_call *call, const GetTurnRequest *req)
{
    struct sa_id id;
    sa_error *err = NULL;
    cleanup_message StoredSession *s = sessions_read(api, req->session_id, &id, &err);
    GetTurnResponse res = GET_TURN_RESPONSE__INIT;
    if (s)
        res.turn = read_turn(api, rpc_arena(call), id, s, req->turn, &err);
    if (res.turn)
        get_turn_reply(call, &res);
    else
        rpc_fail(call, err);
}

struct listing {
    struct sa_arena *arena;
    const StoredSession *session;
    TurnState state;
    Turn **turns;
    size_t n, max, seen;
    uint64_t last;
    bool more;
    sa_error *err;
};

enum { EXAMINED_MAX = 5000 }; /* rows: with a filter that fits few, a page may be short */

static bool list_row(void *user, const struct store_row *row)
{
    struct listing *l = user;
    if (l->n == l->max || l->seen == EXAMINED_MAX) {
        l->more = true;
        return false;
    }
    cleanup_message StoredTurn *m = store_row_unpack(row, &l->err);
    if (!m)
        return false;
    l->seen++;
    l->last = db_key_number(row);
    if (!l->state || l->state == state_of(m))
        l->turns[l->n++] = describe(l->arena, l->session, l->last, m);
    return true;
}

static int list_queued(struct sessions *all, struct listing *l, struct sa_id id, sa_error **err)
{
    const StoredSession *s = l->session;
    l->turns = sa_arena_alloc(l->arena, (s->n_queued_turns + 1) * sizeof *l->turns);
    for (size_t i = 0; i < s->n_queued_turns; i++) {
        Turn *t = read_turn(all, l->arena, id, s, s->queued_turns[i], err);
        if (!t)
            return -1;
        if (t->state == TURN_STATE_QUEUED) /* its row may be newer than the session's */
            l->turns[l->n++] = t;
    }
    return 0;
}

/* A turn's number in the form of an id, for page_token.h. */
static struct sa_id id_of_number(uint64_t number)
{
    struct sa_id id = {0};
    struct store_key key = {0};
    store_key_add_u64(&key, number);
    memcpy(id.bytes + 8, key.data, 8);
    return id;
}

static int list_newest(struct sessions *all, struct listing *l, const ListTurnsRequest *req, struct sa_id id,
                       char **ret_token, sa_error **err)
{
    char *filter = sa_arena_format(l->arena, "turns\n%s\n%d", req->session_id, (int)req->state);
    uint32_t size;
    struct sa_id last = {0};
    bool begin = !*req->page_token;
    if (api_page_size(req->page_size, 50, &size, err) ||
        (!begin && page_token_read(req->page_token, filter, all->epoch, &last, err)))
        return -1;
    l->max = size;
    l->turns = sa_arena_alloc(l->arena, size * sizeof *l->turns);
    struct store_key prefix = db_key(id), from = db_numbered_key(id, store_u64(last.bytes + 8));
    struct store_range range = {
        .table = DB_TURNS, .prefix = &prefix, .from = begin ? NULL : &from, .after = true, .reverse = true};
    if (store_scan(all->store, &range, list_row, l, err) < 0)
        return -1;
    if (l->err)
        return sa_pass(err, l->err);
    if (l->more)
        *ret_token = page_token_make(l->arena, id_of_number(l->last), filter, all->epoch);
    return 0;
}

void api_list_turns(void *api, struct rpc_call *call, const ListTurnsRequest *req)
{
    struct sa_id id;
    sa_error *err = NULL;
    cleanup_message StoredSession *s = sessions_read(api, req->session_id, &id, &err);
    struct listing l = {.arena = rpc_arena(call), .session = s, .state = req->state};
    ListTurnsResponse res = LIST_TURNS_RESPONSE__INIT;
    if (!s || (req->state == TURN_STATE_QUEUED ? list_queued(api, &l, id, &err)
                                               : list_newest(api, &l, req, id, &res.next_page_token, &err))) {
        rpc_fail(call, err);
        return;
    }
    res.turns = l.turns;
    res.n_turns = l.n;
    list_turns_reply(call, &res);
}
