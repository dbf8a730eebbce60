/* Starting the child, and reaching what descends from it. */
#ifndef SERVICES_PROCESS_SVC_SHIM_CHILD_H_
#define SERVICES_PROCESS_SVC_SHIM_CHILD_H_

#include <stdbool.h>
#include <sys/types.h>

#include "services/process-svc/shim/protocol.h"

/* Once per program, before child_start: all signals do what they do by default, but those that would end us
 * are ignored. So child_start has few to set back. */
void child_prepare_signals(void);

/* Makes the cgroups of a checked spec and starts its command in them, with stdio[0..2] as its standard
 * descriptors, in a group of its own, and in a session of its own with `session`, with default signals and no
 * other descriptor; it dies with the calling thread. Returns the pid once exec has succeeded; -1 with
 * *ret_stage (enum shim_stage) and *ret_errno. The cgroups stay. */
pid_t child_start(const struct shim_spec *spec, const struct shim_spec_parts *parts, const int stdio[3],
                  bool session, uint32_t *ret_stage, uint32_t *ret_errno);

/* Signals what descends from this process and is no zombie: with `group`, only members of that process group.
 * `only`: just this pid, when it is a descendant. signum 0 only counts. Each is checked to be a descendant at
 * the moment of the signal. Returns how many were signalled. */
int descendants_signal(int signum, pid_t group, pid_t only);

/* Kills (SIGKILL) every process of the session `session` that started no earlier than `since` (clock ticks).
 * Returns how many it found alive. */
int session_kill(pid_t session, uint64_t since);

#endif
