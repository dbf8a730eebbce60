/* `sandbox-agent permissions [list] [SESSION]` and `permissions answer SESSION PERMISSION OPTION`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

static void print_permission(const Permission *p)
{
    printf("%s  %s  ", p->session_id, p->permission_id);
    show_text(stdout, p->tool_call->title, strlen(p->tool_call->title));
    putchar('\n');
    for (size_t i = 0; i < p->n_options; i++) {
        printf("    ");
        show_text(stdout, p->options[i]->option_id, strlen(p->options[i]->option_id));
        printf("  ");
        show_text(stdout, p->options[i]->name, strlen(p->options[i]->name));
        putchar('\n');
    }
}

static int list(struct client *c, const char *session, bool json, sa_error **err)
{
    cleanup_free char *token = sa_strdup(""), *id = session ? client_session(c, session, err) : sa_strdup("");
    if (!id)
        return -1;
    do {
        ListPermissionsRequest req = LIST_PERMISSIONS_REQUEST__INIT;
        req.session_id = id;
        req.page_token = token;
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

static int answer(struct client *c, char **words, bool json, sa_error **err)
{
    cleanup_free char *id = client_session(c, words[0], err);
    if (!id)
        return -1;
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    req.session_id = id;
    req.permission_id = words[1];
    req.option_id = words[2];
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

int cli_permissions(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false,
                      "permissions [list [SESSION]]\n"
                      "       sandbox-agent permissions answer SESSION PERMISSION OPTION",
                      "Lists what agents wait for permission to do, or answers one. SESSION may be `last`.");
    if (r < 0) {
        int n = options_count(o);
        char **words = options_arguments(o);
        bool json = options_flag(o, "json"), answers = n == 4 && !strcmp(words[0], "answer");
        bool lists = n == 0 || (n <= 2 && !strcmp(words[0], "list"));
        if (!answers && !lists) {
            fprintf(stderr,
                    "sandbox-agent: `permissions list [SESSION]` or `permissions answer SESSION PERMISSION "
                    "OPTION`\n");
            r = 2;
        } else if (client_open(&c, o, &err) < 0) {
            r = cli_failed(err);
        } else {
            r = answers ? answer(&c, words + 1, json, &err) : list(&c, n == 2 ? words[1] : NULL, json, &err);
            r = r < 0 ? cli_failed(err) : 0;
        }
    }
    client_close(&c);
    options_free(o);
    return r;
}
