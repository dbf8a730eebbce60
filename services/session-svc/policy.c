#include "services/session-svc/policy.h"

#include <stdlib.h>
#include <string.h>

/* ---- patterns ---- */

static bool one_matches(const char *pattern, char c, const char *barrier)
{
    if (*pattern == '?')
        return !strchr(barrier, c);
    return (*pattern == '\\' && pattern[1] ? pattern[1] : *pattern) == c;
}

static const char *behind(const char *pattern)
{
    return pattern + (*pattern == '\\' && pattern[1] ? 2 : 1);
}

/* A star first stands for nothing, and for one character more each time when what follows does not fit. Only
 * the last star of a kind need be tried again, as one further left could not reach anything else. */
bool policy_glob(const char *pattern, const char *text, const char *barrier, bool deep)
{
    const char *star = NULL, *star_text = NULL, *any = NULL, *any_text = NULL;
    for (;;) {
        if (deep && pattern[0] == '*' && pattern[1] == '*') {
            any = pattern += 2;
            any_text = text;
            star = NULL;
        } else if (*pattern == '*') {
            star = ++pattern;
            star_text = text;
        } else if (*text && *pattern && one_matches(pattern, *text, barrier)) {
            pattern = behind(pattern);
            text++;
        } else if (!*text && !*pattern) {
            return true;
        } else if (star && *star_text && !strchr(barrier, *star_text)) {
            pattern = star;
            text = ++star_text;
        } else if (any && *any_text) {
            pattern = any;
            text = ++any_text;
            star = NULL;
        } else {
            return false;
        }
    }
}

/* ---- paths ---- */

static void add_parts(struct sa_buf *out, const char *path)
{
    while (*path) {
        size_t n = strcspn(path, "/");
        if (n == 2 && path[0] == '.' && path[1] == '.') {
            while (out->len && out->data[--out->len] != '/')
                ;
        } else if (n && !(n == 1 && *path == '.')) {
            sa_buf_add(out, "/", 1);
            sa_buf_add(out, path, n);
        }
        path += n + (path[n] == '/');
    }
}

char *policy_path(const char *cwd, const char *path)
{
    cleanup_buf struct sa_buf out = {0};
    if (*path != '/')
        add_parts(&out, cwd);
    add_parts(&out, path);
    return out.len ? sa_strdup(sa_buf_string(&out)) : sa_strdup("/");
}

static bool path_matches(const char *pattern, const char *path, const char *cwd)
{
    if (*pattern == '/')
        return policy_glob(pattern, path, "/", true);
    cleanup_free char *base = policy_path("/", cwd);
    size_t n = strcmp(base, "/") ? strlen(base) : 0;
    return !strncmp(path, base, n) && path[n] == '/' && policy_glob(pattern, path + n + 1, "/", true);
}

/* ---- rules ---- */

static bool allows(const PolicyRule *r)
{
    return r->action == POLICY_ACTION_ALLOW_ONCE || r->action == POLICY_ACTION_ALLOW_ALWAYS;
}

static bool paths_match(const PolicyRule *r, const struct policy_facts *f)
{
    if (f->paths_cut)
        return !allows(r);
    size_t matched = 0;
    for (size_t i = 0; i < f->n_paths; i++) {
        cleanup_free char *path = policy_path(f->cwd, f->paths[i]);
        matched += path_matches(r->path, path, f->cwd);
    }
    return matched && (!allows(r) || matched == f->n_paths);
}

static bool command_matches(const PolicyRule *r, const struct policy_facts *f)
{
    /* What makes a shell do more than one thing. */
    static const char operators[] = ";&|<>()$`\\\n\r";
    if (f->command_cut)
        return !allows(r);
    if (!f->command)
        return false;
    bool everything = !strcmp(r->command, "*");
    return policy_glob(r->command, f->command, allows(r) && !everything ? operators : "", false);
}

static bool matches(const PolicyRule *r, const struct policy_facts *f)
{
    return (!*r->tool_kind || (f->kind && !strcmp(r->tool_kind, f->kind))) &&
           (!*r->tool_name || (f->name && policy_glob(r->tool_name, f->name, "", false))) &&
           (!*r->path || paths_match(r, f)) && (!*r->command || command_matches(r, f));
}

static bool decided_by(const PermissionPolicy *policy, const struct policy_facts *facts,
                       struct policy_decision *ret)
{
    for (size_t i = 0; policy && i < policy->n_rules; i++)
        if (matches(policy->rules[i], facts)) {
            ret->action = policy->rules[i]->action;
            ret->rule = policy->rules[i];
            ret->index = (uint32_t)i;
            return true;
        }
    return false;
}

struct policy_decision policy_decide(const PermissionPolicy *of_session, const PermissionPolicy *of_server,
                                     const struct policy_facts *facts)
{
    struct policy_decision d = {.action = POLICY_ACTION_ASK};
    if (!decided_by(of_session, facts, &d))
        d.of_server = decided_by(of_server, facts, &d);
    return d;
}

/* ---- what may be set ---- */

static int check_pattern(size_t rule, const char *field, const char *p, sa_error **err)
{
    if (strlen(p) > POLICY_PATTERN_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "policy.rules[%zu].%s: over %d bytes", rule, field,
                       POLICY_PATTERN_MAX);
    for (; *p; p = behind(p))
        if (*p == '\\' && !p[1])
            return sa_fail(err, SA_INVALID_REQUEST, "policy.rules[%zu].%s: ends in a single \\", rule, field);
    return 0;
}

/* They would never match: paths are compared without such parts. */
static int check_path(size_t rule, const char *path, sa_error **err)
{
    for (const char *p = path + (*path == '/'); *path; p += strcspn(p, "/") + 1) {
        size_t n = strcspn(p, "/");
        if (!n || (n == 1 && *p == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return sa_fail(err, SA_INVALID_REQUEST,
                           "policy.rules[%zu].path: has an empty part, \".\" or \"..\" in it", rule);
        if (!p[n])
            break;
    }
    return 0;
}

static int check_rule(size_t i, const PolicyRule *r, sa_error **err)
{
    if (r->action < POLICY_ACTION_ASK || r->action > POLICY_ACTION_DENY)
        return sa_fail(err, SA_INVALID_REQUEST, "policy.rules[%zu].action: is not set", i);
    if (strlen(r->name) > POLICY_NAME_MAX || strlen(r->tool_kind) > POLICY_NAME_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "policy.rules[%zu]: name or tool_kind is over %d bytes", i,
                       POLICY_NAME_MAX);
    return check_pattern(i, "tool_name", r->tool_name, err) || check_pattern(i, "path", r->path, err) ||
                   check_pattern(i, "command", r->command, err) || check_path(i, r->path, err)
               ? -1
               : 0;
}

int policy_check_deadline(uint64_t ms, DeadlineAction action, sa_error **err)
{
    const uint64_t max_ms = 30ull * 24 * 3600 * 1000;
    if (ms > max_ms)
        return sa_fail(err, SA_INVALID_REQUEST, "deadline_ms: over 30 days");
    if ((unsigned)action > DEADLINE_ACTION_CANCEL)
        return sa_fail(err, SA_INVALID_REQUEST, "on_deadline: is not an action");
    return 0;
}

int policy_check(const PermissionPolicy *policy, sa_error **err)
{
    if (policy->n_rules > POLICY_RULES_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "policy.rules: more than %d", POLICY_RULES_MAX);
    if (policy_check_deadline(policy->deadline_ms, policy->on_deadline, err))
        return sa_wrap(err, "policy");
    for (size_t i = 0; i < policy->n_rules; i++)
        if (check_rule(i, policy->rules[i], err))
            return -1;
    return 0;
}

/* ---- modes ---- */

static PolicyRule *rule_of(struct sa_arena *arena, const char *name, const char *kind, const char *path,
                           PolicyAction action)
{
    PolicyRule *r = sa_arena_alloc(arena, sizeof *r);
    *r = (PolicyRule)POLICY_RULE__INIT;
    r->name = sa_arena_strdup(arena, name);
    r->tool_kind = sa_arena_strdup(arena, kind);
    r->path = sa_arena_strdup(arena, path);
    r->action = action;
    return r;
}

bool policy_of_mode(PolicyMode mode, struct sa_arena *arena, PermissionPolicy *ret)
{
    ret->rules = sa_arena_alloc(arena, sizeof *ret->rules);
    ret->n_rules = mode != POLICY_MODE_ASK;
    switch (mode) {
    case POLICY_MODE_ASK:
        return true;
    case POLICY_MODE_ALLOW_EDITS:
        ret->rules[0] = rule_of(arena, "allow edits", "edit", "**", POLICY_ACTION_ALLOW_ONCE);
        return true;
    case POLICY_MODE_ALLOW_ALL:
        ret->rules[0] = rule_of(arena, "allow all", "", "", POLICY_ACTION_ALLOW_ONCE);
        return true;
    case POLICY_MODE_DENY_ALL:
        ret->rules[0] = rule_of(arena, "deny all", "", "", POLICY_ACTION_DENY);
        return true;
    default:
        return false;
    }
}
