/* `sandbox-agent sessions`: all sessions, newest first; and the verbs below it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/sessions.h"
#include "services/cli/show.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} verbs[] = {
    {"export", sessions_export},
    {"import", sessions_import},
    {"search", sessions_search},
    {"verify", sessions_verify},
};

static void print_session(const Session *s)
{
    char made[32] = "";
    time_t at = s->create_time ? (time_t)s->create_time->seconds : 0;
    struct tm tm;
    strftime(made, sizeof made, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
    printf("%-26s  %-10s %-10s %s  %6" PRIu64 " events", s->session_id, s->agent,
           show_enum(&session_state__descriptor, (int)s->state, "SESSION_STATE_"), made, s->head_seq);
    if (s->pending_permissions)
        printf("  %" PRIu32 " to answer", s->pending_permissions);
    if (*s->state_message) {
        printf("  ");
        show_text(stdout, s->state_message, strlen(s->state_message));
    }
    putchar('\n');
}

static int list(struct client *c, bool json, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
        req.page_token = token;
        ListSessionsResponse *res = list_sessions_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_sessions; i++) {
            if (json)
                show_json(stdout, &res->sessions[i]->base);
            else
                print_session(res->sessions[i]);
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

int cli_sessions(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false,
        "sessions [options]\n"
        "       sandbox-agent sessions export|import|verify|search [options] ...",
        "Lists sessions, newest first; or: the log of one as a file, see `sessions export --help`.");
    if (r < 0)
        r = client_open(&c, o, &err) < 0 || list(&c, options_flag(o, "json"), &err) < 0 ? cli_failed(err) : 0;
    client_close(&c);
    options_free(o);
    return r;
}
