/* Turns: prompts are accepted into a durable queue, run one after the other, and each one ends with a reason.
 */
#ifndef SERVICES_SESSION_SVC_TURNS_H_
#define SERVICES_SESSION_SVC_TURNS_H_

#include "adapters/json/json.h"
#include "services/session-svc/session.h"

struct prompt {
    ContentBlock *const *content;
    size_t n_content;
    const char *request_id; /* "": none */
    const char *author;
    bool first; /* before all that wait */
};
struct accepted_turn {
    uint64_t turn, seq;
    bool repeated; /* its request_id was known */
};
/* Accepts a prompt, or finds the turn that its request_id stands for; either is true once what is being built
 * is committed. Errors: SESSION_DESTROYED, TOO_MANY, REQUEST_ID_REUSED, MESSAGE_TOO_LARGE, INVALID_REQUEST.
 */
int turns_accept(struct session *s, const struct prompt *p, struct accepted_turn *ret, sa_error **err);

/* Cancels the running turn (0) or the one named. NO_TURN_RUNNING, TURN_NOT_FOUND. */
int turns_cancel(struct session *s, uint64_t turn, const char *author, uint64_t *ret_turn, sa_error **err);

/* The queue: position counts from 1. TURN_NOT_FOUND, TURN_NOT_QUEUED. */
int turns_move(struct session *s, uint64_t turn, uint32_t position, const char *author,
               uint32_t *ret_position, sa_error **err);
int turns_withdraw(struct session *s, uint64_t turn, const char *author, sa_error **err);
/* For the running turn (0) or the one named, which must run. NO_TURN_RUNNING, STEERING_UNSUPPORTED. */
int turns_steer(struct session *s, uint64_t turn, const struct prompt *p, SteerFallback fallback,
                struct accepted_turn *ret, sa_error **err);

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

/* For queue.c. */
bool turns_wait(const struct session *s, const struct turn *t);
size_t turns_count_waiting(const struct session *s);
/* So that it is at this position of those that wait, or the last one. */
void turns_insert(struct session *s, struct turn *t, uint32_t position);
/* 1: this request_id stands for a turn, *ret. REQUEST_ID_REUSED. */
int turns_find_repeated(struct session *s, const struct prompt *p, struct accepted_turn *ret, sa_error **err);
/* Ends one that waits, as cancelled by the author. */
void turns_drop(struct session *s, struct turn *t, const char *author);

#endif
