/* ProcessService; see api.c. */
#ifndef SERVICES_PROCESS_SVC_API_H_
#define SERVICES_PROCESS_SVC_API_H_

#include "services/process-svc/processes.h"

void api_register(struct processes *all);

#endif
