/* FollowOutput; see follow.c. */
#ifndef SERVICES_PROCESS_SVC_FOLLOW_H_
#define SERVICES_PROCESS_SVC_FOLLOW_H_

#include "services/process-svc/processes.h"

enum { FOLLOW_LINES_MAX = 100000 };

/* api: struct processes. */
void follow_output_handler(void *api, struct rpc_call *call, const FollowOutputRequest *req);

#endif
