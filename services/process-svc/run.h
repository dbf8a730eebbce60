/* RunProcess: a command run to its end under a shim that keeps nothing on disk. */
#ifndef SERVICES_PROCESS_SVC_RUN_H_
#define SERVICES_PROCESS_SVC_RUN_H_

#include "services/process-svc/processes.h"

enum {
    RUN_STDIN_MAX = 1 << 20,
    RUN_OUTPUT_MAX = 1 << 20,
    RUN_TIMEOUT_MS = 30000,
    RUN_TIMEOUT_MAX_MS = 600000,
    RUNS_MAX_DEFAULT = 64,
};

/* Starts it; answers the call once the command and everything that descends from it have ended. */
void run_start(struct processes *all, struct rpc_call *call, const RunProcessRequest *req,
               const struct spec_user *user);
/* Ends all that run: their callers get err. */
void runs_fail(struct processes *all, const sa_error *err);

#endif
