/* Unary calls: errors, deadlines, cancellation, metadata, limits, hostile bytes. */
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
#include "adapters/grpc/generated.h"
#include "google/protobuf/empty.pb-c.h"
#include "google/protobuf/struct.pb-c.h"

enum { LIMIT = 150000, CALLS = 12 }; /* bytes of a message, and calls at once, for the limit tests */

static struct echo echo = ECHO_INIT;
static struct fixture f;
static struct counter finished = COUNTER_INIT;
static char finished_method[128];
static enum sa_code finished_code;

static bool authorize(void *user, struct rpc_call *call, sa_error **err)
{
    (void)user;
    const char *who = rpc_metadata(call, "authorization", NULL);
    if (who && !strcmp(who, "Bearer nobody")) {
        sa_fail(err, SA_UNAUTHENTICATED, "the token is not known");
        return false;
    }
    rpc_set_principal(call, "owner");
    return true;
}

static void on_finished(void *user, const char *method, enum sa_code code, uint64_t duration_us)
{
    (void)user, (void)duration_us;
    snprintf(finished_method, sizeof finished_method, "%s", method);
    finished_code = code;
    counter_add(&finished, 1);
}

static int up(void **state)
{
    (void)state;
    struct rpc_server_options opt = {.max_message_bytes = LIMIT,
                                     .max_concurrent_calls = CALLS,
                                     .authorize = authorize,
                                     .finished = on_finished};
    opt.max_deadline_ms = 5000;
    opt.default_deadline_ms = 100;
    fixture_start(&f, OVER_UNIX, &opt, &echo_service, &echo_handlers, &echo);
    return 0;
}

static int down(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static EchoOnceRequest request(const char *text)
{
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    req.text = (char *)(uintptr_t)text;
    return req;
}

static void expect_error(void *res, const sa_error *err, enum sa_reason reason)
{
    assert_null(res);
    assert_non_null(err);
    if (!sa_error_is(err, reason) || err->code != sa_reason_code(reason))
        fail_msg("not %s but %s: %s", sa_reason_name(reason), err->reason, err->message);
}

static void fails(const EchoOnceRequest *req, const struct rpc_call_options *opt, enum sa_reason reason)
{
    cleanup_error sa_error *err = NULL;
    void *res = echo_once_wait(f.channel, req, opt, &err);
    expect_error(res, err, reason);
}

static void release(void)
{
    sa_loop_lock(f.loop);
    echo_release(&echo);
    sa_loop_unlock(f.loop);
}

static void error_keeps_its_reason_and_sentence(void **state)
{
    (void)state;
    EchoOnceRequest req = request("gr\xc3\xbc\xc3\x9f"
                                  "e");
    req.mode = ECHO_MODE_FAIL;
    cleanup_error sa_error *err = NULL;
    void *res = echo_once_wait(f.channel, &req, NULL, &err);
    expect_error(res, err, SA_SESSION_NOT_FOUND);
    assert_string_equal(err->message, "session gr\xc3\xbc\xc3\x9f"
                                      "e does not exist");
}

static void long_error_text_is_cut_not_lost(void **state)
{
    (void)state;
    char *text = calloc(1, 50001);
    memset(text, 'x', 50000);
    EchoOnceRequest req = request(text);
    req.mode = ECHO_MODE_FAIL;
    cleanup_error sa_error *err = NULL;
    void *res = echo_once_wait(f.channel, &req, NULL, &err);
    expect_error(res, err, SA_SESSION_NOT_FOUND);
    assert_in_range(strlen(err->message), 100, 1024);
    free(text);
}

static void deadline_ends_the_call_on_both_sides(void **state)
{
    (void)state;
    uint64_t before = counter_get(&echo.cancelled);
    EchoOnceRequest req = request("hold");
    struct rpc_call_options opt = {.deadline_ms = 50};
    fails(&req, &opt, SA_DEADLINE_EXCEEDED);
    assert_true(counter_wait(&echo.cancelled, before + 1));
    release(); /* answering a dead call is nothing */
}

static void server_caps_the_deadline(void **state)
{
    (void)state;
    EchoOnceRequest req = request("time left");
    struct rpc_call_options opt = {.deadline_ms = 3600000};
    cleanup_error sa_error *err = NULL;
    EchoOnceResponse *res = echo_once_wait(f.channel, &req, &opt, &err);
    assert_non_null(res);
    assert_in_range(atoi(res->text), 1, 5000);
    rpc_message_free(res);
    opt.deadline_ms = 2000;
    res = echo_once_wait(f.channel, &req, &opt, &err);
    assert_in_range(atoi(res->text), 1, 2100); /* the wire form is rounded up */
    rpc_message_free(res);
}

static void call_without_a_deadline_gets_the_servers(void **state)
{
    (void)state;
    uint64_t before = counter_get(&echo.cancelled);
    EchoOnceRequest req = request("hold");
    cleanup_error sa_error *err = NULL;
    ProtobufCMessage *res = NULL;
    /* Opened as a stream: our own unary calls always have one. */
    struct rpc_stream *s = rpc_gen_begin(f.channel, &echo_service.methods[0], &req.base, NULL);
    assert_int_equal(rpc_gen_next(s, &res, &err), -1);
    assert_true(sa_error_is(err, SA_DEADLINE_EXCEEDED));
    assert_non_null(strstr(err->message, "took longer than 100 ms"));
    assert_true(counter_wait(&echo.cancelled, before + 1));
    rpc_stream_free(s);
    release();
}

static void call_that_keeps_time_itself_gets_none(void **state)
{
    (void)state;
    uint64_t held = counter_get(&echo.held), cancelled = counter_get(&echo.cancelled);
    EchoOnceRequest req = request("hold long"), other = request("hold");
    cleanup_error sa_error *err = NULL;
    ProtobufCMessage *res = NULL;
    struct rpc_stream *s = rpc_gen_begin(f.channel, &echo_service.methods[0], &req.base, NULL);
    assert_true(counter_wait(&echo.held, held + 1));
    struct rpc_stream *later = rpc_gen_begin(f.channel, &echo_service.methods[0], &other.base, NULL);
    assert_true(counter_wait(&echo.cancelled, cancelled + 1)); /* the later one's time is over */
    release();
    assert_int_equal(rpc_gen_next(s, &res, &err), 1);
    rpc_message_free(res);
    rpc_stream_free(s);
    rpc_stream_free(later);
}

struct outcome {
    struct counter calls;
    char reason[48];
};

static void on_once(void *user, const EchoOnceResponse *res, const sa_error *err)
{
    struct outcome *o = user;
    (void)res;
    snprintf(o->reason, sizeof o->reason, "%s", err ? err->reason : "OK");
    counter_add(&o->calls, 1);
}

static void cancel_reaches_the_server_and_is_told_once(void **state)
{
    (void)state;
    struct outcome o = {.calls = COUNTER_INIT};
    uint64_t cancelled = counter_get(&echo.cancelled), held = counter_get(&echo.held);
    EchoOnceRequest req = request("hold");
    sa_loop_lock(f.loop);
    struct rpc_request *r = echo_once_call(f.channel, &req, NULL, on_once, &o);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.held, held + 1));
    sa_loop_lock(f.loop);
    rpc_cancel(r);
    assert_int_equal(counter_get(&o.calls), 0); /* never from inside */
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&o.calls, 1));
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
    assert_string_equal(o.reason, "CANCELLED");
    release();
}

static void abandoned_call_is_silent(void **state)
{
    (void)state;
    struct outcome o = {.calls = COUNTER_INIT};
    uint64_t cancelled = counter_get(&echo.cancelled), held = counter_get(&echo.held);
    EchoOnceRequest req = request("hold");
    sa_loop_lock(f.loop);
    struct rpc_request *r = echo_once_call(f.channel, &req, NULL, on_once, &o);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.held, held + 1));
    sa_loop_lock(f.loop);
    rpc_abandon(r);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
    release();
    req = request("after");
    rpc_message_free(echo_once_wait(f.channel, &req, NULL, NULL));
    assert_int_equal(counter_get(&o.calls), 0);
}

static void freed_channel_cancels_its_calls(void **state)
{
    (void)state;
    struct outcome o = {.calls = COUNTER_INIT};
    uint64_t cancelled = counter_get(&echo.cancelled), held = counter_get(&echo.held);
    struct rpc_channel *ch = fixture_channel(&f, NULL);
    EchoOnceRequest req = request("hold");
    sa_loop_lock(f.loop);
    echo_once_call(ch, &req, NULL, on_once, &o);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.held, held + 1));
    sa_loop_lock(f.loop);
    rpc_channel_free(ch);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&o.calls, 1));
    assert_string_equal(o.reason, "CANCELLED");
    assert_true(counter_wait(&echo.cancelled, cancelled + 1));
    release();
}

static void metadata_goes_both_ways(void **state)
{
    (void)state;
    EchoOnceRequest req = request("metadata");
    const char *const pairs[] = {"x-echo", "abc", NULL};
    struct rpc_call_options opt = {.metadata = pairs};
    EchoOnceResponse *res = echo_once_wait(f.channel, &req, &opt, NULL);
    assert_non_null(res);
    assert_string_equal(res->text, "abc|owner|/sandboxagent.test.v1.EchoService/EchoOnce|unix");
    rpc_message_free(res);
    const char *const bad[] = {"x-echo", "line\nbreak", NULL};
    opt.metadata = bad;
    fails(&req, &opt, SA_INVALID_REQUEST);
}

static void token_is_asked_for(void **state)
{
    (void)state;
    struct rpc_channel_options o = {.token = "nobody"};
    struct rpc_channel *ch = fixture_channel(&f, &o);
    EchoOnceRequest req = request("x");
    cleanup_error sa_error *err = NULL;
    void *res = echo_once_wait(ch, &req, NULL, &err);
    expect_error(res, err, SA_UNAUTHENTICATED);
    assert_string_equal(err->message, "the token is not known");
    sa_loop_lock(f.loop);
    rpc_channel_free(ch);
    sa_loop_unlock(f.loop);
}

static void missing_handlers_and_methods_are_unimplemented(void **state)
{
    (void)state;
    EchoNeverRequest req = ECHO_NEVER_REQUEST__INIT;
    cleanup_error sa_error *err = NULL, *err2 = NULL;
    void *res = echo_never_wait(f.channel, &req, NULL, &err);
    expect_error(res, err, SA_UNIMPLEMENTED);
    struct rpc_method nope = echo_service.methods[0];
    nope.path = "/sandboxagent.test.v1.EchoService/Nope";
    void *res2 = rpc_gen_wait(f.channel, &nope, &req.base, NULL, &err2);
    expect_error(res2, err2, SA_UNIMPLEMENTED);
}

static void finished_hook_hears_of_every_call(void **state)
{
    (void)state;
    uint64_t n = counter_get(&finished);
    EchoOnceRequest req = request("x");
    req.mode = ECHO_MODE_FAIL;
    fails(&req, NULL, SA_SESSION_NOT_FOUND);
    assert_true(counter_wait(&finished, n + 1));
    sa_loop_lock(f.loop);
    assert_string_equal(finished_method, "/sandboxagent.test.v1.EchoService/EchoOnce");
    assert_int_equal(finished_code, SA_CODE_NOT_FOUND);
    sa_loop_unlock(f.loop);
}

static void too_many_calls_are_refused_at_once(void **state)
{
    (void)state;
    struct outcome o = {.calls = COUNTER_INIT};
    uint64_t held = counter_get(&echo.held);
    EchoOnceRequest req = request("hold");
    sa_loop_lock(f.loop);
    for (int i = 0; i < CALLS; i++)
        echo_once_call(f.channel, &req, NULL, on_once, &o);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.held, held + CALLS));
    EchoOnceRequest more = request("one more");
    fails(&more, NULL, SA_TOO_MANY);
    release();
    assert_true(counter_wait(&o.calls, CALLS));
    assert_string_equal(o.reason, "OK");
}

static void message_limit_is_exact(void **state)
{
    (void)state;
    uint8_t *data = calloc(1, LIMIT);
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    req.payload = (ProtobufCBinaryData){LIMIT - 4, data}; /* tag and length take 4 bytes */
    assert_int_equal(echo_once_request__get_packed_size(&req), LIMIT);
    EchoOnceResponse *res = echo_once_wait(f.channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->payload.len, LIMIT - 4);
    rpc_message_free(res);
    req.payload.len++;
    fails(&req, NULL, SA_MESSAGE_TOO_LARGE);
    free(data);
}

static void text_that_is_not_utf8_leaves_mended(void **state)
{
    (void)state;
    EchoOnceRequest req = request("bad text");
    EchoOnceResponse *res = echo_once_wait(f.channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_string_equal(res->text, "a\xef\xbf\xbd\xef\xbf\xbd"
                                   "b");
    rpc_message_free(res);
}

/* Any bytes can be sent as the unknown fields of an Empty. */
static void send_raw(unsigned number, const void *p, size_t n, const char *why)
{
    uint8_t len[8];
    cleanup_buf struct sa_buf b = {0};
    size_t k = 0;
    for (size_t v = n; v > 0x7f; v >>= 7)
        len[k++] = (uint8_t)(v | 0x80);
    len[k] = (uint8_t)(n >> (7 * k));
    sa_buf_add(&b, len, k + 1);
    sa_buf_add(&b, p, n);
    ProtobufCMessageUnknownField field = {
        .tag = number, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, .len = b.len, .data = b.data};
    Google__Protobuf__Empty raw = GOOGLE__PROTOBUF__EMPTY__INIT;
    raw.base.n_unknown_fields = 1;
    raw.base.unknown_fields = &field;
    cleanup_error sa_error *err = NULL;
    void *res = rpc_gen_wait(f.channel, &echo_service.methods[0], &raw.base, NULL, &err);
    expect_error(res, err, SA_MALFORMED_MESSAGE);
    if (!strstr(err->message, why))
        fail_msg("`%s` does not say `%s`", err->message, why);
}

static void hostile_bytes_are_answered(void **state)
{
    (void)state;
    send_raw(1, "a\0b", 3, "text is not UTF-8");
    send_raw(1, "\xff\xfe", 2, "text is not UTF-8");
    send_raw(8, "\x0a\x7f", 2, "cut short");
    uint8_t *many = calloc(1, LIMIT);
    memset(many, 1, LIMIT);
    send_raw(6, many, RPC_ELEMENTS_MAX, "too many elements");
    free(many);
}

static void too_much_metadata_is_refused(void **state)
{
    (void)state;
    char *value = calloc(1, 2 * RPC_METADATA_MAX);
    memset(value, 'x', RPC_METADATA_MAX + 1);
    const char *const pairs[] = {"x-echo", value, NULL};
    struct rpc_call_options opt = {.metadata = pairs};
    EchoOnceRequest req = request("x");
    cleanup_error sa_error *err = NULL;
    void *res = echo_once_wait(f.channel, &req, &opt, &err);
    assert_null(res);
    assert_int_equal(err->code, SA_CODE_RESOURCE_EXHAUSTED);
    free(value);
}

/* A message that contains itself, which the plug-in would not let through. */
static void on_value(void *api, struct rpc_call *call, const void *req)
{
    (void)api;
    rpc_gen_reply(call, req);
}

static void (*const nest_handlers[])(void *api, struct rpc_call *call, const void *req) = {on_value};
static const struct rpc_method nest_methods[] = {{"/test.Nest/Value", &google__protobuf__value__descriptor,
                                                  &google__protobuf__value__descriptor, false, false}};
static const char *const no_symbols[] = {NULL};
static const struct rpc_file *const no_files[] = {NULL};
static const struct rpc_file nest_file = {"nest.proto", (const uint8_t *)"", 0, no_files, no_symbols};
static const struct rpc_service nest_service = {"test.Nest", &nest_file, nest_methods, 1};

static void deep_nesting_is_answered(void **state)
{
    (void)state;
    enum { LEVELS = 20000 }; /* 80 KB, on which the parser alone would run out of stack */
    struct fixture nest;
    fixture_start(&nest, OVER_UNIX, NULL, &nest_service, nest_handlers, NULL);
    uint8_t *data = malloc(LEVELS * 8), *at = data + LEVELS * 8;
    for (size_t i = 0, n = 0; i < LEVELS; i++, n = (size_t)(data + LEVELS * 8 - at)) {
        *--at = (uint8_t)(n >> 14);
        *--at = (uint8_t)(n >> 7 | 0x80);
        *--at = (uint8_t)(n | 0x80);
        *--at = i % 2 ? 0x0a : 0x32; /* ListValue.values, Value.list_value */
    }
    ProtobufCMessageUnknownField field = {.tag = 6, .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED};
    uint8_t *whole = malloc(LEVELS * 8 + 3);
    size_t n = (size_t)(data + LEVELS * 8 - at);
    whole[0] = (uint8_t)(n | 0x80);
    whole[1] = (uint8_t)(n >> 7 | 0x80);
    whole[2] = (uint8_t)(n >> 14);
    memcpy(whole + 3, at, n);
    field.data = whole;
    field.len = n + 3;
    Google__Protobuf__Empty raw = GOOGLE__PROTOBUF__EMPTY__INIT;
    raw.base.n_unknown_fields = 1;
    raw.base.unknown_fields = &field;
    cleanup_error sa_error *err = NULL;
    void *res = rpc_gen_wait(nest.channel, &nest_methods[0], &raw.base, NULL, &err);
    fixture_stop(&nest);
    free(data);
    free(whole);
    expect_error(res, err, SA_MALFORMED_MESSAGE);
    assert_non_null(strstr(err->message, "nests too deep"));
}

static void *call_often(void *arg)
{
    struct fixture *fx = arg;
    for (int i = 0; i < 200; i++) {
        EchoOnceRequest req = request("thread");
        sa_error *err = NULL;
        EchoOnceResponse *res = echo_once_wait(fx->channel, &req, NULL, &err);
        if (!res)
            return err->message;
        rpc_message_free(res);
    }
    return NULL;
}

static void threads_may_wait_side_by_side(void **state)
{
    (void)state;
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, call_often, &f);
    for (int i = 0; i < 3; i++) {
        void *problem = NULL;
        pthread_join(t[i], &problem);
        if (problem)
            fail_msg("%s", (char *)problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_its_reason_and_sentence),
        cmocka_unit_test(long_error_text_is_cut_not_lost),
        cmocka_unit_test(deadline_ends_the_call_on_both_sides),
        cmocka_unit_test(server_caps_the_deadline),
        cmocka_unit_test(call_without_a_deadline_gets_the_servers),
        cmocka_unit_test(call_that_keeps_time_itself_gets_none),
        cmocka_unit_test(cancel_reaches_the_server_and_is_told_once),
        cmocka_unit_test(abandoned_call_is_silent),
        cmocka_unit_test(freed_channel_cancels_its_calls),
        cmocka_unit_test(metadata_goes_both_ways),
        cmocka_unit_test(token_is_asked_for),
        cmocka_unit_test(missing_handlers_and_methods_are_unimplemented),
        cmocka_unit_test(finished_hook_hears_of_every_call),
        cmocka_unit_test(too_many_calls_are_refused_at_once),
        cmocka_unit_test(message_limit_is_exact),
        cmocka_unit_test(text_that_is_not_utf8_leaves_mended),
        cmocka_unit_test(hostile_bytes_are_answered),
        cmocka_unit_test(too_much_metadata_is_refused),
        cmocka_unit_test(deep_nesting_is_answered),
        cmocka_unit_test(threads_may_wait_side_by_side),
    };
    return cmocka_run_group_tests(tests, up, down);
}
