/* What an agent has told of its recent tool calls. Its permission requests often name only the id of a call:
 * what is asked for was told before. A small ring in memory; what a restart has lost of it is read from the
 * log. */
#ifndef SERVICES_SESSION_SVC_TOOLS_H_
#define SERVICES_SESSION_SVC_TOOLS_H_

#include "adapters/json/json.h"
#include "services/session-svc/policy.h"
#include "services/session-svc/session.h"

enum {
    TOOLS_MAX = 32,          /* calls */
    TOOLS_SEARCH_MAX = 2000, /* events of the log that are looked through */
    TOOLS_SEARCH_BYTES = 8 << 20,
};

/* A tool call, or what changed of it, as the agent wrote it; begins: the former. */
void tools_note(struct session *s, struct json call, bool begins);
/* What is known of the call of a permission request: told before, and by the request itself, which is noted.
 * *ret points into the ring until the next note; cwd stays as it is. title: "" when it is not told. */
void tools_facts(struct session *s, struct json call, struct policy_facts *ret, const char **ret_title);
void tools_clear(struct session *s);

#endif
