/* Permission requests: durable until somebody answers, the turn is cancelled, or the agent is gone. */
#ifndef SERVICES_SESSION_SVC_PERMISSIONS_H_
#define SERVICES_SESSION_SVC_PERMISSIONS_H_

#include "services/session-svc/acp_read.h"
#include "services/session-svc/session.h"

/* The agent asks; fills p->permission. */
void permissions_ask(struct session *s, struct sa_arena *arena, struct pending *p,
                     const struct acp_message *m);
/* Somebody answers. PERMISSION_NOT_FOUND, PERMISSION_ALREADY_ANSWERED, INVALID_REQUEST. */
int permissions_answer(struct session *s, const char *permission_id, const char *option_id,
                       const char *author, uint64_t *ret_seq, sa_error **err);
/* All that wait end so: CANCELLED is answered to the agent, WITHDRAWN is not. */
void permissions_end_all(struct session *s, PermissionOutcome outcome);
uint32_t permissions_waiting(const struct session *s);

int permissions_load(struct session *s, const struct pending *p, sa_error **err);
void permissions_sweep(struct session *s);
void permissions_clear(struct session *s);

#endif
