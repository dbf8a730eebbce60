/* The pool of runners: shims that wait for a command of RunProcess, so that one starts without a fork of a
 * shim, its sockets and files. A few are always warm; more are made when they are needed, as many as
 * commands may run at once, and end again when nothing needs them. A runner whose command did not end by
 * itself is not used again. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_RUNNERS_H_
#define SERVICES_PROCESS_SVC_RUNNERS_H_

#include "adapters/os/error.h"
#include "services/process-svc/link.h"

struct processes;
struct runner;

/* Starts the warm ones. */
void runners_open(struct processes *all);
/* They end, and with them what they run. */
void runners_close(struct processes *all);

/* A runner for one command. on_end comes once, unless runner_end was called before, with SHIM_FAILED or
 * SHIM_EXITED; s is NULL when the runner died. The runner is the caller's until runner_return or runner_end.
 */
struct runner *runners_take(struct processes *all, void (*on_end)(void *user, const struct shim_status *s),
                            void *user, sa_error **err);
/* Its memory file (protocol.h, "runners"); the caller fills it before runner_run, and reads it in on_end. */
int runner_file(const struct runner *r);
void runner_run(struct runner *r, size_t spec_bytes, size_t input_bytes);
/* KILL to the command and its tree: on_end comes then. */
void runner_kill(struct runner *r);
/* After on_end: it may take the next command, unless that is not safe. */
void runner_return(struct runner *r);
/* At any time: it ends, and with it what it runs. */
void runner_end(struct runner *r);

/* For a census: is this the pid of a runner of the pool? What descends from one belongs to a command that
 * runs. (What descends from a kept one, kept.h, does not.) */
bool runners_know(const struct processes *all, uint32_t pid);

#endif
