#include "services/session-svc/environment.h"

#include <stdlib.h>
#include <string.h>

enum { OURS_MAX = 64 };

struct variables {
    struct sa_arena *arena;
    ProtobufCBinaryData *list;
    size_t n;
};

/* "NAME=value"; replaces an earlier one of that name. */
static void set_bytes(struct variables *v, const void *p, size_t n)
{
    const char *equals = memchr(p, '=', n);
    size_t name = equals ? (size_t)(equals - (const char *)p) + 1 : n, i = 0;
    while (i < v->n && (v->list[i].len < name || memcmp(v->list[i].data, p, name)))
        i++;
    v->list[i] = (ProtobufCBinaryData){n, sa_arena_memdup(v->arena, p, n)};
    v->n += i == v->n;
}

static void set(struct variables *v, const char *name, const char *value)
{
    char *text = sa_arena_format(v->arena, "%s=%s", name, value);
    set_bytes(v, text, strlen(text));
}

static void set_session_variable(struct variables *v, const EnvironmentVariable *e)
{
    size_t n = e->name.len + 1 + e->value.len;
    uint8_t *text = sa_arena_alloc(v->arena, n + 1);
    memcpy(text, e->name.data, e->name.len);
    text[e->name.len] = '=';
    if (e->value.len)
        memcpy(text + e->name.len + 1, e->value.data, e->value.len);
    set_bytes(v, text, n);
}

static ProtobufCBinaryData text_bytes(struct sa_arena *arena, const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)sa_arena_strdup(arena, text)};
}

static bool names_variable(const StoredSpec *spec, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < spec->n_env; i++)
        if (spec->env[i]->name.len == n && !memcmp(spec->env[i]->name.data, name, n))
            return true;
    return false;
}

/* Their values are not stored with the launch; the versions are: a start that is repeated must be the same.
 */
static int use_credentials(const struct sessions *all, const StoredSpec *spec, StoredLaunch *ret,
                           struct sa_arena *arena, sa_error **err)
{
    ret->credentials = sa_arena_alloc(arena, (spec->n_credentials + 1) * sizeof *ret->credentials);
    for (size_t i = 0; i < spec->n_credentials; i++) {
        const CredentialUse *wish = spec->credentials[i];
        const char *variable = *wish->variable ? wish->variable : wish->credential;
        StoredCredentialUse *use = sa_arena_alloc(arena, sizeof *use);
        *use = (StoredCredentialUse)STORED_CREDENTIAL_USE__INIT;
        if (names_variable(spec, variable))
            continue;
        if (!secrets_value(all->secrets, wish->credential, 0, &use->version, err))
            return -1;
        use->variable = sa_arena_strdup(arena, variable);
        use->name = sa_arena_strdup(arena, wish->credential);
        ret->credentials[ret->n_credentials++] = use;
    }
    return 0;
}

int environment_launch(const struct sessions *all, const struct agent *agent, const StoredSpec *spec,
                       StoredLaunch *ret, struct sa_arena *arena, sa_error **err)
{
    const struct sessions_config *c = &all->config;
    enum agents_source source;
    cleanup_free char *command = agents_command(agent, &c->place, &source, err);
    if (!command)
        return -1;
    size_t n_arguments = 0;
    while (source != AGENTS_LAUNCHER && agent->arguments[n_arguments])
        n_arguments++;
    ret->argv = sa_arena_alloc(arena, (n_arguments + 1) * sizeof *ret->argv);
    ret->argv[ret->n_argv++] = text_bytes(arena, command);
    for (size_t i = 0; i < n_arguments; i++)
        ret->argv[ret->n_argv++] = text_bytes(arena, agent->arguments[i]);
    ret->cwd = spec->cwd;

    struct variables v = {arena, sa_arena_alloc(arena, (spec->n_env + OURS_MAX) * sizeof *v.list), 0};
    cleanup_free char *path = agents_path(&c->place);
    set(&v, "PATH", path);
    set(&v, "HOME", c->home);
    set(&v, "LANG", "C.UTF-8");
    for (const char *const *e = agent->environment; *e; e++)
        set_bytes(&v, *e, strlen(*e));
    for (const char *const *name = agent->credentials; c->pass_credentials && *name; name++)
        if (getenv(*name))
            set(&v, *name, getenv(*name));
    for (size_t i = 0; i < spec->n_env; i++)
        set_session_variable(&v, spec->env[i]);
    ret->env = v.list;
    ret->n_env = v.n;
    return use_credentials(all, spec, ret, arena, err);
}

int environment_of_launch(const struct sessions *all, const StoredLaunch *launch, ProcessSpec *ret,
                          struct sa_arena *arena, sa_error **err)
{
    size_t n = launch->n_env + launch->n_credentials;
    struct variables v = {arena, sa_arena_alloc(arena, (n + 1) * sizeof *v.list), launch->n_env};
    for (size_t i = 0; i < launch->n_env; i++)
        v.list[i] = launch->env[i];
    for (size_t i = 0; i < launch->n_credentials; i++) {
        const StoredCredentialUse *use = launch->credentials[i];
        const char *value = secrets_value(all->secrets, use->name, use->version, NULL, err);
        if (!value)
            return -1;
        set(&v, use->variable, value);
    }
    ret->env = v.list;
    ret->n_env = v.n;
    return 0;
}

void environment_command(const struct sessions *all, const StoredSpec *spec, struct json env,
                         StoredLaunch *ret, struct sa_arena *arena)
{
    struct variables v = {arena, NULL, 0};
    v.list = sa_arena_alloc(arena, (spec->n_env + json_count(env) + OURS_MAX) * sizeof *v.list);
    cleanup_free char *path = agents_path(&all->config.place);
    set(&v, "PATH", path);
    set(&v, "HOME", all->config.home);
    set(&v, "LANG", "C.UTF-8");
    for (size_t i = 0; i < spec->n_env; i++)
        set_session_variable(&v, spec->env[i]);
    struct json e;
    for (struct json_iter it = json_iter(env); json_next(&it, NULL, &e);) {
        const char *name = json_arena_string(arena, json_get(e, "name"));
        if (*name && !strchr(name, '='))
            set(&v, name, json_arena_string(arena, json_get(e, "value")));
    }
    ret->env = v.list;
    ret->n_env = v.n;
}

char **environment_tools(const struct sessions *all, const char *home, struct sa_arena *arena)
{
    /* How npm, git and what they start reach the network. */
    static const char *const passed[] = {
        "npm_config_registry",
        "NPM_CONFIG_REGISTRY",
        "npm_config_userconfig",
        "NPM_CONFIG_USERCONFIG",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "GIT_SSL_CAINFO",
        "GIT_SSH_COMMAND",
        "SSH_AUTH_SOCK",
    };
    enum { PASSED = sizeof passed / sizeof *passed };
    const char *path = all->config.place.path;
    if (!home)
        home = getenv("HOME");
    char **env = sa_arena_alloc(arena, (PASSED + 5) * sizeof *env);
    size_t n = 0;
    env[n++] = sa_arena_format(
        arena, "PATH=%s",
        path && *path ? path : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    env[n++] = sa_arena_format(arena, "HOME=%s", home && *home == '/' ? home : all->config.home);
    env[n++] = sa_arena_strdup(arena, "LANG=C.UTF-8");
    env[n++] = sa_arena_strdup(arena, "GIT_TERMINAL_PROMPT=0");
    for (size_t i = 0; i < PASSED; i++)
        if (getenv(passed[i]))
            env[n++] = sa_arena_format(arena, "%s=%s", passed[i], getenv(passed[i]));
    return env;
}
