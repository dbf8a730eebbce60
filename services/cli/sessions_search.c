/* `sandbox-agent sessions search TEXT [SESSION]`: events with a text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/sessions.h"
#include "services/cli/show.h"

static void print_hit(const SearchHit *h)
{
    printf("%s %6" PRIu64 "  ", h->session_id, h->seq);
    show_text(stdout, h->snippet, strlen(h->snippet));
    putchar('\n');
}

static int search(struct client *c, const char *session, const char *text, bool json, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        SearchEventsRequest req = SEARCH_EVENTS_REQUEST__INIT;
        req.session_id = (char *)(uintptr_t)session;
        req.text = (char *)(uintptr_t)text;
        req.page_token = token;
        SearchEventsResponse *res = search_events_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_hits; i++) {
            if (json)
                show_json(stdout, &res->hits[i]->base);
            else
                print_hit(res->hits[i]);
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

int sessions_search(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r =
        cli_parse(o, argc, argv, false, "sessions search [options] TEXT [SESSION]",
                  "Finds events with a text, whatever its case, in all sessions or in one. SESSION may be "
                  "`last`.");
    int n = r < 0 ? options_count(o) : 0;
    if (r < 0 && (n < 1 || n > 2)) {
        fprintf(stderr, "sandbox-agent: `sessions search TEXT [SESSION]`\n");
        r = 2;
    } else if (r < 0) {
        char **words = options_arguments(o);
        cleanup_free char *id = NULL;
        if (client_open(&c, o, &err) == 0)
            id = n == 2 ? client_session(&c, words[1], &err) : sa_strdup("");
        bool good = id && search(&c, id, words[0], options_flag(o, "json"), &err) == 0;
        r = good ? 0 : cli_failed(err);
    }
    client_close(&c);
    options_free(o);
    return r;
}
