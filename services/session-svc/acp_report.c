#include "services/session-svc/acp_report.h"

#include <string.h>

static bool has(struct json v, const char *path)
{
    struct json found = json_get(v, path);
    return json_type(found) == JSON_OBJECT || json_true(found);
}

static char *text(struct sa_arena *arena, struct json v)
{
    char *s = json_arena_string(arena, v);
    return strlen(s) <= ACP_REPORT_TEXT_MAX ? s : sa_arena_strdup(arena, "");
}

void acp_report_initialize(struct sa_arena *arena, struct json result, AgentCapabilities *ret)
{
    struct json c = json_get(result, "agentCapabilities"), method;
    ret->reported = true;
    ret->program_name = text(arena, json_get(result, "agentInfo.name"));
    ret->program_version = text(arena, json_get(result, "agentInfo.version"));
    ret->load = json_true(json_get(c, "loadSession"));
    ret->resume = has(c, "sessionCapabilities.resume");
    ret->list = has(c, "sessionCapabilities.list");
    ret->fork = has(c, "sessionCapabilities.fork");
    ret->close = has(c, "sessionCapabilities.close");
    ret->image = json_true(json_get(c, "promptCapabilities.image"));
    ret->audio = json_true(json_get(c, "promptCapabilities.audio"));
    ret->embedded_context = json_true(json_get(c, "promptCapabilities.embeddedContext"));
    ret->mcp_http = json_true(json_get(c, "mcpCapabilities.http"));
    ret->mcp_sse = json_true(json_get(c, "mcpCapabilities.sse"));
    ret->auth_methods = sa_arena_alloc(arena, ACP_REPORT_LIST_MAX * sizeof *ret->auth_methods);
    ret->n_auth_methods = 0;
    for (struct json_iter it = json_iter(json_get(result, "authMethods"));
         ret->n_auth_methods < ACP_REPORT_LIST_MAX && json_next(&it, NULL, &method);) {
        char *id = text(arena, json_get(method, "id"));
        if (*id)
            ret->auth_methods[ret->n_auth_methods++] = id;
    }
    if (result.n <= ACP_REPORT_RAW_MAX)
        ret->initialize_json = (ProtobufCBinaryData){result.n, sa_arena_memdup(arena, result.p, result.n)};
}

struct choices {
    AgentChoice **list;
    size_t n;
};

static void add(struct sa_arena *arena, struct choices *c, char *id, char *name, const char *current)
{
    if (!c->list)
        c->list = sa_arena_alloc(arena, ACP_REPORT_LIST_MAX * sizeof *c->list);
    if (!*id || c->n == ACP_REPORT_LIST_MAX)
        return;
    AgentChoice *choice = c->list[c->n++] = sa_arena_alloc(arena, sizeof *choice);
    *choice = (AgentChoice)AGENT_CHOICE__INIT;
    choice->id = id;
    choice->name = name;
    choice->current = !strcmp(id, current);
}

static void add_all(struct sa_arena *arena, struct choices *c, struct json list, const char *id_key,
                    const char *current)
{
    struct json v;
    for (struct json_iter it = json_iter(list); c->n < ACP_REPORT_LIST_MAX && json_next(&it, NULL, &v);) {
        struct json group = json_get(v, "options");
        if (json_type(group) == JSON_ARRAY) /* options in groups, one level deep */
            for (struct json_iter in = json_iter(group); json_next(&in, NULL, &v);)
                add(arena, c, text(arena, json_get(v, id_key)), text(arena, json_get(v, "name")), current);
        else
            add(arena, c, text(arena, json_get(v, id_key)), text(arena, json_get(v, "name")), current);
    }
}

/* The options of a category, from the list of configuration options. */
static void add_options(struct sa_arena *arena, struct choices *c, struct json result, const char *category)
{
    struct json option;
    for (struct json_iter it = json_iter(json_get(result, "configOptions")); json_next(&it, NULL, &option);)
        if (json_is(json_get(option, "category"), category))
            add_all(arena, c, json_get(option, "options"), "value",
                    text(arena, json_get(option, "currentValue")));
}

void acp_report_session(struct sa_arena *arena, struct json result, AgentCapabilities *ret)
{
    struct choices modes = {0}, models = {0}, levels = {0};
    add_all(arena, &modes, json_get(result, "modes.availableModes"), "id",
            text(arena, json_get(result, "modes.currentModeId")));
    if (!modes.n)
        add_options(arena, &modes, result, "mode");
    add_options(arena, &models, result, "model");
    if (!models.n)
        add_all(arena, &models, json_get(result, "models.availableModels"), "modelId",
                text(arena, json_get(result, "models.currentModelId")));
    add_options(arena, &levels, result, "thought_level");
    if (modes.n) {
        ret->modes = modes.list;
        ret->n_modes = modes.n;
    }
    if (models.n) {
        ret->models = models.list;
        ret->n_models = models.n;
    }
    if (levels.n) {
        ret->thought_levels = levels.list;
        ret->n_thought_levels = levels.n;
    }
}
