/* What the verbs that call a server have in common: where it is, the token, the connection. */
#ifndef SERVICES_CLI_CLIENT_H_
#define SERVICES_CLI_CLIENT_H_

#include "adapters/grpc/rpc.h"
#include "adapters/os/error.h"
#include "adapters/os/loop.h"
#include "services/runtime/options.h"

/* --target, --token, --data-dir, --tls-ca, --tls-cert, --tls-key, --json: for every such verb. */
extern const struct service_option client_options[];

struct client {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct rpc_channel *channel;
    char *target;
};

/* Target: --target, $SANDBOX_AGENT_TARGET, the server of the data directory, else 127.0.0.1:7401. Token:
 * --token, $SANDBOX_AGENT_TOKEN, or that of the data directory, which goes to that server only. */
int client_open(struct client *c, const struct options *o, sa_error **err);
/* The same for the process service: $SANDBOX_AGENT_PROCESS_TARGET, 127.0.0.1:7402. */
int client_open_process(struct client *c, const struct options *o, sa_error **err);
/* The same for the file service: $SANDBOX_AGENT_FS_TARGET, 127.0.0.1:7403. */
int client_open_fs(struct client *c, const struct options *o, sa_error **err);
void client_close(struct client *c);
/* Says which server did not answer, and what to do. Returns -1. */
int client_explain(const struct client *c, sa_error **err);
/* `name` itself, or for "last" the id of the newest session. free() it. */
char *client_session(struct client *c, const char *name, sa_error **err);

#endif
