#include <ctype.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "services/session-svc/api.h"
#include "services/session-svc/config_store.h"

/* ---- checks ---- */

static bool is_name(const char *name)
{
    size_t n = 0;
    for (; name[n]; n++)
        if (!isalnum((unsigned char)name[n]) && !strchr("._-", name[n]))
            return false;
    return n && n <= CONFIG_NAME_MAX && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int config_check_name(const char *name, const char *field, sa_error **err)
{
    if (is_name(name))
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "%s: not 1 to %d letters, digits, '.', '-' and '_'", field,
                   CONFIG_NAME_MAX);
}

int config_check_directory(ProtobufCBinaryData d, sa_error **err)
{
    if (!d.len || (d.data[0] == '/' && d.len <= 4095 && !memchr(d.data, 0, d.len)))
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "directory: is not an absolute path of at most 4095 bytes");
}

static int check_values(struct sessions *all, McpValue *const *list, size_t n, const char *field, bool header,
                        sa_error **err)
{
    if (n > CONFIG_ITEMS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "%s: more than %d", field, CONFIG_ITEMS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *name = list[i]->name;
        if (!*name || strlen(name) > 256 || strpbrk(name, header ? ":\r\n " : "="))
            return sa_fail(err, SA_INVALID_REQUEST, "%s[%zu].name: is not valid", field, i);
        if (list[i]->source_case == MCP_VALUE__SOURCE_CREDENTIAL &&
            !secrets_value(all->secrets, list[i]->credential, 0, NULL, err))
            return -1;
        if (list[i]->source_case == MCP_VALUE__SOURCE_TEXT &&
            (strlen(list[i]->text) > CONFIG_ITEM_TEXT_MAX || (header && strpbrk(list[i]->text, "\r\n"))))
            return sa_fail(err, SA_INVALID_REQUEST, "%s[%zu].text: is too long or has a line break", field,
                           i);
    }
    return 0;
}

static bool has_scheme(const char *url, const char *const *schemes)
{
    for (; *schemes; schemes++)
        if (!strncmp(url, *schemes, strlen(*schemes)) && url[strlen(*schemes)])
            return strlen(url) <= 4096 && !strpbrk(url, " \t\r\n");
    return false;
}

static int check_remote(struct sessions *all, const McpRemote *r, sa_error **err)
{
    static const char *const schemes[] = {"http://", "https://", NULL};
    if (!has_scheme(r->url, schemes))
        return sa_fail(err, SA_INVALID_REQUEST, "url: is not http:// or https:// of at most 4096 bytes");
    if (*r->bearer_credential && !secrets_value(all->secrets, r->bearer_credential, 0, NULL, err))
        return -1;
    return check_values(all, r->headers, r->n_headers, "headers", true, err);
}

static int check_command(struct sessions *all, const McpCommand *c, sa_error **err)
{
    size_t bytes = strlen(c->command);
    for (size_t i = 0; i < c->n_args; i++)
        bytes += strlen(c->args[i]) + 1;
    if (!*c->command || c->n_args > CONFIG_ITEMS_MAX || bytes > CONFIG_BYTES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "command: is empty, or over %d arguments or %d bytes",
                       CONFIG_ITEMS_MAX, CONFIG_BYTES_MAX);
    return check_values(all, c->env, c->n_env, "env", false, err);
}

int config_check_server(struct sessions *all, const McpServer *m, sa_error **err)
{
    if (config_check_name(m->name, "name", err) || config_check_directory(m->directory, err))
        return -1;
    switch (m->transport_case) {
    case MCP_SERVER__TRANSPORT_COMMAND:
        return check_command(all, m->command, err);
    case MCP_SERVER__TRANSPORT_HTTP:
        return check_remote(all, m->http, err);
    case MCP_SERVER__TRANSPORT_SSE:
        return check_remote(all, m->sse, err);
    default:
        return m->disabled ? 0 : sa_fail(err, SA_INVALID_REQUEST, "transport: is missing");
    }
}

/* "", "a/b": stays below where it starts. */
static bool is_below(const char *path)
{
    if (!*path)
        return true;
    for (const char *p = path;; p += strcspn(p, "/") + 1) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && *p == '.') || (n == 2 && !strncmp(p, "..", 2)))
            return false;
        if (!p[n])
            return strlen(path) <= 1024;
    }
}

/* Not an option of git, no range. */
static bool is_ref(const char *ref)
{
    return *ref != '-' && strlen(ref) <= 256 && !strpbrk(ref, " \t\r\n~^:?*[\\") && !strstr(ref, "..");
}

static bool is_repository(const char *text)
{
    const char *slash = strchr(text, '/');
    if (!slash || slash == text || strlen(text) > 200 || strchr(slash + 1, '/'))
        return false;
    cleanup_free char *owner = sa_strndup(text, (size_t)(slash - text));
    return is_name(owner) && is_name(slash + 1);
}

int config_check_skill(const Skill *k, sa_error **err)
{
    static const char *const schemes[] = {"https://", "http://", "ssh://", "git://", "file://", NULL};
    if (config_check_name(k->name, "name", err) || config_check_directory(k->directory, err))
        return -1;
    if (!is_below(k->subpath))
        return sa_fail(err, SA_INVALID_REQUEST, "subpath: is no relative path");
    switch (k->source_case) {
    case SKILL__SOURCE_PATH:
        if (*k->path == '/' && strlen(k->path) <= 4095)
            return 0;
        return sa_fail(err, SA_INVALID_REQUEST, "path: is not absolute");
    case SKILL__SOURCE_GIT:
        if (has_scheme(k->git->url, schemes) && is_ref(k->git->ref))
            return 0;
        return sa_fail(err, SA_INVALID_REQUEST, "git: url or ref is not valid");
    case SKILL__SOURCE_GITHUB:
        if (is_repository(k->github->repository) && is_ref(k->github->ref))
            return 0;
        return sa_fail(err, SA_INVALID_REQUEST, "github: repository is not owner/name, or ref is not valid");
    default:
        return k->disabled ? 0 : sa_fail(err, SA_INVALID_REQUEST, "source: is missing");
    }
}

/* ---- what a session has ---- */

struct store_key config_key(ProtobufCBinaryData directory, const char *name)
{
    uint8_t digest[SA_SHA256_SIZE] = {0};
    struct sa_sha256 sum;
    if (directory.len) { /* longer than a key may be */
        sa_sha256_init(&sum);
        sa_sha256_add(&sum, directory.data, directory.len);
        sa_sha256_end(&sum, digest);
    }
    struct store_key key = store_key_of(digest, sizeof digest);
    store_key_add(&key, name, strlen(name));
    return key;
}

/* Servers and skills alike: the first of a name counts. */
struct gathering {
    struct sa_arena *arena;
    const char *(*name)(const ProtobufCMessage *m);
    ProtobufCMessage **list;
    size_t n;
    sa_error *err;
};

static bool add(struct gathering *g, const ProtobufCMessage *m)
{
    for (size_t i = 0; i < g->n; i++)
        if (!strcmp(g->name(g->list[i]), g->name(m)))
            return true;
    if (g->n == CONFIG_ITEMS_MAX)
        return false;
    g->list[g->n++] = api_copy(g->arena, m);
    return true;
}

static bool add_row(void *user, const struct store_row *row)
{
    struct gathering *g = user;
    ProtobufCMessage *m = store_row_unpack(row, &g->err);
    bool more = m && add(g, m);
    store_message_free(m);
    return more;
}

static int gather(struct session *s, const StoredSpec *spec, int table, struct gathering *g, sa_error **err)
{
    ProtobufCBinaryData directories[] = {spec->cwd, {0}};
    for (int i = 0; i < 2; i++) {
        struct store_key prefix = config_key(directories[i], "");
        struct store_range range = {.table = table, .prefix = &prefix};
        if (store_scan(s->all->store, &range, add_row, g, err) < 0)
            return -1;
    }
    return g->err ? sa_pass(err, g->err) : 0;
}

static const char *name_of_server(const ProtobufCMessage *m)
{
    return ((const McpServer *)m)->name;
}

static const char *name_of_skill(const ProtobufCMessage *m)
{
    return ((const Skill *)m)->name;
}

int config_servers(struct session *s, const StoredSpec *spec, struct sa_arena *arena, McpServer ***ret,
                   size_t *ret_n, sa_error **err)
{
    struct gathering g = {.arena = arena, .name = name_of_server};
    g.list = sa_arena_alloc(arena, CONFIG_ITEMS_MAX * sizeof *g.list);
    for (size_t i = 0; i < spec->n_mcp_servers; i++)
        add(&g, &spec->mcp_servers[i]->base);
    if (gather(s, spec, DB_A_MCP, &g, err))
        return -1;
    *ret = sa_arena_alloc(arena, (g.n + 1) * sizeof **ret);
    *ret_n = 0;
    for (size_t i = 0; i < g.n; i++)
        if (!((McpServer *)g.list[i])->disabled)
            (*ret)[(*ret_n)++] = (McpServer *)g.list[i];
    return 0;
}

int config_skills(struct session *s, const StoredSpec *spec, struct sa_arena *arena, Skill ***ret,
                  size_t *ret_n, sa_error **err)
{
    struct gathering g = {.arena = arena, .name = name_of_skill};
    g.list = sa_arena_alloc(arena, CONFIG_ITEMS_MAX * sizeof *g.list);
    for (size_t i = 0; i < spec->n_skills; i++)
        add(&g, &spec->skills[i]->base);
    if (gather(s, spec, DB_A_SKILLS, &g, err))
        return -1;
    *ret = sa_arena_alloc(arena, (g.n + 1) * sizeof **ret);
    *ret_n = 0;
    for (size_t i = 0; i < g.n; i++)
        if (!((Skill *)g.list[i])->disabled)
            (*ret)[(*ret_n)++] = (Skill *)g.list[i];
    return 0;
}
