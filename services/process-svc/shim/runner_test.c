/* A runner at its connection: what it answers, and what it does when somebody talks nonsense to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "services/process-svc/shim/child.h"
#include "services/process-svc/shim/protocol.h"
#include "services/process-svc/shim/runner.h"

struct fixture {
    int connection, file;
    pid_t pid;
    uint64_t number;
    struct shim_status status; /* the last one */
};

static bool next_status(struct fixture *f)
{
    ssize_t n = recv(f->connection, &f->status, sizeof f->status, 0);
    return n > 0 && shim_check_status(&f->status, (size_t)n, &f->status);
}

static int up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    f->connection = ends[0];
    f->file = memfd_create("run", MFD_CLOEXEC);
    f->pid = fork();
    if (f->pid == 0) {
        close(ends[0]);
        child_prepare_signals();
        _exit(runner_run(ends[1], f->file));
    }
    close(ends[1]);
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_STARTING);
    assert_int_equal(f->status.shim_pid, f->pid);
    *state = f;
    return 0;
}

static void hang_up(struct fixture *f)
{
    if (f->connection >= 0)
        close(f->connection);
    f->connection = -1;
}

static void assert_ended(struct fixture *f)
{
    int wstatus;
    assert_int_equal(waitpid(f->pid, &wstatus, 0), f->pid);
    assert_true(WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0);
    f->pid = 0;
}

static int down(void **state)
{
    struct fixture *f = *state;
    hang_up(f);
    if (f->pid)
        assert_ended(f);
    close(f->file);
    free(f);
    return 0;
}

/* Writes the spec of `sh -c command`; its size. */
static size_t write_spec(struct fixture *f, const char *command, uint32_t flags)
{
    char buf[1024];
    struct shim_spec s = {.magic = SHIM_SPEC_MAGIC, .version = SHIM_VERSION, .argc = 3, .envc = 1};
    size_t at = sizeof s;
    const char *strings[] = {"/", "sh", "-c", command, "PATH=/usr/bin:/bin"};
    for (int i = 0; i < 5; i++) {
        size_t n = strlen(strings[i]) + 1;
        memcpy(buf + at, strings[i], n);
        at += n;
    }
    s.flags = SHIM_FLAG_RUN | flags;
    s.cwd_bytes = 2;
    s.env_bytes = sizeof "PATH=/usr/bin:/bin";
    s.argv_bytes = (uint32_t)(at - sizeof s) - s.cwd_bytes - s.env_bytes;
    s.journal_bytes = 100;
    s.size = (uint32_t)at;
    memcpy(buf, &s, sizeof s);
    assert_int_equal(pwrite(f->file, buf, at, RUNNER_SPEC_AT), at);
    return at;
}

static void request(struct fixture *f, enum shim_request_type type, size_t value, uint64_t offset)
{
    struct shim_request r = {.magic = SHIM_REQUEST_MAGIC, .version = SHIM_VERSION, .type = type};
    r.value = (uint32_t)value;
    r.offset = offset;
    r.scope = SHIM_SCOPE_TREE;
    r.number = ++f->number;
    assert_int_equal(send(f->connection, &r, sizeof r, MSG_NOSIGNAL), sizeof r);
}

static void commands_follow_each_other(void **state)
{
    struct fixture *f = *state;
    for (uint32_t i = 0; i < 3; i++) {
        char out[4] = "";
        assert_int_equal(ftruncate(f->file, 0), 0);
        assert_int_equal(pwrite(f->file, "abc", 3, RUNNER_INPUT_AT), 3);
        request(f, SHIM_RUN, write_spec(f, "cat; echo error >&2; sleep 1000 & exit 7", 0), i);
        assert_true(next_status(f));
        assert_int_equal(f->status.phase, SHIM_EXITED);
        assert_int_equal(f->status.exit.value, 7);
        assert_int_equal(f->status.exit.end[SHIM_STDOUT], i);
        assert_int_equal(f->status.exit.end[SHIM_STDERR], 6);
        assert_int_equal(f->status.descendants, 0);
        assert_int_equal(pread(f->file, out, i, RUNNER_OUTPUT_AT), i);
        assert_memory_equal(out, "abc", i);
    }
}

static void a_spec_that_does_not_hold_together_is_refused_and_the_next_one_runs(void **state)
{
    struct fixture *f = *state;
    size_t n = write_spec(f, "true", 0);
    request(f, SHIM_RUN, n - 1, 0);
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_FAILED);
    assert_int_equal(f->status.failed_errno, EINVAL);
    request(f, SHIM_RUN, 5 << 20, 0); /* more than the file has, and than its part has */
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_FAILED);
    request(f, SHIM_RUN, n, 0);
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_EXITED);
}

/* The end of a command and its kill may cross: what comes too late hits nothing. */
static void a_late_kill_hits_nothing(void **state)
{
    struct fixture *f = *state;
    request(f, SHIM_SIGNAL, SIGKILL, 0);
    request(f, SHIM_RUN, write_spec(f, "exit 3", 0), 0);
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_EXITED);
    assert_int_equal(f->status.exit.value, 3);
}

static void a_kill_ends_the_tree(void **state)
{
    struct fixture *f = *state;
    request(f, SHIM_RUN, write_spec(f, "setsid sleep 1000 & exec sleep 1000", SHIM_FLAG_KEEP), 0);
    request(f, SHIM_SIGNAL, SIGKILL, 0);
    assert_true(next_status(f));
    assert_int_equal(f->status.phase, SHIM_EXITED);
    assert_int_equal(f->status.exit.kind, SHIM_EXIT_SIGNAL);
    assert_int_equal(f->status.descendants, 0);
}

static void nonsense_ends_it_and_what_it_runs(void **state)
{
    struct fixture *f = *state;
    request(f, SHIM_RUN, write_spec(f, "exec sleep 1000", 0), 0);
    assert_int_equal(send(f->connection, "nonsense", 8, MSG_NOSIGNAL), 8);
    assert_ended(f);
}

static void a_second_command_at_once_is_nonsense(void **state)
{
    struct fixture *f = *state;
    size_t n = write_spec(f, "exec sleep 1000", 0);
    request(f, SHIM_RUN, n, 0);
    request(f, SHIM_RUN, n, 0);
    assert_ended(f);
}

static void the_end_of_the_connection_ends_what_it_runs(void **state)
{
    struct fixture *f = *state;
    request(f, SHIM_RUN, write_spec(f, "trap '' TERM HUP; sleep 1000 & sleep 1000", SHIM_FLAG_KEEP), 0);
    hang_up(f);
    assert_ended(f);
}

static void at_term_it_ends_what_it_keeps(void **state)
{
    struct fixture *f = *state;
    request(f, SHIM_RUN, write_spec(f, "sleep 1000 & exit 1", SHIM_FLAG_KEEP), 0);
    assert_true(next_status(f));
    assert_int_equal(f->status.descendants, 1);
    assert_false(next_status(f)); /* it hears nothing more from us */
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    assert_ended(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
    char directory[] = "/tmp/runner.XXXXXX";
    if (!mkdtemp(directory) || chdir(directory) < 0)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        TEST(commands_follow_each_other),
        TEST(a_spec_that_does_not_hold_together_is_refused_and_the_next_one_runs),
        TEST(a_late_kill_hits_nothing),
        TEST(a_kill_ends_the_tree),
        TEST(nonsense_ends_it_and_what_it_runs),
        TEST(a_second_command_at_once_is_nonsense),
        TEST(the_end_of_the_connection_ends_what_it_runs),
        TEST(at_term_it_ends_what_it_keeps),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(directory) < 0 ? 1 : failed; /* nothing is left in it */
}
