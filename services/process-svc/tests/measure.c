/* Measures process-svc beside the bare system calls that do the same, in one run; prints ratios.
 *     bazel run --config=opt //services/process-svc/tests:measure */
#include "services/process-svc/tests/fixture.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

enum { ROUNDS = 300, BULK = 512 * MIB, CONCURRENT = 16 };

extern char **environ;

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_times(const char *what, uint64_t *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, compare);
    printf("%-44s p50 %7.0f us   p99 %7.0f us\n", what, (double)ns[n / 2] / 1000,
           (double)ns[n * 99 / 100] / 1000);
}

/* ---- the bare way ---- */

static pid_t bare_start(const char *const *argv, int *ret_out)
{
    int ends[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    assert_int_equal(posix_spawnp(&pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *ret_out = ends[0];
    return pid;
}

static double bare_bulk(void)
{
    static char buf[65536];
    int out;
    uint64_t start_ns = sa_now_ns(), got = 0;
    pid_t pid = bare_start(WORDS("sh", "-c", "yes 0123456789abcde | head -c 536870912"), &out);
    for (ssize_t n; (n = read(out, buf, sizeof buf)) > 0;)
        got += (uint64_t)n;
    close(out);
    waitpid(pid, NULL, 0);
    assert_int_equal(got, BULK);
    return (double)BULK / MIB / ((double)(sa_now_ns() - start_ns) / 1e9);
}

static void bare_echo(uint64_t *ns)
{
    for (int i = 0; i < ROUNDS; i++) {
        int out;
        char c;
        uint64_t start_ns = sa_now_ns();
        pid_t pid = bare_start(WORDS("echo", "x"), &out);
        assert_int_equal(read(out, &c, 1), 1);
        ns[i] = sa_now_ns() - start_ns;
        waitpid(pid, NULL, 0);
        close(out);
    }
}

static uint64_t bare_true(void)
{
    int out;
    uint64_t start_ns = sa_now_ns();
    pid_t pid = bare_start(WORDS("true"), &out);
    waitpid(pid, NULL, 0);
    close(out);
    return sa_now_ns() - start_ns;
}

/* ---- through the service ---- */

static uint64_t follow_to_end(struct svc *s, const char *id, bool acknowledge)
{
    struct attached a = attach_output(s, id, 0);
    uint64_t got = 0, acknowledged = 0;
    while (next(&a) && a.message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OUTPUT) {
        got += a.message->output->data.len;
        if (acknowledge && got - acknowledged > MIB)
            put_ack(&a, acknowledged = got);
    }
    detach(&a);
    return got;
}

static double bulk(struct svc *s, RetentionPolicy retention, uint64_t *ret_got)
{
    struct spec *spec = shell("yes 0123456789abcde | head -c 536870912");
    spec->message.stdout_retention = retention;
    spec->message.journal_bytes = 16 * MIB;
    uint64_t start_ns = sa_now_ns();
    const char *id = start(s, spec);
    *ret_got = follow_to_end(s, id, retention == RETENTION_POLICY_ACKNOWLEDGED);
    double rate = (double)BULK / MIB / ((double)(sa_now_ns() - start_ns) / 1e9);
    delete_it(s, id, true);
    return rate;
}

static double capture(struct svc *s)
{
    uint64_t start_ns = sa_now_ns();
    const char *id = start_shell(s, "yes 0123456789abcde | head -c 536870912");
    wait_for(s, id);
    double rate = (double)BULK / MIB / ((double)(sa_now_ns() - start_ns) / 1e9);
    delete_it(s, id, true);
    return rate;
}

static void times(struct svc *s)
{
    static uint64_t bare[ROUNDS], waited[ROUNDS], started[ROUNDS], output[ROUNDS], ran[ROUNDS],
        echoed[ROUNDS];
    bare_echo(bare);
    for (int i = 0; i < ROUNDS; i++) {
        struct spec *spec = spec_new();
        spec_word(spec, "echo");
        spec_word(spec, "x");
        uint64_t start_ns = sa_now_ns();
        const char *id = start(s, spec);
        started[i] = sa_now_ns() - start_ns;
        struct attached a = attach_output(s, id, 0);
        assert_true(next(&a));
        output[i] = sa_now_ns() - start_ns;
        detach(&a);
        delete_it(s, id, true);
        waited[i] = bare_true();
        spec = spec_new();
        spec_word(spec, "true");
        start_ns = sa_now_ns();
        run(s, spec, NULL);
        ran[i] = sa_now_ns() - start_ns;
    }
    const char *id = start_shell(s, "exec cat");
    struct attached a = attach_output(s, id, 0);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t start_ns = sa_now_ns();
        put_input(&a, i * 2, "x\n", false);
        while (next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
            ;
        echoed[i] = sa_now_ns() - start_ns;
    }
    detach(&a);
    delete_it(s, id, true);
    print_times("bare: spawn to first output", bare, ROUNDS);
    print_times("StartProcess to its answer", started, ROUNDS);
    print_times("StartProcess + AttachProcess to first output", output, ROUNDS);
    print_times("bare: spawn true, wait", waited, ROUNDS);
    print_times("RunProcess true", ran, ROUNDS);
    printf("%-44s %.2f\n", "  of bare, p50", (double)ran[ROUNDS / 2] / (double)waited[ROUNDS / 2]);
    print_times("a line through cat and back", echoed, ROUNDS);
}

/* ---- `true`, over and over: bare, and by RunProcess ---- */

enum { RUNS = 3000 };

static int runs_left, runs_running, runs_at_once;
static struct svc *runs_svc;
static struct spec *runs_spec;

static double per_second(uint64_t start_ns)
{
    return RUNS / ((double)(sa_now_ns() - start_ns) / 1e9);
}

/* posix_spawn and wait, with standard output in a pipe that is read to its end, as RunProcess has it. */
static double bare_runs(int at_once)
{
    int outs[CONCURRENT], running = 0;
    pid_t pids[CONCURRENT];
    uint64_t start_ns = sa_now_ns();
    for (int left = RUNS; left || running;) {
        for (; left && running < at_once; left--, running++)
            pids[running] = bare_start(WORDS("true"), &outs[running]);
        pid_t pid = waitpid(-1, NULL, 0);
        for (int i = 0; i < running; i++) {
            char c;
            if (pids[i] != pid)
                continue;
            assert_int_equal(read(outs[i], &c, 1), 0);
            close(outs[i]);
            pids[i] = pids[--running];
            outs[i] = outs[running];
        }
    }
    return per_second(start_ns);
}

static void run_next(void);

static void run_done(void *user, const RunProcessResponse *res, const sa_error *err)
{
    (void)user;
    if (!res)
        fail_msg("%s", err->message);
    runs_running--;
    run_next();
}

static void run_next(void)
{
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.spec = &runs_spec->message;
    for (; runs_left && runs_running < runs_at_once; runs_left--, runs_running++)
        run_process_call(runs_svc->channel, &req, NULL, run_done, NULL);
}

static bool runs_over(void *user)
{
    struct sa_loop *loop = user;
    sa_loop_lock(loop);
    bool over = !runs_left && !runs_running;
    sa_loop_unlock(loop);
    return over;
}

static double service_runs(struct svc *s, int at_once)
{
    runs_svc = s;
    runs_spec = spec_new();
    runs_left = RUNS;
    runs_at_once = at_once;
    spec_word(runs_spec, "true");
    uint64_t start_ns = sa_now_ns();
    sa_loop_lock(s->caller.loop);
    run_next();
    sa_loop_unlock(s->caller.loop);
    wait_until(runs_over, s->caller.loop, "all commands have run");
    double rate = per_second(start_ns);
    free(runs_spec);
    return rate;
}

static void compare_runs(struct svc *s)
{
    static const int at_once[] = {1, CONCURRENT};
    for (int i = 0; i < 2; i++) {
        double bare = bare_runs(at_once[i]), ran = service_runs(s, at_once[i]);
        printf("true, %2d at once: bare spawn %.0f/s, RunProcess %.0f/s (%.2f of bare)\n", at_once[i], bare,
               ran, ran / bare);
    }
}

/* The pid of the runner that takes the next command. */
static int runner_of(struct svc *s)
{
    char text[16] = "";
    RunProcessResponse *r = run(s, shell("echo $PPID"), NULL);
    memcpy(text, r->stdout.data, r->stdout.len < sizeof text ? r->stdout.len : 0);
    return atoi(text);
}

static void memory(struct svc *s)
{
    enum { SHIMS = 100 };
    uint64_t service = private_kib(s->program.pid), sum = 0;
    const char *ids[SHIMS];
    for (int i = 0; i < SHIMS; i++)
        ids[i] = start_shell(s, "echo hello; exec sleep 1000");
    for (int i = 0; i < SHIMS; i++)
        sum += private_kib(parent_of((int)get(s, ids[i])->pid));
    uint64_t after = private_kib(s->program.pid), alone = 0;
    int shim = parent_of((int)get(s, ids[0])->pid);
    printf("%-44s %u KiB\n", "private memory of a warm runner", private_kib(runner_of(s)));
    printf("%-44s %llu KiB (100 running)\n", "private memory of a shim", (unsigned long long)sum / SHIMS);
    printf("%-44s %llu KiB, and %.1f KiB per process\n", "private memory of the service",
           (unsigned long long)service, (double)(after - service) / SHIMS);
    /* One that has moved much output has touched its buffer. */
    const char *id = start_shell(s, "yes | head -c 100000000; echo end >&2; exec sleep 1000");
    AttachOpen open = ATTACH_OPEN__INIT;
    open.process_id = (char *)(uintptr_t)id;
    open._stderr_offset_case = ATTACH_OPEN___STDERR_OFFSET_STDERR_OFFSET;
    struct attached a = attach(s, &open);
    assert_true(next(&a) && next(&a));
    detach(&a);
    printf("%-44s %llu KiB\n", "private memory of a shim after 100 MB",
           (unsigned long long)private_kib(parent_of((int)get(s, id)->pid)));
    for (int i = 1; i < SHIMS; i++)
        delete_it(s, ids[i], true);
    delete_it(s, id, true);
    svc_kill(s); /* its helper's pages were shared with the shims */
    alone = private_kib(shim);
    printf("%-44s %llu KiB\n", "private memory of the last shim, alone", (unsigned long long)alone);
    svc_again(s, WORDS("--durability", "nosync"));
    delete_it(s, ids[0], true);
}

static void measure(void **state)
{
    (void)state;
    static const char *const durability[] = {"nosync", "grouped"};
    for (int i = 0; i < 2; i++) {
        printf("---- --durability %s\n", durability[i]);
        struct svc s = svc_start(WORDS("--durability", durability[i]));
        times(&s);
        if (i == 0) {
            compare_runs(&s);
            memory(&s);
            double bare = bare_bulk();
            uint64_t got;
            printf("%-44s %.0f MiB/s\n", "bare: pipe to a reader", bare);
            double captured = capture(&s);
            printf("%-44s %.0f MiB/s (%.2f of bare)\n", "into the journal, nobody follows", captured,
                   captured / bare);
            double rate = bulk(&s, RETENTION_POLICY_ACKNOWLEDGED, &got);
            printf("%-44s %.0f MiB/s (%.2f of bare), %.1f %% delivered\n", "ACKNOWLEDGED to one follower",
                   rate, rate / bare, 100.0 * (double)got / BULK);
            rate = bulk(&s, RETENTION_POLICY_RING, &got);
            printf("%-44s %.0f MiB/s (%.2f of bare)\n", "RING with one follower", rate, rate / bare);
            printf("%-44s %llu KiB\n", "private memory of the service now",
                   (unsigned long long)private_kib(s.program.pid));
        }
        svc_stop(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(measure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
