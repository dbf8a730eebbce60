/* AttachProcess; see attach.c. */
#ifndef SERVICES_PROCESS_SVC_ATTACH_H_
#define SERVICES_PROCESS_SVC_ATTACH_H_

#include "services/process-svc/processes.h"

/* api: struct processes. */
void attach_process_handler(void *api, struct rpc_call *call);

#endif
