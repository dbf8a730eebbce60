/* WriteBlob, ReadBlob. */
#ifndef SERVICES_SESSION_SVC_BLOB_API_H_
#define SERVICES_SESSION_SVC_BLOB_API_H_

#include "services/session-svc/sessions.h"

void api_write_blob(void *api, struct rpc_call *call);
void api_read_blob(void *api, struct rpc_call *call, const ReadBlobRequest *req);

#endif
