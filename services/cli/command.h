/* What is to run, from a command line: for `run` and `start`. */
#ifndef SERVICES_CLI_COMMAND_H_
#define SERVICES_CLI_COMMAND_H_

#include "adapters/os/mem.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/runtime/options.h"

/* The spec of the plain arguments and the options --cwd, --env, --user and --group, which `o` must have.
 * Everything lives in the arena or in argv. NULL: *err. */
ProcessSpec *command_spec(struct sa_arena *a, const struct options *o, sa_error **err);
/* Prints the error of a command that was not run; the exit code: 127 when there is no such command, else
 * 125. Takes err. */
int command_failed(sa_error *err);

#endif
