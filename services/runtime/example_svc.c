/* The smallest service, for the tests of the runtime: it tells each caller who it is, and holds the answer to
 * a caller that asks so (metadata `x-hold`) until it drains. `x-degraded: why` and `x-degraded:` make it
 * unwell and well. */
#include <stdlib.h>

#include "adapters/os/log.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/runtime/service.h"

struct example {
    struct service *svc;
    struct rpc_call *held;
};

static void answer(struct rpc_call *call, const char *agent)
{
    ListAgentsResponse res = LIST_AGENTS_RESPONSE__INIT;
    Agent a = AGENT__INIT, *agents[] = {&a};
    a.agent = (char *)(uintptr_t)agent;
    res.agents = agents;
    res.n_agents = 1;
    list_agents_reply(call, &res);
}

static void list_agents(void *api, struct rpc_call *call, const ListAgentsRequest *req)
{
    struct example *e = api;
    (void)req;
    const char *degraded = rpc_metadata(call, "x-degraded", NULL);
    if (degraded)
        service_degraded(e->svc, *degraded ? degraded : NULL);
    if (rpc_metadata(call, "x-hold", NULL) && !e->held) {
        e->held = rpc_call_ref(call);
        sa_log(SA_LOG_INFO, "example.held", "principal=%s", rpc_principal(call));
    } else if (rpc_metadata(call, "x-peer", NULL)) {
        answer(call, service_peer(e->svc, "session") == service_peer(e->svc, "session") ? "same" : "other");
    } else {
        answer(call, rpc_principal(call));
    }
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    static const struct agent_service_handlers handlers = {.list_agents = list_agents};
    if (service_flag(svc, "fail"))
        return sa_fail(err, SA_STORE_CORRUPT, "the store is broken");
    struct example *e = sa_calloc(1, sizeof *e);
    e->svc = svc;
    agent_service_register(service_rpc(svc), &handlers, e);
    service_ready(svc);
    *ret_state = e;
    return 0;
}

static void drain(void *state)
{
    struct example *e = state;
    if (e->held) {
        answer(e->held, "drained");
        rpc_call_unref(e->held);
    }
}

static const struct service_option example_options[] = {
    {"fail", SERVICE_OPTION_FLAG, NULL, 0, 0, "do not start"},
    {0},
};

static const struct service_spec spec = {
    .name = "example-svc",
    .summary = "An example.",
    .options = example_options,
    .start = start,
    .drain = drain,
    .stop = free,
};

int main(int argc, char **argv)
{
    return service_main(&spec, argc, argv);
}
