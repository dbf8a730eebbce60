/* UpdateSession, ArchiveSession, UnarchiveSession, SetBudget, SuspendSession, ResumeSession. */
#include <stdlib.h>

#include "services/session-svc/api.h"
#include "services/session-svc/budget.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/turns.h"

struct waiting {
    struct rpc_call *call;
    struct sessions *all;
    struct sa_id id;
    void (*reply)(struct rpc_call *call, Session *session);
};

static void committed(void *user, const sa_error *failed)
{
    struct waiting *w = user;
    sa_error *err = NULL;
    Session *session = failed ? NULL : session_describe(w->all, w->id, rpc_arena(w->call), &err);
    if (failed)
        api_fail_copy(w->call, failed);
    else if (!session)
        rpc_fail(w->call, err);
    else
        w->reply(w->call, session);
    rpc_call_unref(w->call);
    free(w);
}

static void answer_later(struct session *s, struct rpc_call *call,
                         void (*reply)(struct rpc_call *call, Session *session))
{
    struct waiting *w = sa_calloc(1, sizeof *w);
    *w = (struct waiting){rpc_call_ref(call), s->all, s->id, reply};
    session_after(s, committed, w);
    session_settle(s);
}

static void reply_updated(struct rpc_call *call, Session *session)
{
    UpdateSessionResponse res = UPDATE_SESSION_RESPONSE__INIT;
    res.session = session;
    update_session_reply(call, &res);
}

void api_update_session(void *api, struct rpc_call *call, const UpdateSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || profile_update(s, req, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_updated);
}

static void reply_budget(struct rpc_call *call, Session *session)
{
    SetBudgetResponse res = SET_BUDGET_RESPONSE__INIT;
    res.session = session;
    set_budget_reply(call, &res);
}

void api_set_budget(void *api, struct rpc_call *call, const SetBudgetRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || budget_set(s, req->budget, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_budget);
}

static void reply_archived(struct rpc_call *call, Session *session)
{
    ArchiveSessionResponse res = ARCHIVE_SESSION_RESPONSE__INIT;
    res.session = session;
    archive_session_reply(call, &res);
}

void api_archive_session(void *api, struct rpc_call *call, const ArchiveSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || profile_archive(s, true, req->etag, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_archived);
}

static void reply_unarchived(struct rpc_call *call, Session *session)
{
    UnarchiveSessionResponse res = UNARCHIVE_SESSION_RESPONSE__INIT;
    res.session = session;
    unarchive_session_reply(call, &res);
}

void api_unarchive_session(void *api, struct rpc_call *call, const UnarchiveSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || profile_archive(s, false, req->etag, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_unarchived);
}

/* ---- suspend, resume ---- */

static int suspend(struct session *s, const char *author, sa_error **err)
{
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (s->current_turn || turns_count_waiting(s))
        return sa_fail(err, SA_TURN_RUNNING, "session %s: a turn runs or prompts wait", s->name);
    cleanup_free char *message = sa_format("suspended by %s", author);
    link_suspend(s, "SUSPENDED", message);
    return 0;
}

static int resume(struct session *s, sa_error **err)
{
    if (s->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (profile_is_archived(s))
        return sa_fail(err, SA_SESSION_ARCHIVED, "session %s is archived", s->name);
    if (s->link.phase != AGENT_PHASE_NONE && !s->link.doomed)
        return 0;
    s->resume_wanted = true; /* when the process that ends is gone */
    session_changed(s);
    turns_advance(s);
    return 0;
}

static void reply_suspended(struct rpc_call *call, Session *session)
{
    SuspendSessionResponse res = SUSPEND_SESSION_RESPONSE__INIT;
    res.session = session;
    suspend_session_reply(call, &res);
}

void api_suspend_session(void *api, struct rpc_call *call, const SuspendSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || suspend(s, rpc_principal(call), &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_suspended);
}

static void reply_resumed(struct rpc_call *call, Session *session)
{
    ResumeSessionResponse res = RESUME_SESSION_RESPONSE__INIT;
    res.session = session;
    resume_session_reply(call, &res);
}

void api_resume_session(void *api, struct rpc_call *call, const ResumeSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s || resume(s, &err))
        rpc_fail(call, err);
    else
        answer_later(s, call, reply_resumed);
}
