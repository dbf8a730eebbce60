/* A transcript as a new session: ImportSession. */
#ifndef SERVICES_SESSION_SVC_IMPORT_H_
#define SERVICES_SESSION_SVC_IMPORT_H_

#include "services/session-svc/sessions.h"

void api_import_session(void *api, struct rpc_call *call);
/* At a start: removes what imports that were cut short have left. */
int import_clean(struct sessions *all, sa_error **err);

#endif
