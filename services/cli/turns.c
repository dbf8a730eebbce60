/* `sandbox-agent turns [ls] SESSION` and `sandbox-agent queue ls|move|withdraw SESSION`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

static void print_text(const char *text, size_t max)
{
    size_t n = strcspn(text, "\n");
    show_text(stdout, text, n < max ? n : max);
}

static void print_turn(const Turn *t)
{
    printf("%4" PRIu64 "  %-8s ", t->turn, show_enum(&turn_state__descriptor, (int)t->state, "TURN_STATE_"));
    if (t->position)
        printf("%3" PRIu32 "  ", t->position);
    else
        printf("%-20s ", t->stop_reason
                             ? show_enum(&stop_reason__descriptor, (int)t->stop_reason, "STOP_REASON_")
                             : "");
    if (t->usage && t->usage->tokens_source)
        printf("%s%" PRIu64 " tokens  ", t->usage->tokens_source == USAGE_SOURCE_ESTIMATED ? "~" : "",
               t->usage->total_tokens);
    print_text(t->author, 40);
    printf("  ");
    print_text(t->preview, 60);
    putchar('\n');
}

static int list(struct client *c, char *session, TurnState state, bool json, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        ListTurnsRequest req = LIST_TURNS_REQUEST__INIT;
        req.session_id = session;
        req.state = state;
        req.page_token = token;
        ListTurnsResponse *res = list_turns_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_turns; i++) {
            if (json)
                show_json(stdout, &res->turns[i]->base);
            else
                print_turn(res->turns[i]);
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

static int move(struct client *c, char *session, uint64_t turn, uint64_t position, sa_error **err)
{
    MovePromptRequest req = MOVE_PROMPT_REQUEST__INIT;
    req.session_id = session;
    req.turn = turn;
    req.position = position < UINT32_MAX ? (uint32_t)position : UINT32_MAX;
    MovePromptResponse *res = move_prompt_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    printf("turn %" PRIu64 " waits at position %" PRIu32 "\n", turn, res->position);
    rpc_message_free(res);
    return 0;
}

static int withdraw(struct client *c, char *session, uint64_t turn, sa_error **err)
{
    WithdrawPromptRequest req = WITHDRAW_PROMPT_REQUEST__INIT;
    req.session_id = session;
    req.turn = turn;
    WithdrawPromptResponse *res = withdraw_prompt_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    printf("turn %" PRIu64 " is withdrawn\n", turn);
    rpc_message_free(res);
    return 0;
}

/* A number from 1. */
static int read_number(const char *word, uint64_t *ret, sa_error **err)
{
    char *end;
    unsigned long long n = strtoull(word, &end, 10);
    if (*word < '0' || *word > '9' || *end || !n)
        return sa_fail(err, SA_INVALID_REQUEST, "`%.40s` is not a number from 1", word);
    *ret = n;
    return 0;
}

int cli_turns(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false, "turns [ls] SESSION",
        "Lists the turns of a session, newest first: how each ended and what it took (~: estimated).");
    if (r < 0) {
        int n = options_count(o);
        char **words = options_arguments(o);
        if (n == 0 || n > 2 || (n == 2 && strcmp(words[0], "ls") != 0)) {
            fprintf(stderr, "sandbox-agent: `turns [ls] SESSION`\n");
            r = 2;
        } else {
            cleanup_free char *id =
                client_open(&c, o, &err) < 0 ? NULL : client_session(&c, words[n - 1], &err);
            r = !id || list(&c, id, TURN_STATE_UNSPECIFIED, options_flag(o, "json"), &err) < 0
                    ? cli_failed(err)
                    : 0;
        }
    }
    client_close(&c);
    options_free(o);
    return r;
}

static int queue(struct client *c, const struct options *o, sa_error **err)
{
    char **words = options_arguments(o);
    uint64_t turn = 0, position = 0;
    if ((words[2] && read_number(words[2], &turn, err)) ||
        (words[2] && words[3] && read_number(words[3], &position, err)) || client_open(c, o, err) < 0)
        return -1;
    cleanup_free char *id = client_session(c, words[1], err);
    if (!id)
        return -1;
    return position ? move(c, id, turn, position, err)
           : turn   ? withdraw(c, id, turn, err)
                    : list(c, id, TURN_STATE_QUEUED, options_flag(o, "json"), err);
}

int cli_queue(int argc, char **argv)
{
    static const char *const verbs[] = {[2] = "ls", [3] = "withdraw", [4] = "move"};
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false,
        "queue ls SESSION\n"
        "       sandbox-agent queue move SESSION TURN POSITION\n"
        "       sandbox-agent queue withdraw SESSION TURN",
        "Lists the prompts that wait, in the order in which they will run; gives one another place\n"
        "(1: the next one), or takes it out.");
    if (r < 0) {
        int n = options_count(o);
        if (n < 2 || n > 4 || strcmp(options_arguments(o)[0], verbs[n]) != 0) {
            fprintf(
                stderr,
                "sandbox-agent: `queue ls SESSION`, `queue move SESSION TURN POSITION` or `queue withdraw "
                "SESSION TURN`\n");
            r = 2;
        } else {
            r = queue(&c, o, &err) < 0 ? cli_failed(err) : 0;
        }
    }
    client_close(&c);
    options_free(o);
    return r;
}
