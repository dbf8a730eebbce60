/* The inbox of a session: permission requests and questions of its agent, durable until a rule, somebody or a
 * deadline answers, the turn is cancelled, or the agent is gone. The first answer wins. */
#ifndef SERVICES_SESSION_SVC_PERMISSIONS_H_
#define SERVICES_SESSION_SVC_PERMISSIONS_H_

#include "services/session-svc/acp_read.h"
#include "services/session-svc/session.h"

enum { PERMISSIONS_CONTENT_MAX = 64 << 10 }; /* bytes of a form that is filled in */

/* Is it session/request_permission or elicitation/create? */
bool permissions_know(const char *method);
/* The agent asks, and the request has a pending row with an id for it: told, stored, and answered at once
 * where a rule decides or the request is not valid. May free the pending row. */
void permissions_ask(struct session *s, struct sa_arena *arena, struct pending *p,
                     const struct acp_message *m);

/* An answer of a caller. */
struct permission_answer {
    const char *option_id;    /* of a permission request */
    ElicitationAction action; /* of a question; 0: it is an answer to a permission request */
    const void *content;      /* with ACCEPT: JSON */
    size_t content_len;
    const char *author, *request_id;
};
/* Somebody answers. *ret_seq is true when the session's batch is committed. PERMISSION_NOT_FOUND,
 * PERMISSION_ALREADY_ANSWERED, REQUEST_ID_REUSED, INVALID_REQUEST. */
int permissions_answer(struct session *s, const char *permission_id, const struct permission_answer *a,
                       uint64_t *ret_seq, sa_error **err);
/* How a request of this session ended, decided or committed; NULL: it waits, or is not known. In the arena.
 */
const StoredResolution *permissions_resolution(struct session *s, const char *permission_id,
                                               struct sa_arena *arena);
struct permission_deadline {
    uint64_t ms; /* from now; 0: none */
    DeadlineAction action;
    const char *author, *request_id;
};
/* PERMISSION_NOT_FOUND, PERMISSION_ALREADY_ANSWERED. */
int permissions_set_deadline(struct session *s, const char *permission_id,
                             const struct permission_deadline *d, uint64_t *ret_seq, sa_error **err);

/* All that wait end so: CANCELLED is answered to the agent, WITHDRAWN is not. */
void permissions_end_all(struct session *s, PermissionOutcome outcome);
uint32_t permissions_waiting(const struct session *s);

int permissions_load(struct session *s, const struct pending *p, sa_error **err);
/* After a commit: who watches is told, what is over is forgotten. */
void permissions_sweep(struct session *s);
void permissions_clear(struct session *s);
/* Restarts the timer of the next deadline. */
void permissions_arm(struct session *s);

#endif
