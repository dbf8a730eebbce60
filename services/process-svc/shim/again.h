/* What follows when the child has ended: its exit record, or another run. */
#ifndef SERVICES_PROCESS_SVC_SHIM_AGAIN_H_
#define SERVICES_PROCESS_SVC_SHIM_AGAIN_H_

#include "services/process-svc/shim/private.h"

/* The child has ended and its output is in the journals; status.exit has kind, value and time. Begins the
 * pause before the next run, if there is to be one, else records the exit. */
void again_run_ended(struct shim *s);
/* After every turn of the loop: starts the child again when the pause is over, nothing is left of the run
 * before and its output is in the journals. */
void again_start(struct shim *s);
/* Was our directory deleted? Then nobody will ever come for the process. */
bool again_is_deleted(void);

#endif
