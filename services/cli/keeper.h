/* Keeps one child process running: starts it, restarts it when it ends, stops it. And the reaper, which
 * collects the children of this process, also those that only became ours because their parent died.
 *
 * Everything is called with the loop's lock held; callbacks run under it. */
#ifndef SERVICES_CLI_KEEPER_H_
#define SERVICES_CLI_KEEPER_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"
#include "adapters/os/loop.h"

/* ---- reaper ---- */

struct reaper;
struct keeper;
/* Makes this process the one that orphans below it come to. One per process. */
struct reaper *reaper_new(struct sa_loop *loop);
void reaper_free(struct reaper *r); /* after its keepers; NULL is fine */

/* ---- keeper ---- */

enum {
    KEEPER_PAUSE_MS = 1000, /* the first restart is immediate, later ones are so far apart */
    KEEPER_FDS_MAX = 2,
};

/* A descriptor on which the child reads `text` once. */
struct keeper_fd {
    int fd; /* 0: none */
    const char *text;
};

struct keeper_spec {
    const char *name;  /* for the log */
    char *const *argv; /* argv[0]: path of the program */
    struct keeper_fd fds[KEEPER_FDS_MAX];
    bool keep_stdin; /* else /dev/null */
    /* The child has ended by itself. Answer true to have it restarted. */
    bool (*ended)(void *user, struct keeper *k, int wstatus);
    /* It runs again. May be NULL. */
    void (*restarted)(void *user, struct keeper *k);
    /* It has ended because keeper_stop asked it to. */
    void (*stopped)(void *user, struct keeper *k);
    void *user;
};

/* spec, with what it points to, outlives the keeper. */
struct keeper *keeper_new(struct sa_loop *loop, struct reaper *r, const struct keeper_spec *spec);
/* EXEC_FAILED names the program. */
int keeper_start(struct keeper *k, sa_error **err);
/* Sends TERM, after grace_ms KILL; calls `stopped` (from the loop, also when it does not run). Called again
 * with a shorter grace it hurries. */
void keeper_stop(struct keeper *k, uint64_t grace_ms);
/* Passes a signal on; nothing when it does not run. */
void keeper_signal(struct keeper *k, int signum);
const char *keeper_name(const struct keeper *k);
pid_t keeper_pid(const struct keeper *k); /* 0: it does not run */
void keeper_free(struct keeper *k);       /* kills the child, without waiting; NULL is fine */

/* "exit code 1", "signal 9 (Killed)". Valid until the next call. */
const char *keeper_describe(int wstatus);

/* ---- the end ---- */

/* Ends everything that descends from this process: TERM, after grace_ms KILL, until no child is left or 10 s
 * have passed. A process that supervises others itself gets the TERM alone, and ends its own. INT and TERM
 * (blocked by the caller) shorten the grace. Blocks; without the lock, after the loop. Returns how many are
 * left. */
int end_descendants(uint64_t grace_ms);

#endif
