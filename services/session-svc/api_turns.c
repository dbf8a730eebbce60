#include <stdlib.h>

#include "services/session-svc/api.h"
#include "services/session-svc/follow.h"
#include "services/session-svc/turns.h"

/* A call that waits for its decision to be committed. */
struct waiting {
    struct rpc_call *call;
    struct session *session;
    struct accepted_turn turn;
};

static struct waiting *waiting_new(struct session *s, struct rpc_call *call, const struct accepted_turn *turn)
{
    struct waiting *w = sa_calloc(1, sizeof *w);
    *w = (struct waiting){rpc_call_ref(call), s, *turn};
    return w;
}

static void waiting_free(struct waiting *w)
{
    rpc_call_unref(w->call);
    free(w);
}

static void prompt_accepted(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    SendPromptResponse res = SEND_PROMPT_RESPONSE__INIT;
    res.turn = w->turn.turn;
    res.seq = w->turn.seq;
    if (failed)
        api_fail_copy(w->call, failed);
    else
        send_prompt_reply(w->call, &res);
    waiting_free(w);
}

void api_send_prompt(void *api, struct rpc_call *call, const SendPromptRequest *req)
{
    sa_error *err = NULL;
    struct accepted_turn turn;
    struct prompt p = {req->content, req->n_content, req->request_id, rpc_principal(call), false};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || api_check_request_id(req->request_id, &err) || turns_accept(s, &p, &turn, &err)) {
        rpc_fail(call, err);
        return;
    }
    session_after(s, prompt_accepted, waiting_new(s, call, &turn));
    session_settle(s);
}

/* A turn that was found by its request_id may have ended while we waited. */
static uint64_t committed_end(struct session *s, uint64_t turn)
{
    struct store_key key = db_numbered_key(s->id, turn);
    cleanup_message StoredTurn *row = NULL;
    return store_get(s->all->store, DB_TURNS, &key, &row, NULL) > 0 ? row->end_seq : 0;
}

static void follow_accepted(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    if (failed)
        api_fail_copy(w->call, failed);
    else if (rpc_alive(w->call))
        follow_run(w->session, w->call, w->turn.turn, w->turn.seq, committed_end(w->session, w->turn.turn));
    waiting_free(w);
}

void api_run_prompt(void *api, struct rpc_call *call, const RunPromptRequest *req)
{
    sa_error *err = NULL;
    struct accepted_turn turn;
    struct prompt p = {req->content, req->n_content, req->request_id, rpc_principal(call), false};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || api_check_request_id(req->request_id, &err) || turns_accept(s, &p, &turn, &err)) {
        rpc_fail(call, err);
        return;
    }
    session_after(s, follow_accepted, waiting_new(s, call, &turn));
    session_settle(s);
}

static void cancel_committed(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    CancelTurnResponse res = CANCEL_TURN_RESPONSE__INIT;
    res.turn = w->turn.turn;
    if (failed)
        api_fail_copy(w->call, failed);
    else
        cancel_turn_reply(w->call, &res);
    waiting_free(w);
}

void api_cancel_turn(void *api, struct rpc_call *call, const CancelTurnRequest *req)
{
    sa_error *err = NULL;
    struct accepted_turn turn = {0};
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || turns_cancel(s, req->turn, rpc_principal(call), &turn.turn, &err)) {
        rpc_fail(call, err);
        return;
    }
    session_after(s, cancel_committed, waiting_new(s, call, &turn));
    session_settle(s);
}
