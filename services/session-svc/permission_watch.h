/* Callers that watch the inbox: a snapshot of what is pending, then every change. There is no queue: one that
 * has no room when something changes gets a new snapshot once it has. */
#ifndef SERVICES_SESSION_SVC_PERMISSION_WATCH_H_
#define SERVICES_SESSION_SVC_PERMISSION_WATCH_H_

#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/session-svc/sessions.h"

enum { PERMISSION_WATCHES_MAX = 1000, PERMISSION_WATCH_IDLE_MS = 15000 };

void api_watch_permissions(void *api, struct rpc_call *call, const WatchPermissionsRequest *req);
/* A request was committed, or a change of it. */
void permission_watch_tell(struct sessions *all, struct sa_id id);
/* Timer: signs of life. */
void permission_watch_progress(struct sessions *all);
/* All end with DRAINING. */
void permission_watch_drain(struct sessions *all);

#endif
