/* `sandbox-agent logs PROCESS`: what it has written, and with -f what it writes. Its standard output goes to
 * ours, its standard error to ours, in the order in which they came. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/process.h"
#include "services/cli/show.h"
#include "services/cli/values.h"
#include "services/cli/write.h"

static const struct service_option logs_options[] = {
    {"follow", SERVICE_OPTION_FLAG, NULL, 0, 0, "go on until the process ends"},
    {"tail", SERVICE_OPTION_UINT, NULL, 0, 100000, "only the last so many lines"},
    {"since", SERVICE_OPTION_TEXT, NULL, 0, 0, "only what came since: 10m (ago), or a time"},
    {"stream", SERVICE_OPTION_TEXT, NULL, 0, 0, "only out or err"},
    {"timestamps", SERVICE_OPTION_FLAG, NULL, 0, 0, "put the time before each line"},
    {0},
};

enum { OUT, ERR, STREAMS };

struct logs {
    struct client *client;
    FollowOutputRequest req;
    OutputStream stream;
    Google__Protobuf__Timestamp since;
    OutputOffsets at; /* where to go on after a break */
    bool opened;
    bool over; /* the process has ended, or all that was asked for has come */
    bool json, timestamps;
    bool in_line[STREAMS];
};

static void write_time(int fd, const Google__Protobuf__Timestamp *t)
{
    char text[64], whole[32];
    time_t at = t ? (time_t)t->seconds : 0;
    struct tm tm;
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", gmtime_r(&at, &tm));
    int n = t ? snprintf(text, sizeof text, "%s.%03dZ ", whole, t->nanos / 1000000)
              : snprintf(text, sizeof text, "%24s ", "-");
    write_all(fd, text, (size_t)n);
}

static void write_output(struct logs *l, const FollowedOutput *o)
{
    bool error = o->stream == OUTPUT_STREAM_STDERR;
    int fd = error ? 2 : 1;
    const uint8_t *at = o->data.data, *end = at + o->data.len;
    while (l->timestamps && at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at)), *to = newline ? newline + 1 : end;
        if (!l->in_line[error])
            write_time(fd, o->time);
        write_all(fd, at, (size_t)(to - at));
        l->in_line[error] = !newline;
        at = to;
    }
    write_all(fd, at, (size_t)(end - at));
}

static uint64_t *offset_of(struct logs *l, OutputStream stream)
{
    return stream == OUTPUT_STREAM_STDERR ? &l->at.stderr_offset : &l->at.stdout_offset;
}

static void take(struct logs *l, const FollowOutputResponse *m)
{
    if (l->json)
        show_json(stdout, &m->base);
    switch (m->kind_case) {
    case FOLLOW_OUTPUT_RESPONSE__KIND_OPENED:
        l->at.stdout_offset = m->opened->offsets->stdout_offset;
        l->at.stderr_offset = m->opened->offsets->stderr_offset;
        l->opened = true;
        break;
    case FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT:
        if (!l->json)
            write_output(l, m->output);
        *offset_of(l, m->output->stream) = m->output->offset + m->output->data.len;
        break;
    case FOLLOW_OUTPUT_RESPONSE__KIND_GAP:
        if (!l->json)
            fprintf(stderr,
                    "sandbox-agent: standard %s from byte %" PRIu64 " to %" PRIu64 " is no longer kept\n",
                    m->gap->stream == OUTPUT_STREAM_STDERR ? "error" : "output",
                    *offset_of(l, m->gap->stream), m->gap->first_offset);
        *offset_of(l, m->gap->stream) = m->gap->first_offset;
        break;
    default:
        l->over = m->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_EXITED;
        break;
    }
}

/* One call to its end. */
static int read_call(struct logs *l, sa_error **err)
{
    FollowOutputResponse *m;
    struct rpc_call_options opt = {.wait_for_ready = l->opened};
    int got;
    if (l->opened) {
        l->req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
        l->req.offsets = &l->at;
    }
    struct rpc_stream *stream = follow_output_begin(l->client->channel, &l->req, &opt);
    while ((got = follow_output_next(stream, &m, err)) == 1) {
        take(l, m);
        rpc_message_free(m);
    }
    rpc_stream_free(stream);
    l->over |= got == 0;
    return got;
}

static int fill(struct logs *l, const struct options *o, sa_error **err)
{
    const char *stream = options_text(o, "stream"), *since = options_text(o, "since");
    int64_t us;
    l->json = options_flag(o, "json");
    l->timestamps = options_flag(o, "timestamps");
    l->req.until_now = !options_flag(o, "follow");
    if (stream && strcmp(stream, "out") != 0 && strcmp(stream, "err") != 0)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--stream` is out or err, not `%s`", stream);
    if (since && options_given(o, "tail"))
        return sa_fail(err, SA_INVALID_CONFIG, "--since and --tail exclude each other");
    l->stream = stream && *stream == 'e' ? OUTPUT_STREAM_STDERR : OUTPUT_STREAM_STDOUT;
    if (stream) {
        l->req.streams = &l->stream;
        l->req.n_streams = 1;
    }
    if (options_given(o, "tail")) {
        l->req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
        l->req.tail_lines = (uint32_t)options_uint(o, "tail");
    }
    if (since) {
        if (value_time("since", since, sa_wall_us(), &us, err) < 0)
            return -1;
        l->since.seconds = us / 1000000;
        l->since.nanos = (int32_t)(us % 1000000) * 1000;
        l->req.start_case = FOLLOW_OUTPUT_REQUEST__START_SINCE;
        l->req.since = &l->since;
    }
    return 0;
}

static int show_logs(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    struct logs l = {.client = c,
                     .req = FOLLOW_OUTPUT_REQUEST__INIT,
                     .since = GOOGLE__PROTOBUF__TIMESTAMP__INIT,
                     .at = OUTPUT_OFFSETS__INIT};
    l.req.process_id = (char *)(uintptr_t)id;
    if (fill(&l, o, err) < 0)
        return -1;
    while (!l.over) {
        sa_error *failed = NULL;
        /* A server that was there and is being restarted comes back, and has lost nothing. */
        if (read_call(&l, &failed) < 0 && (failed->code != SA_CODE_UNAVAILABLE || !l.opened)) {
            sa_pass(err, failed);
            return client_explain(c, err);
        }
        sa_error_free(failed);
    }
    return 0;
}

int cli_logs(int argc, char **argv)
{
    struct options *o = options_new(logs_options, client_options);
    options_letter(o, 'f', "follow");
    return process_verb(o, argc, argv, "logs [options] PROCESS...", "Shows what processes have written.",
                        show_logs);
}
