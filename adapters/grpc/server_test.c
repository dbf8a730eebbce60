/* Listening, TLS, restarts and draining. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/grpc/echo.h"
#include "adapters/os/file.h"

static struct echo echo = ECHO_INIT;
static struct fixture f;

static int up_over(enum transport over)
{
    fixture_start(&f, over, NULL, &echo_service, &echo_handlers, &echo);
    return 0;
}

static int up_unix(void **state)
{
    (void)state;
    return up_over(OVER_UNIX);
}

static int up_tls(void **state)
{
    (void)state;
    return up_over(OVER_TLS);
}

static int up_tcp(void **state)
{
    (void)state;
    return up_over(OVER_TCP);
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

/* The reason of a call's end, "OK" when it succeeds. */
static const char *try_call(struct rpc_channel *ch, const struct rpc_call_options *opt)
{
    static char reason[48];
    EchoOnceRequest req = request("x");
    cleanup_error sa_error *err = NULL;
    EchoOnceResponse *res = echo_once_wait(ch, &req, opt, &err);
    snprintf(reason, sizeof reason, "%s", err ? err->reason : "OK");
    rpc_message_free(res);
    return reason;
}

static void free_channel(struct rpc_channel *ch)
{
    sa_loop_lock(f.loop);
    rpc_channel_free(ch);
    sa_loop_unlock(f.loop);
}

static void refuses_to_listen(const char *address, const struct rpc_tls *tls, enum sa_reason reason,
                              const char *why)
{
    sa_loop_lock(f.loop);
    struct rpc_server *s = rpc_server_new(f.rt, NULL);
    sa_loop_unlock(f.loop);
    cleanup_error sa_error *err = NULL;
    int r = rpc_server_listen(s, address, tls, NULL, &err);
    rpc_server_free(s);
    assert_int_equal(r, -1);
    if (!sa_error_is(err, reason) || !strstr(err->message, why))
        fail_msg("%s: %s", err->reason, err->message);
}

static void live_socket_is_not_taken_away(void **state)
{
    (void)state;
    refuses_to_listen(f.address, NULL, SA_ADDRESS_IN_USE, f.address);
    assert_string_equal(try_call(f.channel, NULL), "OK");
}

static void stale_socket_is_replaced(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/stale", f.dir);
    cleanup_close int fd = sa_unix_listen(path, SOCK_STREAM, NULL);
    assert_true(fd >= 0);
    close(steal_fd(&fd));
    sa_loop_lock(f.loop);
    struct rpc_server *s = rpc_server_new(f.rt, NULL);
    sa_loop_unlock(f.loop);
    char address[160];
    snprintf(address, sizeof address, "unix:%s", path);
    cleanup_error sa_error *err = NULL;
    if (rpc_server_listen(s, address, NULL, NULL, &err) < 0)
        fail_msg("%s", err->message);
    rpc_server_free(s);
}

static void file_in_the_way_is_kept(void **state)
{
    (void)state;
    char path[128], address[160];
    snprintf(path, sizeof path, "%s/file", f.dir);
    snprintf(address, sizeof address, "unix:%s", path);
    assert_int_equal(sa_write_file(path, "x", 1, 0600, NULL), 0);
    refuses_to_listen(address, NULL, SA_ADDRESS_IN_USE, "is not a socket");
    assert_int_equal(access(path, F_OK), 0);
}

static void long_or_missing_paths_are_named(void **state)
{
    (void)state;
    char address[300];
    snprintf(address, sizeof address, "unix:%s/%0200d", f.dir, 1);
    refuses_to_listen(address, NULL, SA_INVALID_PATH, "is longer than 107 bytes");
    snprintf(address, sizeof address, "unix:%s/no/s", f.dir);
    refuses_to_listen(address, NULL, SA_FILE_NOT_FOUND, "/no");
}

static void port_is_not_shared(void **state)
{
    (void)state;
    refuses_to_listen(f.address, NULL, SA_ADDRESS_IN_USE, f.address);
    assert_string_equal(try_call(f.channel, NULL), "OK");
}

static void plain_text_stays_on_the_loopback(void **state)
{
    (void)state;
    refuses_to_listen("0.0.0.0:0", NULL, SA_INVALID_CONFIG, "needs a certificate");
    refuses_to_listen(":0", NULL, SA_INVALID_CONFIG, "needs a certificate");
    refuses_to_listen("nonsense", NULL, SA_INVALID_CONFIG, "has no port");
    struct rpc_tls half = {.cert_chain = "x"};
    refuses_to_listen("127.0.0.1:0", &half, SA_INVALID_CONFIG, "private key");
    struct rpc_tls bad = {.cert_chain = "x", .private_key = "y"};
    refuses_to_listen("127.0.0.1:0", &bad, SA_INVALID_CONFIG, "certificate");
}

static void tls_off_the_loopback_is_fine(void **state)
{
    (void)state;
    sa_loop_lock(f.loop);
    struct rpc_server *s = rpc_server_new(f.rt, NULL);
    sa_loop_unlock(f.loop);
    cleanup_error sa_error *err = NULL;
    int port = 0, r = rpc_server_listen(s, "0.0.0.0:0", test_server_tls(false), &port, &err);
    rpc_server_free(s);
    if (r < 0)
        fail_msg("%s", err->message);
    assert_in_range(port, 1, 65535);
}

static void client_without_certificate_is_refused(void **state)
{
    (void)state;
    assert_string_equal(try_call(f.channel, NULL), "OK");
    struct rpc_channel_options o = {.tls = test_client_tls(false)};
    struct rpc_channel *ch = fixture_channel(&f, &o);
    assert_string_equal(try_call(ch, NULL), "UNAVAILABLE");
    free_channel(ch);
}

static void client_checks_the_servers_name(void **state)
{
    (void)state;
    struct rpc_tls tls = *test_client_tls(true);
    tls.server_name = "elsewhere";
    struct rpc_channel_options o = {.tls = &tls};
    struct rpc_channel *ch = fixture_channel(&f, &o);
    assert_string_equal(try_call(ch, NULL), "UNAVAILABLE");
    free_channel(ch);
}

static void client_comes_back_with_its_server(void **state)
{
    (void)state;
    assert_string_equal(try_call(f.channel, NULL), "OK");
    rpc_server_free(f.server);
    assert_string_equal(try_call(f.channel, NULL), "UNAVAILABLE");
    struct rpc_call_options wait = {.wait_for_ready = true, .deadline_ms = 50};
    assert_string_equal(try_call(f.channel, &wait), "DEADLINE_EXCEEDED");
    fixture_start_server(&f, NULL, &echo_service, &echo_handlers, &echo);
    wait.deadline_ms = PATIENCE_MS;
    assert_string_equal(try_call(f.channel, &wait), "OK");
    assert_string_equal(try_call(f.channel, NULL), "OK");
}

/* ---- draining ---- */

static void add_one(void *user)
{
    counter_add(user, 1);
}

struct outcome {
    struct counter calls;
    char reason[48];
};
#define OUTCOME_INIT                                                                                         \
    {                                                                                                        \
        .calls = COUNTER_INIT                                                                                \
    }

static void on_once(void *user, const EchoOnceResponse *res, const sa_error *err)
{
    struct outcome *o = user;
    (void)res;
    snprintf(o->reason, sizeof o->reason, "%s", err ? err->reason : "OK");
    counter_add(&o->calls, 1);
}

static void on_chat_end(void *user, const sa_error *err)
{
    on_once(user, NULL, err);
}

static void hold_one(struct outcome *o)
{
    uint64_t held = counter_get(&echo.held);
    EchoOnceRequest req = request("hold");
    sa_loop_lock(f.loop);
    echo_once_call(f.channel, &req, NULL, on_once, o);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.held, held + 1));
}

static void drain(uint32_t grace_ms, struct counter *done)
{
    sa_loop_lock(f.loop);
    rpc_server_drain(f.server, grace_ms, add_one, done);
    sa_loop_unlock(f.loop);
}

static void drain_lets_running_calls_finish(void **state)
{
    (void)state;
    static struct outcome o = OUTCOME_INIT;
    static struct counter done = COUNTER_INIT;
    hold_one(&o);
    drain(60000, &done);
    const char *reason = try_call(f.channel, NULL);
    if (strcmp(reason, "UNAVAILABLE") && strcmp(reason, "DRAINING"))
        fail_msg("%s", reason);
    assert_int_equal(counter_get(&done), 0);
    sa_loop_lock(f.loop);
    echo_release(&echo);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&o.calls, 1));
    assert_string_equal(o.reason, "OK");
    assert_true(counter_wait(&done, 1));
}

static void drain_cancels_after_the_grace(void **state)
{
    (void)state;
    static const struct echo_chat_client events = {.on_end = on_chat_end};
    struct outcome o = OUTCOME_INIT, stream = OUTCOME_INIT;
    struct counter done = COUNTER_INIT;
    uint64_t cancelled = counter_get(&echo.cancelled), received = counter_get(&echo.received);
    hold_one(&o);
    EchoChatRequest m = ECHO_CHAT_REQUEST__INIT;
    sa_loop_lock(f.loop);
    echo_chat_write(echo_chat_open(f.channel, NULL, &events, &stream), &m);
    sa_loop_unlock(f.loop);
    assert_true(counter_wait(&echo.received, received + 1));
    drain(50, &done);
    assert_true(counter_wait(&done, 1));
    assert_true(counter_wait(&o.calls, 1));
    assert_true(counter_wait(&stream.calls, 1));
    assert_string_not_equal(o.reason, "OK");
    assert_string_not_equal(stream.reason, "OK");
    assert_int_equal(counter_get(&echo.cancelled), cancelled + 2);
    sa_loop_lock(f.loop);
    echo_release(&echo);
    sa_loop_unlock(f.loop);
}

static void server_can_be_freed_with_calls_running(void **state)
{
    (void)state;
    struct outcome o = OUTCOME_INIT;
    hold_one(&o);
    rpc_server_free(f.server);
    assert_true(counter_wait(&o.calls, 1));
    sa_loop_lock(f.loop);
    echo_release(&echo); /* the call outlives its server in the hands of who holds it */
    sa_loop_unlock(f.loop);
    fixture_start_server(&f, NULL, &echo_service, &echo_handlers, &echo);
}

int main(void)
{
    const struct CMUnitTest over_unix[] = {
        cmocka_unit_test(live_socket_is_not_taken_away),
        cmocka_unit_test(stale_socket_is_replaced),
        cmocka_unit_test(file_in_the_way_is_kept),
        cmocka_unit_test(long_or_missing_paths_are_named),
        cmocka_unit_test(plain_text_stays_on_the_loopback),
        cmocka_unit_test(tls_off_the_loopback_is_fine),
        cmocka_unit_test(client_comes_back_with_its_server),
        cmocka_unit_test(server_can_be_freed_with_calls_running),
    };
    const struct CMUnitTest over_tls[] = {
        cmocka_unit_test(client_without_certificate_is_refused),
        cmocka_unit_test(client_checks_the_servers_name),
        cmocka_unit_test(client_comes_back_with_its_server),
    };
    const struct CMUnitTest over_tcp[] = {cmocka_unit_test(port_is_not_shared)};
    const struct CMUnitTest draining[] = {
        cmocka_unit_test_setup_teardown(drain_lets_running_calls_finish, up_unix, down),
        cmocka_unit_test_setup_teardown(drain_cancels_after_the_grace, up_tcp, down),
    };
    return cmocka_run_group_tests(over_unix, up_unix, down) + cmocka_run_group_tests(over_tls, up_tls, down) +
           cmocka_run_group_tests(over_tcp, up_tcp, down) + cmocka_run_group_tests(draining, NULL, NULL);
}
