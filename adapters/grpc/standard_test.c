/* Health and reflection, as a foreign client sees them. */
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
#include "google/protobuf/descriptor.pb-c.h"
#include "grpc/health/v1/health.rpc.h"
#include "grpc/reflection/v1/reflection.rpc.h"
#include "grpc/reflection/v1alpha/reflection.rpc.h"

typedef Grpc__Health__V1__HealthCheckRequest Check;
typedef Grpc__Health__V1__HealthCheckResponse Health;
typedef Grpc__Reflection__V1__ServerReflectionRequest Ask;
typedef Grpc__Reflection__V1__ServerReflectionResponse Told;
#define STATUS(s) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##s
#define ASK_INIT GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT
#define ASKS(what) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##what
#define TELLS(what) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##what

static char echo_name[] = "sandboxagent.test.v1.EchoService", nothing_name[] = "no.such.Thing";
static struct echo echo = ECHO_INIT;
static struct fixture f;

static bool refuse(void *user, struct rpc_call *call, sa_error **err)
{
    (void)user;
    if (rpc_metadata(call, "authorization", NULL))
        return true;
    sa_fail(err, SA_UNAUTHENTICATED, "a token is needed");
    return false;
}

static int up(void **state)
{
    (void)state;
    struct rpc_server_options opt = {.authorize = refuse};
    fixture_start(&f, OVER_UNIX, &opt, &echo_service, &echo_handlers, &echo);
    return 0;
}

static int down(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static struct rpc_channel *with_token(void)
{
    struct rpc_channel_options o = {.token = "t"};
    return fixture_channel(&f, &o);
}

static void free_channel(struct rpc_channel *ch)
{
    sa_loop_lock(f.loop);
    rpc_channel_free(ch);
    sa_loop_unlock(f.loop);
}

static void set_serving(const char *service, bool serving)
{
    sa_loop_lock(f.loop);
    rpc_server_set_serving(f.server, service, serving);
    sa_loop_unlock(f.loop);
}

/* The status, or minus the code. */
static int health(char *service)
{
    Check req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    if (service)
        req.service = service;
    cleanup_error sa_error *err = NULL;
    Health *res = grpc__health__v1__check_wait(f.channel, &req, NULL, &err);
    int r = res ? (int)res->status : -(int)err->code;
    rpc_message_free(res);
    return r;
}

static void health_needs_no_token_and_knows_services(void **state)
{
    (void)state;
    assert_int_equal(health(NULL), STATUS(SERVING));
    assert_int_equal(health(echo_name), STATUS(SERVING));
    assert_int_equal(health(nothing_name), -SA_CODE_NOT_FOUND);
    set_serving(echo_name, false);
    assert_int_equal(health(NULL), STATUS(SERVING));
    assert_int_equal(health(echo_name), STATUS(NOT_SERVING));
    set_serving(echo_name, true);
    set_serving(NULL, false);
    assert_int_equal(health(NULL), STATUS(NOT_SERVING));
    assert_int_equal(health(echo_name), STATUS(NOT_SERVING));
    set_serving(NULL, true);
    assert_int_equal(health(echo_name), STATUS(SERVING));
}

static void expect_health(struct rpc_stream *s, int status)
{
    Health *res = NULL;
    assert_int_equal(grpc__health__v1__watch_next(s, &res, NULL), 1);
    assert_int_equal(res->status, status);
    rpc_message_free(res);
}

static struct rpc_stream *watch(char *service)
{
    Check req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    if (service)
        req.service = service;
    return grpc__health__v1__watch_begin(f.channel, &req, NULL);
}

static void health_watchers_are_told_of_changes(void **state)
{
    (void)state;
    struct rpc_stream *all = watch(NULL), *one = watch(echo_name), *none = watch(nothing_name);
    expect_health(all, STATUS(SERVING));
    expect_health(one, STATUS(SERVING));
    expect_health(none, STATUS(SERVICE_UNKNOWN));
    set_serving(echo_name, false);
    expect_health(one, STATUS(NOT_SERVING));
    set_serving(NULL, false);
    expect_health(all, STATUS(NOT_SERVING));
    set_serving(NULL, true);
    set_serving(echo_name, true);
    expect_health(all, STATUS(SERVING));
    expect_health(one, STATUS(SERVING));
    rpc_stream_free(all);
    rpc_stream_free(one);
    rpc_stream_free(none);
}

static void reflection_needs_a_token(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = grpc__reflection__v1__server_reflection_info_begin(f.channel, NULL);
    Told *res = NULL;
    assert_int_equal(grpc__reflection__v1__server_reflection_info_next(s, &res, &err), -1);
    assert_true(sa_error_is(err, SA_UNAUTHENTICATED));
    rpc_stream_free(s);
}

static Told *ask(struct rpc_stream *s, const Ask *req)
{
    Told *res = NULL;
    assert_int_equal(grpc__reflection__v1__server_reflection_info_put(s, req, NULL), 0);
    assert_int_equal(grpc__reflection__v1__server_reflection_info_next(s, &res, NULL), 1);
    return res;
}

static void reflection_lists_services_and_gives_their_files(void **state)
{
    (void)state;
    struct rpc_channel *ch = with_token();
    struct rpc_stream *s = grpc__reflection__v1__server_reflection_info_begin(ch, NULL);
    Ask req = ASK_INIT;
    char empty[] = "", timestamp[] = "google/protobuf/timestamp.proto";
    req.message_request_case = ASKS(LIST_SERVICES);
    req.list_services = empty;
    Told *res = ask(s, &req);
    assert_int_equal(res->message_response_case, TELLS(LIST_SERVICES_RESPONSE));
    assert_int_equal(res->list_services_response->n_service, 4);
    rpc_message_free(res);

    req.message_request_case = ASKS(FILE_CONTAINING_SYMBOL);
    req.file_containing_symbol = echo_name;
    res = ask(s, &req);
    assert_int_equal(res->message_response_case, TELLS(FILE_DESCRIPTOR_RESPONSE));
    assert_int_equal(res->file_descriptor_response->n_file_descriptor_proto, 2); /* with its import */
    ProtobufCBinaryData d = res->file_descriptor_response->file_descriptor_proto[0];
    Google__Protobuf__FileDescriptorProto *file =
        rpc_unpack(&google__protobuf__file_descriptor_proto__descriptor, d.data, d.len, NULL);
    assert_non_null(file);
    assert_string_equal(file->name, "sandboxagent/test/v1/echo_service.proto");
    assert_int_equal(file->service[0]->n_method, 5);
    rpc_message_free(file);
    rpc_message_free(res);

    req.message_request_case = ASKS(FILE_BY_FILENAME);
    req.file_by_filename = timestamp;
    res = ask(s, &req);
    assert_int_equal(res->message_response_case, TELLS(FILE_DESCRIPTOR_RESPONSE));
    rpc_message_free(res);

    req.file_by_filename = nothing_name;
    res = ask(s, &req);
    assert_int_equal(res->message_response_case, TELLS(ERROR_RESPONSE));
    assert_int_equal(res->error_response->error_code, SA_CODE_NOT_FOUND);
    rpc_message_free(res);

    assert_int_equal(rpc_stream_close_send(s, NULL), 0);
    assert_int_equal(grpc__reflection__v1__server_reflection_info_next(s, &res, NULL), 0);
    rpc_stream_free(s);
    free_channel(ch);
}

static void older_reflection_answers_too(void **state)
{
    (void)state;
    struct rpc_channel *ch = with_token();
    struct rpc_stream *s = grpc__reflection__v1alpha__server_reflection_info_begin(ch, NULL);
    Grpc__Reflection__V1alpha__ServerReflectionRequest req =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__INIT;
    Grpc__Reflection__V1alpha__ServerReflectionResponse *res = NULL;
    char host[] = "host", method[] = "sandboxagent.test.v1.EchoService.EchoMany";
    req.host = host;
    req.message_request_case =
        GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
    req.file_containing_symbol = method;
    assert_int_equal(grpc__reflection__v1alpha__server_reflection_info_put(s, &req, NULL), 0);
    assert_int_equal(grpc__reflection__v1alpha__server_reflection_info_next(s, &res, NULL), 1);
    assert_string_equal(res->original_request->file_containing_symbol, method);
    assert_int_equal(res->file_descriptor_response->n_file_descriptor_proto, 2);
    rpc_message_free(res);
    rpc_stream_free(s);
    free_channel(ch);
}

static void add_one(void *user)
{
    counter_add(user, 1);
}

static void draining_tells_health_watchers_and_lets_them_go(void **state)
{
    (void)state;
    struct counter done = COUNTER_INIT;
    struct rpc_stream *s = watch(NULL);
    expect_health(s, STATUS(SERVING));
    sa_loop_lock(f.loop);
    rpc_server_drain(f.server, 60000, add_one, &done);
    sa_loop_unlock(f.loop);
    expect_health(s, STATUS(NOT_SERVING));
    cleanup_error sa_error *err = NULL;
    Health *res = NULL;
    assert_int_equal(grpc__health__v1__watch_next(s, &res, &err), -1);
    assert_true(sa_error_is(err, SA_DRAINING));
    assert_true(counter_wait(&done, 1));
    rpc_stream_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_needs_no_token_and_knows_services),
        cmocka_unit_test(health_watchers_are_told_of_changes),
        cmocka_unit_test(reflection_needs_a_token),
        cmocka_unit_test(reflection_lists_services_and_gives_their_files),
        cmocka_unit_test(older_reflection_answers_too),
        cmocka_unit_test(draining_tells_health_watchers_and_lets_them_go), /* the last: it drains */
    };
    return cmocka_run_group_tests(tests, up, down);
}
