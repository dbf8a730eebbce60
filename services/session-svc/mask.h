/* Keeps the values of secrets out of what a session tells: those of the store of credentials, and the
 * variables of its own whose names say that they are secrets. See secrets.h for what is not found. */
#ifndef SERVICES_SESSION_SVC_MASK_H_
#define SERVICES_SESSION_SVC_MASK_H_

#include "services/session-svc/session.h"

struct packed_event;

/* Is a variable of this name a secret? ..KEY.., ..TOKEN.., ..SECRET.., ..PASSWORD.. */
bool mask_is_secret(const void *name, size_t n);
/* Learns the session's own. */
void mask_load(struct session *s, EnvironmentVariable *const *env, size_t n);
void mask_clear(struct session *s);

/* In place. True: something was masked. */
bool mask_bytes(struct session *s, void *p, size_t n);
void mask_text(struct session *s, char *text);
/* An event as it goes to the log and to readers. One that cannot be masked in place becomes `unknown`. */
struct packed_event *mask_event(struct session *s, struct packed_event *p, const Event *e);

#endif
