/* Limits need cgroups: run by root with cgroups that may be written, else they are refused. Not in Bazel's
 * sandbox, where they may not. */
#include "services/process-svc/tests/fixture.h"

#include <pwd.h>

#include "adapters/os/file.h"
#include "services/process-svc/process_limits.h"

/* What this machine offers. */
static bool offers(int controller)
{
    struct limits l;
    limits_init(&l);
    bool has = l.place[controller].base != NULL;
    limits_fini(&l);
    return has;
}

/* A limit that cannot be had is refused, and says why. */
static bool refused(struct svc *s, int controller, struct spec *spec)
{
    if (offers(controller))
        return false;
    assert_string_equal(start_error(s, spec, ""), "LIMIT_UNAVAILABLE");
    assert_non_null(strstr(error_message, "needs a cgroup"));
    return true;
}

/* The cgroups of a pid that are ours: "controllers:path" lines. */
static char *cgroups_of(int pid, char *buf, size_t n)
{
    cleanup_free char *path = sa_format("/proc/%d/cgroup", pid);
    cleanup_buf struct sa_buf text = {0};
    assert_int_equal(sa_read_file(path, 65536, &text, NULL), 0);
    snprintf(buf, n, "%s", sa_buf_string(&text));
    return buf;
}

/* Counts what is left of cgroups with this name in any hierarchy. */
static int cgroups_named(const char *name)
{
    cleanup_free char *command =
        sa_format("find /sys/fs/cgroup -name 'sandbox-agent-%s' 2>/dev/null | wc -l", name);
    FILE *f = popen(command, "r");
    int n = -1;
    assert_int_equal(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static bool no_cgroups(void *user)
{
    return cgroups_named(user) == 0;
}

static bool has_text(void *user)
{
    struct stat st;
    return stat(user, &st) == 0 && st.st_size > 0;
}

static void a_fork_bomb_stays_in_its_bounds_and_is_gone_after_a_stop(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *script = sa_format("%s/bomb", dir), *failures = sa_format("%s/failures", dir);
    /* Each forks deaf ones in sessions of their own, until that fails, and then goes on trying. */
    cleanup_free char *bomb = sa_format(
        "#!/bin/bash\ntrap '' TERM HUP INT\nwhile :; do setsid %s & done 2>>%s\n", script, failures);
    assert_int_equal(sa_write_file(script, bomb, strlen(bomb), 0755, NULL), 0);
    struct spec *spec = spec_new();
    spec_word(spec, script);
    spec_limits(spec)->pids = 30;
    if (refused(s, LIMITS_PIDS, spec))
        return;
    const char *id = start(s, spec);
    char own[4096];
    assert_non_null(strstr(cgroups_of((int)get(s, id)->pid, own, sizeof own), id));
    wait_until(has_text, failures, "a fork has failed");
    assert_int_equal(stop_it(s, id, 0, 50)->signal, SIGKILL);
    wait_until(no_cgroups, (void *)(uintptr_t)id, "its cgroups are removed");
}

static void a_process_beyond_its_memory_is_killed_and_that_is_told(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("exec tail /dev/zero"); /* keeps what may be the last line */
    spec_limits(spec)->memory_bytes = 32 << 20;
    if (refused(s, LIMITS_MEMORY, spec))
        return;
    const char *id = start(s, spec);
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
    assert_int_equal(get(s, id)->oom_kills, 1);
    assert_int_equal(get(s, id)->spec->limits->memory_bytes, 32 << 20);
    wait_until(no_cgroups, (void *)(uintptr_t)id, "its cgroups are removed");
    /* Also where only a child of it dies, and again in each run. */
    spec = shell("tail /dev/zero; exit 1");
    spec_limits(spec)->memory_bytes = 32 << 20;
    spec_restart(spec, RESTART_MODE_ON_FAILURE, 1, 60000, 2);
    id = start(s, spec);
    assert_int_equal(wait_for(s, id)->exit_code, 1);
    assert_int_equal(get(s, id)->oom_kills, 3);
}

static void cpu_time_is_limited(void **state)
{
    struct svc *s = *state;
    struct spec *spec =
        shell("end=$(($(date +%s%N) + 1000000000)); while [ $(date +%s%N) -lt $end ]; do :; done; times");
    spec_limits(spec)->cpu_millis = 100;
    if (refused(s, LIMITS_CPU, spec))
        return;
    const char *id = start(s, spec);
    wait_for(s, id);
    unsigned m[4];
    double t[4], total = 0;
    assert_int_equal(sscanf(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "%um%lfs %um%lfs %um%lfs %um%lfs",
                            &m[0], &t[0], &m[1], &t[1], &m[2], &t[2], &m[3], &t[3]),
                     8);
    for (int i = 0; i < 4; i++)
        total += m[i] * 60 + t[i];
    assert_true(total < 0.4); /* of a second, where a tenth is allowed */
}

static void open_files_are_limited_everywhere(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("ulimit -n; ulimit -Hn");
    spec_limits(spec)->open_files = 77;
    RunProcessResponse *r = run(s, spec, NULL);
    assert_memory_equal(r->stdout.data, "77\n77\n", 6);
    spec = shell("true");
    spec_limits(spec)->open_files = UINT32_MAX;
    assert_string_equal(start_error(s, spec, ""), "LIMIT_UNAVAILABLE");
    spec = shell("true");
    spec_limits(spec)->open_files = 1;
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
}

static void commands_are_limited_too(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("cat /proc/self/cgroup; (:) & (:) & (:) & wait");
    spec_limits(spec)->pids = 1;
    if (refused(s, LIMITS_PIDS, spec))
        return;
    RunProcessResponse *r = run(s, spec, NULL);
    assert_int_not_equal(r->exit->exit_code, 0); /* cat could not be forked */
    assert_true(r->stderr.len > 0);
}

static void what_a_killed_shim_leaves_is_removed(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("exec sleep 1000");
    spec_limits(spec)->pids = 30;
    if (refused(s, LIMITS_PIDS, spec))
        return;
    const char *id = start(s, spec);
    assert_true(cgroups_named(id) > 0);
    kill(parent_of((int)get(s, id)->pid), SIGKILL);
    assert_int_equal(wait_for(s, id)->kind_case, EXIT_RECORD__KIND_LOST);
    wait_until(no_cgroups, (void *)(uintptr_t)id, "its cgroups are removed");
}

/* ---- groups ---- */

static void a_process_runs_as_the_group_it_asks_for(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("id -u; id -g");
    spec->message.group = (char *)(uintptr_t) "nosuchgroup";
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    if (geteuid() != 0)
        return;
    spec = shell("id -u; id -g");
    spec->message.group = (char *)(uintptr_t) "12345";
    RunProcessResponse *r = run(s, spec, NULL);
    assert_memory_equal(r->stdout.data, "0\n12345\n", 8);
    spec = shell("id -u; id -gn");
    spec->message.user = (char *)(uintptr_t) "nobody";
    spec->message.group = (char *)(uintptr_t) "daemon";
    char expected[64];
    snprintf(expected, sizeof expected, "%d\ndaemon\n", (int)getpwnam("nobody")->pw_uid);
    const char *id = start(s, spec);
    wait_for(s, id);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), expected);
    assert_string_equal(get(s, id)->spec->group, "daemon");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fork_bomb_stays_in_its_bounds_and_is_gone_after_a_stop),
        TEST(a_process_beyond_its_memory_is_killed_and_that_is_told),
        TEST(cpu_time_is_limited),
        TEST(open_files_are_limited_everywhere),
        TEST(commands_are_limited_too),
        TEST(what_a_killed_shim_leaves_is_removed),
        TEST(a_process_runs_as_the_group_it_asks_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
