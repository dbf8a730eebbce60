/* A service as its supervisor and its callers see it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "grpc/health/v1/health.rpc.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "tests/harness/harness.h"

#define EXAMPLE "services/runtime/example-svc"
static const struct program_fd secrets[] = {{3, "s3cret\n"}, {4, "t0ken"}, {0}};
static const struct program_options with_secrets = {.fds = secrets};

static struct program start(const char *dir, const char *more, const char *value)
{
    struct program p = program_start(WORDS(EXAMPLE, "--data-dir", dir, "--secret-fd", "3", "--token-fd", "4",
                                           "--log-level", "debug", more, value),
                                     &with_secrets);
    program_wait_for(&p, "service.ready");
    return p;
}

static void stop(struct program *p)
{
    program_signal(p, SIGTERM);
    assert_int_equal(program_wait(p), 0);
    program_free(p);
}

/* What the service says to a caller with this token and metadata: who it is, or "!<reason>". free() it. */
static char *call(const char *target, const char *token, const char *const *metadata)
{
    struct caller c = caller_open(target, token, metadata);
    ListAgentsRequest req = LIST_AGENTS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    cleanup_error sa_error *err = NULL;
    ListAgentsResponse *res = list_agents_wait(c.channel, &req, &opt, &err);
    char *said = res ? sa_strdup(res->agents[0]->agent) : sa_format("!%s", err->reason);
    rpc_message_free(res);
    caller_close(&c);
    return said;
}

static void assert_says(const char *dir, const char *token, const char *const *metadata, const char *expected)
{
    cleanup_free char *target = sa_format("unix:%s/run/example.sock", dir);
    cleanup_free char *said = call(target, token, metadata);
    assert_string_equal(said, expected);
}

static void callers_are_known_by_token_or_secret(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = start(dir, NULL, NULL);
    assert_says(dir, NULL, NULL, "!UNAUTHENTICATED");
    assert_says(dir, "wrong", NULL, "!UNAUTHENTICATED");
    assert_says(dir, "t0ken2", NULL, "!UNAUTHENTICATED");
    assert_says(dir, "t0ke", NULL, "!UNAUTHENTICATED");
    assert_says(dir, "t0ken", NULL, "owner");
    assert_says(dir, NULL, WORDS("x-service-secret", "s3cret"), "service");
    assert_says(dir, NULL, WORDS("x-service-secret", "t0ken"), "!UNAUTHENTICATED");
    stop(&p);
}

static void only_the_secret_lets_one_speak_for_another(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = start(dir, NULL, NULL);
    assert_says(dir, NULL, WORDS("x-service-secret", "s3cret", "x-principal", "alice"), "alice");
    assert_says(dir, "t0ken", WORDS("x-principal", "alice"), "owner");
    assert_says(dir, NULL, WORDS("x-service-secret", "wrong", "x-principal", "alice"), "!UNAUTHENTICATED");
    stop(&p);
}

static void no_token_lets_everyone_in(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = program_start(WORDS(EXAMPLE, "--data-dir", dir, "--no-token"), NULL);
    program_wait_for(&p, "service.open");
    assert_says(dir, NULL, NULL, "anonymous");
    assert_says(dir, "whatever", NULL, "anonymous");
    stop(&p);
}

static void secrets_may_come_from_files(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/t", dir);
    FILE *f = fopen(file, "w");
    fputs("from-a-file\n", f);
    fclose(f);
    struct program p = program_start(WORDS(EXAMPLE, "--data-dir", dir, "--token-file", file), NULL);
    program_wait_for(&p, "service.ready");
    assert_says(dir, "from-a-file", NULL, "owner");
    stop(&p);
}

static void peers_share_one_channel(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = start(dir, NULL, NULL);
    assert_says(dir, "t0ken", WORDS("x-peer", "1"), "same");
    stop(&p);
}

static void assert_health(const char *dir, const char *name, bool serving)
{
    cleanup_free char *target = sa_format("unix:%s/run/example.sock", dir);
    struct caller c = caller_open(target, NULL, NULL);
    Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    req.service = (char *)(uintptr_t)name;
    Grpc__Health__V1__HealthCheckResponse *res = grpc__health__v1__check_wait(c.channel, &req, NULL, NULL);
    assert_non_null(res);
    assert_int_equal(res->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING,
                     serving);
    rpc_message_free(res);
    caller_close(&c);
}

static void health_tells_what_is_away_without_a_token(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = start(dir, NULL, NULL);
    assert_health(dir, "", true);
    assert_health(dir, "sandboxagent.session.v1.AgentService", true);
    assert_health(dir, "sandboxagent.dependencies", true);
    assert_says(dir, "t0ken", WORDS("x-degraded", "the disk is full"), "owner");
    assert_health(dir, "", true);
    assert_health(dir, "sandboxagent.dependencies", false);
    assert_says(dir, "t0ken", WORDS("x-degraded", ""), "owner");
    assert_health(dir, "sandboxagent.dependencies", true);
    stop(&p);
}

static void tcp_is_offered_when_asked_for(void **state)
{
    (void)state;
    cleanup_free char *address = sa_format("127.0.0.1:%u", harness_ports(1));
    struct program p = start(harness_dir(), "--listen", address);
    cleanup_free char *with = call(address, "t0ken", NULL), *without = call(address, NULL, NULL);
    assert_string_equal(with, "owner");
    assert_string_equal(without, "!UNAUTHENTICATED");
    stop(&p);
}

static void directories_are_private(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    cleanup_free char *run = sa_format("%s/run", dir), *own = sa_format("%s/example", dir);
    struct stat st;
    assert_int_equal(mkdir(run, 0755), 0);
    struct program p = start(dir, NULL, NULL);
    assert_int_equal(stat(run, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(stat(own, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    stop(&p);
}

static void a_deep_run_directory_is_no_problem(void **state)
{
    (void)state;
    char dir[200];
    int n = snprintf(dir, sizeof dir, "%s/", harness_dir());
    memset(dir + n, 'd', 120);
    dir[n + 120] = 0;
    struct program p = start(dir, NULL, NULL);
    cleanup_free char *socket = sa_format("%s/run/example.sock", dir);
    struct stat st;
    assert_int_equal(stat(socket, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    stop(&p);
}

static void refused(const char *const *argv, const char *why)
{
    int code;
    cleanup_free char *output = program_run(argv, &with_secrets, &code);
    if (code != 1 || !strstr(output, why) || strncmp(output, "example-svc: ", 13) != 0)
        fail_msg("exit code %d, wanted `%s`:\n%s", code, why, output);
}

static void a_wrong_start_is_one_clear_line(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    refused(WORDS(EXAMPLE, "--no-token"), "`--data-dir` is needed");
    refused(WORDS(EXAMPLE, "--data-dir", dir), "nobody could call");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--secret-fd", "3", "--listen", "127.0.0.1:1"),
            "--listen needs");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--listen", "0.0.0.0:7999"), "0.0.0.0");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--agent-user", "nobody-of-that-name"),
            "nobody-of-that-name");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--durability", "some"), "`some`");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--token-file", "/nonexistent/t"), "/nonexistent/t");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--token-fd", "9"), "descriptor 9");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--tls-cert", "x"), "--tls-key");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--nonsense"), "`--nonsense`");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "extra"), "`extra`");
    refused(WORDS(EXAMPLE, "--data-dir", "/proc/nowhere", "--no-token"), "/proc/nowhere");
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token", "--fail"), "the store is broken");
}

static void what_is_in_use_is_named_with_its_holder(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    cleanup_free char *address = sa_format("127.0.0.1:%u", harness_ports(1)), *run = sa_format("%s/run", dir);
    struct program p = start(dir, "--listen", address);
    cleanup_free char *holder = sa_format("in use by process %d", (int)p.pid);
    refused(WORDS(EXAMPLE, "--data-dir", dir, "--no-token"), holder);
    refused(WORDS(EXAMPLE, "--data-dir", harness_dir(), "--run-dir", run, "--no-token"), holder);
    refused(WORDS(EXAMPLE, "--data-dir", harness_dir(), "--no-token", "--listen", address), address);
    assert_says(dir, "t0ken", NULL, "owner");
    stop(&p);
}

struct held {
    const char *dir;
    char *said;
};

static void *hold(void *arg)
{
    struct held *h = arg;
    cleanup_free char *target = sa_format("unix:%s/run/example.sock", h->dir);
    h->said = call(target, "t0ken", WORDS("x-hold", "1"));
    return NULL;
}

static void calls_that_run_are_answered_before_the_end(void **state)
{
    (void)state;
    struct held h = {.dir = harness_dir()};
    struct program p = start(h.dir, NULL, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, hold, &h);
    program_wait_for(&p, "example.held");
    program_signal(&p, SIGTERM);
    pthread_join(thread, NULL);
    assert_int_equal(program_wait(&p), 0);
    assert_string_equal(h.said, "drained");
    free(h.said);
    program_free(&p);
}

static void after_a_kill_it_starts_again(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    struct program p = start(dir, NULL, NULL);
    program_signal(&p, SIGKILL);
    assert_int_equal(program_wait(&p), 128 + SIGKILL);
    program_free(&p);
    p = start(dir, NULL, NULL);
    assert_says(dir, "t0ken", NULL, "owner");
    stop(&p);
}

static void help_comes_from_the_table(void **state)
{
    (void)state;
    int code;
    cleanup_free char *output = program_run(WORDS(EXAMPLE, "--help"), NULL, &code);
    assert_int_equal(code, 0);
    assert_non_null(strstr(output, "--data-dir TEXT"));
    assert_non_null(strstr(output, "--fail"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_are_known_by_token_or_secret),
        cmocka_unit_test(only_the_secret_lets_one_speak_for_another),
        cmocka_unit_test(no_token_lets_everyone_in),
        cmocka_unit_test(secrets_may_come_from_files),
        cmocka_unit_test(peers_share_one_channel),
        cmocka_unit_test(health_tells_what_is_away_without_a_token),
        cmocka_unit_test(tcp_is_offered_when_asked_for),
        cmocka_unit_test(directories_are_private),
        cmocka_unit_test(a_deep_run_directory_is_no_problem),
        cmocka_unit_test(a_wrong_start_is_one_clear_line),
        cmocka_unit_test(what_is_in_use_is_named_with_its_holder),
        cmocka_unit_test(calls_that_run_are_answered_before_the_end),
        cmocka_unit_test(after_a_kill_it_starts_again),
        cmocka_unit_test(help_comes_from_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
