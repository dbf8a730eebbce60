#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "services/session-svc/state.h"

static void follows(SessionState from, enum state_event event, SessionState to)
{
    assert_int_equal(state_next(from, event), to);
}

static void a_turn_goes_from_start_to_end(void **state)
{
    (void)state;
    follows(SESSION_STATE_UNSPECIFIED, STATE_AGENT_STARTS, SESSION_STATE_STARTING);
    follows(SESSION_STATE_STARTING, STATE_AGENT_READY, SESSION_STATE_IDLE);
    follows(SESSION_STATE_IDLE, STATE_TURN_STARTS, SESSION_STATE_RUNNING);
    follows(SESSION_STATE_RUNNING, STATE_PERMISSION_ASKED, SESSION_STATE_WAITING);
    follows(SESSION_STATE_WAITING, STATE_PERMISSIONS_CLEAR, SESSION_STATE_RUNNING);
    follows(SESSION_STATE_RUNNING, STATE_TURN_ENDS, SESSION_STATE_IDLE);
    follows(SESSION_STATE_WAITING, STATE_TURN_ENDS, SESSION_STATE_IDLE);
}

static void a_lost_agent_suspends_and_starts_again(void **state)
{
    (void)state;
    static const SessionState alive[] = {SESSION_STATE_STARTING, SESSION_STATE_IDLE, SESSION_STATE_RUNNING,
                                         SESSION_STATE_WAITING};
    for (size_t i = 0; i < sizeof alive / sizeof *alive; i++) {
        follows(alive[i], STATE_AGENT_GONE, SESSION_STATE_SUSPENDED);
        follows(alive[i], STATE_AGENT_FAILED, SESSION_STATE_FAILED);
    }
    follows(SESSION_STATE_SUSPENDED, STATE_AGENT_STARTS, SESSION_STATE_STARTING);
    follows(SESSION_STATE_FAILED, STATE_AGENT_STARTS, SESSION_STATE_STARTING);
}

static void nothing_leaves_destroyed_and_strange_input_changes_nothing(void **state)
{
    (void)state;
    for (int e = 0; e < STATE_EVENTS_; e++) {
        follows(SESSION_STATE_DESTROYED, (enum state_event)e, SESSION_STATE_DESTROYED);
        follows((SessionState)99, (enum state_event)e, (SessionState)99);
    }
    follows(SESSION_STATE_IDLE, STATE_EVENTS_, SESSION_STATE_IDLE);
    follows(SESSION_STATE_IDLE, STATE_PERMISSION_ASKED, SESSION_STATE_IDLE);
    for (int s = 0; s < SESSION_STATE_DESTROYED; s++)
        follows((SessionState)s, STATE_DESTROY, SESSION_STATE_DESTROYED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_goes_from_start_to_end),
        cmocka_unit_test(a_lost_agent_suspends_and_starts_again),
        cmocka_unit_test(nothing_leaves_destroyed_and_strange_input_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
