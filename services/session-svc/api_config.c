/* ConfigureSession, and what can be configured. */
#include "services/session-svc/api.h"
#include "services/session-svc/config.h"

void api_configure_session(void *api, struct rpc_call *call, const ConfigureSessionRequest *req)
{
    sa_error *err = NULL;
    struct config_wish *wishes;
    size_t n;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s ||
        config_wishes(rpc_arena(call), req->mode_id, req->model, req->thought_level,
                      (const ConfigureSessionRequest__OptionsEntry *const *)req->options, req->n_options,
                      &wishes, &n, &err) ||
        config_ask(s, wishes, n, call, &err))
        rpc_fail(call, err);
    else
        session_settle(s);
}

static ConfigOption *copy_option(struct sa_arena *arena, const ConfigOption *o)
{
    ConfigOption *copy = sa_arena_alloc(arena, sizeof *copy);
    *copy = (ConfigOption)CONFIG_OPTION__INIT;
    copy->option_id = sa_arena_strdup(arena, o->option_id);
    copy->name = sa_arena_strdup(arena, o->name);
    copy->category = sa_arena_strdup(arena, o->category);
    copy->value = sa_arena_strdup(arena, o->value);
    copy->choices_cut = o->choices_cut;
    copy->choices = sa_arena_alloc(arena, (o->n_choices + 1) * sizeof *copy->choices);
    for (; copy->n_choices < o->n_choices; copy->n_choices++) {
        ConfigChoice *c = sa_arena_alloc(arena, sizeof *c);
        *c = (ConfigChoice)CONFIG_CHOICE__INIT;
        c->value = sa_arena_strdup(arena, o->choices[copy->n_choices]->value);
        c->name = sa_arena_strdup(arena, o->choices[copy->n_choices]->name);
        c->description = sa_arena_strdup(arena, o->choices[copy->n_choices]->description);
        copy->choices[copy->n_choices] = c;
    }
    return copy;
}

int config_describe(struct sessions *all, struct sa_id id, struct sa_arena *arena, ConfigOption ***ret,
                    size_t *ret_n, sa_error **err)
{
    struct store_key key = db_key(id);
    cleanup_message StoredConfig *config = NULL;
    int found = store_get(all->store, DB_T_CONFIGS, &key, &config, err);
    size_t n = found > 0 ? config->n_options : 0;
    if (found < 0)
        return -1;
    *ret = sa_arena_alloc(arena, (n + 1) * sizeof **ret);
    for (size_t i = 0; i < n; i++)
        (*ret)[i] = copy_option(arena, config->options[i]->option);
    *ret_n = n;
    return 0;
}
