/* kill -9 of one service in the middle of a turn: whoever watches the turn sees all of it, once, in order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "tests/harness/harness.h"
#include "tests/system/view.h"

enum { TICKS = 60 };
#define PROMPT "TICK 60 30" /* 1.8 s */

/* A turn during which `service` is killed so often. */
static void kill_in_a_turn(struct system *s, const char *const *killed)
{
    struct caller c = system_caller(s);
    cleanup_free char *id = new_session(&c);
    struct view v = {.caller = &c, .session_id = id};
    uint64_t turn = send_text(&c, id, PROMPT, "the-prompt");
    for (int i = 0; killed[i]; i++) {
        view_until(&v, 10 * (i + 1));
        pid_t pid = system_service_pid(s, killed[i]);
        assert_int_equal(kill(pid, SIGKILL), 0);
    }
    /* A caller that does not know what became of its prompt sends it again: it runs once. */
    assert_int_equal(send_text(&c, id, PROMPT, "the-prompt"), turn);
    view_until(&v, 0);
    assert_int_equal(v.ticks, TICKS);
    assert_int_equal(v.stop_reason, STOP_REASON_END_TURN);

    /* One that comes late sees the same. */
    struct view late = {.caller = &c, .session_id = id};
    view_until(&late, 0);
    assert_int_equal(late.ticks, TICKS);
    /* And the session is as good as before. */
    v.ended = v.ticks = 0;
    send_text(&c, id, "TICK 3 1", "another-prompt");
    view_until(&v, 0);
    assert_int_equal(v.ticks, 3);
    caller_close(&c);
}

static void session_svc_is_killed(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("session"));
    system_stop(&s);
    system_free(&s);
}

static void process_svc_is_killed(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("process"));
    system_stop(&s);
    system_free(&s);
}

static void all_are_killed_one_after_the_other(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    kill_in_a_turn(&s, WORDS("process", "session", "fs", "gateway", "provider"));
    system_stop(&s);
    system_free(&s);
}

static void the_command_line_sees_the_whole_turn(void **state)
{
    (void)state;
    struct system s = system_start(NULL);
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", s.data);
    struct program_options opt = {.home = s.home, .env = WORDS(data)};
    struct program p = program_start(WORDS("sandbox-agent", "prompt", PROMPT), &opt);
    program_wait_for(&p, "tick 5");
    kill(system_service_pid(&s, "session"), SIGKILL);
    program_wait_for(&p, "tick 30");
    kill(system_service_pid(&s, "process"), SIGKILL);
    program_wait_for(&p, "turn ended: end_turn");
    if (program_wait(&p) != 0)
        fail_msg("it failed:\n%s", program_output(&p));
    const char *at = program_output(&p);
    for (int i = 1; i <= TICKS; i++) {
        char tick[32];
        snprintf(tick, sizeof tick, "tick %d", i);
        at = strstr(at, tick);
        if (!at)
            fail_msg("%s is missing:\n%s", tick, program_output(&p));
        at += strlen(tick);
    }
    assert_null(strstr(at, "tick"));
    program_free(&p);
    system_stop(&s);
    system_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(session_svc_is_killed),
        cmocka_unit_test(process_svc_is_killed),
        cmocka_unit_test(all_are_killed_one_after_the_other),
        cmocka_unit_test(the_command_line_sees_the_whole_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
