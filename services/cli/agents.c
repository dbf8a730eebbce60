/* `sandbox-agent agents`: which agents the server can run, all about one, installing and removing them. */
#include <stdio.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "services/cli/actions.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"

static int list(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)words;
    (void)n;
    ListAgentsRequest req = LIST_AGENTS_REQUEST__INIT;
    ListAgentsResponse *res = list_agents_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    for (size_t i = 0; i < res->n_agents; i++) {
        const Agent *a = res->agents[i];
        if (options_flag(o, "json"))
            show_json(stdout, &a->base);
        else
            printf("%-10s %-14s %-14s %s\n", a->agent, a->title, a->installed ? "installed" : "not installed",
                   a->npm_package);
    }
    rpc_message_free(res);
    return 0;
}

static void line(const char *what, const char *value)
{
    if (!*value)
        return;
    printf("%-12s ", what);
    show_text(stdout, value, strlen(value));
    putchar('\n');
}

static void texts(const char *what, char **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        line(i ? "" : what, list[i]);
}

static void choices(const char *what, AgentChoice **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cleanup_free char *text = sa_format("%s%s", list[i]->id, list[i]->current ? " (current)" : "");
        line(i ? "" : what, text);
    }
}

static void show_abilities(const AgentCapabilities *c)
{
    const struct {
        bool has;
        const char *name;
    } abilities[] = {
        {c->load, "load"},
        {c->resume, "resume"},
        {c->fork, "fork"},
        {c->image, "images"},
        {c->audio, "audio"},
        {c->mcp_http, "MCP over HTTP"},
        {c->mcp_sse, "MCP over SSE"},
    };
    printf("%-12s", c->reported ? "it told" : "known");
    for (size_t i = 0; i < sizeof abilities / sizeof *abilities; i++)
        if (abilities[i].has)
            printf(" %s%s", abilities[i].name, i + 1 < sizeof abilities / sizeof *abilities ? "," : "");
    putchar('\n');
    choices("modes", c->modes, c->n_modes);
    choices("models", c->models, c->n_models);
    choices("thought", c->thought_levels, c->n_thought_levels);
}

static void show_agent(const Agent *a)
{
    line("agent", a->agent);
    line("title", a->title);
    line("program", a->installed ? a->program : "not installed");
    line("version", a->installed_version);
    texts("packages", a->npm_packages, a->n_npm_packages);
    texts("credentials", a->credentials, a->n_credentials);
    texts("present", a->present_credentials, a->n_present_credentials);
    show_abilities(a->capabilities);
    if (a->installation && a->installation->state == INSTALL_STATE_FAILED)
        line("failed", a->installation->message);
}

static int report(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)n;
    GetAgentRequest req = GET_AGENT_REQUEST__INIT;
    req.agent = words[0];
    req.discover = options_flag(o, "discover");
    GetAgentResponse *res = get_agent_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (options_flag(o, "json"))
        show_json(stdout, &res->agent->base);
    else
        show_agent(res->agent);
    rpc_message_free(res);
    return 0;
}

static int install(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)n;
    InstallAgentRequest req = INSTALL_AGENT_REQUEST__INIT;
    req.agent = words[0];
    req.reinstall = options_flag(o, "again");
    struct rpc_stream *s = install_agent_begin(c->channel, &req, NULL);
    InstallAgentResponse *m;
    int r;
    for (; (r = install_agent_next(s, &m, err)) == 1; rpc_message_free(m)) {
        if (options_flag(o, "json")) {
            show_json(stdout, &m->base);
        } else if (m->kind_case == INSTALL_AGENT_RESPONSE__KIND_LINE) {
            printf("  ");
            show_text(stdout, m->line, strlen(m->line));
            putchar('\n');
        } else {
            printf("%s: %s\n", m->installation->agent,
                   show_enum(&install_state__descriptor, m->installation->state, "INSTALL_STATE_"));
        }
        fflush(stdout);
    }
    rpc_stream_free(s);
    return r < 0 ? client_explain(c, err) : 0;
}

static int uninstall(struct client *c, const struct options *o, char **words, int n, sa_error **err)
{
    (void)o;
    (void)n;
    static const struct rpc_call_options patient = {.deadline_ms = 600000};
    UninstallAgentRequest req = UNINSTALL_AGENT_REQUEST__INIT;
    req.agent = words[0];
    UninstallAgentResponse *res = uninstall_agent_wait(c->channel, &req, &patient, err);
    rpc_message_free(res);
    return res ? 0 : client_explain(c, err);
}

int cli_agents(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"discover", SERVICE_OPTION_FLAG, NULL, 0, 0, "report: look for logins of the agent's own, too"},
        {"again", SERVICE_OPTION_FLAG, NULL, 0, 0, "install: also when it is installed"},
        {0},
    };
    static const struct action actions[] = {
        {"ls", 0, 0, list},
        {"report", 1, 1, report},
        {"install", 1, 1, install},
        {"uninstall", 1, 1, uninstall},
        {0},
    };
    static const struct action_verb verb = {
        .own = own,
        .actions = actions,
        .usage = "agents [ls | report AGENT | install AGENT | uninstall AGENT] [options]",
        .summary =
            "Lists the agents that the server knows, tells all about one, or has the server install one.",
    };
    return cli_act(&verb, argc, argv);
}
