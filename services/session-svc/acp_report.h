/* What an agent tells of itself when it starts: pure functions over bytes, fuzzed. */
#ifndef SERVICES_SESSION_SVC_ACP_REPORT_H_
#define SERVICES_SESSION_SVC_ACP_REPORT_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"

enum {
    ACP_REPORT_LIST_MAX = 100,     /* elements of a list */
    ACP_REPORT_TEXT_MAX = 256,     /* bytes of an id or a name; what is longer is left out */
    ACP_REPORT_RAW_MAX = 64 << 10, /* bytes of the raw answer */
};

/* From the result of initialize: everything but the lists of choices. In the arena, or in the result. */
void acp_report_initialize(struct sa_arena *arena, struct json result, AgentCapabilities *ret);
/* From the result of session/new, load or resume: modes, models, levels of thought. A list that it does not
 * tell stays as it is. */
void acp_report_session(struct sa_arena *arena, struct json result, AgentCapabilities *ret);

#endif
