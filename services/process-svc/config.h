/* Limits and defaults of the service, changed while it runs: GetConfig and SetConfig.
 *
 * What SetConfig has set is kept in the store and counts from its commit on, for new work. Everything else is
 * as the command line says, else as built in: so a stored value wins over the command line, which the service
 * is started with again and again. All functions under the service lock. */
#ifndef SERVICES_PROCESS_SVC_CONFIG_H_
#define SERVICES_PROCESS_SVC_CONFIG_H_

#include <stdint.h>

#include "adapters/grpc/rpc.h"
#include "sandboxagent/process/v1/process_service.rpc.h"

struct processes;

struct config {
    uint64_t max_processes;
    uint64_t max_runs;
    uint64_t default_run_timeout_ms; /* use config_run_timeout */
    uint64_t max_run_timeout_ms;
    uint64_t max_run_output_bytes;
    uint64_t default_journal_bytes;
    uint64_t max_input_bytes;
};

/* Fills in what holds now: from the command line and the store, which is open. */
int config_load(struct processes *all, sa_error **err);

/* The timeout of a command that asks for none. */
uint64_t config_run_timeout(const struct config *c);

/* Handlers. */
void config_get(void *api, struct rpc_call *call, const GetConfigRequest *req);
void config_set(void *api, struct rpc_call *call, const SetConfigRequest *req);

#endif
