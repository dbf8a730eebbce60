/* TakeCensus and ClearStrays: what is alive below this service, and whose it is. */
#ifndef SERVICES_PROCESS_SVC_CENSUS_H_
#define SERVICES_PROCESS_SVC_CENSUS_H_

#include "services/process-svc/processes.h"

/* api: struct processes. */
void take_census_handler(void *api, struct rpc_call *call, const TakeCensusRequest *req);
void clear_strays_handler(void *api, struct rpc_call *call, const ClearStraysRequest *req);

#endif
