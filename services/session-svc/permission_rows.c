#include "services/session-svc/permission_rows.h"

#include "services/session-svc/api.h"

int permission_read(struct sessions *all, struct sa_id id, struct permission_row *ret, sa_error **err)
{
    struct store_key key = db_key(id);
    int found = store_get(all->store, DB_PERMISSIONS, &key, &ret->pending, err);
    return found ? found : store_get(all->store, DB_RESOLUTIONS, &key, &ret->resolved, err);
}

void permission_row_fini(struct permission_row *row)
{
    store_message_free(row->pending);
    store_message_free(row->resolved);
    *row = (struct permission_row){0};
}

const char *permission_row_session(const struct permission_row *row)
{
    return row->pending ? row->pending->session_id : row->resolved ? row->resolved->session_id : "";
}

static PermissionResolution *describe_resolution(const StoredResolution *row, struct sa_arena *arena)
{
    PermissionResolution *r = sa_arena_alloc(arena, sizeof *r);
    *r = (PermissionResolution)PERMISSION_RESOLUTION__INIT;
    r->outcome = row->outcome;
    r->option_id = row->option_id;
    r->decider = row->decider;
    r->author = row->author;
    r->rule = row->rule;
    r->action = row->action;
    r->time = api_timestamp(arena, row->time_us);
    r->seq = row->seq;
    return r;
}

Permission *permission_describe(struct sa_id id, const struct permission_row *row, struct sa_arena *arena)
{
    const StoredPermission *asked = row->pending ? row->pending : row->resolved->permission;
    char text[SA_ID_TEXT + 1];
    sa_id_format(id, text);
    Permission *p = sa_arena_alloc(arena, sizeof *p);
    *p = (Permission)PERMISSION__INIT;
    p->permission_id = sa_arena_strdup(arena, text);
    p->session_id = sa_arena_strdup(arena, permission_row_session(row));
    p->state = row->pending ? PERMISSION_STATE_PENDING : PERMISSION_STATE_RESOLVED;
    p->resolution = row->resolved ? describe_resolution(row->resolved, arena) : NULL;
    if (!asked)
        return p;
    p->turn = asked->turn;
    p->create_time = api_timestamp(arena, asked->create_time_us);
    p->tool_call = asked->tool_call;
    p->options = asked->options;
    p->n_options = asked->n_options;
    p->deadline = asked->deadline_us ? api_timestamp(arena, asked->deadline_us) : NULL;
    p->on_deadline = asked->on_deadline;
    p->arguments_sha256 = asked->arguments_sha256;
    p->elicitation = asked->elicitation;
    return p;
}
