/* Turns: prompts are accepted into a durable queue, run one after the other, and each one ends with a reason.
 */
#ifndef SERVICES_SESSION_SVC_TURNS_H_
#define SERVICES_SESSION_SVC_TURNS_H_

#include "adapters/json/json.h"
#include "services/session-svc/session.h"

/* Accepts a prompt, or finds the turn that its request_id stands for. The turn is true once *ret_batch is
 * committed (0: it is). Errors: SESSION_DESTROYED, TOO_MANY, REQUEST_ID_REUSED, MESSAGE_TOO_LARGE,
 * INVALID_REQUEST. */
struct accepted_turn {
    uint64_t turn, seq;
};
int turns_accept(struct session *s, ContentBlock *const *content, size_t n_content, const char *request_id,
                 const char *author, struct accepted_turn *ret, sa_error **err);

/* Cancels the running turn (0) or the one named. NO_TURN_RUNNING, TURN_NOT_FOUND. */
int turns_cancel(struct session *s, uint64_t turn, const char *author, uint64_t *ret_turn, sa_error **err);

/* Starts what can be started: the next turn, or an agent for it. */
void turns_advance(struct session *s);
/* The running turn ends. reason, message: "" or a stable word and a sentence; raw: the agent's answer, may be
 * absent. */
void turns_end(struct session *s, StopReason stop, const char *reason, const char *message, struct json raw);
/* Every turn that waits ends without having run. */
void turns_end_queued(struct session *s, StopReason stop, const char *reason, const char *message);

/* For session.c and batch.c. */
void turns_clear(struct session *s);
int turns_load(struct session *s, const StoredSession *row, sa_error **err);
uint64_t *turns_queued(const struct session *s, struct sa_arena *arena, size_t *ret_n);
void turns_sweep(struct session *s);
struct turn *turns_find(struct session *s, uint64_t number);

#endif
