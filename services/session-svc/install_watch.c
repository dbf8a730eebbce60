#include <stdlib.h>
#include <string.h>

#include "services/session-svc/api.h"
#include "services/session-svc/install_internal.h"

struct watcher {
    struct watcher *next;
    struct install *install;
    struct rpc_call *call;
};

Installation *install_fill(const struct install *i, struct sa_arena *arena)
{
    Installation *out = sa_arena_alloc(arena, sizeof *out);
    *out = (Installation)INSTALLATION__INIT;
    out->installation_id = sa_arena_strdup(arena, i->id);
    out->agent = sa_arena_strdup(arena, i->agent->name);
    out->state = i->state;
    out->removal = i->removal;
    out->private_node = i->private_node;
    size_t n = 0;
    while (i->agent->npm_packages[n])
        n++;
    out->npm_packages = sa_arena_alloc(arena, (n + 1) * sizeof *out->npm_packages);
    for (size_t p = 0; p < n; p++)
        out->npm_packages[out->n_npm_packages++] =
            sa_arena_strdup(arena, p == 0 && i->adapter ? i->adapter : i->agent->npm_packages[p]);
    out->start_time = api_timestamp(arena, i->start_time_us);
    if (i->end_time_us)
        out->end_time = api_timestamp(arena, i->end_time_us);
    out->reason = sa_arena_strdup(arena, i->reason);
    out->message = sa_arena_strdup(arena, i->message);
    return out;
}

Installation *install_describe(struct sessions *all, const char *agent, struct sa_arena *arena,
                               sa_error **err)
{
    for (struct install *i = all->installs; i; i = i->next)
        if (!strcmp(i->agent->name, agent))
            return install_fill(i, arena);
    struct store_key key = store_key_of(agent, strlen(agent));
    cleanup_message StoredInstall *row = NULL;
    if (store_get(all->store, DB_A_INSTALLS, &key, &row, err) <= 0)
        return NULL;
    return api_copy(arena, &row->installation->base);
}

void install_tell_line(struct install *i, const char *p, size_t n)
{
    struct sa_arena *arena = sa_arena_new();
    InstallAgentResponse res = INSTALL_AGENT_RESPONSE__INIT;
    res.kind_case = INSTALL_AGENT_RESPONSE__KIND_LINE;
    res.line = rpc_utf8(arena, p, n < INSTALL_LINE_MAX ? n : INSTALL_LINE_MAX);
    for (struct watcher *w = i->watchers; w; w = w->next)
        if (!i->removal)
            install_agent_send(w->call, &res);
    sa_arena_free(arena);
}

static void tell_state_to(struct install *i, struct watcher *w)
{
    struct sa_arena *arena = sa_arena_new();
    InstallAgentResponse res = INSTALL_AGENT_RESPONSE__INIT;
    res.kind_case = INSTALL_AGENT_RESPONSE__KIND_INSTALLATION;
    res.installation = install_fill(i, arena);
    if (!i->removal)
        install_agent_send(w->call, &res);
    sa_arena_free(arena);
}

void install_tell_state(struct install *i)
{
    for (struct watcher *w = i->watchers; w; w = w->next)
        tell_state_to(i, w);
}

sa_error *install_error(const struct install *i)
{
    sa_error *err = NULL;
    sa_fail_remote(&err, sa_reason_code(SA_AGENT_INSTALL_FAILED), i->reason, i->message);
    return err;
}

static void answer(struct install *i, struct rpc_call *call)
{
    UninstallAgentResponse removed = UNINSTALL_AGENT_RESPONSE__INIT;
    if (i->state == INSTALL_STATE_FAILED)
        rpc_fail(call, install_error(i));
    else if (i->removal)
        uninstall_agent_reply(call, &removed);
    else
        rpc_end(call);
}

static void watcher_left(void *user, struct rpc_call *call)
{
    (void)call;
    struct watcher *w = user;
    for (struct watcher **at = &w->install->watchers; *at; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    rpc_call_unref(w->call);
    free(w);
}

void install_watch(struct install *i, struct rpc_call *call)
{
    static const struct rpc_call_events events = {.on_cancel = watcher_left};
    struct watcher *w = sa_calloc(1, sizeof *w);
    *w = (struct watcher){i->watchers, i, rpc_call_ref(call)};
    i->watchers = w;
    if (i->removal) {
        rpc_no_server_deadline(call);
        rpc_on_cancel(call, watcher_left, w);
    } else {
        install_agent_on(call, &events, w);
        if (!i->saving) /* else it is told when it is true */
            tell_state_to(i, w);
    }
}

void install_end_watchers(struct install *i, const sa_error *err)
{
    for (struct watcher *w; (w = i->watchers);) {
        i->watchers = w->next;
        if (err)
            api_fail_copy(w->call, err);
        else
            answer(i, w->call);
        rpc_call_unref(w->call);
        free(w);
    }
}
