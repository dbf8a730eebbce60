#include "services/session-svc/prepare.h"

#include "services/session-svc/install.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/skills.h"
#include "services/session-svc/turns.h"

/* ---- what is told ---- */

static void tell(struct session *s, const char *npm_package)
{
    Preparing preparing = PREPARING__INIT;
    preparing.npm_package = (char *)(uintptr_t)npm_package;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_PREPARING;
    e.preparing = &preparing;
    session_event(s, &e);
}

static void fail(struct session *s, const sa_error *err)
{
    s->preparing = PREPARE_NOTHING;
    session_move(s, STATE_AGENT_FAILED, err->reason, err->message);
    turns_end_queued(s, STOP_REASON_ERROR, err->reason, err->message);
}

/* ---- the agent ---- */

/* True: it is being installed. */
static bool install(struct session *s, const StoredSpec *spec)
{
    if (!spec->install_agent || !s->agent || !s->agent->npm_packages[0])
        return false;
    cleanup_free char *command = agents_command(s->agent, &s->all->config.place, NULL, NULL);
    if (command || !install_ask(s->all, s->agent, false, NULL))
        return false; /* it is there, or its start says that it is not */
    tell(s, s->agent->npm_packages[0]);
    return true;
}

struct outcome {
    const struct agent *agent;
    const sa_error *err;
};

static bool go_on(void *user, struct session *s)
{
    const struct outcome *o = user;
    if (s->preparing != PREPARE_AGENT || s->agent != o->agent || !session_usable(s))
        return true;
    s->preparing = o->err ? PREPARE_NOTHING : PREPARE_SKILLS;
    if (s->state == SESSION_STATE_DESTROYED)
        return true;
    if (o->err)
        fail(s, o->err);
    else
        link_start(s);
    session_settle(s);
    return true;
}

void prepare_installed(struct sessions *all, const struct agent *a, const sa_error *err)
{
    struct outcome o = {a, err};
    sessions_each(all, go_on, &o);
}

/* ---- skills ---- */

static void skills_are_there(struct session *s)
{
    s->preparing = PREPARED;
    if (s->state != SESSION_STATE_DESTROYED)
        link_start(s);
    session_settle(s);
}

/* ---- both, one after the other ---- */

bool prepare_waits(struct session *s)
{
    if (s->preparing == PREPARE_AGENT || s->skill_work)
        return true;
    if (s->preparing == PREPARED) {
        s->preparing = PREPARE_NOTHING;
        return false;
    }
    struct store_key key = db_key(s->id);
    cleanup_message StoredSpec *spec = NULL;
    if (store_get(s->all->store, DB_SPECS, &key, &spec, NULL) <= 0)
        return false; /* the start says why */
    if (s->preparing == PREPARE_NOTHING && install(s, spec)) {
        session_move(s, STATE_AGENT_STARTS, NULL, NULL);
        s->preparing = PREPARE_AGENT;
        return true;
    }
    if (skills_begin(s, spec, skills_are_there)) {
        session_move(s, STATE_AGENT_STARTS, NULL, NULL);
        s->preparing = PREPARE_SKILLS;
        return true;
    }
    s->preparing = PREPARE_NOTHING;
    return false;
}

void prepare_abandon(struct session *s)
{
    skills_abandon(s);
    s->preparing = PREPARE_NOTHING;
}
