/* Sessions that begin as a copy of another one. */
#ifndef SERVICES_SESSION_SVC_FORK_H_
#define SERVICES_SESSION_SVC_FORK_H_

#include "services/session-svc/session.h"

/* Fills a new session: agent, wishes, spec, profile, and where its conversation begins. TURN_RUNNING,
 * FORK_UNSUPPORTED, SESSION_DESTROYED. */
int fork_check(const struct session *parent, const ForkSessionRequest *req, sa_error **err);
int fork_begin(struct session *s, const struct session *parent, const ForkSessionRequest *req,
               const char *author, sa_error **err);
/* Is the agent to fork the parent's conversation? */
bool fork_by_agent(const struct session *s);

void fork_load(struct session *s, const StoredSession *row);
void fork_clear(struct session *s);

#endif
