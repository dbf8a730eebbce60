/* Shared by permissions.c and permission_ask.c. */
#ifndef SERVICES_SESSION_SVC_PERMISSIONS_INTERNAL_H_
#define SERVICES_SESSION_SVC_PERMISSIONS_INTERNAL_H_

#include "adapters/json/json.h"
#include "services/session-svc/session.h"

/* How a request ends. No text is NULL. */
struct permission_verdict {
    PermissionOutcome outcome;
    const char *option_id, *author, *request_id;
    PermissionDecider decider;
    DecidingRule *rule;
    ElicitationAction action;
    struct json content;
};

/* Keeps a copy without the content of the tool call, which may be large and is in the store. */
struct permission *permission_add(struct session *s, struct sa_id id, StoredPermission *row);
void permission_changed(struct session *s, struct permission *p);
/* Told, stored, and answered to the agent. Returns the seq of its event. */
uint64_t permission_resolve(struct session *s, struct permission *p, const struct permission_verdict *v);
/* Fills in outcome and option as the action says: the outcome is CANCELLED where there is no such option. */
void permission_choose(const StoredPermission *row, PolicyAction action, struct permission_verdict *v);

#endif
