#include <stdlib.h>
#include <string.h>

#include "services/session-svc/api.h"
#include "services/session-svc/config_store.h"

struct change {
    struct rpc_call *call;
    struct sessions *all;
    bool deletion;
};

static void changed(void *user, const sa_error *err)
{
    struct change *c = user;
    SetCredentialResponse set = SET_CREDENTIAL_RESPONSE__INIT;
    DeleteCredentialResponse deleted = DELETE_CREDENTIAL_RESPONSE__INIT;
    service_release(c->all->svc);
    if (err)
        api_fail_copy(c->call, err);
    else if (c->deletion)
        delete_credential_reply(c->call, &deleted);
    else
        set_credential_reply(c->call, &set);
    rpc_call_unref(c->call);
    free(c);
}

static void change(struct sessions *all, struct rpc_call *call, const char *name, const char *value)
{
    struct change *c = sa_calloc(1, sizeof *c);
    *c = (struct change){rpc_call_ref(call), all, !value};
    service_hold(all->svc);
    secrets_change(all->secrets, name, value, changed, c);
}

void api_set_credential(void *api, struct rpc_call *call, const SetCredentialRequest *req)
{
    sa_error *err = NULL;
    size_t n = strlen(req->value);
    if (!config_check_name(req->name, "name", &err) &&
        (!n || n > SECRET_VALUE_MAX || strpbrk(req->value, "\r\n")))
        sa_fail(&err, SA_INVALID_REQUEST, "value: is empty, over %d bytes, or has a line break",
                SECRET_VALUE_MAX);
    if (err)
        rpc_fail(call, err);
    else
        change(api, call, req->name, req->value);
}

void api_delete_credential(void *api, struct rpc_call *call, const DeleteCredentialRequest *req)
{
    sa_error *err = NULL;
    if (config_check_name(req->name, "name", &err))
        rpc_fail(call, err);
    else
        change(api, call, req->name, NULL);
}

void api_list_credentials(void *api, struct rpc_call *call, const ListCredentialsRequest *req)
{
    (void)req;
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    ListCredentialsResponse res = LIST_CREDENTIALS_RESPONSE__INIT;
    res.credentials = sa_arena_alloc(arena, (SECRETS_MAX + 1) * sizeof *res.credentials);
    const StoredCredential *stored;
    while ((stored = secrets_at(all->secrets, res.n_credentials))) {
        Credential *c = sa_arena_alloc(arena, sizeof *c);
        *c = (Credential)CREDENTIAL__INIT;
        c->name = sa_arena_strdup(arena, stored->name);
        c->set_time = api_timestamp(arena, stored->set_time_us);
        res.credentials[res.n_credentials++] = c;
    }
    list_credentials_reply(call, &res);
}
