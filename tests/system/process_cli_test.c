/* The verbs of sandbox-agent around processes, against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "tests/harness/harness.h"

enum { ID_TEXT = 26, SHORT_ID = 8 };

static struct system sys;

static int start(void **state)
{
    (void)state;
    sys = system_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    system_stop(&sys);
    system_free(&sys);
    return 0;
}

/* Runs a verb that must end with `code`; its output. */
static char *run(int code, const char *const *words)
{
    int got;
    char *output = system_cli(&sys, words, &got);
    if (got != code)
        fail_msg("exit code %d instead of %d:\n%s", got, code, output);
    return output;
}

static struct program begin(const char *const *words, const char *input)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data), .input = input};
    return program_start(words, &opt);
}

/* The same through a shell, in which `sandbox-agent` is found; only what goes to standard output, or where
 * the script sends it. */
static char *shell(int code, const char *script)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    cleanup_free char *whole = sa_format("a() { '%s' \"$@\"; }; %s", harness_binary("sandbox-agent"), script);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    int got;
    char *output = program_run(WORDS("/bin/sh", "-c", whole), &opt, &got);
    if (got != code)
        fail_msg("`%s`: exit code %d instead of %d:\n%s", script, got, code, output);
    return output;
}

static void assert_has(const char *output, const char *part)
{
    if (!strstr(output, part))
        fail_msg("`%s` is not in:\n%s", part, output);
}

static void assert_prints(const char *expected, int code, const char *script)
{
    cleanup_free char *output = shell(code, script);
    if (strcmp(output, expected) != 0)
        fail_msg("`%s` printed:\n%s\ninstead of:\n%s", script, output, expected);
}

/* Starts a shell command; its id. free() it. */
static char *start_shell(const char *command)
{
    char *id = run(0, WORDS("start", "sh", "-c", command));
    assert_int_equal(strlen(id), ID_TEXT + 1);
    id[ID_TEXT] = 0;
    return id;
}

static void a_command_is_run_to_its_end(void **state)
{
    (void)state;
    assert_prints("out\n", 3, "a run sh -c 'echo out; echo err >&2; exit 3' 2>/dev/null");
    assert_prints("err\n", 3, "a run sh -c 'echo out; echo err >&2; exit 3' 2>&1 >/dev/null");
    assert_prints("/tmp X=1 HOME=\n", 0, "a run --cwd /tmp --env X=1 -- sh -c 'echo $PWD X=$X HOME=$HOME'");
    assert_prints("from us\n", 0, "OURS='from us' a run --env OURS=x --env OURS sh -c 'echo $OURS'");
    assert_prints("typed", 0, "printf typed | a run --stdin cat");
    assert_prints("", 0, "printf typed | a run cat");
    assert_prints("sandbox-agent: killed by SEGV\n", 128 + SIGSEGV, "a run sh -c 'kill -SEGV $$' 2>&1");
    /* Bytes come as they are. */
    assert_prints("0000000 377 000 012 033 015\n0000005\n", 0,
                  "a run printf '\\377\\0\\n\\033\\r' | od -An -b -A o");
}

static void what_hinders_a_command_is_told(void **state)
{
    (void)state;
    cleanup_free char *late = shell(124, "a run --timeout 200ms sh -c 'echo so far; exec sleep 1000' 2>&1");
    assert_has(late, "so far\nsandbox-agent: killed after 0.");
    cleanup_free char *cut = shell(0, "a run sh -c 'yes | head -c 3000000' 2>&1 | tail -c 60");
    assert_has(cut, "sandbox-agent: standard output is cut after 1048576 bytes\n");
    cleanup_free char *missing = shell(127, "a run /nonexistent/command 2>&1");
    assert_has(missing, "/nonexistent/command");
    cleanup_free char *directory = shell(127, "a run --cwd /nonexistent true 2>&1");
    assert_has(directory, "/nonexistent");
    cleanup_free char *mistaken = shell(125, "a run --timeout soon true 2>&1");
    assert_has(mistaken, "`soon`");
    cleanup_free char *variable = shell(125, "a run --env NO_SUCH_VARIABLE true 2>&1");
    assert_has(variable, "NO_SUCH_VARIABLE");
    cleanup_free char *nothing = shell(2, "a run 2>&1");
    assert_has(nothing, "run what?");
}

static void a_process_goes_on_by_itself(void **state)
{
    (void)state;
    cleanup_free char *id = start_shell("echo hello; exec sleep 1000");
    cleanup_free char *list = run(0, WORDS("ps"));
    assert_has(list, "ID        STATE");
    assert_has(list, id + ID_TEXT - SHORT_ID);
    assert_has(list, "running");
    assert_has(list, "sh -c echo hello; exec sleep 1000");
    cleanup_free char *ids = run(0, WORDS("ps", "-q"));
    assert_has(ids, id);
    cleanup_free char *json = run(0, WORDS("ps", "--json"));
    assert_has(json, "\"state\":\"PROCESS_STATE_RUNNING\"");
    free(run(0, WORDS("kill", id)));
    cleanup_free char *waited = run(128 + SIGTERM, WORDS("wait", id));
    cleanup_free char *line = sa_format("%s killed by TERM\n", id + ID_TEXT - SHORT_ID);
    assert_string_equal(waited, line);
    cleanup_free char *gone = run(0, WORDS("ps")), *all = run(0, WORDS("ps", "-a"));
    assert_null(strstr(gone, id + ID_TEXT - SHORT_ID));
    assert_has(all, "killed by TERM");
    free(run(0, WORDS("rm", id)));
    cleanup_free char *removed = run(0, WORDS("ps", "-a"));
    assert_null(strstr(removed, id + ID_TEXT - SHORT_ID));
}

static void a_process_may_be_named_in_short(void **state)
{
    (void)state;
    cleanup_free char *one =
        run(0, WORDS("start", "--name", "web", "--label", "tier=front", "sleep", "1000"));
    cleanup_free char *two = run(0, WORDS("start", "--name", "web", "sleep", "1000"));
    one[ID_TEXT] = two[ID_TEXT] = 0;
    const char *const names[] = {two, two + ID_TEXT - SHORT_ID, "web", "last"};
    for (size_t i = 0; i < 4; i++) {
        cleanup_free char *all = run(0, WORDS("logs", "--json", names[i]));
        cleanup_free char *opened = sa_format("\"processId\":\"%s\"", two);
        assert_has(all, opened);
    }
    /* They were started one after the other: their ids begin alike. */
    cleanup_free char *begin = sa_strndup(two, 4), *both = run(1, WORDS("logs", begin));
    assert_has(both, "may be any of");
    cleanup_free char *none = run(1, WORDS("logs", "nonesuch"));
    assert_has(none, "there is no process `nonesuch`");
    cleanup_free char *front = run(0, WORDS("ps", "-q", "--label", "tier=front"));
    assert_int_equal(strlen(front), ID_TEXT + 1);
    assert_memory_equal(front, one, ID_TEXT);
    cleanup_free char *back = run(0, WORDS("ps", "-q", "--label", "tier=back"));
    assert_string_equal(back, "");
    cleanup_free char *refused = run(1, WORDS("rm", one));
    assert_has(refused, "still runs");
    assert_has(refused, "-f kills it");
    /* One mistake does not hinder the rest. */
    cleanup_free char *mixed = run(1, WORDS("rm", "-f", one, "nonesuch", two));
    assert_has(mixed, "nonesuch");
    cleanup_free char *left = run(0, WORDS("ps", "-q", "-a", "--label", "name=web"));
    assert_string_equal(left, "");
}

static void logs_keep_streams_apart(void **state)
{
    (void)state;
    cleanup_free char *id = start_shell("echo one; echo two; printf three; sleep 0.1; echo oops >&2");
    cleanup_free char *waited = run(0, WORDS("wait", id)), *script = NULL;
    (void)waited;
#define LOGS(expected, words)                                                                                \
    free(script);                                                                                            \
    script = sa_format("a logs " words, id);                                                                 \
    assert_prints(expected, 0, script)
    LOGS("one\ntwo\nthree", "%s 2>/dev/null");
    LOGS("oops\n", "%s 2>&1 >/dev/null");
    LOGS("one\ntwo\nthreeoops\n", "%s 2>&1");
    LOGS("threeoops\n", "--tail 2 %s 2>&1");
    LOGS("oops\n", "--stream err %s 2>&1");
    LOGS("three", "--stream out --tail 1 %s 2>&1");
    LOGS("one\ntwo\nthreeoops\n", "--since 10m %s 2>&1");
    LOGS("", "--since 2099-01-01 %s 2>&1");
    LOGS("one\ntwo\nthreeoops\n", "-f %s 2>&1");
    LOGS("one\n", "%s 2>/dev/null | head -1");
#undef LOGS
    cleanup_free char *times = run(0, WORDS("logs", "--timestamps", "--stream", "out", id));
    int year, day;
    char word[16];
    assert_int_equal(sscanf(times, "%d-%*d-%dT%*[0-9:.]Z %15s", &year, &day, word), 3);
    assert_in_range(year, 2020, 2200);
    assert_string_equal(word, "one");
    assert_has(times, "Z two\n");
    assert_has(times, "Z three");
    cleanup_free char *mistaken = run(1, WORDS("logs", "--stream", "both", id));
    assert_has(mistaken, "`both`");
}

/* As any filter: nobody reads any more, so it ends, by SIGPIPE. */
static void logs_end_when_nobody_reads(void **state)
{
    (void)state;
    cleanup_free char *id = start_shell("yes | head -c 5000000");
    free(run(0, WORDS("wait", id)));
    cleanup_free char *script = sa_format("{ a logs %s; echo $? >&2; } | head -1", id);
    cleanup_free char *output = shell(0, script);
    assert_has(output, "y\n");
    assert_has(output, "141\n");
}

static void a_follower_lives_through_a_crash_of_the_service(void **state)
{
    (void)state;
    cleanup_free char *fifo = sa_format("%s/go", sys.home), *make = sa_format("mkfifo '%s'", fifo);
    free(shell(0, make));
    cleanup_free char *command = sa_format("echo before; read -r x <'%s'; echo after", fifo);
    cleanup_free char *id = start_shell(command);
    struct program p = begin(WORDS("sandbox-agent", "logs", "-f", id), NULL);
    program_wait_for(&p, "before\n");
    assert_int_equal(kill(system_service_pid(&sys, "process"), SIGKILL), 0);
    cleanup_free char *go = sa_format("echo >'%s'", fifo);
    free(shell(0, go));
    program_wait_for(&p, "after\n");
    assert_int_equal(program_wait(&p), 0);
    assert_string_equal(program_output(&p), "before\nafter\n");
    program_free(&p);
}

static void a_waiting_one_is_told_the_end(void **state)
{
    (void)state;
    cleanup_free char *id = start_shell("read -r x; exit 5"), *other = start_shell("exit 2");
    struct program p = begin(WORDS("sandbox-agent", "wait", id, other), NULL);
    free(run(0, WORDS("kill", "-s", "KILL", "--scope", "process", id)));
    assert_int_equal(program_wait(&p), 128 + SIGKILL);
    cleanup_free char *lines =
        sa_format("%s killed by KILL\n%s exited 2\n", id + ID_TEXT - SHORT_ID, other + ID_TEXT - SHORT_ID);
    assert_string_equal(program_output(&p), lines);
    program_free(&p);
    cleanup_free char *late = run(1, WORDS("kill", id));
    assert_has(late, "has ended");
    cleanup_free char *wrong = run(1, WORDS("kill", "-s", "LOUDLY", id));
    assert_has(wrong, "there is no signal `LOUDLY`");
    cleanup_free char *which = run(2, WORDS("kill"));
    assert_has(which, "kill which process?");
}

static void all_about_a_process_is_shown(void **state)
{
    (void)state;
    cleanup_free char *id = run(0, WORDS("start", "--name", "tree", "--cwd", "/tmp", "--restart", "always:5",
                                         "--", "sh", "-c", "echo hello; sleep 987 & exec sleep 654"));
    id[ID_TEXT] = 0;
    cleanup_free char *script =
        sa_format("until a inspect %s | grep -q 'sleep 987'; do :; done; a inspect tree", id);
    cleanup_free char *all = shell(0, script);
    assert_has(all, id);
    assert_has(all, "state        running\n");
    assert_has(all, "directory    /tmp\n");
    assert_has(all, "label        name=tree\n");
    assert_has(all, "restart      always, 0 so far\n");
    assert_has(all, "output       6 B\n");
    assert_has(all, "sleep 654\n");
    cleanup_free char *json = run(0, WORDS("inspect", "--json", "tree"));
    assert_has(json, "\"cwd\":\"/tmp\"");
    free(run(0, WORDS("stop", "tree")));
    cleanup_free char *ended = run(0, WORDS("inspect", id));
    assert_has(ended, "state        killed by TERM\n");
    assert_null(strstr(ended, "tree     "));
    free(run(0, WORDS("rm", id)));
}

static void a_census_finds_what_belongs_to_nobody(void **state)
{
    (void)state;
    cleanup_free char *id = start_shell("exec sleep 1000");
    free(shell(0, "a run --keep-descendants sh -c 'sleep 876 >/dev/null 2>&1 &'"));
    cleanup_free char *census = run(0, WORDS("census"));
    assert_has(census, id + ID_TEXT - SHORT_ID);
    assert_has(census, "stray ");
    assert_has(census, "sleep 876\n");
    cleanup_free char *json = run(0, WORDS("census", "--json"));
    assert_has(json, "\"strayCount\":1");
    cleanup_free char *cleared = run(0, WORDS("census", "--clear"));
    assert_string_equal(cleared, "killed 1\n");
    cleanup_free char *after = run(0, WORDS("census"));
    assert_null(strstr(after, "stray"));
    assert_has(after, id + ID_TEXT - SHORT_ID);
    free(run(0, WORDS("rm", "-f", id)));
}

static void limits_are_shown_and_changed(void **state)
{
    (void)state;
    cleanup_free char *before = run(0, WORDS("process-config"));
    assert_has(before, "max_processes            4096\n");
    cleanup_free char *set = run(0, WORDS("process-config", "max_run_output_bytes=1000", "maxRuns=7"));
    assert_has(set, "max_run_output_bytes     1000\n");
    cleanup_free char *json = run(0, WORDS("process-config", "--json"));
    assert_has(json, "\"maxRuns\":7");
    cleanup_free char *cut = shell(0, "a run seq 1000 2>&1 | tail -1");
    assert_has(cut, "cut after 1000 bytes");
    cleanup_free char *low = run(1, WORDS("process-config", "max_runs=0"));
    assert_has(low, "max_runs is 0, allowed are 1 to 10000");
    cleanup_free char *unknown = run(1, WORDS("process-config", "max_fun=1"));
    assert_has(unknown, "is not known");
    cleanup_free char *word = run(1, WORDS("process-config", "max_runs"));
    assert_has(word, "`max_runs` is not name=value");
    free(run(0, WORDS("process-config", "max_run_output_bytes=1048576", "max_runs=64")));
}

static void a_stop_ends_a_tree_for_good(void **state)
{
    (void)state;
    cleanup_free char *id = run(0, WORDS("start", "--restart", "always", "--", "sh", "-c",
                                         "trap '' TERM; sleep 1000 & wait; sleep 1000"));
    id[ID_TEXT] = 0;
    cleanup_free char *told = run(0, WORDS("stop", "--grace", "100ms", id));
    cleanup_free char *line = sa_format("%s killed by KILL\n", id + ID_TEXT - SHORT_ID);
    assert_string_equal(told, line);
    cleanup_free char *list = run(0, WORDS("ps", "-q"));
    assert_null(strstr(list, id));
    cleanup_free char *mistaken = run(1, WORDS("stop", "--grace", "a while", id));
    assert_has(mistaken, "`a while`");
    free(run(0, WORDS("rm", id)));
}

static void a_start_may_wait_until_it_is_ready(void **state)
{
    (void)state;
    cleanup_free char *id = run(0, WORDS("start", "--wait-ready", "--ready-output", "here we go", "--", "sh",
                                         "-c", "sleep 0.2; echo here we go; exec sleep 1000"));
    id[ID_TEXT] = 0;
    cleanup_free char *list = run(0, WORDS("ps"));
    assert_has(list, "  ready  ");
    free(run(0, WORDS("rm", "-f", id)));
    cleanup_free char *never =
        run(1, WORDS("start", "--wait-ready", "--ready-port", "1", "--", "sh", "-c", "exit 3"));
    assert_has(never, "is not ready: exited 3");
    cleanup_free char *late = run(
        1, WORDS("start", "--wait-ready", "--wait-timeout", "200ms", "--ready-output", "x", "sleep", "1000"));
    assert_has(late, "is not ready: not ready");
}

static void restarts_are_counted(void **state)
{
    (void)state;
    cleanup_free char *id =
        run(0, WORDS("start", "--restart", "on-failure:2", "--", "sh", "-c", "echo run; exit 3"));
    id[ID_TEXT] = 0;
    /* A pause of 1 s, then 2 s. */
    cleanup_free char *waited = run(3, WORDS("wait", id)), *list = run(0, WORDS("ps", "-a"));
    assert_has(waited, "exited 3");
    assert_has(list, "exited 3");
    cleanup_free char *logs = run(0, WORDS("logs", "-f", id));
    assert_string_equal(logs, "run\nrun\nrun\n");
    cleanup_free char *all = run(0, WORDS("inspect", id));
    assert_has(all, "on_failure, 2 so far");
    cleanup_free char *mistaken = run(125, WORDS("start", "--restart", "sometimes", "true"));
    assert_has(mistaken, "`sometimes`");
}

static void the_process_service_is_found_or_named(void **state)
{
    (void)state;
    cleanup_free char *target = sa_format("127.0.0.1:%u", sys.grpc_port + 2);
    cleanup_free char *refused = run(1, WORDS("ps", "--target", target));
    assert_has(refused, "--token or $SANDBOX_AGENT_TOKEN");
    free(run(0, WORDS("ps", "--target", target, "--token", sys.token)));
    cleanup_free char *nowhere = sa_format("127.0.0.1:%u", harness_ports(1));
    cleanup_free char *nobody = run(1, WORDS("wait", "--target", nowhere, "01h00000000000000000000000"));
    assert_has(nobody, "no answer from");
    cleanup_free char *script =
        sa_format("SANDBOX_AGENT_TARGET=%s a ps 2>&1; unset SANDBOX_AGENT_TARGET; "
                  "SANDBOX_AGENT_PROCESS_TARGET=%s SANDBOX_AGENT_TOKEN=%s a ps -q >/dev/null",
                  sys.target, target, sys.token);
    cleanup_free char *elsewhere = shell(0, script);
    assert_has(elsewhere, "name its process service in $SANDBOX_AGENT_PROCESS_TARGET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_is_run_to_its_end),
        cmocka_unit_test(what_hinders_a_command_is_told),
        cmocka_unit_test(a_process_goes_on_by_itself),
        cmocka_unit_test(a_process_may_be_named_in_short),
        cmocka_unit_test(logs_keep_streams_apart),
        cmocka_unit_test(logs_end_when_nobody_reads),
        cmocka_unit_test(a_follower_lives_through_a_crash_of_the_service),
        cmocka_unit_test(a_waiting_one_is_told_the_end),
        cmocka_unit_test(all_about_a_process_is_shown),
        cmocka_unit_test(a_census_finds_what_belongs_to_nobody),
        cmocka_unit_test(limits_are_shown_and_changed),
        cmocka_unit_test(a_stop_ends_a_tree_for_good),
        cmocka_unit_test(a_start_may_wait_until_it_is_ready),
        cmocka_unit_test(restarts_are_counted),
        cmocka_unit_test(the_process_service_is_found_or_named),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
