/* `sandbox-agent supervise` as a container sees it: the command is a shell script that says what happens to
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "tests/harness/harness.h"

#define SANDBOX_AGENT "services/cli/sandbox-agent"
#define SCRIPT(text) WORDS(SANDBOX_AGENT, "supervise", "--grace", "500", "--", "/bin/sh", "-c", text)

/* The number that follows `word` in the output. */
static pid_t pid_after(struct program *p, const char *word)
{
    program_wait_for(p, word);
    program_wait_for(p, "\n");
    const char *end = program_output(p) + p->seen, *at = end - 1;
    while (at > program_output(p) && at[-1] != ' ')
        at--;
    pid_t pid = (pid_t)atoi(at);
    assert_true(pid > 0);
    return pid;
}

static bool is_gone(void *pid)
{
    return kill(*(pid_t *)pid, 0) < 0 && errno == ESRCH;
}

static void assert_gone(pid_t pid)
{
    wait_until(is_gone, &pid, "the process is gone");
}

static void what_crashes_is_restarted(void **state)
{
    (void)state;
    struct program p = program_start(SCRIPT("echo I am $$; read forever < /dev/zero"), NULL);
    pid_t first = pid_after(&p, "I am");
    kill(first, SIGKILL);
    pid_t second = pid_after(&p, "I am");
    assert_int_not_equal(first, second);
    program_signal(&p, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_gone(second);
    program_free(&p);
}

static void restarts_keep_a_pause(void **state)
{
    (void)state;
    struct program p = program_start(SCRIPT("echo I am $$; exec sleep 1000"), NULL);
    kill(pid_after(&p, "I am"), SIGKILL);
    kill(pid_after(&p, "I am"), SIGKILL); /* the first restart is immediate */
    uint64_t before = sa_now_ms();
    pid_after(&p, "I am");
    assert_true(sa_now_ms() - before >= 900);
    program_signal(&p, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    program_free(&p);
}

static void what_it_started_survives_its_crash(void **state)
{
    (void)state;
    struct program p =
        program_start(SCRIPT("setsid sleep 1000 & echo child $!; echo I am $$; exec sleep 1000"), NULL);
    pid_t child = pid_after(&p, "child"), command = pid_after(&p, "I am");
    kill(command, SIGKILL);
    pid_after(&p, "I am");
    assert_int_equal(kill(child, 0), 0);
    program_signal(&p, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_gone(child);
    program_free(&p);
}

static void nothing_is_left_at_the_end(void **state)
{
    (void)state;
    /* A daemon of the old school that does not listen, below a parent that has gone. */
    struct program p = program_start(SCRIPT("(setsid sh -c 'trap \"\" TERM HUP; echo stubborn $$; sleep "
                                            "1000; sleep 1000' &); exec sleep 1000"),
                                     NULL);
    pid_t stubborn = pid_after(&p, "stubborn");
    program_signal(&p, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_gone(stubborn);
    program_free(&p);
}

static void a_command_that_does_not_listen_is_killed(void **state)
{
    (void)state;
    struct program p =
        program_start(SCRIPT("trap '' TERM; echo I am $$; while :; do sleep 1000; done"), NULL);
    pid_t pid = pid_after(&p, "I am");
    program_signal(&p, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_gone(pid);
    program_free(&p);
}

static void signals_are_passed_on(void **state)
{
    (void)state;
    struct program p =
        program_start(SCRIPT("trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done"), NULL);
    program_wait_for(&p, "ready");
    program_signal(&p, SIGUSR1);
    program_wait_for(&p, "got USR1");
    program_signal(&p, SIGINT);
    assert_int_equal(program_wait(&p), 0);
    program_free(&p);
}

static void a_command_that_cannot_live_is_given_up(void **state)
{
    (void)state;
    int code;
    cleanup_free char *output = program_run(SCRIPT("echo again; exit 7"), NULL, &code);
    assert_int_equal(code, 7);
    assert_non_null(strstr(output, "giving up"));
}

static void a_missing_command_is_named(void **state)
{
    (void)state;
    int code;
    cleanup_free char *output =
        program_run(WORDS(SANDBOX_AGENT, "supervise", "no-such-svc", "--data-dir", "d"), NULL, &code);
    assert_int_equal(code, 1);
    assert_non_null(strstr(output, "`no-such-svc` cannot be run: No such file"));
}

static void as_process_1_it_reaps_and_ends_all(void **state)
{
    (void)state;
    struct program p = program_start(
        WORDS("/usr/bin/unshare", geteuid() ? "--map-root-user" : "--fork", "--pid", "--fork", "--kill-child",
              "--mount-proc", SANDBOX_AGENT, "supervise", "--grace", "500", "--", "/bin/sh", "-c",
              "echo parent $PPID; (setsid sleep 1000 &); (exec true &); exec sleep 1000"),
        NULL);
    assert_int_equal(pid_after(&p, "parent"), 1);
    /* unshare ignores signals and waits for process 1: found as its only child. */
    cleanup_free char *path = sa_format("/proc/%d/task/%d/children", (int)p.pid, (int)p.pid);
    FILE *f = fopen(path, "re");
    int one = 0;
    assert_true(f && fscanf(f, "%d", &one) == 1);
    fclose(f);
    kill(one, SIGTERM);
    assert_int_equal(program_wait(&p), 0);
    assert_gone(one);
    program_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_crashes_is_restarted),
        cmocka_unit_test(restarts_keep_a_pause),
        cmocka_unit_test(what_it_started_survives_its_crash),
        cmocka_unit_test(nothing_is_left_at_the_end),
        cmocka_unit_test(a_command_that_does_not_listen_is_killed),
        cmocka_unit_test(signals_are_passed_on),
        cmocka_unit_test(a_command_that_cannot_live_is_given_up),
        cmocka_unit_test(a_missing_command_is_named),
        cmocka_unit_test(as_process_1_it_reaps_and_ends_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
