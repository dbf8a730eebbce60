/* What turns and sessions take: tokens and cost, measured, estimated or unknown, never mixed. Plain memory,
 * no thread. */
#ifndef SERVICES_SESSION_SVC_USAGE_H_
#define SERVICES_SESSION_SVC_USAGE_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/event.rpc.h"

enum { USAGE_CURRENCY_MAX = 15 };

/* The agent's own sums only ever grow, until another process begins with them or without them. */
struct usage {
    uint64_t turns, measured_tokens, measured_input, measured_output, estimated_tokens, unknown_token_turns,
        unknown_cost_turns;
    double measured_cost, estimated_cost;
    char currency[USAGE_CURRENCY_MAX + 1];
    /* the agent's sum of the cost, and the number of the process that told it */
    bool cost_known;
    double cost;
    uint64_t cost_process;
    /* of the running turn */
    bool turn_cost_known, turn_cost_guessed;
    double turn_cost;
    /* tokens in the context window: now, and when the turn started */
    bool context_known, turn_context_known;
    uint64_t context, turn_context;
};

/* first: nothing is in the context window yet. */
void usage_turn_starts(struct usage *u, bool first);
/* The agent tells its sums. process: number of the agent process. */
void usage_reported(struct usage *u, const Usage *report, uint64_t process);
/* answer: the member `usage` of the answer to the prompt; absent where there is none. Text in ret is u's. */
void usage_turn_ends(struct usage *u, struct json answer, TurnUsage *ret);
/* Text in ret is u's. */
void usage_total(const struct usage *u, SessionUsage *ret);

struct usage_verdict {
    BudgetLimit limit; /* UNSPECIFIED: there is room for a turn */
    bool unknown;
    char message[160];
};
struct usage_verdict usage_check(const struct usage *u, const Budget *budget); /* NULL: no limit */

#endif
