/* What agents have told of themselves, kept durably for all sessions: AgentService tells it. */
#ifndef SERVICES_SESSION_SVC_REPORT_H_
#define SERVICES_SESSION_SVC_REPORT_H_

#include "adapters/json/json.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/session-svc/session.h"

/* The agent has answered initialize: goes into the session's batch with the lists that were known before. */
void report_initialized(struct session *s, struct sa_arena *arena, AgentCapabilities *report);
/* It has opened the session: modes, models, levels of thought. */
void report_opened(struct session *s, struct sa_arena *arena, struct json result);

#endif
