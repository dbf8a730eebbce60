/* Terminals of agents (terminal/create and so on): commands that run where the session runs, through
 * process-svc. A terminal is a durable row from terminal/create to its release; its process is found again by
 * a request_id made of the session, the incarnation and the offset of the request, so it is started once. How
 * it ends is watched from its start on, and is an event. What an agent leaves at its end is deleted.
 *
 * A terminal whose agent has ended before its process was known is doomed: the process is looked for by its
 * label, never started again, and deleted. */
#ifndef SERVICES_SESSION_SVC_TERMINALS_H_
#define SERVICES_SESSION_SVC_TERMINALS_H_

#include "adapters/json/json.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/session-svc/session.h"

enum {
    TERMINALS_MAX = 100,              /* of one agent at once: more is refused */
    TERMINAL_COMMAND_MAX = 256 << 10, /* bytes of command, arguments and environment */
    TERMINAL_OUTPUT_DEFAULT = 1 << 20,
    TERMINAL_OUTPUT_MAX = 4 << 20, /* of outputByteLimit: a higher one counts as this */
};

struct terminal {
    struct terminal *next;
    struct session *session;
    uint64_t incarnation, offset; /* of its terminal/create */
    uint64_t batch;               /* that makes it true */
    char *process_id;             /* "": not known yet */
    bool doomed;
    uint64_t output_limit;
    int64_t start_time_us;
    TerminalEnded *ended;        /* NULL: it runs. Unpacked; its own memory */
    struct rpc_request *request; /* the start, the wait or the search that is under way */
    char *page_token;            /* of the search */
};

/* Is it a method of terminals? */
bool terminals_know(const char *method);
/* A request that has its pending row: decides what can be decided at once. May free p. */
void terminals_take(struct session *s, struct pending *p);
/* Does what committed state asks for: start, wait, search, and the requests for output and kill. */
void terminals_continue(struct session *s);
/* The agent has ended: so do its terminals. */
void terminals_end_all(struct session *s);
uint32_t terminals_doomed(const struct session *s);

int terminals_load(struct session *s, sa_error **err);
void terminals_clear(struct session *s); /* in memory */
/* Stops what is under way; the rows stay. */
void terminals_abandon(struct session *s);

/* ---- terminal_calls.c: terminal/output and terminal/kill ---- */

void terminals_call(struct session *s, struct terminal *t, struct pending *p);
void terminals_abandon_call(struct terminal_call *c); /* NULL is fine */

/* ---- between the two files ---- */

enum { TERMINAL_NOT_FOUND = -32002, TERMINAL_FAILED = -32603 };

/* The one that params.terminalId names, of the agent that runs. */
struct terminal *terminals_named(struct session *s, struct json params);
/* Its end is known: told, stored, and answered to who waits for it. The first time counts. */
void terminals_ended(struct terminal *t, const ExitRecord *x);
/* {"exitCode":..., "signal":...} */
void terminals_put_exit(struct json_writer *w, const TerminalEnded *ended);

#endif
