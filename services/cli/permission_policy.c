#include "services/cli/permission_policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/cli/show.h"

struct name {
    const char *text;
    int value;
};

static const struct name modes[] = {{"ask", POLICY_MODE_ASK},
                                    {"allow-edits", POLICY_MODE_ALLOW_EDITS},
                                    {"allow-all", POLICY_MODE_ALLOW_ALL},
                                    {"deny-all", POLICY_MODE_DENY_ALL},
                                    {0}};
static const struct name actions[] = {{"ask", POLICY_ACTION_ASK},
                                      {"allow-once", POLICY_ACTION_ALLOW_ONCE},
                                      {"allow-always", POLICY_ACTION_ALLOW_ALWAYS},
                                      {"deny", POLICY_ACTION_DENY},
                                      {0}};
static const struct name ends[] = {{"allow-once", DEADLINE_ACTION_ALLOW_ONCE},
                                   {"deny", DEADLINE_ACTION_DENY},
                                   {"cancel", DEADLINE_ACTION_CANCEL},
                                   {0}};

static int value_of(const struct name *names, const char *text)
{
    for (; names->text; names++)
        if (!strcmp(names->text, text))
            return names->value;
    return 0;
}

/* The next word of a rule; of a command all that is left. */
static char *next_word(char **rest)
{
    char *word = *rest + strspn(*rest, " ");
    size_t n = !strncmp(word, "command=", 8) ? strlen(word) : strcspn(word, " ");
    *rest = word + n + (word[n] != '\0');
    word[n] = '\0';
    return word;
}

/* "ACTION kind=K tool=P path=P command=P": cut up in place; the rule points into it. */
static int read_rule(char *text, PolicyRule *r, struct sa_arena *arena, sa_error **err)
{
    struct {
        const char *key;
        char **field;
    } fields[] = {
        {"kind=", &r->tool_kind}, {"tool=", &r->tool_name}, {"path=", &r->path}, {"command=", &r->command}};
    *r = (PolicyRule)POLICY_RULE__INIT;
    r->name = sa_arena_strdup(arena, text);
    char *rest = text, *action = next_word(&rest);
    r->action = (PolicyAction)value_of(actions, action);
    if (!r->action)
        return sa_fail(err, SA_INVALID_REQUEST,
                       "rule \"%s\": is to begin with ask, allow-once, allow-always or deny", r->name);
    while (*rest) {
        char *word = next_word(&rest);
        size_t i = 0;
        while (i < 4 && strncmp(word, fields[i].key, strlen(fields[i].key)) != 0)
            i++;
        if (i == 4)
            return sa_fail(err, SA_INVALID_REQUEST,
                           "rule \"%s\": `%s` is not kind=, tool=, path= or command=", r->name, word);
        *fields[i].field = word + strlen(fields[i].key);
    }
    return 0;
}

static void print_rule(size_t i, const PolicyRule *r)
{
    const struct {
        const char *key, *value;
    } fields[] = {{"kind", r->tool_kind}, {"tool", r->tool_name}, {"path", r->path}, {"command", r->command}};
    printf("%zu  %s", i, show_enum(&policy_action__descriptor, (int)r->action, "POLICY_ACTION_"));
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++)
        if (*fields[k].value) {
            printf(" %s=", fields[k].key);
            show_text(stdout, fields[k].value, strlen(fields[k].value));
        }
    putchar('\n');
}

static void print_policy(const PermissionPolicy *p, bool json)
{
    if (json) {
        show_json(stdout, &p->base);
        return;
    }
    for (size_t i = 0; i < p->n_rules; i++)
        print_rule(i, p->rules[i]);
    if (p->deadline_ms)
        printf("after %llu ms: %s\n", (unsigned long long)p->deadline_ms,
               show_enum(&deadline_action__descriptor, (int)p->on_deadline, "DEADLINE_ACTION_"));
    printf("else: ask\n");
}

static int show(struct client *c, char *session, bool json, sa_error **err)
{
    GetPolicyRequest req = GET_POLICY_REQUEST__INIT;
    req.session_id = session;
    GetPolicyResponse *res = get_policy_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    print_policy(res->policy, json);
    rpc_message_free(res);
    return 0;
}

static int set(struct client *c, const struct options *o, char *session, int n, char **words, sa_error **err)
{
    struct sa_arena *arena = sa_arena_new();
    PermissionPolicy policy = PERMISSION_POLICY__INIT;
    SetPolicyRequest req = SET_POLICY_REQUEST__INIT;
    int r = 0;
    policy.deadline_ms = options_uint(o, "deadline-ms");
    policy.on_deadline =
        policy.deadline_ms ? (DeadlineAction)value_of(ends, options_text(o, "on-deadline")) : 0;
    policy.rules = sa_arena_alloc(arena, (size_t)n * sizeof *policy.rules);
    req.session_id = session;
    req.policy = &policy;
    req.mode = n == 1 ? (PolicyMode)value_of(modes, words[0]) : POLICY_MODE_UNSPECIFIED;
    if (policy.deadline_ms && !policy.on_deadline)
        r = sa_fail(err, SA_INVALID_REQUEST, "--on-deadline: allow-once, deny or cancel");
    for (int i = 0; !req.mode && !r && i < n; i++) {
        PolicyRule *rule = policy.rules[policy.n_rules++] = sa_arena_alloc(arena, sizeof *rule);
        r = read_rule(words[i], rule, arena, err);
    }
    SetPolicyResponse *res = r ? NULL : set_policy_wait(c->channel, &req, NULL, err);
    if (res)
        print_policy(res->policy, options_flag(o, "json"));
    else if (!r)
        r = client_explain(c, err);
    rpc_message_free(res);
    sa_arena_free(arena);
    return r;
}

int permission_policy(struct client *c, const struct options *o, int n, char **words, sa_error **err)
{
    cleanup_free char *id = strcmp(words[0], "server") ? client_session(c, words[0], err) : sa_strdup("");
    if (!id)
        return -1;
    return n == 1 ? show(c, id, options_flag(o, "json"), err) : set(c, o, id, n - 1, words + 1, err);
}
