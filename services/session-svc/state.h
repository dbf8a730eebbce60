/* States of a session: one table says what may follow what. */
#ifndef SERVICES_SESSION_SVC_STATE_H_
#define SERVICES_SESSION_SVC_STATE_H_

#include "sandboxagent/session/v1/event.rpc.h"

enum state_event {
    STATE_AGENT_STARTS, /* a new agent process is wanted */
    STATE_AGENT_READY,  /* it can take prompts */
    STATE_AGENT_FAILED, /* it never could */
    STATE_AGENT_GONE,   /* it could, and has ended */
    STATE_TURN_STARTS,
    STATE_TURN_ENDS,
    STATE_PERMISSION_ASKED,
    STATE_PERMISSIONS_CLEAR, /* none is pending any more */
    STATE_DESTROY,
    STATE_EVENTS_
};

/* The state after the event; the same one where the event changes nothing or does not belong. */
SessionState state_next(SessionState state, enum state_event event);

#endif
