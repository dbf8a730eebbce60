/* `sandbox-agent events SESSION`: the log of a session so far, or on and on with --follow. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

static const struct service_option events_options[] = {
    {"follow", SERVICE_OPTION_FLAG, NULL, 0, 0, "go on with live events until the session ends"},
    {"after", SERVICE_OPTION_UINT, "0", 0, UINT64_MAX, "only events after this number"},
    {0},
};

struct reading {
    struct client *client;
    struct show show;
    const char *session_id;
    uint64_t seq; /* the last one that was shown */
    bool follow;
    bool over; /* the server has said that nothing more comes */
};

static void take(struct reading *r, const StreamEventsResponse *m)
{
    switch (m->kind_case) {
    case STREAM_EVENTS_RESPONSE__KIND_BATCH:
        for (size_t i = 0; i < m->batch->n_events; i++) {
            show_event(&r->show, m->batch->events[i]);
            r->seq = m->batch->events[i]->seq;
        }
        break;
    case STREAM_EVENTS_RESPONSE__KIND_GAP:
        fprintf(stderr, "sandbox-agent: events before %" PRIu64 " are no longer kept\n",
                m->gap->first_available_seq);
        break;
    case STREAM_EVENTS_RESPONSE__KIND_CLOSED:
        /* A server that is being restarted will have more to say. */
        r->over = strcmp(m->closed->reason, "DRAINING") != 0;
        break;
    default:
        break;
    }
}

/* One stream to its end. A position is all that is needed to go on with another. */
static int read_stream(struct reading *r, sa_error **err)
{
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    StreamEventsResponse *m;
    struct rpc_call_options opt = {.wait_for_ready = r->seq > 0};
    int got;
    req.session_id = (char *)(uintptr_t)r->session_id;
    req.after_seq = r->seq;
    req.until_head = !r->follow;
    struct rpc_stream *stream = stream_events_begin(r->client->channel, &req, &opt);
    while ((got = stream_events_next(stream, &m, err)) == 1) {
        take(r, m);
        rpc_message_free(m);
    }
    rpc_stream_free(stream);
    return got;
}

static int read_events(struct reading *r, sa_error **err)
{
    for (;;) {
        sa_error *failed = NULL;
        uint64_t before = r->seq;
        int got = read_stream(r, &failed);
        if (got == 0 && (r->over || !r->follow))
            return 0;
        /* While following, a server that went away is waited for, but one that was never there is an error.
         */
        if (got < 0 && (failed->code != SA_CODE_UNAVAILABLE || !r->follow || (!r->seq && !before))) {
            sa_pass(err, failed);
            return client_explain(r->client, err);
        }
        sa_error_free(failed);
    }
}

int cli_events(int argc, char **argv)
{
    struct options *o = options_new(events_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "events [options] SESSION",
                      "Shows the events of a session. SESSION may be `last`.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: the events of which session? `sandbox-agent sessions` lists them\n");
        r = 2;
    }
    if (r < 0) {
        cleanup_free char *id = NULL;
        if (client_open(&c, o, &err) == 0)
            id = client_session(&c, options_arguments(o)[0], &err);
        struct reading reading = {
            .client = &c,
            .show = {.out = stdout, .json = options_flag(o, "json"), .numbers = true, .colour = isatty(1)},
            .session_id = id,
            .seq = options_uint(o, "after"),
            .follow = options_flag(o, "follow"),
        };
        bool good = id && read_events(&reading, &err) == 0;
        show_fini(&reading.show);
        r = good ? 0 : cli_failed(err);
    }
    client_close(&c);
    options_free(o);
    return r;
}
