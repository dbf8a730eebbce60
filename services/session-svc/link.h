/* The link to an agent process: started and reached through process-svc, read from the committed offset,
 * written from the outbox. An incarnation is one process; outbox, requests and pending rows end with it. */
#ifndef SERVICES_SESSION_SVC_LINK_H_
#define SERVICES_SESSION_SVC_LINK_H_

#include "adapters/grpc/rpc.h"
#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "services/session-svc/lines.h"
#include "services/session-svc/session_store.rpc.h"

enum {
    LINK_LINE_MAX = 32 << 20,   /* bytes of an agent's line */
    LINK_OUTBOX_MAX = 32 << 20, /* bytes that the agent has not read */
    LINK_STDERR_LINE_MAX = 64 << 10,
    LINK_REQUESTS_MAX = 16, /* of ours that are unanswered */
    LINK_METHOD_MAX = 32,
};

struct session;

/* One message for the agent's standard input. */
struct outgoing {
    struct outgoing *next;
    uint64_t offset, size;
    uint64_t batch; /* that makes it true */
    uint8_t *data;
};

/* A request of the agent that we have not answered. */
struct pending {
    struct pending *next;
    uint64_t offset, batch;
    char *method;
    struct sa_buf id, params;       /* raw */
    struct sa_id permission;        /* session/request_permission, elicitation/create */
    struct file_request *file;      /* fs methods: under way */
    struct terminal_call *terminal; /* terminal/output, terminal/kill: under way */
};

struct link {
    /* decided; stored */
    uint64_t incarnation;
    AgentPhase phase;
    char *process_id; /* "": not known yet */
    bool doomed;      /* ends as soon as its process is known */
    uint64_t stdout_offset, stderr_offset, stdin_end, last_request_id;
    struct {
        uint64_t id;
        char method[LINK_METHOD_MAX];
    } requests[LINK_REQUESTS_MAX];
    size_t n_requests;
    bool can_load, can_resume, mcp_http, mcp_sse;
    RestoreMethod open_method;
    struct outgoing *outbox, **outbox_tail;
    size_t outbox_bytes;
    struct pending *pending;
    size_t n_pending, pending_bytes;
    uint64_t spawn_batch; /* that decided to start it */

    /* of this run only */
    struct lines out, errors;
    struct rpc_request *starting, *attachment;
    bool ending; /* inside link_end: one change of state tells it all */
    bool gentle; /* inside link_suspend */
    bool opened, paused, no_room, input_closed;
    uint64_t committed_stdout, acked;    /* up to here it is stored; was acknowledged */
    uint64_t stdin_sent;                 /* on this attachment */
    uint64_t stdin_taken, stdin_cleaned; /* by the shim; outbox rows are deleted up to here */
    uint32_t retry_ms;
    struct sa_timer *retry, *deadline, *quiet, *cancel;
    struct sa_timer *idle; /* no turn for a while: it is suspended */
    uint64_t idle_since_ms;
    struct sa_timer *closed; /* it closed its standard input, and has so long to end */
    uint64_t last_line_ms;
    struct blob_line *looking;     /* a line that a worker looks at; the output behind it waits */
    const struct blob_line *blobs; /* of the line that is being handled; NULL: none */
    struct sa_buf last_errors;     /* the end of standard error, for the message of a failure */
};

void link_init(struct session *s);
void link_fini(struct session *s); /* forgets everything of it; its process goes on */

/* Is there no process, and none that is still asked to end? Two agents on one conversation must not be. */
bool link_may_start(const struct session *s);
/* Decides to start a process, once all that it needs is there (prepare.h). */
void link_start(struct session *s);
/* Decides that this incarnation is over: the turn, the permissions and the queue end with it as they must;
 * the process and its tree are deleted after the commit. failed: it never was of use. reason: a stable word.
 */
void link_end(struct session *s, bool failed, const char *reason, const char *message);
/* The same for an agent that is of use: its process is asked to end first, and has 5 s. */
void link_suspend(struct session *s, const char *reason, const char *message);
/* A process is to be deleted, with its tree, once this is committed. */
void link_condemn(struct session *s, const char *process_id);
/* Puts a message (without newline; copied) into the outbox. */
void link_send(struct session *s, const struct sa_buf *message);
/* Does what committed state asks for: spawn, attach, write, acknowledge, delete. */
void link_continue(struct session *s);
/* Reads the outbox from the store. */
int link_load_outbox(struct session *s, sa_error **err);
/* Deletes from the set's tables what the shim has taken. */
void link_clean_outbox(struct session *s, struct store_set *set);
/* Lets the agent's output come or wait, as the batch has room. */
void link_let_flow(struct session *s);
/* Restarts the deadline of the phase. */
void link_arm_deadline(struct session *s);
/* The agent was asked to cancel: it has so long. */
void link_arm_cancel(struct session *s);
void link_arm_quiet(struct session *s);
/* From now on it is idle, or is not. */
void link_arm_idle(struct session *s);

/* ---- link_io.c: what comes from process-svc ---- */

void link_attach(struct session *s);
void link_detach(struct session *s);
/* Writes what is committed and not written yet; acknowledges. */
void link_write(struct session *s);
void link_closed_passed(void *session);
/* A line that a worker has looked at comes back. Takes it. */
void link_resume(struct session *s, struct blob_line *line);
void link_retry_later(struct session *s);
/* The last lines of standard error, as a part of a sentence, or "". In the arena. */
const char *link_error_tail(struct session *s, struct sa_arena *arena);

#endif
