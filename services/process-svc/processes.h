/* Every process we know: the live ones in memory with the link to their shim, all of them in the store.
 *
 * One function, step() in processes.c, decides what comes next for a process:
 *
 *     STARTING --status RUNNING, committed--> RUNNING --status EXITED or lost, committed--> EXITED
 *         |                                                                                   |
 *         +--exec failed: intent deleted, directory removed--> (gone) <--delete, committed----+
 *
 * A process that is to be started again is RUNNING in this sense also between its runs. Whatever else changes
 * (change.c, ladder.c) is committed and told in the same way, one commit at a time.
 *
 * Nobody is told of a state that is not committed. An ended process leaves the memory when its shim is gone
 * and nobody follows it; processes_find brings it back from the store. All functions under the service lock.
 */
#ifndef SERVICES_PROCESS_SVC_PROCESSES_H_
#define SERVICES_PROCESS_SVC_PROCESSES_H_

#include "adapters/grpc/rpc.h"
#include "adapters/lmdb/store.h"
#include "adapters/os/clock.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/process-svc/config.h"
#include "services/process-svc/link.h"
#include "services/process-svc/process_limits.h"
#include "services/process-svc/reader.h"
#include "services/process-svc/spawner.h"
#include "services/process-svc/spec.h"
#include "services/runtime/service.h"
#include "store.rpc.h"

enum {
    PROCESS_BUCKETS = 1024,
    ATTACH_CHUNK = 128 << 10,
    REQUEST_KEPT_HOURS = 24,
};

/* Tables of the store. */
enum { TABLE_PROBE, TABLE_PROCESSES, TABLE_REQUESTS, TABLE_CONFIG, TABLES };

enum process_phase { PROCESS_STARTING, PROCESS_RUNNING, PROCESS_EXITED };

/* Calls that wait for the same thing. */
struct calls {
    struct rpc_call **calls;
    size_t n;
};

struct attachment;
struct kept;
struct follower;
struct look;
struct run;
struct runners;
struct terminal;
struct watch;

struct process {
    struct process *next; /* in its bucket */
    struct processes *all;
    struct sa_id id;
    char name[SA_ID_TEXT + 1];
    enum process_phase phase;
    ProcessRecord *record;      /* as committed; while STARTING also being committed */
    ProcessRecord *next_record; /* being committed: takes its place */
    bool committing;
    bool gone;     /* deleted, or never started: to be forgotten */
    bool deleting; /* end it, then forget it */
    bool sweeping; /* its shim is dead, its tree is being ended */
    bool lost;     /* swept */
    bool awaited;  /* found again, the shim has not spoken yet */
    unsigned reconnects;
    bool collecting;         /* a look whether it may leave the memory is due */
    const ProcessSpec *spec; /* while starting for a call: of starters.calls[0]'s request */
    struct spec_user user;   /* while starting */
    uint8_t digest[SA_SHA256_SIZE];
    struct link link;
    struct shim_status status; /* phase 0: none came yet */
    sa_error *failure;         /* why it could not be started */
    struct reader reader;
    struct attachment *attachments;
    struct follower *followers;
    struct terminal *terminal; /* terminal.c: NULL until somebody looks at it */
    struct calls starters, waiters, deleters, stoppers;
    /* ladder.c */
    bool stop_asked; /* and not yet committed */
    uint32_t asked_signal, asked_grace_ms;
    StopRung rung_sent; /* whose signal was sent on this connection */
    bool hung_up_again;
    struct sa_timer *stop_timer;
    uint32_t *ports; /* watch.c: where its tree listens, as seen last; NULL: was not looked at */
    size_t n_ports;
    uint32_t port_run; /* ready.c: the run (from 1) that was seen to listen on the probe's port; 0: none */
};

struct processes {
    struct service *svc;
    struct sa_loop *loop;
    struct store *store;
    struct bus_publisher *bus;
    struct spawner *spawner;
    char *directory;
    struct spec_user user; /* of user processes by default */
    struct config config;
    struct limits limits;
    size_t live;      /* starting and running */
    size_t ended;     /* records of those that have ended, */
    size_t max_ended; /* and how many of them are kept: retention.c */
    bool retention_due;
    size_t awaited;         /* see process.awaited */
    size_t journal_errors;  /* processes whose journal cannot be written, */
    uint32_t journal_errno; /* and why the last one cannot */
    bool ready, draining, fatal;
    uint8_t *chunk;   /* attach.c: what is read before it is sent */
    struct run *runs; /* run.c */
    size_t n_runs;
    struct sa_timer *runs_timer;
    uint64_t runs_until_ms;   /* when it fires */
    struct run *runs_waiting; /* for their turn, in order */
    size_t n_fresh, max_fresh;
    struct sa_timer *fresh_timer;
    struct runners *runners;
    struct kept *kept;
    struct sa_timer *ready_timer; /* recover.c */
    struct sa_timer *prune_timer; /* recover.c */
    struct sa_timer *retry_timer; /* after a commit that failed */
    struct sa_timer *look_timer;  /* ready.c */
    struct look *look;            /* a worker walks through /proc */
    struct watch *watch;
    unsigned looks; /* tree.c: calls that look through /proc */
    struct process *buckets[PROCESS_BUCKETS];
};

extern const struct store_table process_tables[TABLES];

/* ---- for the API ---- */

/* NULL: PROCESS_NOT_FOUND. The result stays while the caller adds itself to it (calls, attachments). */
struct process *processes_find(struct processes *all, const char *process_id, sa_error **err);
/* Starts a process for the call, which is answered later. req lives as long as the call. */
void processes_start(struct processes *all, struct rpc_call *call, const StartProcessRequest *req,
                     const struct spec_user *user);
/* Answers once it is forgotten. PROCESS_RUNNING unless `kill` or it has ended. */
void process_delete(struct process *p, struct rpc_call *call, bool kill);
/* Answers StopProcess once nothing of it is left; goes on when the caller leaves. ladder.c */
void process_stop(struct process *p, struct rpc_call *call, uint32_t signum, uint32_t grace_ms);
/* Answers WaitProcess once it has ended. */
void process_wait(struct process *p, struct rpc_call *call);

/* The API's picture of a process, or of a record that is not in memory. */
Process *process_message(struct sa_arena *a, const struct process *p);
Process *process_record_message(struct sa_arena *a, const char *id, const ProcessRecord *r);
ExitRecord *process_exit_message(struct sa_arena *a, const EndRecord *end);
/* For store-only looks: the live process with this id, or NULL. */
struct process *processes_live(struct processes *all, struct sa_id id);
/* Opens the journals, if they are not. */
int process_open_reader(struct process *p, sa_error **err);
/* Where a stream ends for ever; UINT64_MAX while it may grow. */
uint64_t process_final_end(const struct process *p, int stream);
/* It was lost with its directory: there is no output, and nothing that tells of any. */
bool process_lost_output(const struct process *p);
/* Looks later whether it may leave the memory: after taking a call or an attachment away. */
void process_release(struct process *p);
void process_directory(const struct process *p, struct sa_buf *ret);

void calls_add(struct calls *c, struct rpc_call *call);
/* Drops those whose caller has gone. */
void calls_prune(struct calls *c);
void calls_fail(struct calls *c, const sa_error *err);

/* ---- for recovery ---- */

/* Puts a process into the table; takes record (NULL: none is stored). */
struct process *process_new(struct processes *all, struct sa_id id, ProcessRecord *record,
                            enum process_phase phase);
/* Connects to its shim: 0, or -1 when there is none. */
int process_connect(struct process *p);
/* What it is: decides the next step after something has changed. */
void process_step(struct process *p);
void processes_check_ready(struct processes *all);
/* recover.c: finds shims again, completes or undoes what was begun; then service_ready. */
int processes_recover(struct processes *all, sa_error **err);
void processes_start_timers(struct processes *all);
/* Without the lock, when nothing else runs: ends every process (TERM, then KILL) and waits, a few seconds at
 * most, until all is gone. stop.c */
void processes_end_all(struct processes *all);
/* Forgets what is in memory; shims live on. */
void processes_fini(struct processes *all);

/* ---- between processes.c, start.c and end.c ---- */

struct store_key process_key(const struct process *p);
/* Commits the set for p: nothing is decided for p until `done` (user: p) was called. */
void process_commit(struct process *p, struct store_set *set, store_done_fn *done);
/* A commit has failed: all are stepped again a little later. */
void process_not_committed(struct process *p, const sa_error *err);
/* Tells the present state to the bus. */
void process_publish(struct process *p);
/* After a start of the service: what it waited for from this process has come. */
void process_settled(struct process *p);
void process_commit_running(struct process *p);
ProcessRecord *process_record_copy(const ProcessRecord *r);
EndRecord *process_end_of(const struct shim_exit *e);

/* ---- what changes meanwhile: change.c, ladder.c, ready.c ---- */

/* Commits what has changed, if anything has: true, it is under way. */
bool process_change(struct process *p);
/* Commits `next`, which it takes, as the record with the next number; then tells it. */
void process_commit_change(struct process *p, ProcessRecord *next);
/* The record that was being committed takes the place of the old one; or not. */
void process_take_next(struct process *p);
void process_drop_next(struct process *p);
/* What the shim says of the runs so far. */
void process_fill_runs(const struct process *p, ProcessRecord *next);
bool process_is_ready(const struct process *p);
/* It has ended, and something that it started lives. */
bool process_has_descendants(const struct process *p);
/* The next step of a stop: true, it is being committed. */
bool ladder_step(struct process *p);
/* Nothing of it is left: tells those who wait for that. */
void ladder_answer(struct process *p);
/* The signal of a rung; 0 without a stop. */
uint32_t ladder_signal(const StopRecord *stop);
void ladder_not_committed(struct process *p, const sa_error *err);
/* Sees to it that its port is looked for, if it waits for one. */
void ready_await(struct process *p);
void ready_init(struct processes *all);
void ready_fini(struct processes *all);

/* ---- the end ---- */

void process_commit_exit(struct process *p, const struct shim_exit *e);
/* There is no shim any more. */
void process_without_shim(struct process *p);
/* Deletes it from the store, then its directory. */
void process_forget(struct process *p);
void calls_clear(struct calls *c);

/* attach.c: output, state or input offset of the process have changed. */
void attachments_notify(struct process *p);
void attachments_fail(struct process *p, const sa_error *err);
/* follow.c: the same, for followers. */
void followers_notify(struct process *p);
void followers_fail(struct process *p, const sa_error *err);
/* There is a new connection to the shim: who may have sent something that was lost with the old one is to
 * attach again, and repeat it. */
void attachments_reconnected(struct process *p);

#endif
