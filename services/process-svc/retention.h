/* How many ended processes are remembered: when there are more than --max-ended, the oldest are forgotten as
 * DeleteProcess does it. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_RETENTION_H_
#define SERVICES_PROCESS_SVC_RETENTION_H_

#include "services/process-svc/processes.h"

/* One more has ended or was found ended at the start; -1: one is forgotten. */
void retention_count(struct processes *all, int count);

#endif
