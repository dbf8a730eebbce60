#include "services/session-svc/tools.h"

#include <stdlib.h>
#include <string.h>

#include "services/session-svc/sessions.h"

struct tool {
    char *id, *kind, *name, *title, *command; /* NULL: not told */
    char **paths;
    size_t n_paths, path_bytes;
    bool paths_cut, command_cut;
    bool whole; /* its beginning was seen */
};

struct tools {
    struct tool ring[TOOLS_MAX];
    size_t n; /* so many were put into it */
};

static void clear_tool(struct tool *t)
{
    for (size_t i = 0; i < t->n_paths; i++)
        free(t->paths[i]);
    free(t->paths);
    char *texts[] = {t->id, t->kind, t->name, t->title, t->command};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    *t = (struct tool){0};
}

void tools_clear(struct session *s)
{
    for (size_t i = 0; s->tools && i < TOOLS_MAX; i++)
        clear_tool(&s->tools->ring[i]);
    free(s->tools);
    s->tools = NULL;
}

/* ---- reading a call ---- */

static void take_text(char **field, struct json v)
{
    if (json_type(v) != JSON_STRING)
        return;
    free(*field);
    *field = json_string(v);
}

/* A path that is not one of this machine's files by name cannot be compared. */
static bool is_plain(const char *path)
{
    return *path && *path != '~' && !strstr(path, "://");
}

static void keep_path(struct tool *t, const char *path)
{
    for (size_t i = 0; i < t->n_paths; i++)
        if (!strcmp(t->paths[i], path))
            return;
    t->path_bytes += strlen(path);
    if (t->n_paths == POLICY_PATHS_MAX || t->path_bytes > POLICY_PATH_BYTES_MAX || !is_plain(path)) {
        t->paths_cut = true;
        return;
    }
    t->paths = sa_realloc(t->paths, (t->n_paths + 1) * sizeof *t->paths);
    t->paths[t->n_paths++] = sa_strdup(path);
}

static void add_path(struct tool *t, struct json v)
{
    cleanup_free char *path = json_string(v);
    if (path)
        keep_path(t, path);
}

/* Its locations, and the files whose changes it shows. Once told, a file belongs to the call. */
static void take_paths(struct tool *t, struct json call)
{
    struct json v;
    for (struct json_iter it = json_iter(json_get(call, "locations")); json_next(&it, NULL, &v);)
        add_path(t, json_get(v, "path"));
    for (struct json_iter it = json_iter(json_get(call, "content")); json_next(&it, NULL, &v);)
        if (json_is(json_get(v, "type"), "diff"))
            add_path(t, json_get(v, "path"));
}

static void take_command(struct tool *t, struct json input)
{
    struct json command = json_get(input, "command"), word;
    if (json_type(command) == JSON_ABSENT)
        command = json_get(input, "cmd");
    cleanup_buf struct sa_buf text = {0};
    if (json_type(command) == JSON_STRING) {
        json_decode(command, JSON_REPLACE, &text, NULL);
    } else if (json_type(command) == JSON_ARRAY) {
        for (struct json_iter it = json_iter(command); json_next(&it, NULL, &word);) {
            if (text.len)
                sa_buf_add(&text, " ", 1);
            json_decode(word, JSON_REPLACE, &text, NULL);
        }
    } else {
        return;
    }
    free(t->command);
    t->command_cut = text.len > POLICY_COMMAND_MAX;
    t->command = sa_strndup(sa_buf_string(&text), POLICY_COMMAND_MAX);
}

static void take(struct tool *t, struct json call)
{
    take_text(&t->kind, json_get(call, "kind"));
    take_text(&t->title, json_get(call, "title"));
    take_text(&t->name, json_get(call, "_meta.claudeCode.toolName"));
    take_text(&t->name, json_get(call, "name"));
    take_paths(t, call);
    take_command(t, json_get(call, "rawInput"));
}

/* ---- the ring ---- */

static struct tool *find(struct session *s, const char *id)
{
    for (size_t i = 0; s->tools && i < TOOLS_MAX; i++)
        if (s->tools->ring[i].id && !strcmp(s->tools->ring[i].id, id))
            return &s->tools->ring[i];
    return NULL;
}

static struct tool *add(struct session *s, const char *id)
{
    if (!s->tools)
        s->tools = sa_calloc(1, sizeof *s->tools);
    struct tool *t = &s->tools->ring[s->tools->n++ % TOOLS_MAX];
    clear_tool(t);
    t->id = sa_strdup(id);
    return t;
}

void tools_note(struct session *s, struct json call, bool begins)
{
    cleanup_free char *id = json_string(json_get(call, "toolCallId"));
    if (!id || !*id)
        return;
    struct tool *t = find(s, id);
    if (t && begins) { /* an id that is used again */
        clear_tool(t);
        t->id = steal_pointer(&id);
    } else if (!t) {
        t = add(s, id);
    }
    t->whole |= begins;
    take(t, call);
}

/* ---- the log ---- */

struct search {
    struct sa_arena *arena;
    const char *id;
    struct json found[64]; /* the latest first */
    size_t n;
};

static bool search_row(void *user, const struct store_row *row)
{
    struct search *search = user;
    Event *e = rpc_unpack(&event__descriptor, row->value, row->value_len, NULL);
    bool call = e && (e->kind_case == EVENT__KIND_TOOL_CALL || e->kind_case == EVENT__KIND_TOOL_CALL_UPDATE);
    struct json raw;
    if (call && !strcmp(e->tool_call->tool_call_id, search->id) &&
        !json_check(sa_arena_memdup(search->arena, e->agent_json.data, e->agent_json.len), e->agent_json.len,
                    &raw, NULL))
        search->found[search->n++] = json_get(raw, "params.update");
    bool more =
        search->n < sizeof search->found / sizeof *search->found &&
        !(call && e->kind_case == EVENT__KIND_TOOL_CALL && !strcmp(e->tool_call->tool_call_id, search->id));
    rpc_message_free(e);
    return more;
}

/* Takes what the log tells of a call whose beginning we have not seen, under what we have. */
static void complete(struct session *s, struct tool *t)
{
    struct search search = {.arena = sa_arena_new(), .id = t->id};
    struct store_key prefix = db_key(s->id);
    struct store_range range = {.table = DB_EVENTS,
                                .prefix = &prefix,
                                .reverse = true,
                                .limit = TOOLS_SEARCH_MAX,
                                .limit_bytes = TOOLS_SEARCH_BYTES};
    struct tool known = *t;
    *t = (struct tool){.id = sa_strdup(known.id), .whole = true};
    if (store_scan(s->all->store, &range, search_row, &search, NULL) >= 0)
        while (search.n)
            take(t, search.found[--search.n]);
    char **fields[] = {&t->kind, &t->name, &t->title, &t->command};
    char *const newer[] = {known.kind, known.name, known.title, known.command};
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (newer[i])
            session_set_text(fields[i], newer[i]);
    for (size_t i = 0; i < known.n_paths; i++)
        keep_path(t, known.paths[i]);
    t->paths_cut |= known.paths_cut;
    t->command_cut = known.command ? known.command_cut : t->command_cut;
    clear_tool(&known);
    sa_arena_free(search.arena);
}

void tools_facts(struct session *s, struct json call, struct policy_facts *ret, const char **ret_title)
{
    cleanup_free char *id = json_string(json_get(call, "toolCallId"));
    *ret_title = "";
    if (!id || !*id)
        return;
    tools_note(s, call, false);
    struct tool *t = find(s, id);
    if (!t->whole)
        complete(s, t);
    ret->kind = t->kind;
    ret->name = t->name ? t->name : t->title;
    ret->command = t->command;
    ret->paths = t->paths;
    ret->n_paths = t->n_paths;
    ret->paths_cut = t->paths_cut;
    ret->command_cut = t->command_cut;
    *ret_title = t->title ? t->title : "";
}
