/* When a process counts as ready. This program is its own server: `ready_test listen PORT`. */
#include "services/process-svc/tests/fixture.h"

#include <arpa/inet.h>
#include <sys/socket.h>

static bool is_ready(const Process *p)
{
    return p->ready;
}

static bool is_not_ready(const Process *p)
{
    return !p->ready;
}

static bool is_ready_again(const Process *p)
{
    return p->ready && p->restarts > 0;
}

static struct spec *waits_for_output(const char *command, const char *text)
{
    struct spec *spec = shell(command);
    ReadinessProbe *probe = spec_readiness(spec);
    probe->kind_case = READINESS_PROBE__KIND_OUTPUT_CONTAINS;
    probe->output_contains = bytes_of(text);
    return spec;
}

/* Writes what a fifo brings. */
static const char *copier(const char *dir, const char *fifo)
{
    static char command[256];
    snprintf(command, sizeof command, "%s/%s", dir, fifo);
    assert_int_equal(mkfifo(command, 0600), 0);
    snprintf(command, sizeof command, "exec 3<>%s/%s; exec cat <&3", dir, fifo);
    return command;
}

static void write_to(const char *dir, const char *fifo, const char *text)
{
    cleanup_free char *path = sa_format("%s/%s", dir, fifo);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void without_a_probe_it_is_ready_while_it_runs(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    assert_true(get(s, id)->ready);
    stop_it(s, id, 0, 5000);
    assert_false(get(s, id)->ready);
}

struct output {
    struct svc *s;
    const char *id;
    uint64_t end;
};

static bool has_output(void *user)
{
    struct output *o = user;
    return get(o->s, o->id)->stdout_end >= o->end;
}

static void output_is_looked_through_across_pieces(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    const char *id = start(s, waits_for_output(copier(dir, "in"), "listening on"));
    write_to(dir, "in", "not yet listen");
    struct output o = {s, id, 14};
    wait_until(has_output, &o, "the first piece is there");
    assert_false(get(s, id)->ready);
    uint64_t seq = get(s, id)->state_seq;
    write_to(dir, "in", "ing on 80\n");
    Process *p = wait_until_process(s, id, is_ready, "it is ready");
    assert_int_equal(p->state_seq, seq + 1);
    /* And stays so. */
    svc_kill(s);
    svc_again(s, NULL);
    assert_true(get(s, id)->ready);
    assert_int_equal(get(s, id)->state_seq, seq + 1);
}

static void standard_error_counts_too_also_while_the_service_is_away(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *command = sa_format("%s >&2", copier(dir, "in"));
    const char *id = start(s, waits_for_output(command, "ready"));
    assert_false(get(s, id)->ready);
    svc_kill(s);
    write_to(dir, "in", "ready\n");
    svc_again(s, NULL);
    wait_until_process(s, id, is_ready, "it is ready");
}

static void each_run_has_to_say_it_anew(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    struct spec *spec = waits_for_output(copier(dir, "in"), "up");
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 1000, 3);
    const char *id = start(s, spec);
    write_to(dir, "in", "up\n");
    Process *p = wait_until_process(s, id, is_ready, "the first run is ready");
    kill((int)p->pid, SIGKILL);
    wait_until_process(s, id, is_not_ready, "the second run is not");
    write_to(dir, "in", "up\n");
    wait_until_process(s, id, is_ready_again, "the second run is ready");
}

static const char *self(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_true(n > 0);
    path[n] = 0;
    return path;
}

static struct spec *waits_for_port(const char *command, unsigned port)
{
    struct spec *spec = shell(command);
    ReadinessProbe *probe = spec_readiness(spec);
    probe->kind_case = READINESS_PROBE__KIND_TCP_PORT;
    probe->tcp_port = port;
    return spec;
}

static void a_port_counts_once_its_tree_listens_there(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    unsigned port = harness_ports(1);
    cleanup_free char *go = sa_format("%s/go", dir), *second = sa_format("%s/second", dir);
    assert_int_equal(mkfifo(go, 0600), 0);
    /* A grandchild listens, in a session of its own. */
    cleanup_free char *command = sa_format("read -r x <%s; setsid %s listen %u & wait", go, self(), port);
    struct spec *spec = waits_for_port(command, port);
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 1000, 3);
    const char *id = start(s, spec);
    /* Somebody else's port does not count. */
    assert_int_equal(mkfifo(second, 0600), 0);
    cleanup_free char *other = sa_format("read -r x <%s", second);
    const char *waits = start(s, waits_for_port(other, port));
    assert_false(get(s, id)->ready);
    write_to(dir, "go", "\n");
    Process *p = wait_until_process(s, id, is_ready, "it listens");
    assert_false(get(s, waits)->ready);
    svc_kill(s);
    svc_again(s, NULL);
    assert_true(get(s, id)->ready);
    kill((int)p->pid, SIGKILL);
    wait_until_process(s, id, is_not_ready, "the second run does not listen yet");
    write_to(dir, "go", "\n");
    wait_until_process(s, id, is_ready_again, "the second run listens");
    /* Found also when it began to listen while the service was away. */
    stop_it(s, id, 0, 0);
    id = start(s, waits_for_port(command, port));
    svc_kill(s);
    write_to(dir, "go", "\n");
    svc_again(s, NULL);
    wait_until_process(s, id, is_ready, "it listens");
    assert_false(get(s, waits)->ready);
}

static void probes_out_of_range_are_refused(void **state)
{
    struct svc *s = *state;
    static char longest[4098];
    memset(longest, 'x', sizeof longest - 1);
    assert_string_equal(start_error(s, waits_for_output("true", longest), ""), "INVALID_REQUEST");
    longest[4096] = 0;
    assert_string_equal(start_error(s, waits_for_output("true", longest), ""), "OK");
    assert_string_equal(start_error(s, waits_for_output("true", ""), ""), "INVALID_REQUEST");
    assert_string_equal(start_error(s, waits_for_port("true", 0), ""), "INVALID_REQUEST");
    assert_string_equal(start_error(s, waits_for_port("true", 65536), ""), "INVALID_REQUEST");
    assert_string_equal(start_error(s, waits_for_port("true", 65535), ""), "OK");
    struct spec *spec = shell("true");
    spec_readiness(spec);
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0)
        return 1;
    return pause();
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "listen"))
        return listen_on(atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        TEST(without_a_probe_it_is_ready_while_it_runs),
        TEST(output_is_looked_through_across_pieces),
        TEST(standard_error_counts_too_also_while_the_service_is_away),
        TEST(each_run_has_to_say_it_anew),
        TEST(a_port_counts_once_its_tree_listens_there),
        TEST(probes_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
