#include "services/session-svc/state.h"

#define STARTING SESSION_STATE_STARTING
#define IDLE SESSION_STATE_IDLE
#define RUNNING SESSION_STATE_RUNNING
#define WAITING SESSION_STATE_WAITING
#define SUSPENDED SESSION_STATE_SUSPENDED
#define FAILED SESSION_STATE_FAILED
#define DESTROYED SESSION_STATE_DESTROYED

enum { STATES = DESTROYED + 1 };

/* clang-format off */
/* 0: stays. Row: state; column: event. */
static const uint8_t next[STATES][STATE_EVENTS_] = {
    /*             starts    ready  failed  gone       turn     turn ends  asked    clear    destroy */
    [0]         = {STARTING, 0,     0,      0,         0,       0,         0,       0,       DESTROYED},
    [STARTING]  = {0,        IDLE,  FAILED, SUSPENDED, 0,       0,         0,       0,       DESTROYED},
    [IDLE]      = {0,        0,     FAILED, SUSPENDED, RUNNING, 0,         0,       0,       DESTROYED},
    [RUNNING]   = {0,        0,     FAILED, SUSPENDED, 0,       IDLE,      WAITING, 0,       DESTROYED},
    [WAITING]   = {0,        0,     FAILED, SUSPENDED, 0,       IDLE,      0,       RUNNING, DESTROYED},
    [SUSPENDED] = {STARTING, 0,     0,      0,         0,       0,         0,       0,       DESTROYED},
    [FAILED]    = {STARTING, 0,     0,      0,         0,       0,         0,       0,       DESTROYED},
    [DESTROYED] = {0,        0,     0,      0,         0,       0,         0,       0,       0},
};
/* clang-format on */

SessionState state_next(SessionState state, enum state_event event)
{
    uint8_t n = (unsigned)state < STATES && (unsigned)event < STATE_EVENTS_ ? next[state][event] : 0;
    return n ? (SessionState)n : state;
}
