/* Where no cgroup may be written, as in Bazel's sandbox, a limit that needs one is refused and says what is
 * missing; nothing runs without the limit that it asked for. */
#include "services/process-svc/tests/fixture.h"

static bool may_make_cgroups(void)
{
    bool made = false;
    static const char *const directories[] = {"/sys/fs/cgroup/sandbox-agent-test",
                                              "/sys/fs/cgroup/pids/sandbox-agent-test"};
    for (int i = 0; i < 2; i++)
        if (mkdir(directories[i], 0755) == 0) {
            rmdir(directories[i]);
            made = true;
        }
    return made;
}

static void a_limit_that_cannot_be_had_is_refused(void **state)
{
    struct svc *s = *state;
    if (may_make_cgroups())
        skip();
    for (int i = 0; i < 3; i++) {
        struct spec *spec = shell("true");
        ProcessLimits *l = spec_limits(spec);
        *(i == 0 ? &l->pids : &l->cpu_millis) = i < 2 ? 100 : 0;
        l->memory_bytes = i == 2 ? 64 << 20 : 0;
        static const char *const names[] = {"a limit of pids", "a limit of cpu", "a limit of memory"};
        assert_string_equal(start_error(s, spec, ""), "LIMIT_UNAVAILABLE");
        assert_non_null(strstr(error_message, names[i]));
    }
    struct spec *spec = shell("true");
    spec_limits(spec)->pids = 100;
    assert_string_equal(run_error(s, spec, NULL), "LIMIT_UNAVAILABLE");
    /* What needs none is given. */
    spec = shell("ulimit -n");
    spec_limits(spec)->open_files = 64;
    assert_memory_equal(run(s, spec, NULL)->stdout.data, "64\n", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_limit_that_cannot_be_had_is_refused, svc_setup, svc_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
