#include "services/session-svc/acp_config.h"

#include <string.h>

#include "adapters/grpc/rpc.h"

struct reading {
    struct sa_arena *arena;
    struct acp_option *options;
    size_t n, choices;
};

/* NULL: absent, empty or too long to be an id. */
static char *id_text(struct sa_arena *arena, struct json v)
{
    char *text = json_arena_string(arena, v);
    return *text && strlen(text) <= ACP_CONFIG_TEXT_MAX ? text : NULL;
}

static char *label(struct sa_arena *arena, struct json v)
{
    const char *text = json_arena_string(arena, v);
    return rpc_utf8(arena, text, strnlen(text, ACP_CONFIG_TEXT_MAX));
}

static void add_choice(struct reading *r, ConfigOption *o, char *value, struct json v)
{
    if (!value || r->choices == ACP_CHOICES_MAX) {
        o->choices_cut = true;
        return;
    }
    ConfigChoice *c = sa_arena_alloc(r->arena, sizeof *c);
    *c = (ConfigChoice)CONFIG_CHOICE__INIT;
    c->value = value;
    c->name = label(r->arena, json_get(v, "name"));
    c->description = label(r->arena, json_get(v, "description"));
    o->choices[o->n_choices++] = c;
    r->choices++;
}

/* Choices stand in the list, or in the lists of its groups. */
static void add_choices(struct reading *r, ConfigOption *o, struct json list, const char *key)
{
    struct json v, inner;
    for (struct json_iter it = json_iter(list); json_next(&it, NULL, &v);)
        if (json_type(json_get(v, "options")) == JSON_ARRAY)
            for (struct json_iter group = json_iter(json_get(v, "options")); json_next(&group, NULL, &inner);)
                add_choice(r, o, id_text(r->arena, json_get(inner, key)), inner);
        else
            add_choice(r, o, id_text(r->arena, json_get(v, key)), v);
}

static ConfigOption *add(struct reading *r, enum acp_setter setter, char *id, char *value)
{
    if (!id || !value || r->n == ACP_OPTIONS_MAX)
        return NULL;
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->options[i].option->option_id, id))
            return NULL;
    ConfigOption *o = sa_arena_alloc(r->arena, sizeof *o);
    *o = (ConfigOption)CONFIG_OPTION__INIT;
    o->option_id = id;
    o->value = value;
    o->choices = sa_arena_alloc(r->arena, (ACP_CHOICES_MAX - r->choices + 1) * sizeof *o->choices);
    r->options[r->n++] = (struct acp_option){.option = o, .setter = setter};
    return o;
}

static void add_option(struct reading *r, struct json v)
{
    bool on, boolean = json_bool(json_get(v, "currentValue"), &on);
    struct json current = json_get(v, "currentValue");
    char *value = boolean ? sa_arena_strdup(r->arena, on ? "true" : "false") : id_text(r->arena, current);
    ConfigOption *o = add(r, ACP_SET_OPTION, id_text(r->arena, json_get(v, "id")), value);
    if (!o)
        return;
    r->options[r->n - 1].boolean = boolean;
    o->name = label(r->arena, json_get(v, "name"));
    o->category = label(r->arena, json_get(v, "category"));
    add_choices(r, o, json_get(v, "options"), "value");
    for (int i = 0; boolean && i < 2; i++)
        add_choice(r, o, sa_arena_strdup(r->arena, i ? "true" : "false"), (struct json){0});
}

static bool has_category(const struct reading *r, const char *category)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->options[i].option->category, category))
            return true;
    return false;
}

/* The older form of one option. */
static void add_older(struct reading *r, enum acp_setter setter, const char *category, struct json current,
                      struct json list, const char *key)
{
    if (has_category(r, category))
        return;
    ConfigOption *o = add(r, setter, sa_arena_strdup(r->arena, category), id_text(r->arena, current));
    if (!o)
        return;
    o->name = sa_arena_strdup(r->arena, category);
    o->category = o->name;
    add_choices(r, o, list, key);
}

struct acp_option *acp_config(struct sa_arena *arena, struct json v, size_t *ret_n)
{
    struct reading r = {.arena = arena};
    struct json option, list = json_get(v, "configOptions");
    r.options = sa_arena_alloc(arena, ACP_OPTIONS_MAX * sizeof *r.options);
    if (json_type(list) == JSON_ARRAY)
        for (struct json_iter it = json_iter(list); json_next(&it, NULL, &option);)
            add_option(&r, option);
    add_older(&r, ACP_SET_MODE, "mode", json_get(v, "modes.currentModeId"),
              json_get(v, "modes.availableModes"), "id");
    add_older(&r, ACP_SET_MODEL, "model", json_get(v, "models.currentModelId"),
              json_get(v, "models.availableModels"), "modelId");
    *ret_n = r.n;
    return r.options;
}
