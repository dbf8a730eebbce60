#include "adapters/grpc/echo.h"

#include <stdlib.h>
#include <string.h>

/* ---- unary ---- */

static void on_hold_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct echo *e = user;
    counter_add(&e->cancelled, 1);
}

static void hold(struct echo *e, struct rpc_call *call)
{
    e->hold[counter_get(&e->held) % 16] = rpc_call_ref(call);
    rpc_on_cancel(call, on_hold_cancel, e);
    counter_add(&e->held, 1);
}

void echo_release(struct echo *e)
{
    for (size_t i = 0; i < 16; i++) {
        if (!e->hold[i])
            continue;
        EchoOnceResponse res = ECHO_ONCE_RESPONSE__INIT;
        echo_once_reply(e->hold[i], &res);
        rpc_call_unref(e->hold[i]);
        e->hold[i] = NULL;
    }
}

static void echo_once(void *api, struct rpc_call *call, const EchoOnceRequest *req)
{
    struct echo *e = api;
    EchoOnceResponse res = ECHO_ONCE_RESPONSE__INIT;
    if (!strcmp(req->text, "hold") || !strcmp(req->text, "hold long")) {
        if (req->text[4])
            rpc_no_server_deadline(call);
        hold(e, call);
        return;
    }
    if (req->mode == ECHO_MODE_FAIL) {
        sa_error *err = NULL;
        sa_fail(&err, SA_SESSION_NOT_FOUND, "session %s does not exist", req->text);
        rpc_fail(call, err);
        /* Whatever comes after the end is nothing. */
        rpc_fail(call, NULL);
        echo_once_reply(call, &res);
        return;
    }
    struct sa_arena *a = rpc_arena(call);
    res.text = req->text;
    if (!strcmp(req->text, "metadata")) {
        const char *v = rpc_metadata(call, "x-echo", NULL);
        res.text = sa_arena_format(a, "%s|%s|%s|%s", v ? v : "(none)", rpc_principal(call),
                                   rpc_method_path(call), rpc_peer(call));
        rpc_set_trailer(call, "x-trailer", "seen");
    } else if (!strcmp(req->text, "time left")) {
        res.text = sa_arena_format(a, "%llu", (unsigned long long)rpc_time_left_ms(call));
    } else if (!strcmp(req->text, "bad text")) {
        res.text = sa_arena_strdup(a, "a\xff\xfe"
                                      "b");
    }
    res.payload = req->payload;
    res.seq = e->seq++;
    res.tree = req->tree;
    res.n_labels = req->n_labels;
    res.labels = sa_arena_alloc(a, sizeof *res.labels * (req->n_labels + 1));
    for (size_t i = 0; i < req->n_labels; i++) {
        res.labels[i] = sa_arena_alloc(a, sizeof **res.labels);
        echo_once_response__labels_entry__init(res.labels[i]);
        res.labels[i]->key = req->labels[i]->key;
        res.labels[i]->value = req->labels[i]->value;
    }
    echo_once_reply(call, &res);
}

/* ---- server stream: a producer with a cursor, so it needs no queue ---- */

struct many {
    struct echo *echo;
    uint64_t next, count;
    ProtobufCBinaryData payload;
};

static void produce(void *user, struct rpc_call *call)
{
    struct many *m = user;
    while (m->next <= m->count) {
        EchoManyResponse *res = sa_arena_alloc(rpc_send_arena(call), sizeof *res);
        echo_many_response__init(res);
        res->seq = m->next++;
        res->payload = m->payload;
        counter_add(&m->echo->sent, res->payload.len);
        if (!echo_many_send(call, res)) {
            counter_add(&m->echo->waiting, 1);
            return;
        }
    }
    rpc_end(call);
}

static void on_many_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct many *m = user;
    counter_add(&m->echo->cancelled, 1);
}

static void echo_many(void *api, struct rpc_call *call, const EchoManyRequest *req)
{
    static const struct rpc_call_events events = {.on_writable = produce, .on_cancel = on_many_cancel};
    struct many *m = sa_arena_alloc(rpc_arena(call), sizeof *m);
    *m = (struct many){.echo = api, .next = 1, .count = req->count, .payload = req->payload};
    echo_many_on(call, &events, m);
    produce(m, call);
}

/* ---- client stream ---- */

struct sum {
    struct echo *echo;
    uint64_t count, bytes;
};

static void on_sum_message(void *user, struct rpc_call *call, const EchoSumRequest *msg)
{
    struct sum *s = user;
    s->count++;
    s->bytes += msg->payload.len;
    counter_add(&s->echo->received, 1);
    if (msg->payload.len == 4 && !memcmp(msg->payload.data, "fail", 4)) {
        sa_error *err = NULL;
        sa_fail(&err, SA_NO_SPACE, "the disk is full");
        rpc_fail(call, err);
    }
    if (s->echo->pause) {
        s->echo->pause = false;
        s->echo->paused = call;
        rpc_pause_request(call, true);
    }
}

static void on_sum_end(void *user, struct rpc_call *call)
{
    struct sum *s = user;
    counter_add(&s->echo->ended, 1);
    EchoSumResponse res = ECHO_SUM_RESPONSE__INIT;
    res.count = s->count;
    res.bytes = s->bytes;
    echo_sum_reply(call, &res);
}

static void on_sum_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct sum *s = user;
    counter_add(&s->echo->cancelled, 1);
}

static void echo_sum(void *api, struct rpc_call *call)
{
    static const struct echo_sum_events events = {on_sum_message, on_sum_end, on_sum_cancel};
    struct sum *s = sa_arena_alloc(rpc_arena(call), sizeof *s);
    s->echo = api;
    echo_sum_accept(call, &events, s);
}

/* ---- both ways ---- */

static void on_chat_message(void *user, struct rpc_call *call, const EchoChatRequest *msg)
{
    struct echo *e = user;
    EchoChatResponse res = ECHO_CHAT_RESPONSE__INIT;
    res.text = msg->text;
    res.payload = msg->payload;
    counter_add(&e->received, 1);
    if (!echo_chat_send(call, &res))
        rpc_pause_request(call, true);
}

static void on_chat_writable(void *user, struct rpc_call *call)
{
    (void)user;
    rpc_pause_request(call, false);
}

static void on_chat_end(void *user, struct rpc_call *call)
{
    struct echo *e = user;
    counter_add(&e->ended, 1);
    rpc_end(call);
}

static void on_chat_cancel(void *user, struct rpc_call *call)
{
    (void)call;
    struct echo *e = user;
    counter_add(&e->cancelled, 1);
}

static void echo_chat(void *api, struct rpc_call *call)
{
    static const struct echo_chat_events events = {on_chat_message, on_chat_writable, on_chat_end,
                                                   on_chat_cancel};
    echo_chat_accept(call, &events, api);
}

const struct echo_service_handlers echo_handlers = {
    .echo_once = echo_once,
    .echo_many = echo_many,
    .echo_sum = echo_sum,
    .echo_chat = echo_chat,
};
