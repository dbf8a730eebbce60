#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/budget.h"
#include "services/session-svc/config.h"
#include "services/session-svc/config_store.h"
#include "services/session-svc/fork.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/registry.h"
#include "services/session-svc/terminals.h"

enum {
    ENV_MAX = 1000,
    ENV_BYTES_MAX = 512 << 10,
    CWD_BYTES_MAX = 4095,
};

/* ---- create ---- */

static int check_env(const CreateSessionRequest *req, sa_error **err)
{
    size_t bytes = 0;
    if (req->n_env > ENV_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "env: more than %d entries", ENV_MAX);
    for (size_t i = 0; i < req->n_env; i++) {
        const EnvironmentVariable *e = req->env[i];
        bytes += e->name.len + e->value.len + 2;
        if (!e->name.len || memchr(e->name.data, '=', e->name.len) || memchr(e->name.data, 0, e->name.len))
            return sa_fail(err, SA_INVALID_REQUEST, "env[%zu].name: is empty or has '=' or NUL in it", i);
        if (e->value.len && memchr(e->value.data, 0, e->value.len))
            return sa_fail(err, SA_INVALID_REQUEST, "env[%zu].value: has NUL in it", i);
    }
    if (bytes > ENV_BYTES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "env: more than %d bytes", ENV_BYTES_MAX);
    return 0;
}

static int check_config(struct sessions *all, const CreateSessionRequest *req, sa_error **err)
{
    if (req->n_mcp_servers > CONFIG_ITEMS_MAX || req->n_skills > CONFIG_ITEMS_MAX ||
        req->n_credentials > CONFIG_ITEMS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "more than %d mcp_servers, skills or credentials",
                       CONFIG_ITEMS_MAX);
    for (size_t i = 0; i < req->n_mcp_servers; i++)
        if (config_check_server(all, req->mcp_servers[i], err))
            return sa_wrap(err, "mcp_servers[%zu]", i);
    for (size_t i = 0; i < req->n_skills; i++)
        if (config_check_skill(req->skills[i], err))
            return sa_wrap(err, "skills[%zu]", i);
    for (size_t i = 0; i < req->n_credentials; i++) {
        const CredentialUse *use = req->credentials[i];
        const char *variable = *use->variable ? use->variable : use->credential;
        if (!*variable || strlen(variable) > CONFIG_NAME_MAX || strchr(variable, '='))
            return sa_fail(err, SA_INVALID_REQUEST, "credentials[%zu].variable: is no name of a variable", i);
        if (!secrets_value(all->secrets, use->credential, 0, NULL, err))
            return sa_wrap(err, "credentials[%zu]", i);
    }
    return 0;
}

static int check_create(struct sessions *all, const CreateSessionRequest *req, sa_error **err)
{
    if (api_check_request_id(req->request_id, err) || check_env(req, err))
        return -1;
    if (!*req->agent)
        return sa_fail(err, SA_INVALID_REQUEST, "agent: is empty");
    if (!registry_find(all, req->agent, err))
        return -1;
    if (req->cwd.len &&
        (req->cwd.data[0] != '/' || req->cwd.len > CWD_BYTES_MAX || memchr(req->cwd.data, 0, req->cwd.len)))
        return sa_fail(err, SA_INVALID_REQUEST, "cwd: is not an absolute path of at most %d bytes",
                       CWD_BYTES_MAX);
    if (profile_check_labels(req->n_labels, err))
        return -1;
    for (size_t i = 0; i < req->n_labels; i++)
        if (profile_check_label(req->labels[i]->key, req->labels[i]->value, err))
            return -1;
    if (profile_check_title(req->title, err) || budget_check(req->budget, err) ||
        profile_check_idle(req->idle_suspend_ms, err))
        return -1;
    return check_config(all, req, err);
}

typedef void send_fn(struct rpc_call *call, Session *session);

struct reply {
    struct rpc_call *call;
    struct sessions *all;
    struct sa_id id;
    send_fn *send;
};

static void reply_created(void *user, const sa_error *failed)
{
    struct reply *r = user;
    sa_error *err = NULL;
    Session *session = failed ? NULL : session_describe(r->all, r->id, rpc_arena(r->call), &err);
    if (failed)
        api_fail_copy(r->call, failed);
    else if (!session)
        rpc_fail(r->call, err);
    else
        r->send(r->call, session);
    rpc_call_unref(r->call);
    free(r);
}

static void reply_when_true(struct session *s, struct rpc_call *call, send_fn *send)
{
    struct reply *r = sa_calloc(1, sizeof *r);
    *r = (struct reply){rpc_call_ref(call), s->all, s->id, send};
    session_after(s, reply_created, r);
    session_settle(s);
}

/* What is asked for, and by which method. */
static void digest_of(const ProtobufCMessage *req, uint8_t ret[32])
{
    struct sa_sha256 sum;
    size_t n = protobuf_c_message_get_packed_size(req);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    protobuf_c_message_pack(req, packed);
    sa_sha256_init(&sum);
    if (req->descriptor != &create_session_request__descriptor)
        sa_sha256_add(&sum, req->descriptor->name, strlen(req->descriptor->name));
    sa_sha256_add(&sum, packed, n);
    sa_sha256_end(&sum, ret);
}

struct search {
    const char *key;
    struct session *found;
};

static bool is_being_created(void *user, struct session *s)
{
    struct search *search = user;
    if (s->create_key && !strcmp(s->create_key, search->key))
        search->found = s;
    return !search->found;
}

static int same_body(const uint8_t *a, const uint8_t *b, const char *request_id, sa_error **err)
{
    if (!memcmp(a, b, 32))
        return 0;
    return sa_fail(err, SA_REQUEST_ID_REUSED, "request_id \"%s\" was used for another session", request_id);
}

/* A creation, by whatever method. */
struct creation {
    struct sessions *all;
    struct rpc_call *call;
    const char *request_id;
    char *text_key; /* who asked, with which request_id */
    uint8_t digest[32];
    send_fn *send;
};

/* 1: the call was a repeated one and is answered, now or later. */
static int answer_repeated(const struct creation *c, sa_error **err)
{
    struct search search = {.key = c->text_key};
    if (!*c->request_id)
        return 0;
    sessions_each(c->all, is_being_created, &search);
    if (search.found) {
        if (same_body(search.found->create_digest, c->digest, c->request_id, err))
            return -1;
        reply_when_true(search.found, c->call, c->send);
        return 1;
    }
    struct store_key key = db_create_key(rpc_principal(c->call), c->request_id);
    cleanup_message StoredKey *known = NULL;
    int found = store_get(c->all->store, DB_KEYS, &key, &known, err);
    if (found <= 0)
        return found;
    struct sa_id id;
    if (known->digest.len != 32 || !sa_id_parse(known->session_id, &id))
        return sa_fail(err, SA_STORE_CORRUPT, "the record of request_id \"%s\" is not valid", c->request_id);
    if (same_body(known->digest.data, c->digest, c->request_id, err))
        return -1;
    struct reply *r = sa_calloc(1, sizeof *r);
    *r = (struct reply){rpc_call_ref(c->call), c->all, id, c->send};
    reply_created(r, NULL);
    return 1;
}

static void put_spec(struct session *s, const CreateSessionRequest *req, const char *creator)
{
    const char *cwd = s->all->config.default_cwd;
    StoredSpec spec = STORED_SPEC__INIT;
    spec.agent = req->agent;
    spec.cwd = req->cwd.len ? req->cwd : (ProtobufCBinaryData){strlen(cwd), (uint8_t *)(uintptr_t)cwd};
    spec.env = req->env;
    spec.n_env = req->n_env;
    spec.mode_id = req->mode_id;
    spec.creator = (char *)(uintptr_t)creator;
    spec.create_time_us = sa_wall_us();
    spec.install_agent = req->install_agent;
    spec.mcp_servers = req->mcp_servers;
    spec.n_mcp_servers = req->n_mcp_servers;
    spec.skills = req->skills;
    spec.n_skills = req->n_skills;
    spec.credentials = req->credentials;
    spec.n_credentials = req->n_credentials;
    struct store_key key = db_key(s->id);
    store_put(session_set(s), DB_SPECS, &key, &spec.base);
}

static void put_profile(struct session *s, const CreateSessionRequest *req)
{
    StoredProfile p = STORED_PROFILE__INIT;
    p.title = req->title;
    p.version = 1;
    p.budget = req->budget;
    if (req->_idle_suspend_ms_case)
        p._idle_suspend_ms_case = STORED_PROFILE___IDLE_SUSPEND_MS_IDLE_SUSPEND_MS;
    p.idle_suspend_ms = req->idle_suspend_ms;
    cleanup_free StoredProfile__LabelsEntry *entries = sa_calloc(req->n_labels + 1, sizeof *entries);
    cleanup_free StoredProfile__LabelsEntry **labels = sa_calloc(req->n_labels + 1, sizeof *labels);
    for (; p.n_labels < req->n_labels; p.n_labels++) {
        entries[p.n_labels] = (StoredProfile__LabelsEntry)STORED_PROFILE__LABELS_ENTRY__INIT;
        entries[p.n_labels].key = req->labels[p.n_labels]->key;
        entries[p.n_labels].value = req->labels[p.n_labels]->value;
        labels[p.n_labels] = &entries[p.n_labels];
    }
    p.labels = labels;
    profile_replace(s, &p);
}

static void put_key(struct session *s, const char *principal, const char *request_id)
{
    StoredKey row = STORED_KEY__INIT;
    row.digest = (ProtobufCBinaryData){sizeof s->create_digest, s->create_digest};
    row.session_id = s->name;
    row.time_us = sa_wall_us();
    struct store_key key = db_create_key(principal, request_id);
    store_put(session_set(s), DB_KEYS, &key, &row.base);
}

/* The creation is true: the agent may be started. */
static void created(void *user, const sa_error *failed)
{
    struct session *s = user;
    if (failed)
        return;
    sa_cleanup_free(&s->create_key);
    s->create_key = NULL;
    link_start(s);
}

static struct creation creation_of(struct sessions *all, struct rpc_call *call, const char *request_id,
                                   const ProtobufCMessage *req, send_fn *send)
{
    struct creation c = {.all = all, .call = call, .request_id = request_id, .send = send};
    c.text_key = sa_arena_format(rpc_arena(call), "%s\n%s", rpc_principal(call), request_id);
    digest_of(req, c.digest);
    return c;
}

/* Everything of it is in its set but for how it starts. */
static void finish_creation(struct session *s, const struct creation *c)
{
    memcpy(s->create_digest, c->digest, sizeof s->create_digest);
    if (*c->request_id) {
        s->create_key = sa_strdup(c->text_key);
        put_key(s, rpc_principal(c->call), c->request_id);
    }
    sessions_insert(s->all, s);
    session_move(s, STATE_AGENT_STARTS, NULL, NULL);
    sa_log(SA_LOG_INFO, "session.created", "session=%s agent=%s", s->name, s->agent ? s->agent->name : "");
    session_after(s, created, s);
    reply_when_true(s, c->call, c->send);
}

static void send_created(struct rpc_call *call, Session *session)
{
    CreateSessionResponse res = CREATE_SESSION_RESPONSE__INIT;
    res.session = session;
    create_session_reply(call, &res);
}

void api_create_session(void *api, struct rpc_call *call, const CreateSessionRequest *req)
{
    sa_error *err = NULL;
    struct config_wish *wishes;
    size_t n_wishes;
    /* Both maps have string keys and values: the same layout under two names. */
    if (check_create(api, req, &err) ||
        config_wishes(rpc_arena(call), req->mode_id, req->model, req->thought_level,
                      (const ConfigureSessionRequest__OptionsEntry *const *)(const void *)req->options,
                      req->n_options, &wishes, &n_wishes, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct creation c = creation_of(api, call, req->request_id, &req->base, send_created);
    int repeated = answer_repeated(&c, &err);
    if (repeated) {
        if (repeated < 0)
            rpc_fail(call, err);
        return;
    }
    struct session *s = session_new(api, sessions_new_id(api));
    s->agent = registry_find(api, req->agent, NULL);
    session_set_text(&s->agent_name, req->agent);
    mask_load(s, req->env, req->n_env);
    config_begin(s, wishes, n_wishes, rpc_principal(call));
    retention_set(s, req->retention);
    put_spec(s, req, rpc_principal(call));
    put_profile(s, req);
    finish_creation(s, &c);
}

/* ---- fork ---- */

static void send_forked(struct rpc_call *call, Session *session)
{
    ForkSessionResponse res = FORK_SESSION_RESPONSE__INIT;
    res.session = session;
    fork_session_reply(call, &res);
}

void api_fork_session(void *api, struct rpc_call *call, const ForkSessionRequest *req)
{
    sa_error *err = NULL;
    struct session *parent = sessions_find_to_change(api, req->session_id, &err);
    if (!parent || api_check_request_id(req->request_id, &err) || profile_check_title(req->title, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct creation c = creation_of(api, call, req->request_id, &req->base, send_forked);
    int repeated = answer_repeated(&c, &err);
    if (repeated < 0 || (!repeated && fork_check(parent, req, &err)))
        rpc_fail(call, err);
    if (repeated || err)
        return;
    struct session *s = session_new(api, sessions_new_id(api));
    if (fork_begin(s, parent, req, rpc_principal(call), &err)) {
        session_free(s);
        rpc_fail(call, err);
        return;
    }
    finish_creation(s, &c);
}

/* ---- get ---- */

void api_get_session(void *api, struct rpc_call *call, const GetSessionRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    struct sa_id id;
    Session *session = NULL;
    if (!sessions_parse_id(req->session_id, &id, &err))
        session = session_describe(all, id, rpc_arena(call), &err);
    if (!session) {
        rpc_fail(call, err);
        return;
    }
    GetSessionResponse res = GET_SESSION_RESPONSE__INIT;
    res.session = session;
    res.as_of_seq = session->head_seq;
    if (config_describe(all, id, rpc_arena(call), &res.config_options, &res.n_config_options, &err)) {
        rpc_fail(call, err);
        return;
    }
    get_session_reply(call, &res);
}

/* ---- destroy ---- */

struct destroy_call {
    struct destroy_call *next;
    struct session *session;
    struct rpc_call *call;
};

void api_answer_destroyed(struct session *s)
{
    if (s->state != SESSION_STATE_DESTROYED || s->condemned || s->link.phase != AGENT_PHASE_NONE ||
        terminals_doomed(s))
        return;
    for (struct destroy_call *d; (d = s->destroy_calls);) {
        s->destroy_calls = d->next;
        DestroySessionResponse res = DESTROY_SESSION_RESPONSE__INIT;
        destroy_session_reply(d->call, &res);
        rpc_call_unref(d->call);
        free(d);
    }
}

static void destroyed(void *user, const sa_error *failed)
{
    struct destroy_call *d = user;
    if (failed) {
        api_fail_copy(d->call, failed);
        rpc_call_unref(d->call);
        free(d);
        return;
    }
    d->next = d->session->destroy_calls;
    d->session->destroy_calls = d;
    api_answer_destroyed(d->session);
}

void api_destroy_session(void *api, struct rpc_call *call, const DestroySessionRequest *req)
{
    sa_error *err = NULL;
    struct session *s = sessions_find_to_change(api, req->session_id, &err);
    if (!s) {
        rpc_fail(call, err);
        return;
    }
    struct destroy_call *d = sa_calloc(1, sizeof *d);
    *d = (struct destroy_call){.session = s, .call = rpc_call_ref(call)};
    session_destroy(s);
    session_after(s, destroyed, d);
    session_settle(s);
}
