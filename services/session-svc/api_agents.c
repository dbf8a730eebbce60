#include <stdlib.h>

#include "services/session-svc/api.h"

void api_list_agents(void *api, struct rpc_call *call, const ListAgentsRequest *req)
{
    (void)req;
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    const struct agent *const *catalogue = agents_all();
    size_t n = 0;
    while (catalogue[n])
        n++;
    ListAgentsResponse res = LIST_AGENTS_RESPONSE__INIT;
    res.agents = sa_arena_alloc(arena, n * sizeof *res.agents);
    for (size_t i = 0; i < n; i++) {
        cleanup_free char *command = agents_command(catalogue[i], &all->config.place, NULL);
        Agent *a = sa_arena_alloc(arena, sizeof *a);
        *a = (Agent)AGENT__INIT;
        a->agent = sa_arena_strdup(arena, catalogue[i]->name);
        a->title = sa_arena_strdup(arena, catalogue[i]->title);
        a->installed = command != NULL;
        a->npm_package = sa_arena_strdup(arena, catalogue[i]->npm_packages[0]);
        res.agents[res.n_agents++] = a;
    }
    list_agents_reply(call, &res);
}
