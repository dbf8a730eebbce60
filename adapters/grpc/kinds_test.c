/* The four kinds of calls, over each transport, in the blocking and in the callback form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/echo.h"

static struct echo echo = ECHO_INIT;
static struct fixture f;

static int up(enum transport over)
{
    fixture_start(&f, over, NULL, &echo_service, &echo_handlers, &echo);
    return 0;
}

static int up_unix(void **state)
{
    (void)state;
    return up(OVER_UNIX);
}

static int up_tcp(void **state)
{
    (void)state;
    return up(OVER_TCP);
}

static int up_tls(void **state)
{
    (void)state;
    return up(OVER_TLS);
}

static int down(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static void check_ok(int r, const sa_error *err)
{
    if (r < 0)
        fail_msg("%s: %s", err->reason, err->message);
}

static ProtobufCBinaryData bytes(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

static void unary_gives_back_what_was_sent(void **state)
{
    (void)state;
    char text[] = "gr\xc3\xbc\xc3\x9f", key[] = "k", value[] = "v", name[] = "root";
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    EchoOnceRequest__LabelsEntry label = ECHO_ONCE_REQUEST__LABELS_ENTRY__INIT, *labels = &label;
    EchoTree tree = ECHO_TREE__INIT;
    label.key = key;
    label.value = value;
    tree.name = name;
    req.text = text;
    req.payload = bytes("with\0nul");
    req.payload.len = 8;
    req.labels = &labels;
    req.n_labels = 1;
    req.tree = &tree;
    sa_error *err = NULL;
    EchoOnceResponse *res = echo_once_wait(f.channel, &req, NULL, &err);
    check_ok(res ? 0 : -1, err);
    assert_string_equal(res->text, text);
    assert_int_equal(res->payload.len, 8);
    assert_memory_equal(res->payload.data, "with\0nul", 8);
    assert_string_equal(res->tree->name, "root");
    assert_int_equal(res->n_labels, 1);
    assert_string_equal(res->labels[0]->value, "v");
    rpc_message_free(res);
}

static void server_stream_keeps_order(void **state)
{
    (void)state;
    EchoManyRequest req = ECHO_MANY_REQUEST__INIT;
    req.count = 5000;
    req.payload = bytes("some bytes in each answer");
    sa_error *err = NULL;
    struct rpc_stream *s = echo_many_begin(f.channel, &req, NULL);
    EchoManyResponse *res = NULL;
    uint64_t n = 0;
    int r;
    while ((r = echo_many_next(s, &res, &err)) > 0) {
        assert_int_equal(res->seq, ++n);
        assert_int_equal(res->payload.len, req.payload.len);
        rpc_message_free(res);
    }
    check_ok(r, err);
    assert_int_equal(n, 5000);
    rpc_stream_free(s);
}

static void client_stream_is_summed_up(void **state)
{
    (void)state;
    sa_error *err = NULL;
    struct rpc_stream *s = echo_sum_begin(f.channel, NULL);
    for (int i = 0; i < 1000; i++) {
        EchoSumRequest m = ECHO_SUM_REQUEST__INIT;
        m.payload = bytes("0123456789");
        check_ok(echo_sum_put(s, &m, &err), err);
    }
    check_ok(rpc_stream_close_send(s, &err), err);
    EchoSumResponse *res = NULL;
    check_ok(echo_sum_next(s, &res, &err), err);
    assert_int_equal(res->count, 1000);
    assert_int_equal(res->bytes, 10000);
    rpc_message_free(res);
    assert_int_equal(echo_sum_next(s, &res, &err), 0);
    rpc_stream_free(s);
}

static void bidi_stream_answers_each_message(void **state)
{
    (void)state;
    sa_error *err = NULL;
    struct rpc_stream *s = echo_chat_begin(f.channel, NULL);
    EchoChatResponse *res = NULL;
    for (int i = 0; i < 100; i++) {
        char text[32];
        snprintf(text, sizeof text, "line %d", i);
        EchoChatRequest m = ECHO_CHAT_REQUEST__INIT;
        m.text = text;
        check_ok(echo_chat_put(s, &m, &err), err);
        check_ok(echo_chat_next(s, &res, &err), err);
        assert_string_equal(res->text, text);
        rpc_message_free(res);
    }
    check_ok(rpc_stream_close_send(s, &err), err);
    assert_int_equal(echo_chat_next(s, &res, &err), 0);
    rpc_stream_free(s);
}

/* ---- callbacks ---- */

struct seen {
    struct counter messages, ends;
    bool failed;
    char text[64];
};
#define SEEN_INIT                                                                                            \
    {                                                                                                        \
        .messages = COUNTER_INIT, .ends = COUNTER_INIT                                                       \
    }

static void on_once(void *user, const EchoOnceResponse *res, const sa_error *err)
{
    struct seen *s = user;
    s->failed = err != NULL;
    snprintf(s->text, sizeof s->text, "%s", res ? res->text : err->reason);
    counter_add(&s->ends, 1);
}

static void many_unary_calls_run_at_once(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    char text[] = "hello";
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    req.text = text;
    for (int i = 0; i < 500; i++) {
        sa_loop_lock(f.loop);
        echo_once_call(f.channel, &req, NULL, on_once, &s);
        sa_loop_unlock(f.loop);
    }
    assert_true(counter_wait(&s.ends, 500));
    assert_false(s.failed);
    assert_string_equal(s.text, "hello");
}

static void on_chat_message(void *user, const EchoChatResponse *res)
{
    struct seen *s = user;
    snprintf(s->text, sizeof s->text, "%s", res->text);
    counter_add(&s->messages, 1);
}

static void on_end(void *user, const sa_error *err)
{
    struct seen *s = user;
    s->failed = err != NULL;
    if (err)
        snprintf(s->text, sizeof s->text, "%s", err->reason);
    counter_add(&s->ends, 1);
}

static void callback_stream_ends_once_after_its_messages(void **state)
{
    (void)state;
    static const struct echo_chat_client events = {.on_message = on_chat_message, .on_end = on_end};
    struct seen s = SEEN_INIT;
    char text[] = "over";
    EchoChatRequest m = ECHO_CHAT_REQUEST__INIT;
    m.text = text;
    sa_loop_lock(f.loop);
    struct rpc_request *r = echo_chat_open(f.channel, NULL, &events, &s);
    for (int i = 0; i < 50; i++)
        echo_chat_write(r, &m);
    rpc_close_send(r);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&s.ends, 1));
    assert_int_equal(counter_get(&s.messages), 50);
    assert_false(s.failed);
    assert_string_equal(s.text, "over");
}

#define KINDS                                                                                                \
    cmocka_unit_test(unary_gives_back_what_was_sent), cmocka_unit_test(server_stream_keeps_order),           \
        cmocka_unit_test(client_stream_is_summed_up), cmocka_unit_test(bidi_stream_answers_each_message),    \
        cmocka_unit_test(many_unary_calls_run_at_once),                                                      \
        cmocka_unit_test(callback_stream_ends_once_after_its_messages)

int main(void)
{
    const struct CMUnitTest over_unix[] = {KINDS}, over_tcp[] = {KINDS}, over_tls[] = {KINDS};
    return cmocka_run_group_tests(over_unix, up_unix, down) + cmocka_run_group_tests(over_tcp, up_tcp, down) +
           cmocka_run_group_tests(over_tls, up_tls, down);
}
