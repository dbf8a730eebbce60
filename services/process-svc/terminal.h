/* The terminals of processes, shared by their viewers, and TerminalService. A process has a struct terminal
 * from the first look at it until it leaves the memory. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_TERMINAL_H_
#define SERVICES_PROCESS_SVC_TERMINAL_H_

#include "services/process-svc/processes.h"

void terminal_register(struct processes *all);

/* ---- for processes.c ---- */

/* Output, state, size or input offset of the process have changed, or there is room for input again. */
void terminal_notify(struct process *p);
void terminal_fail(struct process *p, const sa_error *err);
/* The connection to its shim broke and is there again: input may be lost. */
void terminal_reconnected(struct process *p);
/* Somebody looks or waits: it stays. */
bool terminal_busy(const struct process *p);
/* Nothing is being committed for p. true: now something is. */
bool terminal_commits(struct process *p);
void terminal_free(struct terminal *t); /* NULL is fine */
/* For EndRecord.terminal_size; 0: it has none. */
uint32_t terminal_last_size(const struct process *p);

#endif
