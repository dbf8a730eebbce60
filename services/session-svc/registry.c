#include "services/session-svc/registry.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"

enum {
    NAME_MAX_BYTES = 64,
    WORDS_MAX = 100,
    WORDS_BYTES_MAX = 64 << 10,
    SKILL_DIRS_MAX = 10,
    TIMEOUT_MS = 60000,
    TIMEOUT_MAX_MS = 600000,
};

struct custom {
    struct custom *next; /* by name */
    struct agent agent;
    struct sa_arena *arena;
    bool from_file;
};

static const struct agent *built_in(const char *name)
{
    return agents_find(name, NULL);
}

static struct custom *find_custom(const struct sessions *all, const char *name)
{
    struct custom *c = all->custom_agents;
    while (c && strcmp(c->agent.name, name) != 0)
        c = c->next;
    return c;
}

const struct agent *registry_at(const struct sessions *all, size_t i)
{
    for (const struct agent *const *a = agents_all(); *a; a++)
        if (i-- == 0)
            return *a;
    for (const struct custom *c = all->custom_agents; c; c = c->next)
        if (i-- == 0)
            return &c->agent;
    return NULL;
}

const struct agent *registry_find(const struct sessions *all, const char *name, sa_error **err)
{
    cleanup_buf struct sa_buf names = {0};
    const struct agent *a;
    for (size_t i = 0; (a = registry_at(all, i)); i++) {
        if (!strcmp(a->name, name))
            return a;
        sa_buf_addf(&names, "%s%s", i ? ", " : "", a->name);
    }
    sa_fail(err, SA_UNKNOWN_AGENT, "agent \"%.64s\" is not known; there are: %s", name,
            sa_buf_string(&names));
    return NULL;
}

bool registry_is_custom(const struct sessions *all, const struct agent *a)
{
    return find_custom(all, a->name) != NULL;
}

bool registry_is_registered(const struct sessions *all, const char *name)
{
    const struct custom *c = find_custom(all, name);
    return c ? !c->from_file : !built_in(name);
}

/* ---- check ---- */

static bool is_name(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!islower((unsigned char)name[i]) &&
            (!i || (!isdigit((unsigned char)name[i]) && name[i] != '-' && name[i] != '_')))
            return false;
    return n && n <= NAME_MAX_BYTES;
}

static bool is_variable(const char *name)
{
    return *name && strlen(name) <= 256 && !strpbrk(name, "= \t\n");
}

/* "skills", ".agents/skills": stays below where it starts. */
static bool is_below(const char *dir)
{
    for (const char *p = dir;; p += strcspn(p, "/") + 1) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && *p == '.') || (n == 2 && !strncmp(p, "..", 2)))
            return false;
        if (!p[n])
            return strlen(dir) < 1024;
    }
}

static int check_fields(const CustomAgent *c, sa_error **err)
{
    size_t bytes = 0;
    if (!is_name(c->agent))
        return sa_fail(err, SA_INVALID_REQUEST,
                       "agent.agent: 1 to %d of a-z, 0-9, '-' and '_', the first a letter", NAME_MAX_BYTES);
    if (strlen(c->title) > 256)
        return sa_fail(err, SA_INVALID_REQUEST, "agent.title: over 256 bytes");
    for (size_t i = 0; i < c->n_command; i++)
        bytes += strlen(c->command[i]) + 1;
    if (!c->n_command || !*c->command[0] || c->n_command > WORDS_MAX || bytes > WORDS_BYTES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "agent.command: not 1 to %d words of %d bytes in all",
                       WORDS_MAX, WORDS_BYTES_MAX);
    if (*c->command[0] != '/' && strchr(c->command[0], '/'))
        return sa_fail(err, SA_INVALID_REQUEST, "agent.command[0]: neither absolute nor without '/'");
    if (c->n_env > WORDS_MAX || c->n_credentials > WORDS_MAX || c->n_skill_dirs > SKILL_DIRS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST,
                       "agent: more than %d env or credentials, or more than %d skill_dirs", WORDS_MAX,
                       SKILL_DIRS_MAX);
    for (size_t i = 0; i < c->n_env; i++)
        if (!is_variable(c->env[i]->key) || strlen(c->env[i]->value) > WORDS_BYTES_MAX)
            return sa_fail(err, SA_INVALID_REQUEST, "agent.env: a name is not valid, or a value too long");
    for (size_t i = 0; i < c->n_credentials; i++)
        if (!is_variable(c->credentials[i]))
            return sa_fail(err, SA_INVALID_REQUEST, "agent.credentials[%zu]: is no name of a variable", i);
    for (size_t i = 0; i < c->n_skill_dirs; i++)
        if (!is_below(c->skill_dirs[i]))
            return sa_fail(err, SA_INVALID_REQUEST, "agent.skill_dirs[%zu]: is no relative path", i);
    if (c->initialize_timeout_ms > TIMEOUT_MAX_MS || c->open_timeout_ms > TIMEOUT_MAX_MS)
        return sa_fail(err, SA_INVALID_REQUEST, "agent: a timeout is over %d ms", TIMEOUT_MAX_MS);
    return 0;
}

int registry_check(const struct sessions *all, const CustomAgent *c, sa_error **err)
{
    size_t n = 0;
    if (check_fields(c, err))
        return -1;
    if (!registry_is_registered(all, c->agent))
        return sa_fail(err, SA_ALREADY_EXISTS, "agent \"%s\" is built in, or comes from the server's file",
                       c->agent);
    for (struct custom *o = all->custom_agents; o; o = o->next)
        n++;
    if (n >= REGISTRY_MAX && !find_custom(all, c->agent))
        return sa_fail(err, SA_TOO_MANY, "there are %d agents already", REGISTRY_MAX);
    return 0;
}

/* ---- put, remove ---- */

struct exchange {
    const struct agent *old, *new;
};

static bool give_new_one(void *user, struct session *s)
{
    const struct exchange *x = user;
    if (s->agent == x->old || (!x->old && !s->agent && x->new && !strcmp(s->agent_name, x->new->name)))
        s->agent = x->new;
    return true;
}

static const char *const *copy_list(struct sa_arena *arena, char **list, size_t n)
{
    const char **copy = sa_arena_alloc(arena, (n + 1) * sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = sa_arena_strdup(arena, list[i]);
    return copy;
}

static struct custom *custom_new(const CustomAgent *c)
{
    static const char *const none[] = {NULL};
    struct custom *custom = sa_calloc(1, sizeof *custom);
    struct sa_arena *arena = custom->arena = sa_arena_new();
    const char **env = sa_arena_alloc(arena, (c->n_env + 1) * sizeof *env);
    for (size_t i = 0; i < c->n_env; i++)
        env[i] = sa_arena_format(arena, "%s=%s", c->env[i]->key, c->env[i]->value);
    custom->agent = (struct agent){
        .name = sa_arena_strdup(arena, c->agent),
        .title = sa_arena_strdup(arena, *c->title ? c->title : c->agent),
        .npm_packages = none,
        .command = sa_arena_strdup(arena, c->command[0]),
        .arguments = copy_list(arena, c->command + 1, c->n_command - 1),
        .environment = env,
        .credentials = copy_list(arena, c->credentials, c->n_credentials),
        .initialize_ms = c->initialize_timeout_ms ? c->initialize_timeout_ms : TIMEOUT_MS,
        .open_ms = c->open_timeout_ms ? c->open_timeout_ms : TIMEOUT_MS,
        .no_files = c->no_files,
        .no_load = c->no_load,
        .no_resume = c->no_resume,
        .skill_dirs = c->n_skill_dirs ? copy_list(arena, c->skill_dirs, c->n_skill_dirs) : NULL,
    };
    return custom;
}

static void custom_free(struct custom *c)
{
    sa_arena_free(c->arena);
    free(c);
}

static void replace(struct sessions *all, const char *name, struct custom *new)
{
    struct custom **at = &all->custom_agents, *old = NULL;
    while (*at && strcmp((*at)->agent.name, name) < 0)
        at = &(*at)->next;
    if (*at && !strcmp((*at)->agent.name, name)) {
        old = *at;
        *at = old->next;
    }
    if (new) {
        new->next = *at;
        *at = new;
    }
    struct exchange x = {old ? &old->agent : NULL, new ? &new->agent : NULL};
    if (old || new)
        sessions_each(all, give_new_one, &x);
    if (old)
        custom_free(old);
}

void registry_put(struct sessions *all, const CustomAgent *c)
{
    replace(all, c->agent, custom_new(c));
}

void registry_remove(struct sessions *all, const char *name)
{
    replace(all, name, NULL);
}

void registry_free(struct sessions *all)
{
    for (struct custom *c = all->custom_agents, *next; c; c = next) {
        next = c->next;
        custom_free(c);
    }
    all->custom_agents = NULL;
}

/* ---- load ---- */

static int load_one(struct sessions *all, struct sa_arena *arena, struct json v, sa_error **err)
{
    CustomAgent *c = (CustomAgent *)json_read_message(arena, v, &custom_agent__descriptor, NULL, err);
    if (!c || registry_check(all, c, err))
        return -1;
    struct custom *custom = custom_new(c);
    custom->from_file = true;
    replace(all, c->agent, custom);
    return 0;
}

static int load_file(struct sessions *all, const char *file, sa_error **err)
{
    cleanup_buf struct sa_buf text = {0};
    struct json v, element;
    if (sa_read_file(file, REGISTRY_FILE_BYTES_MAX, &text, err) < 0 ||
        json_check(text.data, text.len, &v, err) < 0)
        return -1;
    if (json_type(json_get(v, "agents")) != JSON_ARRAY)
        return sa_fail(err, SA_INVALID_CONFIG, "is no object with a list \"agents\"");
    struct sa_arena *arena = sa_arena_new();
    int r = 0;
    size_t i = 0;
    for (struct json_iter it = json_iter(json_get(v, "agents")); !r && json_next(&it, NULL, &element); i++)
        if ((r = load_one(all, arena, element, err)))
            sa_wrap(err, "agents[%zu]", i);
    sa_arena_free(arena);
    return r;
}

static bool load_row(void *user, const struct store_row *row)
{
    struct sessions *all = user;
    cleanup_error sa_error *err = NULL;
    cleanup_message CustomAgent *c = store_row_unpack(row, &err);
    if (c && !registry_check(all, c, &err))
        registry_put(all, c);
    else /* the file has taken its name since */
        sa_log(SA_LOG_WARN, "agent.not_registered", "error=\"%s\"", err->message);
    return true;
}

int registry_load(struct sessions *all, const char *file, sa_error **err)
{
    if (file && load_file(all, file, err) < 0)
        return sa_wrap(err, "agents file %s", file);
    struct store_range range = {.table = DB_A_CUSTOM};
    return store_scan(all->store, &range, load_row, all, err) < 0 ? -1 : 0;
}
