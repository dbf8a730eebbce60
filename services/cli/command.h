/* What is to run, from a command line: for `run` and `start`. */
#ifndef SERVICES_CLI_COMMAND_H_
#define SERVICES_CLI_COMMAND_H_

#include "adapters/os/mem.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/runtime/options.h"

/* --cwd, --env, --user, --group: rows of an option table. */
#define COMMAND_OPTIONS                                                                                      \
    {                                                                                                        \
        "cwd", SERVICE_OPTION_TEXT,                                                                          \
        NULL,  0,                                                                                            \
        0,     "its directory; a relative one begins at this one (default /)"},                              \
        {"env", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value, or NAME for ours; else it has only PATH"},     \
        {"user", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this user"},                                    \
    {                                                                                                        \
        "group", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this group"                                     \
    }

/* The spec of the plain arguments and those options. Everything lives in the arena or in argv. NULL: *err. */
ProcessSpec *command_spec(struct sa_arena *a, const struct options *o, sa_error **err);
/* Ends like rpc errors of a command do: prints the error; 127 when there is no such command, else 125. */
int command_failed(sa_error *err);

#endif
