#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/config_store.h"
#include "services/session-svc/mask.h"
#include "services/session-svc/page_token.h"
#include "services/session-svc/registry.h"

enum {
    ENV_MAX = 1000,
    ENV_BYTES_MAX = 512 << 10,
    LABELS_MAX = 64,
    LABEL_BYTES_MAX = 256,
    CWD_BYTES_MAX = 4095,
    MODE_BYTES_MAX = 256,
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
    if (req->n_labels > LABELS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "labels: more than %d", LABELS_MAX);
    for (size_t i = 0; i < req->n_labels; i++)
        if (!*req->labels[i]->key || strlen(req->labels[i]->key) > LABEL_BYTES_MAX ||
            strlen(req->labels[i]->value) > LABEL_BYTES_MAX)
            return sa_fail(err, SA_INVALID_REQUEST,
                           "labels: a key is empty, or a key or value is over %d bytes", LABEL_BYTES_MAX);
    if (strlen(req->mode_id) > MODE_BYTES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "mode_id: over %d bytes", MODE_BYTES_MAX);
    return check_config(all, req, err);
}

struct reply {
    struct rpc_call *call;
    struct sessions *all;
    struct sa_id id;
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
    else {
        CreateSessionResponse res = CREATE_SESSION_RESPONSE__INIT;
        res.session = session;
        create_session_reply(r->call, &res);
    }
    rpc_call_unref(r->call);
    free(r);
}

static void reply_when_true(struct session *s, struct rpc_call *call)
{
    struct reply *r = sa_calloc(1, sizeof *r);
    *r = (struct reply){rpc_call_ref(call), s->all, s->id};
    session_after(s, reply_created, r);
    session_settle(s);
}

static void digest_of(const CreateSessionRequest *req, uint8_t ret[32])
{
    struct sa_sha256 sum;
    size_t n = create_session_request__get_packed_size(req);
    cleanup_free uint8_t *packed = sa_malloc(n + 1);
    create_session_request__pack(req, packed);
    sa_sha256_init(&sum);
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

/* 1: the call was a repeated one and is answered, now or later. */
static int answer_repeated(struct sessions *all, struct rpc_call *call, const CreateSessionRequest *req,
                           const char *text_key, const uint8_t digest[32], sa_error **err)
{
    struct search search = {.key = text_key};
    sessions_each(all, is_being_created, &search);
    if (search.found) {
        if (same_body(search.found->create_digest, digest, req->request_id, err))
            return -1;
        reply_when_true(search.found, call);
        return 1;
    }
    struct store_key key = db_create_key(rpc_principal(call), req->request_id);
    cleanup_message StoredKey *known = NULL;
    int found = store_get(all->store, DB_KEYS, &key, &known, err);
    if (found <= 0)
        return found;
    struct sa_id id;
    if (known->digest.len != 32 || !sa_id_parse(known->session_id, &id))
        return sa_fail(err, SA_STORE_CORRUPT, "the record of request_id \"%s\" is not valid",
                       req->request_id);
    if (same_body(known->digest.data, digest, req->request_id, err))
        return -1;
    struct reply *r = sa_calloc(1, sizeof *r);
    *r = (struct reply){rpc_call_ref(call), all, id};
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
    /* Both maps have string keys and values: the same layout under two names. */
    cleanup_free StoredSpec__LabelsEntry *entries = sa_calloc(req->n_labels + 1, sizeof *entries);
    cleanup_free StoredSpec__LabelsEntry **labels = sa_calloc(req->n_labels + 1, sizeof *labels);
    for (size_t i = 0; i < req->n_labels; i++) {
        entries[i] = (StoredSpec__LabelsEntry)STORED_SPEC__LABELS_ENTRY__INIT;
        entries[i].key = req->labels[i]->key;
        entries[i].value = req->labels[i]->value;
        labels[i] = &entries[i];
    }
    spec.labels = labels;
    spec.n_labels = req->n_labels;
    struct store_key key = db_key(s->id);
    store_put(session_set(s), DB_SPECS, &key, &spec.base);
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

void api_create_session(void *api, struct rpc_call *call, const CreateSessionRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    if (check_create(all, req, &err)) {
        rpc_fail(call, err);
        return;
    }
    cleanup_free char *text_key = sa_format("%s\n%s", rpc_principal(call), req->request_id);
    uint8_t digest[32];
    digest_of(req, digest);
    int repeated = *req->request_id ? answer_repeated(all, call, req, text_key, digest, &err) : 0;
    if (repeated) {
        if (repeated < 0)
            rpc_fail(call, err);
        return;
    }
    struct session *s = session_new(all, sessions_new_id(all));
    s->agent = registry_find(all, req->agent, NULL);
    session_set_text(&s->agent_name, req->agent);
    mask_load(s, req->env, req->n_env);
    memcpy(s->create_digest, digest, sizeof digest);
    if (*req->request_id)
        s->create_key = steal_pointer(&text_key);
    session_set_text(&s->wanted_mode, req->mode_id);
    sessions_insert(all, s);
    put_spec(s, req, rpc_principal(call));
    if (*req->request_id)
        put_key(s, rpc_principal(call), req->request_id);
    session_move(s, STATE_AGENT_STARTS, NULL, NULL);
    sa_log(SA_LOG_INFO, "session.created", "session=%s agent=%s", s->name, req->agent);
    session_after(s, created, s);
    reply_when_true(s, call);
}

/* ---- get, list ---- */

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
    get_session_reply(call, &res);
}

struct listing {
    const ListSessionsRequest *req;
    struct sa_id *ids;
    size_t n, max;
    bool more;
    sa_error *err;
};

static bool has_label(const StoredSpec *spec, const ListSessionsRequest *req)
{
    if (!*req->label_key)
        return true;
    for (size_t i = 0; i < spec->n_labels; i++)
        if (!strcmp(spec->labels[i]->key, req->label_key))
            return !*req->label_value || !strcmp(spec->labels[i]->value, req->label_value);
    return false;
}

static bool list_row(void *user, const struct store_row *row)
{
    struct listing *l = user;
    if (*l->req->label_key) {
        cleanup_message StoredSpec *spec = store_row_unpack(row, &l->err);
        if (!spec)
            return false;
        if (!has_label(spec, l->req))
            return true;
    }
    if (l->n == l->max) {
        l->more = true;
        return false;
    }
    l->ids[l->n++] = db_key_id(row);
    return true;
}

void api_list_sessions(void *api, struct rpc_call *call, const ListSessionsRequest *req)
{
    struct sessions *all = api;
    struct sa_arena *arena = rpc_arena(call);
    sa_error *err = NULL;
    uint32_t size;
    struct sa_id last;
    char *filter = sa_arena_format(arena, "sessions\n%s\n%s", req->label_key, req->label_value);
    bool begin = !*req->page_token;
    if (api_page_size(req->page_size, 50, &size, &err) ||
        (!begin && page_token_read(req->page_token, filter, all->epoch, &last, &err))) {
        rpc_fail(call, err);
        return;
    }
    struct listing l = {.req = req, .max = size};
    l.ids = sa_arena_alloc(arena, size * sizeof *l.ids);
    struct store_key from = begin ? (struct store_key){0} : db_key(last);
    struct store_range range = {
        .table = DB_SPECS, .from = begin ? NULL : &from, .after = true, .reverse = true};
    if (store_scan(all->store, &range, list_row, &l, &err) < 0 || (err = l.err)) {
        rpc_fail(call, err);
        return;
    }
    ListSessionsResponse res = LIST_SESSIONS_RESPONSE__INIT;
    res.sessions = sa_arena_alloc(arena, (l.n + 1) * sizeof *res.sessions);
    for (size_t i = 0; i < l.n; i++) {
        Session *session = session_describe(all, l.ids[i], arena, &err);
        if (!session) {
            rpc_fail(call, err);
            return;
        }
        res.sessions[res.n_sessions++] = session;
    }
    if (l.more)
        res.next_page_token = page_token_make(arena, l.ids[l.n - 1], filter, all->epoch);
    list_sessions_reply(call, &res);
}

/* ---- destroy ---- */

struct destroy_call {
    struct destroy_call *next;
    struct session *session;
    struct rpc_call *call;
};

void api_answer_destroyed(struct session *s)
{
    if (s->state != SESSION_STATE_DESTROYED || s->condemned || s->link.phase != AGENT_PHASE_NONE)
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
