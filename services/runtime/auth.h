/* Who may call (service.h says the rule). Plain functions over memory: any thread. */
#ifndef SERVICES_RUNTIME_AUTH_H_
#define SERVICES_RUNTIME_AUTH_H_

#include <stdbool.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/error.h"
#include "services/runtime/options.h"

enum { AUTH_SECRET_MAX = 4096 }; /* bytes of a token or secret */

struct auth {
    char *token;  /* of callers; NULL: no caller has one */
    char *secret; /* of the services of this start; NULL: none */
    bool open;    /* --no-token: everyone may call */
};

/* From the options token-fd, token-file, secret-fd, secret-file and no-token; closes the descriptors. A final
 * newline is not part of a secret. INVALID_CONFIG names the option, never the content. */
int auth_init(struct auth *a, const struct options *o, sa_error **err);
void auth_fini(struct auth *a);

/* For rpc_server_options.authorize with a struct auth as user. */
bool auth_authorize(void *auth, struct rpc_call *call, sa_error **err);
/* "owner" for the right token, "anonymous" for anything when open; NULL: may not call. token may be NULL. */
const char *auth_principal(const struct auth *a, const char *token);
/* Takes the same time wherever the texts differ. Either may be NULL: false. */
bool auth_equal(const char *known, const char *given);

#endif
