/* Looks every second, while anything runs, where the trees of processes listen; what has changed is committed
 * and told by process_change(). All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_WATCH_H_
#define SERVICES_PROCESS_SVC_WATCH_H_

#include "services/process-svc/processes.h"

struct watch;

struct watch *watch_new(struct processes *all);
void watch_free(struct watch *w); /* NULL is fine; a look that is under way has ended */
/* Something runs: goes on looking. */
void watch_go_on(struct watch *w);
/* Does the record of p tell other ports than were seen last? Then *ret_next (a new record) tells these. */
bool watch_change(const struct process *p, ProcessRecord **ret_next);
/* Nothing of it is left to listen. */
void watch_clear(ProcessRecord *r);

#endif
