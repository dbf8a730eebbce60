#include "services/session-svc/fork.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/config.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/policies.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/turns.h"

static StoredFork *copy_of(const StoredFork *f)
{
    cleanup_buf struct sa_buf packed = {0};
    packed.len = stored_fork__pack(f, sa_buf_reserve(&packed, stored_fork__get_packed_size(f) + 1));
    return rpc_unpack(&stored_fork__descriptor, packed.data, packed.len, NULL);
}

int fork_check(const struct session *parent, const ForkSessionRequest *req, sa_error **err)
{
    if (parent->state == SESSION_STATE_DESTROYED)
        return sa_fail(err, SA_SESSION_DESTROYED, "session %s was destroyed", parent->name);
    if (parent->current_turn)
        return sa_fail(err, SA_TURN_RUNNING, "session %s: a turn is running", parent->name);
    bool can = parent->can_fork && *parent->agent_session_id;
    if (req->method == FORK_METHOD_AGENT && parent->has_history && !can)
        return sa_fail(err, SA_FORK_UNSUPPORTED, "agent %s cannot fork a conversation; HISTORY can",
                       parent->agent ? parent->agent->name : "(unknown)");
    return 0;
}

static void tell(struct session *s, const char *author)
{
    SessionForked forked = SESSION_FORKED__INIT;
    forked.parent_session_id = s->fork->parent_session_id;
    forked.parent_seq = s->fork->parent_seq;
    forked.author = (char *)(uintptr_t)author;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_SESSION_FORKED;
    e.session_forked = &forked;
    session_event(s, &e);
}

int fork_begin(struct session *s, const struct session *parent, const ForkSessionRequest *req,
               const char *author, sa_error **err)
{
    struct store_key parent_key = db_key(parent->id), key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    int found = store_get(s->all->store, DB_SPECS, &parent_key, &spec, err);
    if (found <= 0)
        return found < 0 ? -1
                         : sa_fail(err, SA_STORE_CORRUPT, "session %s has no specification", parent->name);
    char *creator = spec->creator;
    spec->creator = (char *)(uintptr_t)author;
    spec->create_time_us = sa_wall_us();
    store_put(session_set(s), DB_SPECS, &key, &spec->base);
    spec->creator = creator;

    StoredProfile profile = *parent->profile;
    if (*req->title)
        profile.title = req->title;
    profile.version = 1;
    profile.archive_time_us = 0;
    profile_replace(s, &profile);
    config_copy(s, parent);
    s->agent = parent->agent;
    session_set_text(&s->agent_name, parent->agent_name);
    mask_load(s, spec->env, spec->n_env);
    s->has_history = parent->has_history;

    StoredFork fork = STORED_FORK__INIT;
    fork.parent_session_id = (char *)(uintptr_t)parent->name;
    fork.parent_seq = parent->committed_seq;
    fork.method = req->method;
    if (parent->can_fork && req->method != FORK_METHOD_HISTORY && parent->has_history)
        fork.agent_session_id = parent->agent_session_id;
    s->fork = copy_of(&fork);
    tell(s, author);
    policies_copy(s, parent);
    return 0;
}

bool fork_by_agent(const struct session *s)
{
    return s->fork && *s->fork->agent_session_id && s->can_fork;
}

void fork_load(struct session *s, const StoredSession *row)
{
    fork_clear(s);
    if (row->fork)
        s->fork = copy_of(row->fork);
}

void fork_clear(struct session *s)
{
    store_message_free(s->fork);
    s->fork = NULL;
}
