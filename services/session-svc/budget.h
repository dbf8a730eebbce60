/* The budget of a session, and its use, stored. */
#ifndef SERVICES_SESSION_SVC_BUDGET_H_
#define SERVICES_SESSION_SVC_BUDGET_H_

#include "services/session-svc/session.h"

/* NULL is none. INVALID_REQUEST. */
int budget_check(const Budget *b, sa_error **err);
int budget_set(struct session *s, Budget *b, const char *author, sa_error **err);
/* BUDGET_EXCEEDED: no turn may be run. */
int budget_allows(struct session *s, sa_error **err);
/* The event that says so, of a turn that is not run; returns its message, to be freed. NULL: it may be run.
 */
char *budget_refuses(struct session *s, uint64_t turn);

void budget_load(struct session *s, const StoredSession *row);
void budget_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena);
void budget_describe(Session *out, const StoredSession *row, const StoredProfile *profile,
                     struct sa_arena *arena);
/* A copy of a budget, use; in the arena. NULL: NULL. */
TurnUsage *budget_copy_turn(struct sa_arena *arena, const TurnUsage *from);

#endif
