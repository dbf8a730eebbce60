#include "services/session-svc/policies.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/session-svc/api.h"
#include "services/session-svc/policy.h"

void policies_clear(PermissionPolicy **policy, char **request_id)
{
    rpc_message_free(*policy);
    free(*request_id);
    *policy = NULL;
    *request_id = NULL;
}

/* The server's is that of the session which does not exist. */
static struct store_key key_of(const struct session *s)
{
    return db_key(s ? s->id : (struct sa_id){0});
}

int policies_load(struct sessions *all, struct session *s, sa_error **err)
{
    PermissionPolicy **policy = s ? &s->policy : &all->policy;
    char **request_id = s ? &s->policy_request_id : &all->policy_request_id;
    struct store_key key = key_of(s);
    cleanup_message StoredPolicy *row = NULL;
    policies_clear(policy, request_id);
    int found = store_get(all->store, DB_P_POLICIES, &key, &row, err);
    if (found <= 0)
        return found;
    *policy = steal_pointer(&row->policy);
    *request_id = sa_strdup(row->request_id);
    return 0;
}

/* ---- get ---- */

static void reply_get(struct rpc_call *call, PermissionPolicy *policy)
{
    GetPolicyResponse res = GET_POLICY_RESPONSE__INIT;
    PermissionPolicy none = PERMISSION_POLICY__INIT;
    none.etag = (char[]){"0"};
    res.policy = policy ? policy : &none;
    get_policy_reply(call, &res);
}

void api_get_policy(void *api, struct rpc_call *call, const GetPolicyRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    struct sa_id id = {0};
    cleanup_message StoredPolicy *row = NULL;
    if (*req->session_id)
        store_message_free(sessions_read(all, req->session_id, &id, &err));
    struct store_key key = db_key(id);
    if (err || store_get(all->store, DB_P_POLICIES, &key, &row, &err) < 0)
        rpc_fail(call, err);
    else
        reply_get(call, row ? row->policy : NULL);
}

/* ---- set ---- */

struct setting {
    struct rpc_call *call;
    struct sessions *all;
    bool of_server;
    PermissionPolicy *policy; /* as it was decided */
};

static void set_committed(void *user, const sa_error *failed)
{
    struct setting *set = user;
    SetPolicyResponse res = SET_POLICY_RESPONSE__INIT;
    res.policy = set->policy;
    if (failed)
        api_fail_copy(set->call, failed);
    else
        set_policy_reply(set->call, &res);
    cleanup_error sa_error *err = NULL;
    if (failed && set->of_server && policies_load(set->all, NULL, &err)) /* what is true */
        sa_log(SA_LOG_ERROR, "policy.load_failed", "error=\"%s\"", err->message);
    rpc_message_free(set->policy);
    rpc_call_unref(set->call);
    free(set);
}

static PermissionPolicy *copy_policy(const PermissionPolicy *p)
{
    size_t n = permission_policy__get_packed_size(p);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    permission_policy__pack(p, packed);
    return rpc_unpack(&permission_policy__descriptor, packed, n, NULL);
}

static struct setting *setting_new(struct sessions *all, struct rpc_call *call, bool of_server,
                                   const PermissionPolicy *policy)
{
    struct setting *set = sa_calloc(1, sizeof *set);
    *set = (struct setting){rpc_call_ref(call), all, of_server, copy_policy(policy)};
    return set;
}

static int check_set(const SetPolicyRequest *req, const PermissionPolicy *present, struct sa_arena *arena,
                     PermissionPolicy *ret, sa_error **err)
{
    if (req->policy)
        *ret = *req->policy;
    if (req->mode && !policy_of_mode(req->mode, arena, ret))
        return sa_fail(err, SA_INVALID_REQUEST, "mode: is not a mode");
    const char *etag = present ? present->etag : "0";
    if (*ret->etag && strcmp(ret->etag, etag))
        return sa_fail(err, SA_ETAG_MISMATCH, "the policy was changed%s%s: its etag is \"%s\", not \"%.64s\"",
                       present ? " by " : "", present ? present->author : "", etag, ret->etag);
    return policy_check(ret, err);
}

/* The same caller asks again for what it has set. */
static bool is_repeated(const struct rpc_call *call, const SetPolicyRequest *req,
                        const PermissionPolicy *present, const char *request_id)
{
    return present && *req->request_id && !strcmp(req->request_id, request_id) &&
           !strcmp(rpc_principal(call), present->author);
}

static void put_policy(struct store_set *set, const struct session *s, PermissionPolicy *policy,
                       const char *request_id)
{
    struct store_key key = key_of(s);
    StoredPolicy row = STORED_POLICY__INIT;
    row.policy = policy;
    row.request_id = (char *)(uintptr_t)request_id;
    store_put(set, DB_P_POLICIES, &key, &row.base);
}

static void tell_changed(struct session *s, PermissionPolicy *policy)
{
    PolicyChanged changed = POLICY_CHANGED__INIT;
    changed.policy = policy;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_POLICY_CHANGED;
    e.policy_changed = &changed;
    session_event(s, &e);
    SA_FAULT("policy.set");
}

void policies_copy(struct session *s, const struct session *from)
{
    if (!from->policy)
        return;
    policies_clear(&s->policy, &s->policy_request_id);
    s->policy = copy_policy(from->policy);
    s->policy_request_id = sa_strdup("");
    put_policy(session_set(s), s, s->policy, s->policy_request_id);
    tell_changed(s, s->policy);
}

static void decide(struct sessions *all, struct session *s, struct rpc_call *call,
                   const SetPolicyRequest *req, PermissionPolicy *policy)
{
    PermissionPolicy **present = s ? &s->policy : &all->policy;
    char **request_id = s ? &s->policy_request_id : &all->policy_request_id;
    uint64_t version = *present ? strtoull((*present)->etag, NULL, 10) : 0;
    policy->etag = sa_arena_format(rpc_arena(call), "%llu", (unsigned long long)version + 1);
    policy->author = (char *)(uintptr_t)rpc_principal(call);
    policy->time = api_timestamp(rpc_arena(call), sa_wall_us());
    policies_clear(present, request_id);
    *present = copy_policy(policy);
    *request_id = sa_strdup(req->request_id);
}

static void set_of_server(struct sessions *all, struct rpc_call *call, const PermissionPolicy *policy)
{
    struct store_set *set = store_set_new();
    struct setting *setting = setting_new(all, call, true, policy);
    put_policy(set, NULL, all->policy, all->policy_request_id);
    cleanup_error sa_error *err = NULL;
    if (store_commit(all->store, set, set_committed, setting, &err))
        set_committed(setting, err);
}

void api_set_policy(void *api, struct rpc_call *call, const SetPolicyRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    struct session *s = *req->session_id ? sessions_find_to_change(all, req->session_id, &err) : NULL;
    PermissionPolicy policy = PERMISSION_POLICY__INIT;
    const PermissionPolicy *present = s ? s->policy : all->policy;
    if (err || api_check_request_id(req->request_id, &err)) {
        rpc_fail(call, err);
        return;
    }
    bool repeated = is_repeated(call, req, present, s ? s->policy_request_id : all->policy_request_id);
    if (!repeated && s && s->state == SESSION_STATE_DESTROYED)
        sa_fail(&err, SA_SESSION_DESTROYED, "session %s was destroyed", s->name);
    if (err || (!repeated && check_set(req, present, rpc_arena(call), &policy, &err))) {
        rpc_fail(call, err);
        return;
    }
    if (!repeated)
        decide(all, s, call, req, &policy);
    if (!s) {
        set_of_server(all, call, all->policy); /* repeated: again, which is the same */
        return;
    }
    if (!repeated) {
        put_policy(session_set(s), s, s->policy, req->request_id);
        tell_changed(s, s->policy);
    }
    session_after(s, set_committed, setting_new(all, call, false, s->policy));
    session_settle(s);
}
