/* The agent's configuration: what it offers, what callers want of it, and what it has. A wish is told to the
 * agent one at a time, each after the answer to the one before (a model decides which thought levels there
 * are), and again to every new agent process. */
#ifndef SERVICES_SESSION_SVC_CONFIG_H_
#define SERVICES_SESSION_SVC_CONFIG_H_

#include "services/session-svc/acp_read.h"
#include "services/session-svc/session.h"

enum { CONFIG_SETTINGS_MAX = 16, CONFIG_TEXT_MAX = 256 };

/* A wish: the option by its id or category. */
struct config_wish {
    const char *option, *value;
};
/* The fields of a request; in the arena. INVALID_REQUEST. */
int config_wishes(struct sa_arena *arena, const char *mode, const char *model, const char *thought_level,
                  const ConfigureSessionRequest__OptionsEntry *const *options, size_t n_options,
                  struct config_wish **ret, size_t *ret_n, sa_error **err);
/* For a session that is being created: what the agent does not offer is told by an event later. */
void config_begin(struct session *s, const struct config_wish *wishes, size_t n, const char *author);
/* The wishes of another session, for a copy of it. */
void config_copy(struct session *s, const struct session *from);
/* ConfigureSession; answers the call when the agent has, or when the wish is committed. UNKNOWN_OPTION,
 * INVALID_REQUEST, TOO_MANY. */
int config_ask(struct session *s, const struct config_wish *wishes, size_t n, struct rpc_call *call,
               sa_error **err);

/* The agent opened its session: its answer says what it offers. */
void config_opened(struct session *s, struct sa_arena *arena, struct json result);
/* It reports a change by itself. False: it belongs to the opening, and is not logged. */
bool config_reported(struct session *s, struct sa_arena *arena, const struct acp_message *m);
/* Tells the agent the next wish. False: there is none that it does not have. */
bool config_next(struct session *s);
/* Its answer to a wish. */
void config_answered(struct session *s, struct sa_arena *arena, const struct acp_message *m);
/* Opening is over: tells what differs from what was told before. */
void config_settled(struct session *s, struct sa_arena *arena);
/* It did not answer in time, and is about to be ended: the wish is dropped, so that the next process can
 * work. */
void config_timed_out(struct session *s);
/* The agent process ends: the next one is told everything. */
void config_agent_gone(struct session *s);
/* Is there something that the agent is to have before its next turn? */
bool config_busy(const struct session *s);

/* All options for a caller, as committed. */
int config_describe(struct sessions *all, struct sa_id id, struct sa_arena *arena, ConfigOption ***ret,
                    size_t *ret_n, sa_error **err);

/* For session.c. */
int config_load(struct session *s, const StoredSession *row, sa_error **err);
void config_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena);
void config_clear(struct session *s);

#endif
