/* --agent-user: what agents run as, and what they cannot reach. Needs root, and more users than a sandbox
 * has. */
#include "services/process-svc/tests/fixture.h"

#include <pwd.h>

static void agents_run_as_their_user_and_reach_nothing_of_ours(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    struct svc s = svc_start(WORDS("--agent-user", "nobody"));
    struct passwd *nobody = getpwnam("nobody");
    char expected[64];
    const char *id = start_shell(&s, "id -u; id -g; id -G; echo again >/dev/stdout; exec sleep 1000");
    struct attached a = attach_output(&s, id, 0);
    cleanup_buf struct sa_buf out = {0};
    while (!strstr(sa_buf_string(&out), "again\n") && next(&a))
        sa_buf_add(&out, a.message->output->data.data, a.message->output->data.len);
    snprintf(expected, sizeof expected, "%d\n%d\n%d\nagain\n", nobody->pw_uid, nobody->pw_gid,
             nobody->pw_gid);
    assert_string_equal(sa_buf_string(&out), expected);
    detach(&a);
    /* Neither its own journal nor its shim's socket, nor another way to the service's data. */
    cleanup_free char *attack =
        sa_format("cat %s/process/processes/%s/out; ls %s/process; ls %s/run; kill -9 $PPID; kill -9 %d;"
                  "cat /proc/$PPID/environ; ls /proc/$PPID/fd",
                  s.dir, id, s.dir, s.dir, parent_of((int)get(&s, id)->pid));
    RunProcessResponse *r = run(&s, shell(attack), NULL);
    assert_int_equal(r->stdout.len, 0);
    assert_int_equal(get(&s, id)->state, PROCESS_STATE_RUNNING);
    /* Who may, says so. */
    struct spec *spec = shell("id -u");
    spec->message.user = (char *)(uintptr_t) "root";
    r = run(&s, spec, NULL);
    assert_memory_equal(r->stdout.data, "0\n", 2);
    /* A terminal is its user's, who may open it again. */
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    spec = shell("stat -L -c %u /dev/stdin; echo again >$(tty)");
    spec->message.terminal = &terminal;
    id = start(&s, spec);
    assert_int_equal(wait_for(&s, id)->exit_code, 0);
    snprintf(expected, sizeof expected, "%d\r\nagain\r\n", nobody->pw_uid);
    assert_string_equal(output_of(&s, id, OUTPUT_STREAM_STDOUT, 0), expected);
    svc_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agents_run_as_their_user_and_reach_nothing_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
