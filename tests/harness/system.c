#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "tests/harness/harness.h"

enum { WORDS_MAX = 40, SERVICES = 5, PORT_TRIES = 200 };

static bool is_free(unsigned port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool good = bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return good;
}

/* Below the range from which the kernel takes ports for outgoing connections. */
unsigned harness_ports(unsigned n)
{
    for (int try = 0; try < PORT_TRIES; try++) {
        uint16_t r;
        sa_random(&r, sizeof r);
        unsigned first = 10000 + r % 20000, i = 0;
        while (i < n && is_free(first + i))
            i++;
        if (i == n)
            return first;
    }
    fail_msg("no %u neighbouring ports are free", n);
    return 0;
}

struct caller caller_open(const char *target, const char *token, const char *const *metadata)
{
    struct caller c = {.loop = sa_loop_new(NULL)};
    assert_non_null(c.loop);
    c.rpc = rpc_runtime_new(c.loop);
    struct rpc_channel_options opt = {.target = target, .token = token, .metadata = metadata};
    sa_loop_lock(c.loop);
    c.channel = rpc_channel_new(c.rpc, &opt);
    sa_loop_unlock(c.loop);
    return c;
}

void caller_close(struct caller *c)
{
    sa_loop_lock(c->loop);
    rpc_channel_free(c->channel);
    sa_loop_unlock(c->loop);
    rpc_runtime_free(c->rpc);
    sa_loop_free(c->loop);
    *c = (struct caller){0};
}

static void start(struct system *s, const char *const *extra)
{
    char http[16], grpc[16];
    const char *words[WORDS_MAX] = {"sandbox-agent", "server", "--port",     http,
                                    "--grpc-port",   grpc,     "--data-dir", s->data};
    int n = 8;
    snprintf(http, sizeof http, "%u", s->http_port);
    snprintf(grpc, sizeof grpc, "%u", s->grpc_port);
    for (int i = 0; extra && extra[i]; i++) {
        assert_true(n < WORDS_MAX - 1);
        words[n++] = extra[i];
    }
    s->server = program_start(words, &(struct program_options){.home = s->home});
    program_wait_for(&s->server, "sandbox-agent is ready\n");
}

static void read_token(struct system *s)
{
    cleanup_free char *path = sa_format("%s/token", s->data);
    cleanup_buf struct sa_buf text = {0};
    free(s->token);
    s->token = NULL;
    if (sa_read_file(path, 4096, &text, NULL) == 0)
        s->token = sa_strndup((char *)text.data, strcspn(sa_buf_string(&text), "\n"));
}

struct system system_start(const char *const *extra)
{
    struct system s = {.dir = harness_dir()};
    unsigned first = harness_ports(6);
    s.home = sa_format("%s/home", s.dir);
    s.data = sa_format("%s/data", s.dir);
    s.http_port = first;
    s.grpc_port = first + 1;
    s.http = sa_format("http://127.0.0.1:%u", s.http_port);
    s.target = sa_format("127.0.0.1:%u", s.grpc_port + 1);
    assert_int_equal(mkdir(s.home, 0755), 0);
    start(&s, extra);
    read_token(&s);
    return s;
}

void system_restart(struct system *s, const char *const *extra)
{
    program_free(&s->server);
    start(s, extra);
    read_token(s);
}

/* A service with a fault is restarted and goes on: its sanitizer's word must not be lost. */
static bool is_sane(struct program *p)
{
    static const char *const words[] = {"Sanitizer: ", "runtime error: "};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(program_output(p), words[i]))
            return false;
    return true;
}

void system_stop(struct system *s)
{
    program_signal(&s->server, SIGTERM);
    int code = program_wait(&s->server);
    if (code != 0 || !is_sane(&s->server))
        fail_msg("the server ended with exit code %d:\n%s", code, program_output(&s->server));
}

void system_free(struct system *s)
{
    if (s->server.pid) {
        program_signal(&s->server, SIGTERM);
        program_wait(&s->server);
    }
    program_free(&s->server);
    free(s->home);
    free(s->data);
    free(s->http);
    free(s->target);
    free(s->token);
    *s = (struct system){0};
}

struct caller system_caller(const struct system *s)
{
    return caller_open(s->target, s->token, NULL);
}

pid_t system_service_pid(const struct system *s, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s/lock", s->data, name);
    cleanup_buf struct sa_buf text = {0};
    if (sa_read_file(path, 64, &text, NULL) < 0 || !text.len)
        return 0;
    return (pid_t)atoi(sa_buf_string(&text));
}

char *system_cli(const struct system *s, const char *const *words, int *ret_code)
{
    const char *all[WORDS_MAX] = {"sandbox-agent"};
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", s->data);
    for (int i = 0; words[i]; i++) {
        assert_true(i < WORDS_MAX - 2);
        all[i + 1] = words[i];
    }
    return program_run(all, &(struct program_options){.home = s->home, .env = WORDS(data)}, ret_code);
}
