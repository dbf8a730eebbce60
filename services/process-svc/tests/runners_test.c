/* The pool of runners behind RunProcess: nothing passes from one command to the next, whatever happens to a
 * runner is made good, and nothing of a command is left but what was asked to be. */
#include "services/process-svc/tests/fixture.h"

#include <dirent.h>
#include <sys/wait.h>

#include "adapters/os/file.h"

static char *text_of(const ProtobufCBinaryData *b)
{
    return sa_strndup((const char *)b->data, b->len);
}

/* The pid of the runner that takes the next command. */
static int next_runner(struct svc *s)
{
    RunProcessResponse *r = run(s, shell("echo $PPID"), NULL);
    cleanup_free char *text = text_of(&r->stdout);
    assert_true(atoi(text) > 1);
    return atoi(text);
}

static size_t entries(const char *path, const char *prefix)
{
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.' && !strncmp(e->d_name, prefix, strlen(prefix));
    if (d)
        closedir(d);
    return n;
}

static size_t kept_files(struct svc *s)
{
    cleanup_free char *path = sa_format("%s/process/processes", s->dir);
    return entries(path, "kept.");
}

static bool no_child(void *user)
{
    (void)user;
    return waitpid(-1, NULL, WNOHANG) < 0;
}

/* ---- commands that do not wait for their end ---- */

struct outcome {
    int left, ok, too_many;
    char reason[64];
};

static void on_run(void *user, const RunProcessResponse *res, const sa_error *err)
{
    struct outcome *o = user;
    o->left--;
    o->ok += res != NULL;
    o->too_many += err && sa_error_is(err, SA_TOO_MANY);
    snprintf(o->reason, sizeof o->reason, "%s", err ? err->reason : "OK");
}

static void begin_runs(struct svc *s, struct outcome *o, const char *command, int n)
{
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    struct spec *spec = shell(command);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < n; i++, o->left++)
        run_process_call(s->channel, &req, &opt, on_run, o);
    sa_loop_unlock(s->caller.loop);
    free(spec);
}

struct waiting {
    struct svc *s;
    struct outcome *o;
    int left;
};

static bool are_over(void *user)
{
    struct waiting *w = user;
    sa_loop_lock(w->s->caller.loop);
    bool over = w->o->left <= w->left;
    sa_loop_unlock(w->s->caller.loop);
    return over;
}

static void await_runs(struct svc *s, struct outcome *o, int left)
{
    struct waiting w = {s, o, left};
    wait_until(are_over, &w, "the commands are answered");
}

/* ---- from one command to the next ---- */

static const char look[] = "echo $PPID; umask; ulimit -a; pwd; env | sort; ls /proc/self/fd; "
                           "grep -E 'Sig|Shd|Threads|Seccomp|NoNewPrivs|Cpus_allowed:' /proc/self/status; "
                           "cut -d' ' -f18,19 /proc/self/stat; readlink /proc/self/fd/0";

static void a_command_finds_nothing_of_the_one_before(void **state)
{
    (void)state;
    struct svc s = svc_start(WORDS("--max-runs", "1"));
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    cleanup_free char *before = text_of(&run(&s, shell(look), NULL)->stdout);
    int runner = next_runner(&s);
    cleanup_free char *fds = sa_format("/proc/%d/fd", runner);
    size_t open_before = entries(fds, "");
    static uint8_t input[100000] = "left over";
    req.stdin = (ProtobufCBinaryData){sizeof input, input};
    struct spec *spec = shell("umask 077; ulimit -n 64; ulimit -c 0; cd /tmp; trap '' TERM INT HUP CHLD; "
                              "export SECRET=1; exec 7>/dev/null; renice 5 $$ >/dev/null; echo left over; "
                              "echo left over >&2; sleep 1000 & setsid sleep 1000 & kill -9 $$");
    spec_env(spec, "SECRET_OF_BEFORE=left over");
    spec->message.cwd = bytes_of("/usr");
    RunProcessResponse *r = run(&s, spec, &req);
    assert_int_equal(r->exit->signal, SIGKILL);
    assert_int_equal(r->stdout.len, 10);
    /* The same runner, and it has no child, no more descriptors, and the command sees the same as before. */
    RunProcessResponse *after = run(&s, shell(look), NULL);
    cleanup_free char *now = text_of(&after->stdout);
    assert_string_equal(now, before);
    assert_int_equal(atoi(now), runner);
    assert_int_equal(after->stderr.len, 0);
    assert_int_equal(entries(fds, ""), open_before);
    /* No output, and no input. */
    r = run(&s, shell("cat"), NULL);
    assert_int_equal(r->stdout.len + r->stderr.len, 0);
    assert_int_equal(r->exit->exit_code, 0);
    /* One that cannot be run leaves nothing either. */
    struct spec *missing = spec_new();
    spec_word(missing, "no-such-program");
    assert_string_equal(run_error(&s, missing, &req), "EXEC_FAILED");
    assert_int_equal(next_runner(&s), runner);
    assert_int_equal(entries(fds, ""), open_before);
    svc_stop(&s);
}

static void a_runner_is_small_also_after_much_output(void **state)
{
    (void)state;
    struct svc s = svc_start(WORDS("--max-runs", "1"));
    RunProcessResponse *r = run(&s, shell("head -c 20000000 /dev/zero; head -c 2000000 /dev/zero >&2"), NULL);
    assert_int_equal(r->stdout.len, MIB);
    assert_true(r->stdout_truncated && r->stderr_truncated);
    unsigned kib = private_kib(next_runner(&s));
    if (kib > 192)
        fail_msg("a runner has %u KiB of its own", kib);
    svc_stop(&s);
}

/* ---- runners that die ---- */

static void a_runner_that_is_killed_is_replaced(void **state)
{
    struct svc *s = *state;
    for (int i = 0; i < 20; i++) {
        int runner = next_runner(s);
        assert_int_equal(kill(runner, SIGKILL), 0);
        wait_pid_gone(runner);
        assert_int_not_equal(next_runner(s), runner);
    }
}

static void a_runner_that_is_killed_at_work_fails_its_command_only(void **state)
{
    struct svc *s = *state;
    cleanup_free char *file = sa_format("%s/pid", s->dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' & exec sleep 1000", file);
    struct outcome o = {0};
    begin_runs(s, &o, command, 1);
    int grandchild = pid_in_file(file), child = parent_of(grandchild), runner = parent_of(child);
    assert_int_equal(kill(runner, SIGKILL), 0);
    await_runs(s, &o, 0);
    assert_string_equal(o.reason, "SYSTEM_ERROR");
    wait_pid_gone(child);
    wait_pid_gone(grandchild);
    assert_string_equal(run_error(s, shell("true"), NULL), "OK");
}

/* ---- many ---- */

static void more_commands_than_may_run_are_refused_at_the_bound(void **state)
{
    (void)state;
    enum { ALL = 200, MAX = 16 };
    struct svc s = svc_start(WORDS("--max-runs", "16"));
    cleanup_free char *file = sa_format("%s/go", s.dir),
                      *command = sa_format("while ! test -e %s; do sleep 0.01; done", file);
    struct outcome o = {0};
    begin_runs(&s, &o, command, ALL);
    await_runs(&s, &o, MAX);
    assert_int_equal(o.too_many, ALL - MAX);
    assert_int_equal(sa_write_file(file, "", 0, 0600, NULL), 0);
    await_runs(&s, &o, 0);
    assert_int_equal(o.ok, MAX);
    assert_string_equal(run_error(&s, shell("true"), NULL), "OK");
    svc_stop(&s);
}

static void nothing_of_sixteen_commands_survives_a_killed_service(void **state)
{
    (void)state;
    enum { MAX = 16 };
    struct svc s = svc_start(NULL);
    cleanup_free char *file = sa_format("%s/pids", s.dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'trap \"\" TERM HUP; echo $$ >>%s; while :; do sleep 1; done' & "
                  "exec sleep 1000",
                  file);
    struct outcome o = {0};
    begin_runs(&s, &o, command, MAX);
    for (size_t lines = 0; lines < MAX;) {
        cleanup_buf struct sa_buf text = {0};
        lines = 0;
        pid_in_file(file); /* waits for the first */
        sa_read_file(file, 65536, &text, NULL);
        for (size_t i = 0; i < text.len; i++)
            lines += text.data[i] == '\n';
    }
    svc_kill(&s);
    wait_until(no_child, NULL, "nothing is left behind"); /* orphans come to this program */
    svc_again(&s, NULL);
    assert_string_equal(run_error(&s, shell("true"), NULL), "OK");
    svc_stop(&s);
}

static void a_service_that_stops_ends_its_commands_and_says_so(void **state)
{
    (void)state;
    struct svc s = svc_start(NULL);
    cleanup_free char *file = sa_format("%s/pid", s.dir),
                      *command = sa_format("echo $$ >%s; exec sleep 1000", file);
    struct outcome o = {0};
    begin_runs(&s, &o, command, 1);
    pid_in_file(file);
    program_signal(&s.program, SIGTERM);
    await_runs(&s, &o, 0);
    assert_string_equal(o.reason, "DRAINING");
    svc_stop(&s);
    wait_until(no_child, NULL, "nothing is left behind");
}

/* ---- what is to be kept ---- */

/* Leaves a process that writes on to the command's output, and ends at TERM with a word in `file`. */
static int leave_one(struct svc *s, const char *name)
{
    cleanup_free char *file = sa_format("%s/%s", s->dir, name), *ended = sa_format("%s.ended", file);
    cleanup_free char *command = sa_format("setsid sh -c 'trap \"echo bye >%s; exit\" TERM; echo $$ >%s; "
                                           "while :; do echo more; sleep 0.01; done' & "
                                           "while ! test -s %s; do sleep 0.01; done; echo mine; exit 3",
                                           ended, file, file);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.keep_descendants = true;
    RunProcessResponse *r = run(s, shell(command), &req);
    assert_int_equal(r->exit->exit_code, 3);
    cleanup_free char *out = text_of(&r->stdout);
    assert_non_null(strstr(out, "mine\n"));
    return pid_in_file(file);
}

static void what_a_command_starts_is_kept_if_asked(void **state)
{
    struct svc *s = *state;
    int pid = leave_one(s, "one"), runner = parent_of(pid);
    assert_int_equal(kept_files(s), 1);
    for (int i = 0; i < 10; i++)
        assert_int_not_equal(next_runner(s), runner); /* it is out of the pool */
    assert_true(pid_alive(pid));                      /* although nobody reads what it writes */
    /* Its end is the end of its runner and of the record. */
    kill(pid, SIGKILL);
    wait_pid_gone(runner);
    assert_int_equal(kept_files(s), 0);
    /* A command that leaves nothing gives its runner back. */
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.keep_descendants = true;
    RunProcessResponse *r = run(s, shell("echo $PPID"), &req);
    cleanup_free char *first = text_of(&r->stdout);
    assert_int_equal(next_runner(s), atoi(first));
    assert_int_equal(kept_files(s), 0);
}

static void a_timeout_ends_also_what_was_to_be_kept(void **state)
{
    struct svc *s = *state;
    cleanup_free char *file = sa_format("%s/pid", s->dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' & exec sleep 1000", file);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.keep_descendants = true;
    req.timeout_ms = 300;
    RunProcessResponse *r = run(s, shell(command), &req);
    assert_true(r->timed_out);
    assert_false(pid_alive(pid_in_file(file)));
    assert_int_equal(kept_files(s), 0);
}

static void a_caller_that_leaves_ends_also_what_was_to_be_kept(void **state)
{
    struct svc *s = *state;
    cleanup_free char *file = sa_format("%s/pid", s->dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' & exec sleep 1000", file);
    struct spec *spec = shell(command);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    struct rpc_call_options soon = {.deadline_ms = 500};
    cleanup_error sa_error *err = NULL;
    req.spec = &spec->message;
    req.keep_descendants = true;
    assert_null(run_process_wait(s->channel, &req, &soon, &err));
    assert_int_equal(err->code, SA_CODE_DEADLINE_EXCEEDED);
    free(spec);
    wait_pid_gone(pid_in_file(file));
}

static void what_is_kept_outlives_a_killed_service_and_ends_with_one_that_stops(void **state)
{
    (void)state;
    struct svc s = svc_start(NULL);
    int first = leave_one(&s, "first");
    svc_kill(&s);
    assert_true(pid_alive(first));
    svc_again(&s, NULL);
    int second = leave_one(&s, "second");
    assert_int_equal(kept_files(&s), 2);
    svc_stop(&s);
    assert_false(pid_alive(first));
    assert_false(pid_alive(second));
    assert_int_equal(kept_files(&s), 0);
    cleanup_free char *a = sa_format("%s/first.ended", s.dir), *b = sa_format("%s/second.ended", s.dir);
    assert_int_equal(access(a, F_OK) | access(b, F_OK), 0); /* they were asked before they were killed */
    wait_until(no_child, NULL, "nothing is left behind");
}

static void keep_children_keeps_it_over_a_stop(void **state)
{
    (void)state;
    struct svc s = svc_start(WORDS("--keep-children"));
    int pid = leave_one(&s, "one");
    svc_stop(&s);
    assert_true(pid_alive(pid));
    svc_again(&s, NULL);
    svc_stop(&s);
    assert_false(pid_alive(pid));
    wait_until(no_child, NULL, "nothing is left behind");
}

/* What a restarted service could not find is not begun. */
static void what_could_not_be_found_again_is_refused(void **state)
{
    (void)state;
    struct svc s = svc_start(WORDS("--max-runs", "1"));
    cleanup_free char *taken = sa_format("%s/process/processes/kept.%d", s.dir, next_runner(&s));
    cleanup_free char *file = sa_format("%s/ran", s.dir), *command = sa_format("echo >%s", file);
    assert_int_equal(mkdir(taken, 0700), 0);
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.keep_descendants = true;
    assert_string_equal(run_error(&s, shell(command), &req), "IS_A_DIRECTORY");
    assert_int_equal(access(file, F_OK), -1);
    assert_string_equal(run_error(&s, shell(command), NULL), "OK");
    svc_stop(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_finds_nothing_of_the_one_before),
        cmocka_unit_test(a_runner_is_small_also_after_much_output),
        TEST(a_runner_that_is_killed_is_replaced),
        TEST(a_runner_that_is_killed_at_work_fails_its_command_only),
        cmocka_unit_test(more_commands_than_may_run_are_refused_at_the_bound),
        cmocka_unit_test(nothing_of_sixteen_commands_survives_a_killed_service),
        cmocka_unit_test(a_service_that_stops_ends_its_commands_and_says_so),
        TEST(what_a_command_starts_is_kept_if_asked),
        TEST(a_timeout_ends_also_what_was_to_be_kept),
        TEST(a_caller_that_leaves_ends_also_what_was_to_be_kept),
        cmocka_unit_test(what_is_kept_outlives_a_killed_service_and_ends_with_one_that_stops),
        cmocka_unit_test(keep_children_keeps_it_over_a_stop),
        cmocka_unit_test(what_could_not_be_found_again_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
