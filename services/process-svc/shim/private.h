/* What the files of a shim share: shim.c lives, start.c gives birth, again.c does it again. */
#ifndef SERVICES_PROCESS_SVC_SHIM_PRIVATE_H_
#define SERVICES_PROCESS_SVC_SHIM_PRIVATE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "services/process-svc/shim/input.h"
#include "services/process-svc/shim/journal.h"
#include "services/process-svc/shim/match.h"
#include "services/process-svc/shim/protocol.h"
#include "services/process-svc/shim/shim.h"

enum { SHIM_CHUNK = 64 << 10 };
enum source { CONNECTION, LISTENER, CHILDREN, INPUT, OUTPUT /* and the next: one per stream */ };

struct stream {
    struct journal journal;
    int pipe;       /* read end; -1: closed */
    int polled;     /* is it in epoll? */
    uint64_t drain; /* bytes to take until the child's own output is complete */
};

struct shim {
    int slave; /* the child's side of its terminal: it stays open, so that the end is the child's. -1: none */
    int epoll, connection, listener, children, state_fd, exit_fd;
    uint32_t connection_events, input_events;
    pid_t child;
    bool reaped;                             /* the child's wait status is known */
    bool killing;                            /* SIGKILL to all that descends, until nothing is left */
    bool released;                           /* the exit record was taken */
    bool finished;                           /* nothing descends from us any more */
    bool answer;                             /* the status answers a request: it must get through */
    uint64_t answer_ns;                      /* by when, if it can wait; 0: at once */
    bool changed;                            /* something besides the ends of the streams */
    bool grown;                              /* the ends of the streams */
    bool eager;                              /* input was taken: the next output is told at once */
    uint64_t told_ns;                        /* when the last status was sent */
    uint64_t pause_ns, retry_ns, deleted_ns; /* pause between announcements; when to look again, 0: not */
    uint64_t arrival;
    struct stream stream[SHIM_STREAMS];
    struct input input;
    struct shim_status status;
    struct shim_state state;
    /* The spec, as far as it is needed after the start: restarts, cgroups, a pattern. Else NULL. */
    const struct shim_spec *spec;
    struct shim_spec_parts parts;
    bool last;                 /* no run follows the present one */
    uint32_t in_a_row;         /* restarts without a long run between them */
    uint64_t run_ns, again_ns; /* when the run began; when the next one may (0: now) */
    struct match match;
    /* Bytes taken from a pipe that the disk has refused so far. */
    size_t held_at, held_end;
    struct stream *held_by;
    char chunk[SHIM_CHUNK];
    union {
        struct shim_request header;
        char bytes[sizeof(struct shim_request) + SHIM_INPUT_CHUNK_MAX];
    } request;
};

uint64_t shim_now_ns(void);
int64_t shim_wall_us(void);
void shim_poll(struct shim *s, int fd, int source, uint32_t events, int op);
/* Makes everything and starts the child; 0, or -1 with errno (and status.failed_stage, where known). */
int shim_start(struct shim *s, const struct shim_descriptors *d);
/* Makes pipes and starts the child, the first time or again; keeps our ends. 0, or -1 with errno and
 * status.failed_stage; nothing is left open then. */
int shim_start_child(struct shim *s, const struct shim_spec *spec, const struct shim_spec_parts *parts);
/* The child was started: tells it. */
void shim_child_runs(struct shim *s);
void shim_read_stream(struct shim *s, struct stream *st);
/* How much of what was written lies in the pipe, at most. */
uint64_t shim_waiting(const struct shim *s, const struct stream *st);
void shim_close_input(struct shim *s);
/* Out of epoll before it is closed: a descriptor that a child still shares would go on reporting. */
void shim_drop(struct shim *s, int *fd, bool polled);
/* KILL to all that descends from us, until nothing is left. */
void shim_kill_tree(struct shim *s);

#endif
