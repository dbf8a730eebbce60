/* What must be there before a process of an agent is started: the agent itself, where the session wants it
 * installed on first use, and the session's skills. */
#ifndef SERVICES_SESSION_SVC_PREPARE_H_
#define SERVICES_SESSION_SVC_PREPARE_H_

#include "services/session-svc/session.h"

/* True: something is being fetched; link_start is called again once it is there. */
bool prepare_waits(struct session *s);
/* An installation is over: sessions that wait for this agent go on, or fail with err. */
void prepare_installed(struct sessions *all, const struct agent *a, const sa_error *err);
/* For a reload and the end: nothing is waited for any more. */
void prepare_abandon(struct session *s);

#endif
