/* Policies of sessions and of the server: kept, given and set. */
#ifndef SERVICES_SESSION_SVC_POLICIES_H_
#define SERVICES_SESSION_SVC_POLICIES_H_

#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/session-svc/sessions.h"

/* Reads the session's own policy, or (s NULL) the server's, from the store. */
int policies_load(struct sessions *all, struct session *s, sa_error **err);
/* A new session starts with the policy of another one. */
void policies_copy(struct session *s, const struct session *from);
void policies_clear(PermissionPolicy **policy, char **request_id);

void api_get_policy(void *api, struct rpc_call *call, const GetPolicyRequest *req);
void api_set_policy(void *api, struct rpc_call *call, const SetPolicyRequest *req);

#endif
