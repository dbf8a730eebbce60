/* What makes a process a service: options, directories and their lock, tokens, the gRPC server with health
 * and reflection, the bus publisher, peers, draining. A service's main.c is one `struct service_spec` and
 *
 *     int main(int argc, char **argv) { return service_main(&spec, argc, argv); }
 *
 * Layout that every service shares (set by `sandbox-agent server`, or by hand):
 *     <run-dir>/<name>.sock   gRPC on a unix socket, directory 0700
 *     <run-dir>/<name>.bus    NNG publisher (ipc)
 *     <data-dir>/<name>/      what it keeps (LMDB environment `store`, journals, ...), locked by flock
 * where <name> is the spec's name without "-svc": session, process, fs, provider, gateway.
 *
 * Who may call (mechanisms 11): every listener asks for either the bearer token (metadata `authorization`) or
 * the per-start secret of the services (metadata `x-service-secret`). Only the secret's holder may say on
 * whose behalf it calls (`x-principal`). A token's principal is "owner". --no-token lets everyone in as
 * "anonymous". */
#ifndef SERVICES_RUNTIME_SERVICE_H_
#define SERVICES_RUNTIME_SERVICE_H_

#include <stdbool.h>
#include <stdint.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "services/runtime/options.h"

struct bus_publisher;
struct service;

/* ---- the service ---- */

struct service_spec {
    const char *name;                     /* "session-svc" */
    const char *summary;                  /* one line for --help */
    const struct service_option *options; /* its own; the common ones are added. NULL: none */
    /* Under the lock, before listening: opens the store, registers handlers with service_rpc(). *ret_state is
     * handed to the others. Serving begins when service_ready was called: here, or later from a callback. */
    int (*start)(struct service *svc, void **ret_state, sa_error **err);
    /* Under the lock, at SIGTERM, when the server drains: end streams with "DRAINING", stop what produces. */
    void (*drain)(void *state);
    /* Without the lock, when no call is left: flush and free. Requests to peers that are still under way are
     * abandoned here (rpc_abandon): their channels are freed afterwards. */
    void (*stop)(void *state);
};

/* Every service has these options besides its own; service_text and so on read them too:
 *     --data-dir D   --run-dir D [<data-dir>/run]   --listen HOST:PORT (TCP; default: unix socket only)
 *     --token-fd N or --token-file F   --secret-fd N or --secret-file F   --no-token
 *     --tls-cert F  --tls-key F  --tls-ca F   --agent-user NAME   --durability grouped|nosync|fsync
 *     --log-level debug|info|warn|error   --bus-drop-percent N (tests)   --help
 * SIGPIPE is ignored and SIGTERM and SIGINT are blocked in every thread: whoever starts children resets that.
 *
 * Parses argv, sets everything up, runs the loop until SIGTERM or SIGINT, drains (10 s), returns the exit
 * code: 0 after a drain, 1 when it could not start (one line on standard error names the cause). */
int service_main(const struct service_spec *spec, int argc, char **argv);

/* ---- what `start` may use; all live until `stop` returns ---- */

struct sa_loop *service_loop(struct service *svc);
struct rpc_server *service_rpc(struct service *svc);
struct rpc_runtime *service_rpc_runtime(struct service *svc);
const char *service_data_dir(const struct service *svc); /* this service's own, made, 0700 */
const char *service_run_dir(const struct service *svc);  /* shared by all services */
/* User that agents and user processes run as; NULL: ours. */
const char *service_agent_user(const struct service *svc);

/* The publisher of this service's facts, opened by the first call. epoch: of its store, not 0. Owned by svc.
 */
struct bus_publisher *service_bus(struct service *svc, uint64_t epoch, sa_error **err);

/* A channel to another service over its unix socket, with our secret: "process", "fs", "session", "provider".
 * Owned by svc; the same one at every call. */
struct rpc_channel *service_peer(struct service *svc, const char *name);
/* ipc URL of another service's bus; the caller frees it. */
char *service_bus_url(const struct service *svc, const char *name);

/* An option's value (TEXT and LIST: service_text). Unset text: NULL. A name that is not in the table is a
 * bug: aborts. */
const char *service_text(const struct service *svc, const char *option);
uint64_t service_uint(const struct service *svc, const char *option);
bool service_flag(const struct service *svc, const char *option);

/* Health: SERVING for the whole server and each registered service. */
void service_ready(struct service *svc);
/* Tells log and health that something the service needs is away (message NULL: well again). It goes on
 * serving; the health service name SERVICE_DEPENDENCIES is NOT_SERVING meanwhile. */
#define SERVICE_DEPENDENCIES "sandboxagent.dependencies"
void service_degraded(struct service *svc, const char *message);
/* Something it cannot go on without: logs, drains, exits with 1. Takes err. */
void service_fatal(struct service *svc, sa_error *err);
/* What a call began may outlive it (a worker thread, a commit) and still use the state: `stop` does not come
 * between hold and release. Counted. Under the lock. */
void service_hold(struct service *svc);
void service_release(struct service *svc);
/* Asks a caller's token for the HTTP edge: principal, or NULL when it may not call. token may be NULL. The
 * result is owned by svc. */
const char *service_principal_of_token(const struct service *svc, const char *token);

#endif
