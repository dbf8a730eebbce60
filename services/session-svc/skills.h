/* Skills: fetched by git into a cache below HOME of the agents' user, checked against their commit, and
 * linked to where the agent looks for them, before its process is started. All of it runs as that user,
 * through process-svc. */
#ifndef SERVICES_SESSION_SVC_SKILLS_H_
#define SERVICES_SESSION_SVC_SKILLS_H_

#include "services/session-svc/session.h"

enum { SKILLS_MS = 5 * 60 * 1000 /* for all of a session */ };

/* True: they are being fetched, `done` of prepare.c comes. False: there is nothing to do. */
bool skills_begin(struct session *s, const StoredSpec *spec, void (*done)(struct session *s));
/* Is this the label of a process that fetches skills for a session now? */
bool skills_are_fetched_by(struct sessions *all, const char *label);
/* Nothing is waited for any more. */
void skills_abandon(struct session *s);

#endif
