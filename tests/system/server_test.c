/* `sandbox-agent server` with the real services: what a person at a terminal sees of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "sandboxagent/presence/v1/presence_service.rpc.h"
#include "sandboxagent/session/v1/agent_service.rpc.h"
#include "tests/harness/harness.h"

static const char *const services[] = {"gateway", "session", "fs", "provider", "process"};
enum { SERVICES = sizeof services / sizeof *services };

static bool answers(const struct system *s, const char *token)
{
    struct caller c = caller_open(s->target, token, NULL);
    ListAgentsRequest req = LIST_AGENTS_REQUEST__INIT;
    ListAgentsResponse *res = list_agents_wait(c.channel, &req, NULL, NULL);
    bool good = res != NULL;
    rpc_message_free(res);
    caller_close(&c);
    return good;
}

static char *file_text(const char *dir, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    cleanup_buf struct sa_buf text = {0};
    assert_int_equal(sa_read_file(path, 1 << 20, &text, NULL), 0);
    for (size_t i = 0; i < text.len; i++)
        if (!text.data[i])
            text.data[i] = ' '; /* /proc/<pid>/cmdline */
    return sa_strdup(text.len ? sa_buf_string(&text) : "");
}

/* How many processes have `text` in their command line? */
static int processes_with(const char *text)
{
    DIR *d = opendir("/proc");
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], line[4096];
        snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
        int fd = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0)
            continue;
        ssize_t got = read(fd, line, sizeof line);
        close(fd);
        n += got > 0 && memmem(line, (size_t)got, text, strlen(text));
    }
    closedir(d);
    return n;
}

/* Takes a port, as somebody else would. */
static int take_port(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void a_token_is_made_and_kept(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    struct stat st;
    cleanup_free char *path = sa_format("%s/token", s.data), *token = sa_strdup(s.token);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(strlen(token) >= 32);
    assert_true(answers(&s, token));
    assert_false(answers(&s, NULL));
    assert_false(answers(&s, "guess"));
    system_stop(&s);
    system_restart(&s, NULL);
    assert_string_equal(s.token, token);
    assert_true(answers(&s, token));
    system_stop(&s);
    system_free(&s);
}

/* The password of Redis once stood in session-svc's arguments, for every user of the machine to read. */
static void given_secrets_do_not_stay_on_any_command_line(void **state)
{
    (void)state;
    cleanup_free char *redis = sa_format("redis://:open-sesame@127.0.0.1:%u", harness_ports(1));
    struct system s = system_start(WORDS("-t", "open-sesame", "--redis", redis));
    assert_true(answers(&s, "open-sesame"));
    cleanup_free char *proc = sa_format("/proc/%d", (int)s.server.pid), *words = file_text(proc, "cmdline");
    assert_null(strstr(words, "open-sesame"));
    for (int i = 0; i < SERVICES; i++) {
        cleanup_free char *its = sa_format("/proc/%d", (int)system_service_pid(&s, services[i]));
        cleanup_free char *arguments = file_text(its, "cmdline"), *environment = file_text(its, "environ");
        assert_null(strstr(arguments, "open-sesame"));
        assert_null(strstr(environment, "open-sesame"));
    }
    system_stop(&s);
    system_free(&s);
}

static void without_a_token_it_says_so(void **state)
{
    (void)state;
    struct system s = system_start(WORDS("-n"));
    program_wait_for(&s.server, "NONE: whoever can connect may do everything");
    assert_true(answers(&s, NULL));
    system_stop(&s);
    system_free(&s);
}

struct restarted {
    const struct system *system;
    const char *service;
    pid_t was;
};

static bool is_restarted(void *user)
{
    const struct restarted *r = user;
    pid_t pid = system_service_pid(r->system, r->service);
    int code;
    if (!pid || pid == r->was)
        return false;
    free(system_cli(r->system, WORDS("health", r->service), &code));
    return code == 0;
}

static void each_service_is_restarted_after_a_crash(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    for (int i = 0; i < SERVICES; i++) {
        struct restarted r = {&s, services[i], system_service_pid(&s, services[i])};
        assert_int_equal(kill(r.was, SIGKILL), 0);
        wait_until(is_restarted, &r, "the service is back");
        for (int other = 0; other < SERVICES; other++)
            if (other != i)
                assert_int_equal(kill(system_service_pid(&s, services[other]), 0), 0);
    }
    assert_true(answers(&s, s.token));
    system_stop(&s);
    system_free(&s);
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    int code;
    /* The agent has a child that stays; its working directory tells it from those of other tests. */
    free(system_cli(&s, WORDS("prompt", "--cwd", s.home, "--agent", "mock", "CHILD"), &code));
    assert_int_equal(code, 0);
    assert_true(processes_with(s.dir) > SERVICES);
    system_stop(&s);
    assert_int_equal(processes_with(s.dir), 0);
    unsigned ports[] = {s.http_port, s.grpc_port + 1, s.grpc_port + 2, s.grpc_port + 3, s.grpc_port + 4};
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        close(take_port(ports[i]));
    system_free(&s);
}

static void services_stop_in_an_order_that_loses_nothing(void **state)
{
    (void)state;
    struct system s = system_start(WORDS("--log-level", "info"));
    system_stop(&s);
    const char *at = program_output(&s.server);
    for (int i = 0; i < SERVICES; i++) {
        cleanup_free char *line = sa_format(" %s-svc service.stopped exit=0", services[i]);
        at = strstr(at, line);
        if (!at)
            fail_msg("not in order:\n%s", program_output(&s.server));
    }
    system_free(&s);
}

static void a_second_signal_does_not_wait_for_anybody(void **state)
{
    (void)state;
    struct system s = system_start(WORDS("--log-level", "info"));
    assert_int_equal(kill(system_service_pid(&s, "session"), SIGSTOP), 0);
    program_signal(&s.server, SIGTERM);
    program_wait_for(&s.server, "gateway-svc service.stopped");
    program_signal(&s.server, SIGTERM);
    assert_int_equal(program_wait(&s.server), 0);
    assert_int_equal(processes_with(s.dir), 0);
    system_free(&s);
}

static bool no_process_of(void *dir)
{
    return processes_with(dir) == 0;
}

static void a_killed_supervisor_takes_all_with_it(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    program_signal(&s.server, SIGKILL);
    assert_int_equal(program_wait(&s.server), 128 + SIGKILL);
    wait_until(no_process_of, (void *)(uintptr_t)s.dir, "everything has ended");
    system_restart(&s, NULL);
    assert_true(answers(&s, s.token));
    system_stop(&s);
    system_free(&s);
}

/* Starts a server that cannot start: exit code 1, `why` in the only line, nothing left. */
static void cannot_start(const char *dir, const char *why, const char *const *extra)
{
    const char *words[32] = {"sandbox-agent", "server"};
    int n = 2, code;
    for (int i = 0; extra[i]; i++)
        words[n++] = extra[i];
    cleanup_free char *output = program_run(words, NULL, &code);
    if (code != 1 || !strstr(output, why) || strcspn(output, "\n") + 1 != strlen(output))
        fail_msg("exit code %d, wanted one line with `%s`:\n%s", code, why, output);
    assert_int_equal(processes_with(dir), 0);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    unsigned first = harness_ports(6);
    cleanup_free char *http = sa_format("%u", first), *grpc = sa_format("%u", first + 1);
    for (unsigned i = 0; i < 6; i++) {
        if (i == 1)
            continue; /* the base itself is not used */
        int taken = take_port(first + i);
        cleanup_free char *why = sa_format("port %u of 127.0.0.1 is in use", first + i);
        cannot_start(dir, why, WORDS("--data-dir", dir, "-p", http, "--grpc-port", grpc));
        close(taken);
    }
}

static void a_data_directory_in_use_is_named(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    unsigned first = harness_ports(6);
    cleanup_free char *http = sa_format("%u", first), *grpc = sa_format("%u", first + 1);
    cleanup_free char *why = sa_format("directory `%s` is in use by process %d", s.data, (int)s.server.pid);
    const char *words[] = {"sandbox-agent", "server", "--data-dir", s.data, "-p", http,
                           "--grpc-port",   grpc,     NULL};
    int code;
    cleanup_free char *output = program_run(words, NULL, &code);
    assert_int_equal(code, 1);
    assert_non_null(strstr(output, why));
    assert_true(answers(&s, s.token));
    system_stop(&s);
    system_free(&s);
}

static void what_cannot_be_is_named(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    unsigned first = harness_ports(6);
    cleanup_free char *http = sa_format("%u", first), *grpc = sa_format("%u", first + 1);
#define WITH(...) WORDS("--data-dir", dir, "-p", http, "--grpc-port", grpc, __VA_ARGS__)
    cannot_start(dir, "--token and --no-token exclude each other", WITH("-n", "-t", "x"));
    cannot_start(dir, "a token is 1 to", WITH("-t", "two words"));
    cannot_start(dir, "no-such-user", WITH("--agent-user", "no-such-user"));
    cannot_start(dir, "/nonexistent/cert.pem",
                 WITH("--tls-cert", "/nonexistent/cert.pem", "--tls-key", "/k"));
    cannot_start(dir, "TLS", WITH("--grpc-host", "0.0.0.0"));
    cannot_start(dir, "is one of the gRPC ports",
                 WORDS("--data-dir", dir, "-p", "7403", "--grpc-port", "7400"));
#undef WITH
}

static void a_missing_program_is_named(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    int code;
    cleanup_free char *alone = sa_format("%s/sandbox-agent", dir), *data = sa_format("%s/data", dir);
    cleanup_free char *copy = sa_format("cp -L '%s' '%s'", harness_binary("sandbox-agent"), alone);
    assert_int_equal(system(copy), 0);
    cleanup_free char *why = sa_format("program `%s/gateway-svc`: No such file or directory", dir);
    cleanup_free char *output = program_run(WORDS(alone, "server", "--data-dir", data), NULL, &code);
    assert_int_equal(code, 1);
    assert_non_null(strstr(output, why));
}

static void a_redis_that_is_down_only_makes_presence_unknown(void **state)
{
    (void)state;
    cleanup_free char *url = sa_format("redis://127.0.0.1:%u", harness_ports(1));
    struct system s = system_start(WORDS("--redis", url));
    int code;
    cleanup_free char *output = system_cli(&s, WORDS("prompt", "--agent", "mock", "hello"), &code);
    assert_int_equal(code, 0);
    const char *at = strstr(output, "session ");
    assert_non_null(at);
    cleanup_free char *id = sa_strndup(at + 8, strcspn(at + 8, " "));
    struct caller c = system_caller(&s);
    JoinSessionRequest req = JOIN_SESSION_REQUEST__INIT;
    req.session_id = id;
    req.display_name = (char *)(uintptr_t) "somebody";
    cleanup_error sa_error *err = NULL;
    JoinSessionResponse *res = join_session_wait(c.channel, &req, NULL, &err);
    assert_null(res);
    assert_string_equal(err->reason, "REDIS_UNAVAILABLE");
    caller_close(&c);
    system_stop(&s);
    system_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_made_and_kept),
        cmocka_unit_test(given_secrets_do_not_stay_on_any_command_line),
        cmocka_unit_test(without_a_token_it_says_so),
        cmocka_unit_test(each_service_is_restarted_after_a_crash),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(services_stop_in_an_order_that_loses_nothing),
        cmocka_unit_test(a_second_signal_does_not_wait_for_anybody),
        cmocka_unit_test(a_killed_supervisor_takes_all_with_it),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(a_data_directory_in_use_is_named),
        cmocka_unit_test(what_cannot_be_is_named),
        cmocka_unit_test(a_missing_program_is_named),
        cmocka_unit_test(a_redis_that_is_down_only_makes_presence_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
