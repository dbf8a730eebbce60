#include "services/session-svc/report.h"

#include <string.h>

#include "services/session-svc/acp_report.h"
#include "services/session-svc/api.h"
#include "services/session-svc/sessions.h"

static struct store_key key_of(const struct session *s)
{
    return store_key_of(s->agent_name, strlen(s->agent_name));
}

static AgentCapabilities *read_last(struct session *s)
{
    struct store_key key = key_of(s);
    AgentCapabilities *last = NULL;
    store_get(s->all->store, DB_A_REPORTS, &key, &last, NULL); /* what cannot be read is told anew */
    return last;
}

void report_initialized(struct session *s, struct sa_arena *arena, AgentCapabilities *report)
{
    cleanup_message AgentCapabilities *last = read_last(s);
    struct store_key key = key_of(s);
    if (last) {
        report->modes = last->modes;
        report->n_modes = last->n_modes;
        report->models = last->models;
        report->n_models = last->n_models;
        report->thought_levels = last->thought_levels;
        report->n_thought_levels = last->n_thought_levels;
    }
    report->report_time = api_timestamp(arena, sa_wall_us());
    store_put(session_set(s), DB_A_REPORTS, &key, &report->base);
}

void report_opened(struct session *s, struct sa_arena *arena, struct json result)
{
    cleanup_message AgentCapabilities *last = read_last(s);
    struct store_key key = key_of(s);
    if (!last) /* its row was lost between the two answers */
        return;
    AgentCapabilities report = *last;
    acp_report_session(arena, result, &report);
    store_put(session_set(s), DB_A_REPORTS, &key, &report.base);
}
