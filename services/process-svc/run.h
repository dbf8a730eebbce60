/* RunProcess: a command run to its end by a runner, which keeps nothing on disk. */
#ifndef SERVICES_PROCESS_SVC_RUN_H_
#define SERVICES_PROCESS_SVC_RUN_H_

#include "services/process-svc/processes.h"

void runs_open(struct processes *all);
void runs_close(struct processes *all);

/* INVALID_REQUEST names the field and its limit. */
int run_check(const struct processes *all, const RunProcessRequest *req, sa_error **err);
/* Starts it; answers the call once the command and everything that descends from it have ended. */
void run_start(struct processes *all, struct rpc_call *call, const RunProcessRequest *req,
               const struct spec_user *user);
/* Ends all that run: their callers get err. */
void runs_fail(struct processes *all, const sa_error *err);

#endif
