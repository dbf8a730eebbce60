#include "services/provider-svc/api.h"

#include <stdlib.h>
#include <string.h>

enum {
    REQUEST_ID_MAX = 128,
    LABELS_MAX = 64,
    LABEL_KEY_MAX = 63,
    LABEL_VALUE_MAX = 256,
    PAGE_DEFAULT = 50,
    PAGE_MAX = 1000,
};

static const char *const state_names[] = {
    [SANDBOX_STATE_CREATING] = "being created", [SANDBOX_STATE_RUNNING] = "running",
    [SANDBOX_STATE_FAILED] = "failed",          [SANDBOX_STATE_DESTROYING] = "being destroyed",
    [SANDBOX_STATE_DESTROYED] = "destroyed",
};

/* A call that is answered later holds itself. */
static bool failed(struct rpc_call *call, const sa_error *err)
{
    if (err)
        rpc_fail(call, sa_error_copy(err));
    return err != NULL;
}

/* NULL: the call was failed. */
static struct sandbox *find(struct sandboxes *all, struct rpc_call *call, const char *id)
{
    sa_error *err = NULL;
    struct sandbox *s = sandboxes_find(all, id, &err);
    if (!s)
        rpc_fail(call, err);
    return s;
}

static struct provider_state state_of(const struct sandbox *s)
{
    return (struct provider_state){s->record->driver_state.data, s->record->driver_state.len};
}

/* ---- create and destroy: told when it is so ---- */

static int check_create(const CreateSandboxRequest *req, sa_error **err)
{
    if (strlen(req->request_id) > REQUEST_ID_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "request_id has more than %d characters", REQUEST_ID_MAX);
    if (req->n_labels > LABELS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "%zu labels, the limit is %d", req->n_labels, LABELS_MAX);
    for (size_t i = 0; i < req->n_labels; i++) {
        size_t key = strlen(req->labels[i]->key), value = strlen(req->labels[i]->value);
        if (key == 0 || key > LABEL_KEY_MAX || value > LABEL_VALUE_MAX)
            return sa_fail(err, SA_INVALID_REQUEST,
                           "label %zu: a key has 1 to %d characters, a value at most %d", i + 1,
                           LABEL_KEY_MAX, LABEL_VALUE_MAX);
    }
    return 0;
}

static void created(void *user, struct sandbox *s, const sa_error *err)
{
    struct rpc_call *call = user;
    if (!failed(call, err) && rpc_alive(call)) {
        CreateSandboxResponse res = CREATE_SANDBOX_RESPONSE__INIT;
        res.sandbox = sandbox_to_proto(rpc_arena(call), s);
        create_sandbox_reply(call, &res);
    }
    rpc_call_unref(call);
}

static void create_sandbox(void *api, struct rpc_call *call, const CreateSandboxRequest *req)
{
    sa_error *err = NULL;
    rpc_call_ref(call);
    if (check_create(req, &err) < 0 ||
        sandboxes_create(api, rpc_principal(call), req, created, call, &err) < 0) {
        rpc_fail(call, err);
        rpc_call_unref(call);
    }
}

static void destroyed(void *user, struct sandbox *s, const sa_error *err)
{
    (void)s;
    struct rpc_call *call = user;
    DestroySandboxResponse res = DESTROY_SANDBOX_RESPONSE__INIT;
    if (!failed(call, err))
        destroy_sandbox_reply(call, &res);
    rpc_call_unref(call);
}

static void destroy_sandbox(void *api, struct rpc_call *call, const DestroySandboxRequest *req)
{
    struct sandbox *s = find(api, call, req->sandbox_id);
    if (s)
        sandboxes_destroy(s, destroyed, rpc_call_ref(call));
}

/* ---- looking ---- */

static void get_sandbox(void *api, struct rpc_call *call, const GetSandboxRequest *req)
{
    struct sandbox *s = find(api, call, req->sandbox_id);
    if (!s)
        return;
    GetSandboxResponse res = GET_SANDBOX_RESPONSE__INIT;
    res.sandbox = sandbox_to_proto(rpc_arena(call), s);
    get_sandbox_reply(call, &res);
}

static void list_sandboxes(void *api, struct rpc_call *call, const ListSandboxesRequest *req)
{
    sa_error *err = NULL;
    struct sa_id last;
    if (req->page_size < 0)
        sa_fail(&err, SA_INVALID_REQUEST, "page_size is negative");
    else if (*req->page_token && !sa_id_parse(req->page_token, &last))
        sa_fail(&err, SA_INVALID_PAGE_TOKEN, "the page token is none of ours");
    if (err) {
        rpc_fail(call, err);
        return;
    }
    struct sa_arena *a = rpc_arena(call);
    size_t max = req->page_size ? (size_t)req->page_size : PAGE_DEFAULT;
    ListSandboxesResponse res = LIST_SANDBOXES_RESPONSE__INIT;
    max = max < PAGE_MAX ? max : PAGE_MAX;
    res.sandboxes = sa_arena_alloc(a, max * sizeof *res.sandboxes);
    struct sandbox *s = sandboxes_first(api, *req->page_token ? req->page_token : NULL);
    const char *token = "";
    for (; s; s = s->next) {
        if (!s->record)
            continue;
        if (res.n_sandboxes == max) {
            res.next_page_token = sa_arena_strdup(a, token);
            break;
        }
        token = s->id;
        res.sandboxes[res.n_sandboxes++] = sandbox_to_proto(a, s);
    }
    list_sandboxes_reply(call, &res);
}

static void list_providers(void *api, struct rpc_call *call, const ListProvidersRequest *req)
{
    (void)req;
    struct sa_arena *a = rpc_arena(call);
    struct provider *p;
    size_t n = 0;
    while (sandboxes_provider(api, n))
        n++;
    ListProvidersResponse res = LIST_PROVIDERS_RESPONSE__INIT;
    res.providers = sa_arena_alloc(a, (n + 1) * sizeof *res.providers);
    for (size_t i = 0; (p = sandboxes_provider(api, i)); i++) {
        cleanup_free char *why = NULL;
        Provider *m = res.providers[res.n_providers++] = sa_arena_alloc(a, sizeof *m);
        *m = (Provider)PROVIDER__INIT;
        m->provider = sa_arena_strdup(a, p->ops->name);
        m->available = p->ops->available(p, &why);
        m->message = sa_arena_strdup(a, why);
    }
    list_providers_reply(call, &res);
}

/* ---- asking the driver ---- */

static void located(void *user, const struct provider_endpoint *e, const sa_error *err)
{
    struct rpc_call *call = user;
    if (!failed(call, err)) {
        GetSandboxEndpointResponse res = GET_SANDBOX_ENDPOINT_RESPONSE__INIT;
        res.http_url = (char *)(uintptr_t)e->http_url;
        res.grpc_target = (char *)(uintptr_t)e->grpc_target;
        res.token = (char *)(uintptr_t)e->token;
        get_sandbox_endpoint_reply(call, &res);
    }
    rpc_call_unref(call);
}

static void get_sandbox_endpoint(void *api, struct rpc_call *call, const GetSandboxEndpointRequest *req)
{
    struct sandbox *s = find(api, call, req->sandbox_id);
    sa_error *err = NULL;
    if (!s)
        return;
    if (s->record->state != SANDBOX_STATE_RUNNING || !s->provider) {
        sa_fail(&err, SA_SANDBOX_NOT_READY, "sandbox %s is %s%s%s", s->id, state_names[s->record->state],
                *s->record->message ? ": " : "", s->record->message);
        rpc_fail(call, err);
        return;
    }
    struct provider_state state = state_of(s);
    s->provider->ops->endpoint(s->provider, s->id, &state, located, rpc_call_ref(call));
}

static void answer_check(struct rpc_call *call, const char *wrong)
{
    CheckSandboxResponse res = CHECK_SANDBOX_RESPONSE__INIT;
    res.healthy = wrong == NULL;
    res.message = sa_arena_strdup(rpc_arena(call), wrong);
    check_sandbox_reply(call, &res);
}

static void checked(void *user, const sa_error *err)
{
    struct rpc_call *call = user;
    if (rpc_alive(call))
        answer_check(call, err ? err->message : NULL);
    rpc_call_unref(call);
}

static void check_sandbox(void *api, struct rpc_call *call, const CheckSandboxRequest *req)
{
    struct sandbox *s = find(api, call, req->sandbox_id);
    if (!s)
        return;
    if (s->record->state != SANDBOX_STATE_RUNNING || !s->provider) {
        cleanup_free char *why = sa_format("it is %s%s%s", state_names[s->record->state],
                                           *s->record->message ? ": " : "", s->record->message);
        answer_check(call, why);
        return;
    }
    struct provider_state state = state_of(s);
    s->provider->ops->check(s->provider, s->id, &state, checked, rpc_call_ref(call));
}

const struct sandbox_service_handlers sandbox_api = {
    .create_sandbox = create_sandbox,
    .get_sandbox = get_sandbox,
    .list_sandboxes = list_sandboxes,
    .get_sandbox_endpoint = get_sandbox_endpoint,
    .check_sandbox = check_sandbox,
    .destroy_sandbox = destroy_sandbox,
    .list_providers = list_providers,
};
