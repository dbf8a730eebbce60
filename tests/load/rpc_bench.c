/* What our RPC layer costs: the same calls against a server (and with a client) of ours and against the least
 * that can be written on the gRPC C core, in turns within one run, so that a busy machine is busy for both.
 *
 *     bazel run --config=opt //tests/load:rpc_bench [-- SECONDS ROUNDS WHICH]
 *
 * Each line: calls or messages a second of both, and the processor time that one of them costs the side that
 * is compared (medians of the rounds). Where others use the machine, too, believe the processor time. */
#include <grpc/grpc_security.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "tests/load/rpc_bare.h"

enum { PAYLOAD = 100, ROUNDS_MAX = 100 };

static uint8_t payload[PAYLOAD];
static double seconds = 0.5;
static int rounds = 7;
static const char *which = ""; /* part of the names of what is run */

/* ---- our server ---- */

static void echo_once(void *api, struct rpc_call *call, const EchoOnceRequest *req)
{
    (void)api;
    EchoOnceResponse res = ECHO_ONCE_RESPONSE__INIT;
    res.text = req->text;
    res.payload = req->payload;
    echo_once_reply(call, &res);
}

struct many {
    uint64_t seq, count;
    ProtobufCBinaryData data;
};

static void produce(void *user, struct rpc_call *call)
{
    struct many *m = user;
    EchoManyResponse res = ECHO_MANY_RESPONSE__INIT;
    res.payload = m->data;
    while (m->seq < m->count) {
        res.seq = ++m->seq;
        if (!echo_many_send(call, &res))
            return;
    }
    rpc_end(call);
}

static void echo_many(void *api, struct rpc_call *call, const EchoManyRequest *req)
{
    static const struct rpc_call_events events = {.on_writable = produce};
    (void)api;
    struct many *m = sa_arena_alloc(rpc_arena(call), sizeof *m);
    *m = (struct many){.count = req->count, .data = req->payload};
    echo_many_on(call, &events, m);
    produce(m, call);
}

static void our_serve(const char *address)
{
    static const struct echo_service_handlers handlers = {.echo_once = echo_once, .echo_many = echo_many};
    struct sa_loop *loop = sa_loop_new(NULL);
    struct rpc_runtime *rt = rpc_runtime_new(loop);
    sa_loop_lock(loop);
    struct rpc_server *s = rpc_server_new(rt, NULL);
    echo_service_register(s, &handlers, NULL);
    sa_loop_unlock(loop);
    sa_error *err = NULL;
    if (rpc_server_listen(s, address, NULL, NULL, &err) < 0) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
    rpc_server_start(s);
    sa_loop_run(loop);
}

static pid_t start_server(const char *self, const char *kind, const char *address)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, "serve", kind, address, (char *)NULL);
        _exit(127);
    }
    return pid;
}

/* ---- the bare client: a closed loop of `concurrency` calls ---- */

struct request {
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_status_code status;
    grpc_slice text;
    grpc_byte_buffer *out, *in;
    bool many, ending;
};

static grpc_completion_queue *cq;
static uint64_t messages;

static void start_request(struct request *r, grpc_channel *ch, bool many)
{
    static char hello[] = "hello";
    *r = (struct request){.many = many, .text = grpc_empty_slice()};
    r->call = grpc_channel_create_call(ch, NULL, GRPC_PROPAGATE_DEFAULTS, cq,
                                       grpc_slice_from_static_string(echo_service.methods[many].path), NULL,
                                       gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    EchoOnceRequest once = ECHO_ONCE_REQUEST__INIT;
    EchoManyRequest stream = ECHO_MANY_REQUEST__INIT;
    once.text = hello;
    once.payload = stream.payload = (ProtobufCBinaryData){PAYLOAD, payload};
    stream.count = UINT32_MAX;
    r->out = bare_pack(many ? &stream.base : &once.base);
    grpc_op ops[6] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
                      {.op = GRPC_OP_RECV_MESSAGE},           {.op = GRPC_OP_RECV_STATUS_ON_CLIENT}};
    ops[1].data.send_message.send_message = r->out;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &r->initial;
    ops[4].data.recv_message.recv_message = &r->in;
    ops[5].data.recv_status_on_client.trailing_metadata = &r->trailing;
    ops[5].data.recv_status_on_client.status = &r->status;
    ops[5].data.recv_status_on_client.status_details = &r->text;
    grpc_call_start_batch(r->call, ops, many ? 5 : 6, r, NULL);
}

static void count_message(struct request *r)
{
    rpc_message_free(
        bare_unpack(r->many ? &echo_many_response__descriptor : &echo_once_response__descriptor, r->in));
    grpc_byte_buffer_destroy(r->in);
    r->in = NULL;
    messages++;
}

static void end_request(struct request *r)
{
    grpc_byte_buffer_destroy(r->out);
    grpc_metadata_array_destroy(&r->initial);
    grpc_metadata_array_destroy(&r->trailing);
    grpc_slice_unref(r->text);
    grpc_call_unref(r->call);
}

/* False when the request is over. */
static bool read_on(struct request *r, bool stop)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};
    op.data.recv_message.recv_message = &r->in;
    if (stop)
        grpc_call_cancel(r->call, NULL);
    grpc_call_start_batch(r->call, &op, 1, r, NULL);
    return true;
}

/* Messages a second. */
static double run_bare_client(const char *address, bool many, int concurrency)
{
    grpc_channel_credentials *creds = grpc_insecure_credentials_create();
    grpc_channel *ch = grpc_channel_create(address, creds, NULL);
    grpc_channel_credentials_release(creds);
    cq = grpc_completion_queue_create_for_next(NULL);
    struct request *requests = sa_calloc((size_t)concurrency, sizeof *requests);
    for (int i = 0; i < concurrency; i++)
        start_request(&requests[i], ch, many);
    uint64_t begin = 0, end = 0;
    for (int live = concurrency; live;) {
        grpc_event e = grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        struct request *r = e.tag;
        uint64_t now = sa_now_ns();
        if (!begin) { /* connected */
            begin = now;
            messages = 0;
        }
        bool stop = now - begin > (uint64_t)(seconds * 1e9);
        if (stop && !end)
            end = now;
        if (r->in) {
            count_message(r);
            if (many) {
                read_on(r, stop);
                continue;
            }
        }
        end_request(r);
        if (stop || many)
            live--;
        else
            start_request(r, ch, many);
    }
    double rate = (double)messages / ((double)(end - begin) / 1e9);
    free(requests);
    grpc_channel_destroy(ch);
    grpc_completion_queue_shutdown(cq);
    while (grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(cq);
    return rate;
}

/* ---- our client ---- */

struct ours {
    struct rpc_channel *ch;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint64_t begin, end, n;
    int live;
    struct rpc_request *stream;
};

static void over(struct ours *o)
{
    pthread_mutex_lock(&o->lock);
    o->live--;
    pthread_cond_signal(&o->cond);
    pthread_mutex_unlock(&o->lock);
}

/* Is the time up? */
static bool count_ours(struct ours *o)
{
    uint64_t now = sa_now_ns();
    if (!o->begin) {
        o->begin = now;
        o->n = 0;
    }
    o->n++;
    bool stop = now - o->begin > (uint64_t)(seconds * 1e9);
    if (stop && !o->end)
        o->end = now;
    return stop;
}

static void on_once(void *user, const EchoOnceResponse *res, const sa_error *err);

static void call_once(struct ours *o)
{
    static char hello[] = "hello";
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    req.text = hello;
    req.payload = (ProtobufCBinaryData){PAYLOAD, payload};
    struct rpc_call_options opt = {.wait_for_ready = true};
    echo_once_call(o->ch, &req, &opt, on_once, o);
}

static void on_once(void *user, const EchoOnceResponse *res, const sa_error *err)
{
    struct ours *o = user;
    (void)err;
    if (count_ours(o) || !res)
        over(o);
    else
        call_once(o);
}

static void on_many(void *user, const EchoManyResponse *res)
{
    struct ours *o = user;
    (void)res;
    if (count_ours(o))
        rpc_cancel(o->stream);
}

static void on_many_end(void *user, const sa_error *err)
{
    (void)err;
    over(user);
}

static void start_ours(struct ours *o, bool many, int concurrency)
{
    static const struct echo_many_client events = {.on_message = on_many, .on_end = on_many_end};
    o->live = concurrency;
    if (!many) {
        for (int i = 0; i < concurrency; i++)
            call_once(o);
        return;
    }
    EchoManyRequest req = ECHO_MANY_REQUEST__INIT;
    req.payload = (ProtobufCBinaryData){PAYLOAD, payload};
    req.count = UINT32_MAX;
    o->stream = echo_many_open(o->ch, &req, NULL, &events, o);
}

static double run_our_client(const char *address, bool many, int concurrency)
{
    struct sa_loop *loop = sa_loop_new(NULL);
    struct rpc_runtime *rt = rpc_runtime_new(loop);
    struct rpc_channel_options opt = {.target = address};
    struct ours o = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    sa_loop_lock(loop);
    o.ch = rpc_channel_new(rt, &opt);
    start_ours(&o, many, concurrency);
    sa_loop_unlock(loop);
    pthread_mutex_lock(&o.lock);
    while (o.live)
        pthread_cond_wait(&o.cond, &o.lock);
    pthread_mutex_unlock(&o.lock);
    sa_loop_lock(loop);
    rpc_channel_free(o.ch);
    sa_loop_unlock(loop);
    rpc_runtime_free(rt);
    sa_loop_free(loop);
    return (double)o.n / ((double)(o.end - o.begin) / 1e9);
}

/* ---- comparison ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of this process (0) or a server, in seconds. */
static double cpu_time(pid_t pid)
{
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec t;
    if (pid)
        clock_getcpuclockid(pid, &clock);
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[n / 2];
}

typedef double run_fn(const char *address, bool many, int concurrency);

struct side {
    run_fn *run;
    const char *address;
    pid_t pid; /* whose processor time counts: 0: ours, the client's */
    double rate[ROUNDS_MAX], cost[ROUNDS_MAX];
};

static void run_round(struct side *s, int round, bool many, int concurrency)
{
    double before = cpu_time(s->pid);
    s->rate[round] = s->run(s->address, many, concurrency);
    s->cost[round] = (cpu_time(s->pid) - before) / (s->rate[round] * seconds);
}

static void compare(const char *what, struct side bare, struct side ours, bool many, int concurrency)
{
    double share[ROUNDS_MAX], cost[ROUNDS_MAX];
    if (!strstr(what, which))
        return;
    for (int i = 0; i < rounds; i++) {
        run_round(&bare, i, many, concurrency);
        run_round(&ours, i, many, concurrency);
        share[i] = ours.rate[i] / bare.rate[i];
        cost[i] = ours.cost[i] / bare.cost[i];
    }
    printf("%-22s bare %7.0f/s %6.2f us   ours %7.0f/s %6.2f us   rate x %.2f   cpu x %.2f\n", what,
           median(bare.rate, rounds), median(bare.cost, rounds) * 1e6, median(ours.rate, rounds),
           median(ours.cost, rounds) * 1e6, median(share, rounds), median(cost, rounds));
    fflush(stdout);
}

static void wait_until_served(const char *address)
{
    double s = seconds;
    seconds = 0.01;
    run_our_client(address, false, 1); /* its calls wait for the connection */
    seconds = s;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "serve")) {
        if (!strcmp(argv[2], "bare"))
            bare_serve(argv[3]);
        our_serve(argv[3]);
    }
    if (argc > 1)
        seconds = atof(argv[1]);
    if (argc > 2)
        rounds = atoi(argv[2]) < ROUNDS_MAX ? atoi(argv[2]) : ROUNDS_MAX;
    if (argc > 3)
        which = argv[3];
    char dir[] = "/tmp/benchXXXXXX", bare[64], ours[64], self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (!mkdtemp(dir) || n < 0)
        return 1;
    self[n] = 0;
    snprintf(bare, sizeof bare, "unix:%s/bare", dir);
    snprintf(ours, sizeof ours, "unix:%s/ours", dir);
    pid_t servers[] = {start_server(self, "bare", bare), start_server(self, "ours", ours)};
    grpc_init();
    wait_until_served(bare);
    wait_until_served(ours);

    struct side bare_server = {.run = run_bare_client, .address = bare, .pid = servers[0]};
    struct side our_server = {.run = run_bare_client, .address = ours, .pid = servers[1]};
    struct side bare_client = {.run = run_bare_client, .address = bare};
    struct side our_client = {.run = run_our_client, .address = bare};
    compare("server, unary, c=1", bare_server, our_server, false, 1);
    compare("server, unary, c=8", bare_server, our_server, false, 8);
    compare("server, server stream", bare_server, our_server, true, 1);
    compare("client, unary, c=1", bare_client, our_client, false, 1);
    compare("client, unary, c=8", bare_client, our_client, false, 8);
    compare("client, server stream", bare_client, our_client, true, 1);
    for (size_t i = 0; i < 2; i++) {
        kill(servers[i], SIGKILL);
        waitpid(servers[i], NULL, 0);
    }
    sa_remove_tree(dir, NULL);
    grpc_shutdown_blocking();
    return 0;
}
