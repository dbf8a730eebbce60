/* Streams: back pressure both ways, cancellation, errors in the middle. */
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

enum { BIG = 1 << 20, ENOUGH = 24 << 20 }; /* what may be on its way: our outbox and gRPC's windows */

static struct echo echo = ECHO_INIT;
static struct fixture f;
static uint8_t *big;

static int up(void **state)
{
    (void)state;
    big = calloc(1, BIG);
    fixture_start(&f, OVER_TCP, NULL, &echo_service, &echo_handlers, &echo);
    return 0;
}

static int down(void **state)
{
    (void)state;
    fixture_stop(&f);
    free(big);
    return 0;
}

struct seen {
    struct counter messages, ends, writable;
    char reason[48];
};
#define SEEN_INIT                                                                                            \
    {                                                                                                        \
        .messages = COUNTER_INIT, .ends = COUNTER_INIT, .writable = COUNTER_INIT                             \
    }

static void on_end(void *user, const sa_error *err)
{
    struct seen *s = user;
    snprintf(s->reason, sizeof s->reason, "%s", err ? err->reason : "OK");
    counter_add(&s->ends, 1);
}

static void on_writable(void *user)
{
    struct seen *s = user;
    counter_add(&s->writable, 1);
}

static void on_many(void *user, const EchoManyResponse *res)
{
    struct seen *s = user;
    (void)res;
    counter_add(&s->messages, 1);
}

static void on_sum(void *user, const EchoSumResponse *res)
{
    struct seen *s = user;
    (void)res;
    counter_add(&s->messages, 1);
}

static const struct echo_many_client many_events = {.on_message = on_many, .on_end = on_end};
static const struct echo_sum_client sum_events = {on_sum, on_writable, on_end};

static struct rpc_request *open_many(struct seen *s, uint64_t count, bool paused)
{
    EchoManyRequest req = ECHO_MANY_REQUEST__INIT;
    req.count = count;
    req.payload = (ProtobufCBinaryData){BIG, big};
    sa_loop_lock(f.loop);
    struct rpc_request *r = echo_many_open(f.channel, &req, NULL, &many_events, s);
    if (paused)
        rpc_pause_response(r, true);
    sa_loop_unlock(f.loop);
    return r;
}

static void slow_reader_stops_the_producer(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    uint64_t sent = counter_get(&echo.sent), waiting = counter_get(&echo.waiting);
    struct rpc_request *r = open_many(&s, 100, true);
    assert_true(counter_wait(&echo.waiting, waiting + 1));
    assert_true(counter_wait(&s.messages, 1)); /* the one that was being read */
    assert_in_range(counter_get(&echo.sent) - sent, BIG, ENOUGH);
    assert_int_equal(counter_get(&s.ends), 0);
    sa_loop_lock(f.loop);
    rpc_pause_response(r, false);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&s.ends, 1));
    assert_int_equal(counter_get(&s.messages), 100);
    assert_int_equal(counter_get(&echo.sent) - sent, 100 * (uint64_t)BIG);
    assert_string_equal(s.reason, "OK");
}

static void paused_request_can_be_cancelled(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    uint64_t cancelled = counter_get(&echo.cancelled);
    struct rpc_request *r = open_many(&s, 100, true);
    assert_true(counter_wait(&s.messages, 1));
    sa_loop_lock(f.loop);
    rpc_cancel(r);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&s.ends, 1));
    assert_string_equal(s.reason, "CANCELLED");
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
}

static void abandoned_stream_is_silent(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    uint64_t cancelled = counter_get(&echo.cancelled);
    struct rpc_request *r = open_many(&s, 100, false);
    assert_true(counter_wait(&s.messages, 3));
    sa_loop_lock(f.loop);
    rpc_abandon(r);
    uint64_t messages = counter_get(&s.messages);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
    assert_int_equal(counter_get(&s.messages), messages);
    assert_int_equal(counter_get(&s.ends), 0);
}

static bool write_big(struct rpc_request *r)
{
    EchoSumRequest m = ECHO_SUM_REQUEST__INIT;
    m.payload = (ProtobufCBinaryData){BIG, big};
    sa_loop_lock(f.loop);
    bool room = echo_sum_write(r, &m);
    sa_loop_unlock(f.loop);
    return room;
}

static struct rpc_request *open_sum(struct seen *s)
{
    sa_loop_lock(f.loop);
    struct rpc_request *r = echo_sum_open(f.channel, NULL, &sum_events, s);
    sa_loop_unlock(f.loop);
    return r;
}

static void slow_server_stops_the_sender(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    uint64_t received = counter_get(&echo.received);
    sa_loop_lock(f.loop);
    echo.pause = true;
    sa_loop_unlock(f.loop);
    struct rpc_request *r = open_sum(&s);
    int sent = 0;
    for (uint64_t writable = 0; sent < 100; sent++) {
        if (write_big(r))
            continue;
        if (sent > 0 && counter_get(&echo.received) == received + 1)
            break; /* it reads no more, and there is no room */
        assert_true(counter_wait(&s.writable, ++writable));
    }
    assert_in_range(sent, 1, ENOUGH / BIG);
    sa_loop_lock(f.loop);
    rpc_pause_request(echo.paused, false);
    rpc_close_send(r);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&s.ends, 1));
    assert_string_equal(s.reason, "OK");
    assert_int_equal(counter_get(&s.messages), 1);
    assert_int_equal(counter_get(&echo.received), received + (uint64_t)sent + 1);
}

static void sender_that_does_not_stop_is_ended(void **state)
{
    (void)state;
    struct seen s = SEEN_INIT;
    sa_loop_lock(f.loop);
    echo.pause = true;
    sa_loop_unlock(f.loop);
    struct rpc_request *r = open_sum(&s);
    sa_loop_lock(f.loop); /* one turn, so that nothing leaves in between */
    EchoSumRequest m = ECHO_SUM_REQUEST__INIT;
    m.payload = (ProtobufCBinaryData){BIG, big};
    for (int i = 0; i < 100; i++)
        echo_sum_write(r, &m);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&s.ends, 1));
    assert_string_equal(s.reason, "SLOW_READER");
}

static void cancelled_upload_never_looks_complete(void **state)
{
    (void)state;
    uint64_t ended = counter_get(&echo.ended), cancelled = counter_get(&echo.cancelled);
    for (uint64_t i = 1; i <= 200; i++) {
        struct seen s = SEEN_INIT;
        uint64_t received = counter_get(&echo.received);
        struct rpc_request *r = open_sum(&s);
        EchoSumRequest m = ECHO_SUM_REQUEST__INIT;
        sa_loop_lock(f.loop);
        echo_sum_write(r, &m);
        sa_loop_unlock(f.loop);
        assert_true(counter_wait(&echo.received, received + 1));
        sa_loop_lock(f.loop);
        rpc_cancel(r);
        sa_loop_unlock(f.loop);
        assert_true(counter_wait(&s.ends, 1));
        assert_true(counter_wait(&echo.cancelled, cancelled + i));
    }
    assert_int_equal(counter_get(&echo.ended), ended);
}

static void expired_upload_never_looks_complete(void **state)
{
    (void)state;
    uint64_t ended = counter_get(&echo.ended), cancelled = counter_get(&echo.cancelled);
    struct rpc_call_options opt = {.deadline_ms = 20};
    for (uint64_t i = 1; i <= 20; i++) {
        cleanup_error sa_error *err = NULL;
        EchoSumResponse *res = NULL;
        struct rpc_stream *s = echo_sum_begin(f.channel, &opt);
        assert_int_equal(echo_sum_next(s, &res, &err), -1);
        assert_true(sa_error_is(err, SA_DEADLINE_EXCEEDED));
        rpc_stream_free(s);
    }
    (void)cancelled; /* a call may expire before its handler was called */
    assert_int_equal(counter_get(&echo.ended), ended);
}

static void server_may_fail_an_upload_in_the_middle(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = echo_sum_begin(f.channel, NULL);
    EchoSumRequest m = ECHO_SUM_REQUEST__INIT;
    m.payload = (ProtobufCBinaryData){4, (uint8_t *)(uintptr_t) "fail"};
    int r = 0;
    for (int i = 0; i < 100000 && !r; i++)
        r = echo_sum_put(s, &m, &err);
    assert_int_equal(r, -1);
    assert_true(sa_error_is(err, SA_NO_SPACE));
    assert_string_equal(err->message, "the disk is full");
    EchoSumResponse *res = NULL;
    assert_int_equal(echo_sum_next(s, &res, NULL), -1);
    rpc_stream_free(s);
}

static void stream_of_a_lost_client_is_cancelled(void **state)
{
    (void)state;
    uint64_t cancelled = counter_get(&echo.cancelled), received = counter_get(&echo.received);
    struct rpc_channel *ch = fixture_channel(&f, NULL);
    struct rpc_stream *s = echo_chat_begin(ch, NULL);
    EchoChatRequest m = ECHO_CHAT_REQUEST__INIT;
    assert_int_equal(echo_chat_put(s, &m, NULL), 0);
    assert_true(counter_wait(&echo.received, received + 1));
    sa_loop_lock(f.loop);
    rpc_channel_free(ch);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
    cleanup_error sa_error *err = NULL;
    EchoChatResponse *res = NULL;
    int r;
    while ((r = echo_chat_next(s, &res, &err)) > 0)
        rpc_message_free(res);
    assert_int_equal(r, -1);
    assert_true(sa_error_is(err, SA_CANCELLED));
    rpc_stream_free(s);
}

static void stream_can_be_freed_at_any_time(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        EchoManyRequest req = ECHO_MANY_REQUEST__INIT;
        req.count = 1000;
        struct rpc_stream *s = echo_many_begin(f.channel, &req, NULL);
        EchoManyResponse *res = NULL;
        for (int k = 0; k < i % 4; k++) {
            assert_int_equal(echo_many_next(s, &res, NULL), 1);
            rpc_message_free(res);
        }
        rpc_stream_free(s);
    }
}

/* The server died while a client sent and did not read the answers: the client waited for room for ever,
 * because the end is told behind the messages. */
static void sender_that_does_not_read_learns_of_the_end(void **state)
{
    (void)state;
    struct fixture own;
    struct echo own_echo = ECHO_INIT;
    EchoChatRequest req = ECHO_CHAT_REQUEST__INIT;
    cleanup_error sa_error *err = NULL;
    fixture_start(&own, OVER_TCP, NULL, &echo_service, &echo_handlers, &own_echo);
    struct rpc_stream *s = echo_chat_begin(own.channel, NULL);
    req.payload = (ProtobufCBinaryData){BIG / 4, big};
    EchoOnceRequest barrier = ECHO_ONCE_REQUEST__INIT;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(echo_chat_put(s, &req, NULL), 0);
        rpc_message_free(echo_once_wait(own.channel, &barrier, NULL, NULL));
    }
    rpc_server_free(steal_pointer(&own.server));
    while (echo_chat_put(s, &req, &err) == 0)
        ;
    assert_non_null(err);
    rpc_stream_free(s);
    fixture_stop(&own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slow_reader_stops_the_producer),
        cmocka_unit_test(paused_request_can_be_cancelled),
        cmocka_unit_test(abandoned_stream_is_silent),
        cmocka_unit_test(slow_server_stops_the_sender),
        cmocka_unit_test(sender_that_does_not_stop_is_ended),
        cmocka_unit_test(cancelled_upload_never_looks_complete),
        cmocka_unit_test(expired_upload_never_looks_complete),
        cmocka_unit_test(server_may_fail_an_upload_in_the_middle),
        cmocka_unit_test(stream_of_a_lost_client_is_cancelled),
        cmocka_unit_test(stream_can_be_freed_at_any_time),
        cmocka_unit_test(sender_that_does_not_read_learns_of_the_end),
    };
    return cmocka_run_group_tests(tests, up, down);
}
