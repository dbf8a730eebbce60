/* A caller of session-svc that lives through crashes of the services. For cmocka: what goes wrong fails the
 * test. */
#ifndef TESTS_SYSTEM_VIEW_H_
#define TESTS_SYSTEM_VIEW_H_

#include "sandboxagent/session/v1/session_service.rpc.h"
#include "tests/harness/harness.h"

/* A session with the mock agent. free() the id. */
char *new_session(struct caller *c);
/* Sends a prompt as any careful caller: with a request_id, what broke is asked again. Its turn. */
uint64_t send_text(struct caller *c, const char *id, const char *text, const char *request_id);

/* A viewer that only keeps its position: reconnects as often as needed. */
struct view {
    struct caller *caller;
    const char *session_id;
    uint64_t seq;
    int ticks;
    int ended; /* turn_ended events */
    StopReason stop_reason;
};

/* Reads on until `ticks` ticks of the mock agent were seen, or (0) the turn has ended. Fails when an event is
 * lost, doubled or out of order. */
void view_until(struct view *v, int ticks);

#endif
