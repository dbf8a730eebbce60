/* A session: what it is doing, what is decided but not yet committed, and who waits for that.
 *
 * Decisions are made in memory, under the service lock, and collected in one batch per session: its events,
 * the row that says where the session stands, and everything else that changes with them. A batch is
 * committed as one write set; while one is being written the next one is built. Nothing leaves the service
 * before its batch is committed. What has to be done outside follows from committed state (link_continue), in
 * the same way after a commit and after a start. When a commit fails the session is loaded again and goes on
 * from what is true.
 *
 * An entry point (a call, a message of the agent, a timer) decides, then calls session_settle as its last
 * step. */
#ifndef SERVICES_SESSION_SVC_SESSION_H_
#define SERVICES_SESSION_SVC_SESSION_H_

#include "adapters/agents/agents.h"
#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "services/session-svc/db.h"
#include "services/session-svc/link.h"
#include "services/session-svc/retention.h"
#include "services/session-svc/state.h"
#include "services/session-svc/usage.h"
#include "services/session-svc/window.h"

enum {
    SESSION_QUEUE_MAX = 100,        /* prompts that wait */
    SESSION_PENDING_MAX = 1000,     /* requests of an agent that wait for our answer */
    SESSION_BATCH_BYTES = 4 << 20,  /* of a batch being built: beyond it the agent's output waits */
    SESSION_PROMPT_BYTES = 1 << 20, /* of the content of a prompt */
};

struct sessions;
struct follower;

/* A turn that is queued or runs, or has ended in a batch that is not committed yet. Those that wait are in
 * the order in which they will run. */
struct turn {
    struct turn *next;
    uint64_t number, accept_seq, start_seq;
    char *request_id, *author;
    uint8_t digest[32];
    uint64_t accept_batch;
    uint64_t ended_batch; /* 0: it has not ended */
    int64_t accept_time_us, start_time_us;
    char *preview;        /* the beginning of its first text */
    struct sa_buf stored; /* StoredTurn, packed, until the store has it */
    bool has_blobs;
    struct blob_prompt *blobs; /* they are being read, or are there: blob_prompt.c */
};

/* A permission request or question that waits, or was resolved in a batch that is not committed yet. */
struct permission {
    struct permission *next;
    struct sa_id id;
    StoredPermission *row;        /* without the content of the tool call; owned */
    StoredResolution *resolution; /* NULL: it waits; owned */
    uint64_t changed_batch;       /* the last one that changed it */
    bool told;                    /* that change, to those who watch */
};

struct condemned {
    struct condemned *next;
    bool gentle; /* it is asked to end first; not stored: after a crash it is killed */
    char *process_id;
    uint64_t batch;
    struct session *session;
    struct rpc_request *deletion; /* under way */
};

typedef void session_after_fn(void *user, const sa_error *err);

struct batch; /* batch.c */

struct session {
    struct sessions *all;
    struct session *hash_next;
    struct sa_id id;
    char name[SA_ID_TEXT + 1];
    const struct agent *agent; /* NULL: no longer in the catalogue */
    char *agent_name;
    char *create_key; /* while its creation is not committed: who asked, with which request_id */
    uint8_t create_digest[32];

    /* decided; StoredSession holds the same */
    SessionState state;
    char *state_reason, *state_message;
    uint64_t head_seq, first_seq, last_turn, current_turn;
    bool cancelling;
    char *canceller;
    struct turn *turns; /* the running one, then those that wait */
    char *mode_id, *model, *thought_level;
    struct setting *settings; /* config.c */
    StoredConfig *config;     /* what the agent offers; NULL: it has told nothing */
    uint8_t config_told[32];
    StoredProfile *profile; /* profile.c */
    struct usage usage;
    bool resume_wanted; /* a process, without a prompt */
    bool can_fork;      /* as its agent last said */
    StoredFork *fork;   /* fork.c; NULL: it is none */
    char *agent_session_id;
    bool has_history, replay_history;
    int64_t change_time_us;
    struct permission *permissions;
    struct sa_timer *permission_deadline;
    PermissionPolicy *policy; /* the session's own; NULL: never set. Owned, as its request_id */
    char *policy_request_id;
    struct terminal *terminals;
    struct tools *tools; /* tools.h; NULL: none was told since the load */
    struct condemned *condemned;
    struct link link;
    struct log_state log;

    struct secrets *own_secrets; /* mask.h; NULL: none */

    /* commits */
    struct batch *building, *writing;
    uint64_t batch;           /* number of the one that is or will be built */
    uint64_t committed_batch; /* up to here things are true */
    uint64_t committed_seq, committed_first;
    SessionState committed_state;
    bool submitting;
    struct sa_timer *retry; /* after a failed commit */
    uint32_t retry_ms;

    /* readers */
    struct window window;
    struct follower *followers;
    enum { PREPARE_NOTHING, PREPARE_AGENT, PREPARE_SKILLS, PREPARED } preparing; /* prepare.h */
    struct skill_work *skill_work;                                               /* skills.c; NULL: none */
    struct destroy_call *destroy_calls; /* api_sessions.c: answered when its processes are gone */
};

/* ---- session.c ---- */

/* An empty session that is not in the registry yet. */
struct session *session_new(struct sessions *all, struct sa_id id);
void session_free(struct session *s);
/* Replaces everything decided by what is committed. 0: there is no such session. -1: error. 1: loaded. */
int session_load(struct session *s, sa_error **err);
void session_fill_row(const struct session *s, StoredSession *row, struct sa_arena *arena);
/* The session for callers, as committed. NULL: error. */
Session *session_describe(struct sessions *all, struct sa_id id, struct sa_arena *arena, sa_error **err);
/* Moves to the state that follows; tells it with an event where it is another one. reason, message may be
 * NULL. */
void session_move(struct session *s, enum state_event event, const char *reason, const char *message);
void session_set_text(char **field, const char *value); /* NULL: "" */
/* After a load: timers, and what committed state asks for. */
void session_take_up(struct session *s);
/* Ends the session; its processes are condemned. */
void session_destroy(struct session *s);

/* ---- batch.c ---- */

/* The set being built. */
struct store_set *session_set(struct session *s);
/* The session's row goes into the set as well. */
void session_changed(struct session *s);
/* Gives e its seq and time and adds it to the log. turn 0 becomes the current one. Returns the seq. */
uint64_t session_event(struct session *s, Event *e);
/* Runs fn under the lock once the set being built (or, when none is, the last one) is committed, or with the
 * error. */
void session_after(struct session *s, session_after_fn *fn, void *user);
/* Decides what follows by itself (turns_advance) and commits what was decided. */
void session_settle(struct session *s);
/* Should the agent's output wait? */
bool session_is_full(const struct session *s);
/* False between a failed commit and the reload: decide nothing then. */
bool session_usable(const struct session *s);
/* For session_free and reload: waiters get err. */
void batch_drop_all(struct session *s, const sa_error *err);

#endif
