/* `sandbox-agent permissions`: list, watch, answer; policy is in permission_policy.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/permission_policy.h"
#include "services/cli/show.h"

static void print_permission(const Permission *p)
{
    const char *title = p->elicitation ? p->elicitation->message : p->tool_call ? p->tool_call->title : "";
    printf("%s  %s  ", p->session_id, p->permission_id);
    show_text(stdout, title, strlen(title));
    if (p->resolution) {
        printf("  %s ", show_enum(&permission_outcome__descriptor, (int)p->resolution->outcome,
                                  "PERMISSION_OUTCOME_"));
        show_text(stdout, p->resolution->option_id, strlen(p->resolution->option_id));
        printf(" by ");
        if (p->resolution->decider == PERMISSION_DECIDER_CALLER)
            show_text(stdout, p->resolution->author, strlen(p->resolution->author));
        else
            printf("%s", show_enum(&permission_decider__descriptor, (int)p->resolution->decider,
                                   "PERMISSION_DECIDER_"));
        putchar('\n');
        return;
    }
    putchar('\n');
    if (p->elicitation) {
        printf("    accept JSON, decline or cancel: ");
        show_text(stdout, (const char *)p->elicitation->schema_json.data, p->elicitation->schema_json.len);
        putchar('\n');
    }
    for (size_t i = 0; i < p->n_options; i++) {
        printf("    ");
        show_text(stdout, p->options[i]->option_id, strlen(p->options[i]->option_id));
        printf("  ");
        show_text(stdout, p->options[i]->name, strlen(p->options[i]->name));
        putchar('\n');
    }
}

static int list(struct client *c, const char *session, PermissionState state, bool json, sa_error **err)
{
    cleanup_free char *token = sa_strdup(""), *id = session ? client_session(c, session, err) : sa_strdup("");
    if (!id)
        return -1;
    do {
        ListPermissionsRequest req = LIST_PERMISSIONS_REQUEST__INIT;
        req.session_id = id;
        req.page_token = token;
        req.state = state;
        ListPermissionsResponse *res = list_permissions_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_permissions; i++) {
            if (json)
                show_json(stdout, &res->permissions[i]->base);
            else
                print_permission(res->permissions[i]);
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

static int watch(struct client *c, const char *session, bool json, sa_error **err)
{
    cleanup_free char *id = session ? client_session(c, session, err) : sa_strdup("");
    if (!id)
        return -1;
    WatchPermissionsRequest req = WATCH_PERMISSIONS_REQUEST__INIT;
    req.session_id = id;
    struct rpc_stream *s = watch_permissions_begin(c->channel, &req, NULL);
    WatchPermissionsResponse *m = NULL;
    int r;
    while ((r = watch_permissions_next(s, &m, err)) == 1) {
        if (json)
            show_json(stdout, &m->base);
        else if (m->kind_case == WATCH_PERMISSIONS_RESPONSE__KIND_PERMISSION)
            print_permission(m->permission);
        fflush(stdout);
        rpc_message_free(m);
    }
    rpc_stream_free(s);
    return r < 0 ? client_explain(c, err) : 0;
}

/* ---- answer ---- */

static int answer_option(struct client *c, const char *session, char **words, bool json, sa_error **err)
{
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.permission_id = words[0];
    req.option_id = words[1];
    AnswerPermissionResponse *res = answer_permission_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (json)
        show_json(stdout, &res->base);
    else
        printf("answered, event %" PRIu64 "\n", res->seq);
    rpc_message_free(res);
    return 0;
}

static int answer_question(struct client *c, const char *session, char **words, bool json, sa_error **err)
{
    AnswerElicitationRequest req = ANSWER_ELICITATION_REQUEST__INIT;
    req.session_id = (char *)(uintptr_t)session;
    req.permission_id = words[0];
    req.action = !strcmp(words[1], "accept")    ? ELICITATION_ACTION_ACCEPT
                 : !strcmp(words[1], "decline") ? ELICITATION_ACTION_DECLINE
                                                : ELICITATION_ACTION_CANCEL;
    if (words[2])
        req.content_json = (ProtobufCBinaryData){strlen(words[2]), (uint8_t *)words[2]};
    AnswerElicitationResponse *res = answer_elicitation_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (json)
        show_json(stdout, &res->base);
    else
        printf("answered, event %" PRIu64 "\n", res->seq);
    rpc_message_free(res);
    return 0;
}

/* SESSION PERMISSION and an option; for a question `accept JSON`, `decline` or `cancel`. */
static int answer(struct client *c, char **words, bool json, sa_error **err)
{
    cleanup_free char *id = client_session(c, words[0], err);
    if (!id)
        return -1;
    GetPermissionRequest req = GET_PERMISSION_REQUEST__INIT;
    req.permission_id = words[1];
    GetPermissionResponse *res = get_permission_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    bool question = res->permission->elicitation != NULL;
    rpc_message_free(res);
    bool known = !strcmp(words[2], "accept") || !strcmp(words[2], "decline") || !strcmp(words[2], "cancel");
    if (question && !known)
        return sa_fail(err, SA_INVALID_REQUEST,
                       "a question is answered with `accept JSON`, `decline` or `cancel`");
    return question ? answer_question(c, id, words + 1, json, err)
                    : answer_option(c, id, words + 1, json, err);
}

static const struct service_option list_options[] = {
    {"state", SERVICE_OPTION_TEXT, "pending", 0, 0, "list: pending, resolved or any"},
    {"deadline-ms", SERVICE_OPTION_UINT, "0", 0, UINT64_MAX,
     "policy: how long a request may wait; 0: for ever"},
    {"on-deadline", SERVICE_OPTION_TEXT, "deny", 0, 0,
     "policy: what happens then: allow-once, deny or cancel"},
    {0},
};

static int run(struct client *c, const struct options *o, int n, char **words, sa_error **err)
{
    static const char *const states[] = {"", "pending", "resolved", "any"};
    bool json = options_flag(o, "json");
    const char *verb = n ? words[0] : "list";
    if (!strcmp(verb, "answer") && (n == 4 || n == 5))
        return answer(c, words + 1, json, err);
    if (!strcmp(verb, "watch") && n <= 2)
        return watch(c, words[1], json, err);
    if (!strcmp(verb, "policy") && n >= 2)
        return permission_policy(c, o, n - 1, words + 1, err);
    for (int i = 1; !strcmp(verb, "list") && n <= 2 && i < 4; i++)
        if (!strcmp(options_text(o, "state"), states[i]))
            return list(c, n == 2 ? words[1] : NULL, (PermissionState)i, json, err);
    return sa_fail(err, SA_INVALID_REQUEST, "`permissions --help` tells what to write");
}

int cli_permissions(int argc, char **argv)
{
    struct options *o = options_new(client_options, list_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r =
        cli_parse(o, argc, argv, false,
                  "permissions [list [SESSION]]\n"
                  "       sandbox-agent permissions watch [SESSION]\n"
                  "       sandbox-agent permissions answer SESSION PERMISSION OPTION\n"
                  "       sandbox-agent permissions answer SESSION QUESTION accept JSON|decline|cancel\n"
                  "       sandbox-agent permissions policy SESSION|server [MODE|RULE...]",
                  "Lists what agents wait for permission to do, watches it, answers; shows or sets policies. "
                  "SESSION may be `last`.\nMODE: ask, allow-edits, allow-all, deny-all. RULE, one word: ask, "
                  "allow-once, allow-always or deny, then\n`kind=K`, `tool=PATTERN`, `path=PATTERN` and last "
                  "`command=PATTERN`: 'deny path=/etc/**' 'allow-once command=git *'");
    if (r < 0) {
        int n = options_count(o);
        char **words = options_arguments(o);
        r = client_open(&c, o, &err) < 0 || run(&c, o, n, words, &err) < 0 ? cli_failed(err) : 0;
    }
    client_close(&c);
    options_free(o);
    return r;
}
