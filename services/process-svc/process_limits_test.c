/* Where cgroups are, on machines of different kinds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "services/process-svc/process_limits.h"

static void expect(const char *mountinfo, const char *cgroup, const char *controller, int version,
                   const char *directory)
{
    cleanup_buf struct sa_buf found = {0};
    assert_int_equal(limits_find(mountinfo, cgroup, controller, &found), version);
    assert_string_equal(sa_buf_string(&found), directory);
}

static void version_2_has_one_hierarchy(void **state)
{
    (void)state;
    const char *mounts = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n"
                         "26 25 0:24 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const char *own = "0::/system.slice/sandbox-agent.service\n";
    expect(mounts, own, "memory", 2, "/sys/fs/cgroup/system.slice/sandbox-agent.service");
    expect(mounts, own, "", 2, "/sys/fs/cgroup/system.slice/sandbox-agent.service");
}

static void version_1_has_one_for_each_controller(void **state)
{
    (void)state;
    const char *mounts = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
                         "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
                         "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                         "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const char *own = "5:cpu,cpuacct:/a\n4:memory:/b/c\n3:cpuset:/\n0::/\n";
    expect(mounts, own, "cpu", 1, "/sys/fs/cgroup/cpu,cpuacct/a");
    expect(mounts, own, "memory", 1, "/sys/fs/cgroup/memory/b/c");
    expect(mounts, own, "pids", 2, "/sys/fs/cgroup/unified"); /* if there, then in v2 */
    expect(mounts, own, "", 2, "/sys/fs/cgroup/unified");
}

/* A container without a cgroup namespace sees its own part mounted, and its whole path. */
static void what_is_mounted_may_be_a_part(void **state)
{
    (void)state;
    const char *mounts =
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro master:5 - cgroup cgroup rw,memory\n";
    expect(mounts, "4:memory:/docker/abc\n", "memory", 1, "/sys/fs/cgroup/memory");
    expect(mounts, "4:memory:/docker/abc/inner\n", "memory", 1, "/sys/fs/cgroup/memory/inner");
}

static void nonsense_is_nothing(void **state)
{
    (void)state;
    expect("", "", "memory", 0, "");
    expect("garbage\n - \n1 2 3 / / - cgroup2\n", "garbage\n:\n", "memory", 0, "");
    expect("26 25 0:24 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "", "", 0, "");
}

static void limits_out_of_range_are_refused(void **state)
{
    (void)state;
    ProcessLimits l = PROCESS_LIMITS__INIT;
    assert_int_equal(limits_check(NULL, NULL), 0);
    assert_int_equal(limits_check(&l, NULL), 0);
    l.memory_bytes = LIMITS_MEMORY_MIN;
    l.cpu_millis = LIMITS_CPU_MIN;
    l.open_files = LIMITS_FILES_MIN;
    l.pids = 1;
    assert_int_equal(limits_check(&l, NULL), 0);
    l.memory_bytes--;
    assert_int_equal(limits_check(&l, NULL), -1);
    l.memory_bytes = 0;
    l.cpu_millis--;
    assert_int_equal(limits_check(&l, NULL), -1);
    l.cpu_millis = 0;
    l.open_files--;
    assert_int_equal(limits_check(&l, NULL), -1);
}

/* Settings as "file=value" lines. */
static void expect_packed(const struct limits *l, const ProcessLimits *asked, const char *cgroups,
                          const char *settings)
{
    struct shim_spec h = {0};
    cleanup_buf struct sa_buf packed = {0}, dirs = {0}, lines = {0};
    limits_pack(l, "id", asked, &h, &packed);
    const char *at = sa_buf_string(&packed);
    for (uint32_t i = 0; i < h.n_cgroups; i++, at += strlen(at) + 1)
        sa_buf_addf(&dirs, "%s\n", at);
    assert_int_equal(dirs.len, h.cgroups_bytes);
    for (uint32_t i = 0; i < 2 * h.n_settings; i++, at += strlen(at) + 1)
        sa_buf_addf(&lines, i % 2 ? "%s\n" : "%s=", at);
    assert_int_equal(lines.len, h.settings_bytes);
    assert_int_equal(packed.len, h.cgroups_bytes + h.settings_bytes);
    assert_string_equal(sa_buf_string(&dirs), cgroups);
    assert_string_equal(sa_buf_string(&lines), settings);
}

static void each_version_has_its_own_files(void **state)
{
    (void)state;
    char one[] = "/1", two[] = "/2", v2[] = "/v2";
    ProcessLimits asked = PROCESS_LIMITS__INIT;
    const struct limits old = {
        .place = {{.base = one, .swap = true}, {.base = two}, {.base = two}, {.base = v2, .v2 = true}}};
    struct limits new = {0};
    for (int i = 0; i < LIMITS_CONTROLLERS; i++)
        new.place[i] = (struct limits_place){.base = v2, .v2 = true, .swap = true};
    expect_packed(&old, NULL, "", "");
    expect_packed(&old, &asked, "", "");
    asked.memory_bytes = 1 << 20;
    asked.pids = 7;
    asked.cpu_millis = 1500;
    expect_packed(&old, &asked, "/1/sandbox-agent-id\n/2/sandbox-agent-id\n/v2/sandbox-agent-id\n",
                  "/1/sandbox-agent-id/memory.limit_in_bytes=1048576\n/1/sandbox-agent-id/"
                  "memory.memsw.limit_in_bytes=1048576\n"
                  "/2/sandbox-agent-id/pids.max=7\n/2/sandbox-agent-id/cpu.cfs_period_us=100000\n/2/"
                  "sandbox-agent-id/cpu.cfs_quota_us=150000\n");
    expect_packed(&new, &asked, "/v2/sandbox-agent-id\n",
                  "/v2/sandbox-agent-id/memory.max=1048576\n/v2/sandbox-agent-id/memory.swap.max=0\n/v2/"
                  "sandbox-agent-id/pids.max=7\n"
                  "/v2/sandbox-agent-id/cpu.max=150000 100000\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_2_has_one_hierarchy),
        cmocka_unit_test(version_1_has_one_for_each_controller),
        cmocka_unit_test(what_is_mounted_may_be_a_part),
        cmocka_unit_test(nonsense_is_nothing),
        cmocka_unit_test(each_version_has_its_own_files),
        cmocka_unit_test(limits_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
