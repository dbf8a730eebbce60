/* `sandbox-agent agents`: which agents the server can run. */
#include <stdio.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

static int list(struct client *c, bool json, sa_error **err)
{
    ListAgentsRequest req = LIST_AGENTS_REQUEST__INIT;
    ListAgentsResponse *res = list_agents_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    for (size_t i = 0; i < res->n_agents; i++) {
        const Agent *a = res->agents[i];
        if (json)
            show_json(stdout, &a->base);
        else
            printf("%-10s %-14s %-14s %s\n", a->agent, a->title, a->installed ? "installed" : "not installed",
                   a->npm_package);
    }
    rpc_message_free(res);
    return 0;
}

int cli_agents(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "agents [options]",
                      "Lists the agents that the server knows. `sandbox-agent install AGENT` installs one.");
    if (r < 0)
        r = client_open(&c, o, &err) < 0 || list(&c, options_flag(o, "json"), &err) < 0 ? cli_failed(err) : 0;
    client_close(&c);
    options_free(o);
    return r;
}
