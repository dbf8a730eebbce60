/* `sandbox-agent permissions policy`. */
#ifndef SERVICES_CLI_PERMISSION_POLICY_H_
#define SERVICES_CLI_PERMISSION_POLICY_H_

#include "services/cli/client.h"

/* words: SESSION or `server`, then nothing (shows the policy), a mode, or rules. -1: *err. */
int permission_policy(struct client *c, const struct options *o, int n, char **words, sa_error **err);

#endif
