#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/session-svc/api.h"
#include "services/session-svc/install.h"
#include "services/session-svc/registry.h"

/* ---- what is known of an agent ---- */

static char **copy_texts(struct sa_arena *arena, const char *const *list, size_t *ret_n)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    char **copy = sa_arena_alloc(arena, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = sa_arena_strdup(arena, list[i]);
    *ret_n = n;
    return copy;
}

static AgentChoice **choices(struct sa_arena *arena, const char *const *list, size_t *ret_n)
{
    char **ids = copy_texts(arena, list, ret_n);
    AgentChoice **out = sa_arena_alloc(arena, (*ret_n + 1) * sizeof *out);
    for (size_t i = 0; i < *ret_n; i++) {
        out[i] = sa_arena_alloc(arena, sizeof **out);
        *out[i] = (AgentChoice)AGENT_CHOICE__INIT;
        out[i]->id = ids[i];
        out[i]->current = i == 0;
    }
    return out;
}

static AgentCapabilities *known(const struct agent *a, struct sa_arena *arena)
{
    AgentCapabilities *c = sa_arena_alloc(arena, sizeof *c);
    *c = (AgentCapabilities)AGENT_CAPABILITIES__INIT;
    c->load = a->features & AGENT_LOAD;
    c->resume = a->features & AGENT_RESUME;
    c->list = a->features & AGENT_LIST;
    c->fork = a->features & AGENT_FORK;
    c->close = a->features & AGENT_CLOSE;
    c->image = a->features & AGENT_IMAGE;
    c->audio = a->features & AGENT_AUDIO;
    c->embedded_context = a->features & AGENT_EMBEDDED;
    c->mcp_http = a->features & AGENT_MCP_HTTP;
    c->mcp_sse = a->features & AGENT_MCP_SSE;
    c->modes = choices(arena, a->modes, &c->n_modes);
    c->thought_levels = choices(arena, a->thought_levels, &c->n_thought_levels);
    return c;
}

static int describe_capabilities(struct sessions *all, const struct agent *a, struct sa_arena *arena,
                                 AgentCapabilities **ret, sa_error **err)
{
    struct store_key key = store_key_of(a->name, strlen(a->name));
    cleanup_message AgentCapabilities *reported = NULL;
    int found = store_get(all->store, DB_A_REPORTS, &key, &reported, err);
    if (found < 0)
        return -1;
    AgentCapabilities *c = *ret = found ? api_copy(arena, &reported->base) : known(a, arena);
    c->load = c->load && !a->no_load;
    c->resume = c->resume && !a->no_resume;
    if (!c->n_modes) /* it was started, but no session was opened yet */
        c->modes = choices(arena, a->modes, &c->n_modes);
    if (!c->n_thought_levels)
        c->thought_levels = choices(arena, a->thought_levels, &c->n_thought_levels);
    return 0;
}

/* What a session has without naming any: what we pass on. */
static char **present_credentials(const struct sessions *all, const struct agent *a, bool discover,
                                  struct sa_arena *arena, size_t *ret_n)
{
    size_t n_names = 0, n_files = 0;
    char **names = copy_texts(arena, a->credentials, &n_names);
    char **files = copy_texts(arena, a->credential_files, &n_files);
    char **out = sa_arena_alloc(arena, (n_names + n_files + 1) * sizeof *out);
    *ret_n = 0;
    for (size_t i = 0; all->config.pass_credentials && i < n_names; i++)
        if (getenv(names[i]))
            out[(*ret_n)++] = names[i];
    for (size_t i = 0; discover && i < n_files; i++) {
        char *file = sa_arena_format(arena, "%s/%s", all->config.home, files[i]);
        if (!access(file, F_OK))
            out[(*ret_n)++] = file;
    }
    return out;
}

static Agent *describe(struct sessions *all, const struct agent *a, bool discover, struct sa_arena *arena,
                       sa_error **err)
{
    static const AgentSource sources[] = {
        [AGENTS_LAUNCHER] = AGENT_SOURCE_LAUNCHER,
        [AGENTS_BUILT_IN] = AGENT_SOURCE_BUILT_IN,
        [AGENTS_PREFIX] = AGENT_SOURCE_AGENTS_DIR,
        [AGENTS_PATH] = AGENT_SOURCE_PATH,
    };
    enum agents_source source;
    cleanup_free char *command = agents_command(a, &all->config.place, &source, NULL);
    Agent *out = sa_arena_alloc(arena, sizeof *out);
    *out = (Agent)AGENT__INIT;
    out->agent = sa_arena_strdup(arena, a->name);
    out->title = sa_arena_strdup(arena, a->title);
    out->installed = command != NULL;
    out->npm_packages = copy_texts(arena, a->npm_packages, &out->n_npm_packages);
    out->npm_package = sa_arena_strdup(arena, a->npm_packages[0]);
    out->program = sa_arena_strdup(arena, command);
    if (command)
        out->source = sources[source];
    out->credentials = copy_texts(arena, a->credentials, &out->n_credentials);
    out->present_credentials = present_credentials(all, a, discover, arena, &out->n_present_credentials);
    out->custom = registry_is_custom(all, a);
    sa_error *failed = NULL;
    out->installation = install_describe(all, a->name, arena, &failed);
    if (failed) {
        sa_pass(err, failed);
        return NULL;
    }
    return describe_capabilities(all, a, arena, &out->capabilities, err) ? NULL : out;
}

/* ---- list, get: the versions are read outside of the lock ---- */

struct lookup {
    struct rpc_call *call;
    struct sessions *all;
    const char *prefix;
    Agent **agents;
    size_t n;
    bool one;
};

static void read_versions(void *user)
{
    struct lookup *l = user;
    for (size_t i = 0; i < l->n; i++) {
        Agent *a = l->agents[i];
        cleanup_free char *version =
            l->prefix && a->n_npm_packages ? agents_npm_version(l->prefix, a->npm_packages[0]) : NULL;
        if (version)
            a->installed_version = sa_arena_strdup(rpc_arena(l->call), version);
    }
}

static void versions_read(void *user)
{
    struct lookup *l = user;
    GetAgentResponse one = GET_AGENT_RESPONSE__INIT;
    ListAgentsResponse list = LIST_AGENTS_RESPONSE__INIT;
    if (l->one) {
        one.agent = l->agents[0];
        get_agent_reply(l->call, &one);
    } else {
        list.agents = l->agents;
        list.n_agents = l->n;
        list_agents_reply(l->call, &list);
    }
    service_release(l->all->svc);
    rpc_call_unref(l->call);
    free(l);
}

static void answer_with_versions(struct sessions *all, struct rpc_call *call, Agent **agents, size_t n,
                                 bool one)
{
    struct lookup *l = sa_calloc(1, sizeof *l);
    *l = (struct lookup){rpc_call_ref(call), all, all->config.place.agents_dir, agents, n, one};
    service_hold(all->svc);
    sa_work(all->loop, read_versions, versions_read, l);
}

void api_list_agents(void *api, struct rpc_call *call, const ListAgentsRequest *req)
{
    (void)req;
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    size_t n = 0;
    while (registry_at(all, n))
        n++;
    Agent **agents = sa_arena_alloc(arena, n * sizeof *agents);
    for (size_t i = 0; i < n; i++)
        if (!(agents[i] = describe(all, registry_at(all, i), false, arena, &err))) {
            rpc_fail(call, err);
            return;
        }
    answer_with_versions(all, call, agents, n, false);
}

void api_get_agent(void *api, struct rpc_call *call, const GetAgentRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    const struct agent *a = registry_find(all, req->agent, &err);
    Agent **agents = sa_arena_alloc(rpc_arena(call), sizeof *agents);
    if (!a || !(agents[0] = describe(all, a, req->discover, rpc_arena(call), &err)))
        rpc_fail(call, err);
    else
        answer_with_versions(all, call, agents, 1, true);
}

/* ---- install, uninstall ---- */

/* In the version of the catalogue, or from elsewhere. */
static bool is_there(const struct sessions *all, const struct agent *a)
{
    enum agents_source source;
    cleanup_free char *command = agents_command(a, &all->config.place, &source, NULL);
    return command &&
           (source != AGENTS_PREFIX || !agents_npm_check(a, all->config.place.agents_dir, NULL, NULL));
}

static void answer_installed(struct sessions *all, struct rpc_call *call, const struct agent *a)
{
    sa_error *err = NULL;
    Installation *last = install_describe(all, a->name, rpc_arena(call), &err);
    Installation done = INSTALLATION__INIT;
    done.agent = sa_arena_strdup(rpc_arena(call), a->name);
    done.state = INSTALL_STATE_DONE;
    InstallAgentResponse res = INSTALL_AGENT_RESPONSE__INIT;
    res.kind_case = INSTALL_AGENT_RESPONSE__KIND_INSTALLATION;
    res.installation = last && last->state == INSTALL_STATE_DONE && !last->removal ? last : &done;
    if (err) {
        rpc_fail(call, err);
        return;
    }
    install_agent_send(call, &res);
    rpc_end(call);
}

void api_install_agent(void *api, struct rpc_call *call, const InstallAgentRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    const struct agent *a = registry_find(all, req->agent, &err);
    if (!a) {
        rpc_fail(call, err);
        return;
    }
    if (!req->reinstall && !install_is_running(all, a) && is_there(all, a)) {
        answer_installed(all, call, a);
        return;
    }
    struct install *i = install_ask(all, a, false, &err);
    if (i)
        install_watch(i, call);
    else
        rpc_fail(call, err);
}

struct users {
    const struct agent *agent;
    size_t n;
};

static bool count_user(void *user, struct session *s)
{
    struct users *u = user;
    u->n += s->agent == u->agent && s->link.phase != AGENT_PHASE_NONE;
    return true;
}

void api_uninstall_agent(void *api, struct rpc_call *call, const UninstallAgentRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    const struct agent *a = registry_find(all, req->agent, &err);
    struct users users = {.agent = a};
    if (a)
        sessions_each(all, count_user, &users);
    if (users.n)
        sa_fail(&err, SA_PROCESS_RUNNING, "agent %s runs in %zu sessions", a->name, users.n);
    struct install *i = a && !err ? install_ask(all, a, true, &err) : NULL;
    if (i)
        install_watch(i, call);
    else
        rpc_fail(call, err);
}

/* ---- register, unregister ---- */

struct change {
    struct rpc_call *call;
    struct sessions *all;
    CustomAgent *agent; /* NULL: it is forgotten */
    char *name;
};

static void changed(void *user, const sa_error *failed)
{
    struct change *c = user;
    sa_error *err = NULL;
    UnregisterAgentResponse forgotten = UNREGISTER_AGENT_RESPONSE__INIT;
    RegisterAgentResponse res = REGISTER_AGENT_RESPONSE__INIT;
    service_release(c->all->svc);
    if (failed) {
        api_fail_copy(c->call, failed);
    } else if (!c->agent) {
        registry_remove(c->all, c->name);
        unregister_agent_reply(c->call, &forgotten);
    } else {
        registry_put(c->all, c->agent);
        res.agent = describe(c->all, registry_find(c->all, c->name, NULL), false, rpc_arena(c->call), &err);
        if (res.agent)
            register_agent_reply(c->call, &res);
        else
            rpc_fail(c->call, err);
    }
    rpc_call_unref(c->call);
    free(c->name);
    free(c);
}

static void commit(struct sessions *all, struct rpc_call *call, const char *name, const CustomAgent *agent)
{
    struct store_key key = store_key_of(name, strlen(name));
    struct store_set *set = store_set_new();
    struct change *c = sa_calloc(1, sizeof *c);
    *c = (struct change){.call = rpc_call_ref(call), .all = all, .name = sa_strdup(name)};
    if (agent) {
        c->agent = api_copy(rpc_arena(call), &agent->base);
        store_put(set, DB_A_CUSTOM, &key, &agent->base);
    } else {
        store_delete(set, DB_A_CUSTOM, &key);
    }
    sa_error *err = NULL;
    service_hold(all->svc);
    if (store_commit(all->store, set, changed, c, &err)) {
        changed(c, err);
        sa_error_free(err);
    }
}

void api_register_agent(void *api, struct rpc_call *call, const RegisterAgentRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    if (!req->agent)
        sa_fail(&err, SA_INVALID_REQUEST, "agent: is missing");
    if (err || registry_check(all, req->agent, &err))
        rpc_fail(call, err);
    else
        commit(all, call, req->agent->agent, req->agent);
}

void api_unregister_agent(void *api, struct rpc_call *call, const UnregisterAgentRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    if (!*req->agent || strlen(req->agent) > 64)
        sa_fail(&err, SA_INVALID_REQUEST, "agent: is empty or too long");
    else if (!registry_is_registered(all, req->agent))
        sa_fail(&err, SA_INVALID_REQUEST, "agent: \"%s\" is built in, or comes from the server's file",
                req->agent);
    if (err)
        rpc_fail(call, err);
    else
        commit(all, call, req->agent, NULL);
}
