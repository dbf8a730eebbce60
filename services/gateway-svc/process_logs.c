/* GET /v1/processes/{id}/logs: what a process has written, in the order in which it came; with follow=true as
 * server-sent events, first what is kept and then what comes, until the process has ended:
 *
 *     event: log    id <sequence>, data {"sequence", "stream", "timestampMs", "data", "encoding": "base64"}
 *     event: gap    data {"stream", "bytes"}      so much output is no longer kept
 *     event: exit   data {"exitCode"}             the last message; null: a signal ended it
 *     :                                           every 15 s of silence
 *
 * A sequence is the number of bytes that the process has written up to the end of the entry, in all streams
 * together: so `since` and Last-Event-ID go on right after it, wherever entries were cut. One message of
 * process-svc is in memory; whoever reads slowly slows the reading down, never the process. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/processes.h"

enum { KEEP_ALIVE_MS = 15000, TAIL_MAX = 100000 };

enum which { COMBINED, STDOUT, STDERR };

struct logs {
    struct exchange *x;
    enum which which;
    bool follow, tty;
    uint64_t since, tail; /* tail UINT64_MAX: all */
    uint64_t at[2];       /* where each stream has come to */
    struct rpc_request *rpc;
    struct sa_timer *timer;
    struct peer_out out;
    struct json_writer w;
    bool started, paused, ended, failed;
};

/* ---- what is written ---- */

static const char *stream_name(const struct logs *l, OutputStream stream)
{
    return l->tty ? "pty" : stream == OUTPUT_STREAM_STDERR ? "stderr" : "stdout";
}

static void put_entry(struct logs *l, const FollowedOutput *o, size_t skip)
{
    cleanup_buf struct sa_buf data = {0};
    uint64_t sequence = l->at[0] + l->at[1];
    json_base64(&data, o->data.data + skip, o->data.len - skip);
    if (l->follow) {
        sa_buf_addf(&l->out.buf, "event: log\nid: %" PRIu64 "\ndata: ", sequence);
        l->w = json_writer(&l->out.buf);
    }
    json_begin_object(&l->w);
    json_key(&l->w, "sequence");
    json_put_uint(&l->w, sequence);
    json_key(&l->w, "stream");
    json_put_string(&l->w, stream_name(l, o->stream));
    json_key(&l->w, "timestampMs");
    json_put_int(&l->w, o->time ? o->time->seconds * 1000 + o->time->nanos / 1000000 : 0);
    json_key(&l->w, "data");
    json_put_string(&l->w, sa_buf_string(&data));
    json_key(&l->w, "encoding");
    json_put_string(&l->w, "base64");
    json_end_object(&l->w);
    if (l->follow)
        sa_buf_add(&l->out.buf, "\n\n", 2);
}

static void put_exit(struct logs *l, const ExitRecord *exit)
{
    if (exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        sa_buf_addf(&l->out.buf, "event: exit\ndata: {\"exitCode\":%" PRIu32 "}\n\n", exit->exit_code);
    else
        sa_buf_addf(&l->out.buf, "event: exit\ndata: {\"exitCode\":null}\n\n");
}

static bool is_wanted(const struct logs *l, OutputStream stream)
{
    return l->which == COMBINED || (l->which == STDERR) == (stream == OUTPUT_STREAM_STDERR);
}

/* ---- the answer ---- */

static ssize_t on_fill(void *user, char *buf, size_t max)
{
    struct logs *l = user;
    if (http_peer_gone(l->x->http) || l->failed)
        return HTTP_STREAM_ABORT;
    ssize_t n = peer_take(&l->out, buf, max);
    if (n > 0) {
        sa_timer_start(l->timer, KEEP_ALIVE_MS);
        return n;
    }
    if (l->ended)
        return HTTP_STREAM_END;
    if (l->paused)
        rpc_pause_response(l->rpc, false);
    l->paused = false;
    return 0;
}

static void begin_answer(struct logs *l, const Process *p)
{
    static const struct http_stream stream = {.fill = on_fill};
    static const char *const headers[] = {"Cache-Control", "no-cache, no-store", "X-Accel-Buffering", "no",
                                          NULL};
    static const char *const names[] = {"combined", "stdout", "stderr"};
    l->started = true;
    l->tty = p->spec->terminal != NULL;
    l->w = json_writer(&l->out.buf);
    if (!l->follow) {
        json_begin_object(&l->w);
        json_key(&l->w, "processId");
        json_put_string(&l->w, p->process_id);
        json_key(&l->w, "stream");
        json_put_string(&l->w, l->tty && l->which == COMBINED ? "pty" : names[l->which]);
        json_key(&l->w, "entries");
        json_begin_array(&l->w);
    }
    http_stream(l->x->http, 200, l->follow ? "text/event-stream" : "application/json", headers, &stream, l);
}

/* Until the next piece can be written nothing more is wanted. */
static void pause_if_full(struct logs *l)
{
    if (!l->out.buf.len)
        return;
    if (l->rpc && !l->paused)
        rpc_pause_response(l->rpc, true);
    l->paused = l->rpc != NULL;
    http_wake(l->x->http);
}

static uint64_t *cursor(struct logs *l, OutputStream stream)
{
    return &l->at[stream == OUTPUT_STREAM_STDERR];
}

static void on_output(struct logs *l, const FollowedOutput *o)
{
    uint64_t before = l->at[0] + l->at[1];
    size_t known = l->since > before ? (size_t)(l->since - before) : 0;
    *cursor(l, o->stream) = o->offset + o->data.len;
    if (known < o->data.len && is_wanted(l, o->stream))
        put_entry(l, o, known);
}

static void on_gap(struct logs *l, const AttachGap *gap)
{
    uint64_t *at = cursor(l, gap->stream), missing = gap->first_offset - *at;
    *at = gap->first_offset;
    if (l->follow && is_wanted(l, gap->stream))
        sa_buf_addf(&l->out.buf, "event: gap\ndata: {\"stream\":\"%s\",\"bytes\":%" PRIu64 "}\n\n",
                    stream_name(l, gap->stream), missing);
}

static void on_message(void *user, const FollowOutputResponse *res)
{
    struct logs *l = user;
    switch (res->kind_case) {
    case FOLLOW_OUTPUT_RESPONSE__KIND_OPENED:
        l->at[0] = res->opened->offsets->stdout_offset;
        l->at[1] = res->opened->offsets->stderr_offset;
        begin_answer(l, res->opened->process);
        break;
    case FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT:
        on_output(l, res->output);
        break;
    case FOLLOW_OUTPUT_RESPONSE__KIND_GAP:
        on_gap(l, res->gap);
        break;
    case FOLLOW_OUTPUT_RESPONSE__KIND_EXITED:
        if (l->follow)
            put_exit(l, res->exited);
        break;
    default:
        break;
    }
    pause_if_full(l);
}

static void on_end(void *user, const sa_error *err)
{
    struct logs *l = user;
    l->rpc = NULL;
    l->paused = false;
    if (err && !l->started) {
        process_fail(l->x, err);
        return;
    }
    l->ended = true;
    l->failed = err != NULL;
    if (!l->follow) {
        json_end_array(&l->w);
        json_end_object(&l->w);
    }
    http_wake(l->x->http);
}

/* Also notices that the client is gone. */
static void on_timer(void *user)
{
    struct logs *l = user;
    if (l->started && l->follow && !l->out.buf.len && !l->ended)
        sa_buf_add(&l->out.buf, ":\n\n", 3);
    sa_timer_start(l->timer, KEEP_ALIVE_MS);
    http_wake(l->x->http);
}

/* ---- the request ---- */

static void abandon(struct exchange *x)
{
    struct logs *l = x->state;
    rpc_abandon(l->rpc);
    sa_timer_free(l->timer);
    sa_buf_fini(&l->out.buf);
    free(l);
}

static bool read_which(struct logs *l)
{
    static const char *const names[] = {"combined", "stdout", "stderr", "pty"};
    const char *text = peer_query(l->x, "stream");
    if (!text)
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(names[i], text) == 0) {
            l->which = i == 3 ? COMBINED : (enum which)i;
            return true;
        }
    problem_bad_request(l->x->http, "query `stream` must be stdout, stderr, combined or pty");
    return false;
}

static bool read_position(struct logs *l)
{
    const char *id = http_header(l->x->http, "Last-Event-ID");
    if (!peer_query_uint(l->x, "since", &l->since) || !peer_query_uint(l->x, "tail", &l->tail))
        return false;
    if (id && *id && strspn(id, "0123456789") == strlen(id) && strlen(id) < 20)
        l->since = strtoull(id, NULL, 10);
    if (l->tail != UINT64_MAX && l->tail > TAIL_MAX)
        l->tail = TAIL_MAX;
    return true;
}

/* All streams are read whichever is wanted: their bytes count together. */
static void begin(struct logs *l)
{
    static const struct follow_output_client events = {.on_message = on_message, .on_end = on_end};
    FollowOutputRequest req = FOLLOW_OUTPUT_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(l->x);
    opt.deadline_ms = 0;
    opt.wait_for_ready = false;
    req.process_id = process_id(l->x);
    req.until_now = !l->follow;
    if (l->tail != UINT64_MAX && !l->since) {
        req.start_case = FOLLOW_OUTPUT_REQUEST__START_TAIL_LINES;
        req.tail_lines = (uint32_t)l->tail;
    }
    l->rpc = follow_output_open(l->x->gw->process, &req, &opt, &events, l);
}

void processes_logs(struct exchange *x)
{
    struct logs *l = sa_calloc(1, sizeof(*l));
    *l = (struct logs){.x = x, .tail = UINT64_MAX};
    l->timer = sa_timer_new(service_loop(x->gw->svc), on_timer, l);
    x->state = l;
    x->abandon = abandon;
    if (!peer_check_query(x) || !peer_query_flag(x, "follow", &l->follow) || !read_which(l) ||
        !read_position(l))
        return;
    sa_timer_start(l->timer, KEEP_ALIVE_MS);
    begin(l);
}
