/* How fast events get from an agent's standard output to viewers: `events TARGET TOKEN_FILE VIEWERS EVENTS`.
 * Runs the mock agent's BURST in a new session while VIEWERS streams follow it, and prints one line:
 *     viewers=100 events=20000 seconds=1.234 events_per_second=16207 deliveries_per_second=1620700
 * delivered=100.000% Each viewer checks that what it gets is contiguous. */
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"

enum { CHANNELS = 8, PATIENCE_S = 300, WARM_UP_EVENTS = 1000 };

struct bench;

struct viewer {
    struct bench *bench;
    struct rpc_request *request;
    uint64_t first, last; /* seq of the events it got; 0: none */
    uint64_t received;    /* chunks of the measured turn */
    bool opened, done;
};

struct bench {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct rpc_channel *channels[CHANNELS];
    struct viewer *viewers;
    uint64_t n_viewers, n_opened, n_done;
    uint64_t turn; /* that is measured */
    uint64_t ended_ns;
    char session[64];
    sem_t moved; /* all are opened; all are done */
};

static void die(const char *what, const sa_error *err)
{
    fprintf(stderr, "events: %s: %s\n", what, err ? err->message : "failed");
    exit(1);
}

static void on_event(struct viewer *v, const Event *e)
{
    struct bench *b = v->bench;
    if (v->last && e->seq != v->last + 1) {
        fprintf(stderr, "events: a viewer got seq %" PRIu64 " after %" PRIu64 "\n", e->seq, v->last);
        exit(1);
    }
    v->last = e->seq;
    if (!v->first)
        v->first = e->seq;
    if (!b->turn || e->turn != b->turn)
        return;
    if (e->kind_case == EVENT__KIND_AGENT_MESSAGE_CHUNK)
        v->received++;
    if (e->kind_case == EVENT__KIND_TURN_ENDED && !v->done) {
        v->done = true;
        if (++b->n_done == b->n_viewers) {
            b->ended_ns = sa_now_ns();
            sem_post(&b->moved);
        }
    }
}

static void on_message(void *user, const StreamEventsResponse *res)
{
    struct viewer *v = user;
    if (res->kind_case == STREAM_EVENTS_RESPONSE__KIND_OPENED && !v->opened) {
        v->opened = true;
        if (++v->bench->n_opened == v->bench->n_viewers)
            sem_post(&v->bench->moved);
    }
    if (res->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH)
        for (size_t i = 0; i < res->batch->n_events; i++)
            on_event(v, res->batch->events[i]);
}

static void on_end(void *user, const sa_error *err)
{
    struct viewer *v = user;
    v->request = NULL;
    die("a viewer's stream ended", err);
}

static void wait_for_viewers(struct bench *b, const char *what)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    if (sem_timedwait(&b->moved, &until) < 0) {
        uint64_t received = 0;
        for (uint64_t i = 0; i < b->n_viewers; i++)
            received += b->viewers[i].received;
        fprintf(stderr, "events: not %s after %d s; %" PRIu64 " deliveries so far\n", what, PATIENCE_S,
                received);
        exit(1);
    }
}

static void open_session(struct bench *b)
{
    sa_error *err = NULL;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char *)"mock";
    CreateSessionResponse *res = create_session_wait(b->channels[0], &req, NULL, &err);
    if (!res)
        die("CreateSession", err);
    snprintf(b->session, sizeof b->session, "%s", res->session->session_id);
    rpc_message_free(res);
}

/* Without the lock; answers the turn. */
static uint64_t prompt(struct bench *b, uint64_t n_events)
{
    sa_error *err = NULL;
    cleanup_free char *words = sa_format("BURST %" PRIu64, n_events);
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = words;
    req.session_id = b->session;
    req.content = blocks;
    req.n_content = 1;
    SendPromptResponse *res = send_prompt_wait(b->channels[0], &req, NULL, &err);
    if (!res)
        die("SendPrompt", err);
    uint64_t turn = res->turn;
    rpc_message_free(res);
    return turn;
}

/* Runs a turn and waits for its end at every viewer; seconds. */
static double run_turn(struct bench *b, uint64_t turn, uint64_t n_events)
{
    sa_loop_lock(b->loop);
    b->turn = turn;
    b->n_done = 0;
    for (uint64_t i = 0; i < b->n_viewers; i++) {
        b->viewers[i].received = 0;
        b->viewers[i].done = false;
    }
    sa_loop_unlock(b->loop);
    uint64_t start_ns = sa_now_ns();
    if (prompt(b, n_events) != turn)
        die("SendPrompt: an unexpected turn", NULL);
    wait_for_viewers(b, "delivered");
    return (double)(b->ended_ns - start_ns) / 1e9;
}

static void open_viewers(struct bench *b)
{
    static const struct stream_events_client events = {.on_message = on_message, .on_end = on_end};
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    req.session_id = b->session;
    req.slow_reader_policy = SLOW_READER_POLICY_PAUSE;
    sa_loop_lock(b->loop);
    for (uint64_t i = 0; i < b->n_viewers; i++) {
        b->viewers[i].bench = b;
        b->viewers[i].request =
            stream_events_open(b->channels[i % CHANNELS], &req, NULL, &events, &b->viewers[i]);
    }
    sa_loop_unlock(b->loop);
    wait_for_viewers(b, "all opened");
}

static void report(const struct bench *b, uint64_t n_events, double seconds)
{
    uint64_t received = 0;
    for (uint64_t i = 0; i < b->n_viewers; i++)
        received += b->viewers[i].received;
    uint64_t wanted = n_events * b->n_viewers;
    printf("viewers=%" PRIu64 " events=%" PRIu64
           " seconds=%.3f events_per_second=%.0f deliveries_per_second=%.0f "
           "delivered=%.3f%%\n",
           b->n_viewers, n_events, seconds, (double)n_events / seconds, (double)received / seconds,
           100.0 * (double)received / (double)wanted);
    if (received != wanted)
        die("not everything was delivered", NULL);
}

int main(int argc, char **argv)
{
    sa_error *err = NULL;
    cleanup_buf struct sa_buf token = {0};
    if (argc != 5) {
        fprintf(stderr, "usage: events TARGET TOKEN_FILE VIEWERS EVENTS\n");
        return 2;
    }
    if (sa_read_file(argv[2], 4096, &token, &err) < 0)
        die("token", err);
    char *text = sa_buf_string(&token);
    text[strcspn(text, "\n")] = 0;
    struct bench b = {.loop = sa_loop_new(&err), .n_viewers = strtoull(argv[3], NULL, 10)};
    uint64_t n_events = strtoull(argv[4], NULL, 10);
    b.viewers = sa_calloc(b.n_viewers, sizeof *b.viewers);
    sem_init(&b.moved, 0, 0);
    b.rpc = rpc_runtime_new(b.loop);
    struct rpc_channel_options opt = {.target = argv[1], .token = text};
    sa_loop_lock(b.loop);
    for (int i = 0; i < CHANNELS; i++)
        b.channels[i] = rpc_channel_new(b.rpc, &opt);
    sa_loop_unlock(b.loop);

    open_session(&b);
    open_viewers(&b);
    run_turn(&b, 1, WARM_UP_EVENTS);
    double seconds = run_turn(&b, 2, n_events);
    report(&b, n_events, seconds);

    sa_loop_lock(b.loop);
    for (uint64_t i = 0; i < b.n_viewers; i++)
        rpc_abandon(b.viewers[i].request);
    for (int i = 0; i < CHANNELS; i++)
        rpc_channel_free(b.channels[i]);
    sa_loop_unlock(b.loop);
    rpc_runtime_free(b.rpc);
    sa_loop_free(b.loop);
    free(b.viewers);
    return 0;
}
