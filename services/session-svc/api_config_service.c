/* ConfigService: two tables of the same form. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/config_store.h"
#include "services/session-svc/page_token.h"

enum { PAGE_BYTES = 1 << 20 };

/* ---- set, delete ---- */

struct change {
    struct rpc_call *call;
    struct sessions *all;
    void (*reply)(struct rpc_call *call);
};

static void changed(void *user, const sa_error *err)
{
    struct change *c = user;
    service_release(c->all->svc);
    if (err)
        api_fail_copy(c->call, err);
    else
        c->reply(c->call);
    rpc_call_unref(c->call);
    free(c);
}

/* m NULL: deletes. */
static void commit(struct sessions *all, struct rpc_call *call, int table, const struct store_key *key,
                   const ProtobufCMessage *m, void (*reply)(struct rpc_call *call))
{
    struct change *c = sa_calloc(1, sizeof *c);
    struct store_set *set = store_set_new();
    *c = (struct change){rpc_call_ref(call), all, reply};
    if (table == DB_A_SKILLS)
        store_delete(set, DB_A_FETCHED, key);
    if (m)
        store_put(set, table, key, m);
    else
        store_delete(set, table, key);
    cleanup_error sa_error *err = NULL;
    service_hold(all->svc);
    if (store_commit(all->store, set, changed, c, &err))
        changed(c, err);
}

static bool count_row(void *user, const struct store_row *row)
{
    (void)row;
    ++*(size_t *)user;
    return true;
}

static int check_room(struct sessions *all, int table, sa_error **err)
{
    size_t n = 0;
    struct store_range range = {.table = table};
    if (store_scan(all->store, &range, count_row, &n, err) < 0)
        return -1;
    return n < CONFIG_ROWS_MAX ? 0 : sa_fail(err, SA_TOO_MANY, "there are %d already", CONFIG_ROWS_MAX);
}

static void server_set(struct rpc_call *call)
{
    SetMcpServerResponse res = SET_MCP_SERVER_RESPONSE__INIT;
    set_mcp_server_reply(call, &res);
}

static void server_deleted(struct rpc_call *call)
{
    DeleteMcpServerResponse res = DELETE_MCP_SERVER_RESPONSE__INIT;
    delete_mcp_server_reply(call, &res);
}

static void skill_set(struct rpc_call *call)
{
    SetSkillResponse res = SET_SKILL_RESPONSE__INIT;
    set_skill_reply(call, &res);
}

static void skill_deleted(struct rpc_call *call)
{
    DeleteSkillResponse res = DELETE_SKILL_RESPONSE__INIT;
    delete_skill_reply(call, &res);
}

void api_set_mcp_server(void *api, struct rpc_call *call, const SetMcpServerRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    if (!req->server)
        sa_fail(&err, SA_INVALID_REQUEST, "server: is missing");
    if (err || config_check_server(all, req->server, &err) || check_room(all, DB_A_MCP, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct store_key key = config_key(req->server->directory, req->server->name);
    commit(all, call, DB_A_MCP, &key, &req->server->base, server_set);
}

void api_set_skill(void *api, struct rpc_call *call, const SetSkillRequest *req)
{
    struct sessions *all = api;
    sa_error *err = NULL;
    if (!req->skill)
        sa_fail(&err, SA_INVALID_REQUEST, "skill: is missing");
    if (err || config_check_skill(req->skill, &err) || check_room(all, DB_A_SKILLS, &err)) {
        rpc_fail(call, err);
        return;
    }
    Skill skill = *req->skill;
    skill.commit = (char[]){""}; /* ours to say */
    skill.fetch_time = NULL;
    struct store_key key = config_key(skill.directory, skill.name);
    commit(all, call, DB_A_SKILLS, &key, &skill.base, skill_set);
}

static int check_named(const char *name, ProtobufCBinaryData directory, sa_error **err)
{
    return config_check_name(name, "name", err) || config_check_directory(directory, err) ? -1 : 0;
}

void api_delete_mcp_server(void *api, struct rpc_call *call, const DeleteMcpServerRequest *req)
{
    sa_error *err = NULL;
    if (check_named(req->name, req->directory, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct store_key key = config_key(req->directory, req->name);
    commit(api, call, DB_A_MCP, &key, NULL, server_deleted);
}

void api_delete_skill(void *api, struct rpc_call *call, const DeleteSkillRequest *req)
{
    sa_error *err = NULL;
    if (check_named(req->name, req->directory, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct store_key key = config_key(req->directory, req->name);
    commit(api, call, DB_A_SKILLS, &key, NULL, skill_deleted);
}

/* ---- get ---- */

static int find(struct sessions *all, int table, ProtobufCBinaryData directory, const char *name,
                void *ret_message, sa_error **err)
{
    if (check_named(name, directory, err))
        return -1;
    struct store_key key = config_key(directory, name);
    int found = store_get(all->store, table, &key, ret_message, err);
    return found ? (found < 0 ? -1 : 0) : sa_fail(err, SA_NOT_FOUND, "\"%s\" does not exist there", name);
}

void api_get_mcp_server(void *api, struct rpc_call *call, const GetMcpServerRequest *req)
{
    sa_error *err = NULL;
    cleanup_message McpServer *m = NULL;
    GetMcpServerResponse res = GET_MCP_SERVER_RESPONSE__INIT;
    if (find(api, DB_A_MCP, req->directory, req->name, &m, &err)) {
        rpc_fail(call, err);
        return;
    }
    res.server = m;
    get_mcp_server_reply(call, &res);
}

void api_get_skill(void *api, struct rpc_call *call, const GetSkillRequest *req)
{
    sa_error *err = NULL;
    cleanup_message Skill *m = NULL;
    GetSkillResponse res = GET_SKILL_RESPONSE__INIT;
    if (find(api, DB_A_SKILLS, req->directory, req->name, &m, &err)) {
        rpc_fail(call, err);
        return;
    }
    struct store_key key = config_key(req->directory, req->name);
    cleanup_message Skill *fetched = NULL;
    if (store_get(((struct sessions *)api)->store, DB_A_FETCHED, &key, &fetched, &err) < 0) {
        rpc_fail(call, err);
        return;
    }
    res.skill = api_copy(rpc_arena(call), &m->base);
    if (fetched) {
        res.skill->commit = fetched->commit;
        res.skill->fetch_time = fetched->fetch_time;
    }
    get_skill_reply(call, &res);
}

/* ---- list ---- */

/* A token holds 16 bytes: of the digest of the last key. */
static struct sa_id mark_of(const uint8_t *key, size_t n)
{
    uint8_t digest[SA_SHA256_SIZE];
    struct sa_sha256 sum;
    struct sa_id mark;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, key, n);
    sa_sha256_end(&sum, digest);
    memcpy(mark.bytes, digest, sizeof mark.bytes);
    return mark;
}

struct listing {
    struct sa_arena *arena;
    bool skipping; /* until the row that the page before ended with */
    struct sa_id mark;
    ProtobufCMessage **list;
    size_t n, max, bytes;
    bool more;
    sa_error *err;
};

static bool list_row(void *user, const struct store_row *row)
{
    struct listing *l = user;
    if (l->skipping) {
        l->skipping = !sa_id_equal(mark_of(row->key, row->key_len), l->mark);
        return true;
    }
    if (l->n == l->max || l->bytes > PAGE_BYTES) {
        l->more = true;
        return false;
    }
    ProtobufCMessage *m = store_row_unpack(row, &l->err);
    if (!m)
        return false;
    l->list[l->n++] = api_copy(l->arena, m);
    l->bytes += row->value_len;
    l->mark = mark_of(row->key, row->key_len);
    store_message_free(m);
    return true;
}

/* Fills a page; *ret_token: of the next one. */
static int list(struct sessions *all, struct rpc_call *call, int table, int32_t page_size, const char *token,
                const ProtobufCBinaryData *directory, struct listing *l, char **ret_token, sa_error **err)
{
    struct sa_arena *arena = l->arena = rpc_arena(call);
    uint32_t size;
    struct store_key prefix = {0};
    if ((directory && config_check_directory(*directory, err)) || api_page_size(page_size, 50, &size, err))
        return -1;
    if (directory)
        prefix = config_key(*directory, "");
    char *filter =
        sa_arena_format(arena, "config %d\n%s%.*s", table, directory ? "in " : "",
                        directory ? (int)directory->len : 0, directory ? (const char *)directory->data : "");
    l->skipping = *token;
    if (*token && page_token_read(token, filter, all->epoch, &l->mark, err))
        return -1;
    l->max = size;
    l->list = sa_arena_alloc(arena, (size + 1) * sizeof *l->list);
    struct store_range range = {.table = table, .prefix = directory ? &prefix : NULL};
    if (store_scan(all->store, &range, list_row, l, err) < 0)
        return -1;
    if (l->err)
        return sa_pass(err, l->err);
    if (l->skipping)
        return sa_fail(err, SA_INVALID_PAGE_TOKEN,
                       "page_token: what it stands behind was deleted; begin anew");
    *ret_token = l->more ? page_token_make(arena, l->mark, filter, all->epoch) : sa_arena_strdup(arena, "");
    return 0;
}

void api_list_mcp_servers(void *api, struct rpc_call *call, const ListMcpServersRequest *req)
{
    sa_error *err = NULL;
    struct listing l = {0};
    ListMcpServersResponse res = LIST_MCP_SERVERS_RESPONSE__INIT;
    bool one = req->_directory_case == LIST_MCP_SERVERS_REQUEST___DIRECTORY_DIRECTORY;
    if (list(api, call, DB_A_MCP, req->page_size, req->page_token, one ? &req->directory : NULL, &l,
             &res.next_page_token, &err)) {
        rpc_fail(call, err);
        return;
    }
    res.servers = (McpServer **)l.list;
    res.n_servers = l.n;
    list_mcp_servers_reply(call, &res);
}

void api_list_skills(void *api, struct rpc_call *call, const ListSkillsRequest *req)
{
    sa_error *err = NULL;
    struct listing l = {0};
    ListSkillsResponse res = LIST_SKILLS_RESPONSE__INIT;
    bool one = req->_directory_case == LIST_SKILLS_REQUEST___DIRECTORY_DIRECTORY;
    if (list(api, call, DB_A_SKILLS, req->page_size, req->page_token, one ? &req->directory : NULL, &l,
             &res.next_page_token, &err)) {
        rpc_fail(call, err);
        return;
    }
    res.skills = (Skill **)l.list;
    res.n_skills = l.n;
    list_skills_reply(call, &res);
}
