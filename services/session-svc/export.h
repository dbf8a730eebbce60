/* The log of a session as a transcript (TRANSCRIPT.md): ExportSession, VerifySession. */
#ifndef SERVICES_SESSION_SVC_EXPORT_H_
#define SERVICES_SESSION_SVC_EXPORT_H_

#include "services/session-svc/sessions.h"

void api_export_session(void *api, struct rpc_call *call, const ExportSessionRequest *req);
void api_verify_session(void *api, struct rpc_call *call, const VerifySessionRequest *req);

#endif
