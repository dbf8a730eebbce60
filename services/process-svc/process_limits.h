/* Limits of processes: where cgroups may be made for them, found once at the start, and what is written
 * there. The shim makes a process's own cgroups, puts the child in and removes them at the end.
 *
 * A hierarchy of cgroup v1 serves for its controller. With v2 the controllers must be given to our own
 * cgroup's children, which the kernel refuses while processes live in it (unless it is the root); then its
 * parent is tried, if a manager has delegated that and starts the service in a cgroup below it. */
#ifndef SERVICES_PROCESS_SVC_PROCESS_LIMITS_H_
#define SERVICES_PROCESS_SVC_PROCESS_LIMITS_H_

#include <stdbool.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "sandboxagent/process/v1/process.rpc.h"
#include "services/process-svc/shim/protocol.h"

enum limits_controller {
    LIMITS_MEMORY,
    LIMITS_PIDS,
    LIMITS_CPU,
    LIMITS_KILL, /* cgroup v2 itself: kills everything in one step */
    LIMITS_CONTROLLERS,
};

enum { LIMITS_MEMORY_MIN = 1 << 20, LIMITS_CPU_MIN = 10, LIMITS_FILES_MIN = 16 };

/* Name of a process's cgroups: this and its id. */
#define LIMITS_CGROUP_PREFIX "sandbox-agent-"

/* Where a controller's cgroups are made. */
struct limits_place {
    char *base; /* in this directory; NULL: nowhere, */
    char *why;  /* for this reason */
    bool v2;    /* which files it has */
    bool swap;  /* memory: swapping can be limited too */
};

struct limits {
    struct limits_place place[LIMITS_CONTROLLERS];
    uint64_t files_max;
};

/* Blocks a little; never fails. */
void limits_init(struct limits *l);
void limits_fini(struct limits *l);
/* Removes the cgroups of a process whose shim was killed. */
void limits_remove(const struct limits *l, const char *name);

/* Values out of range: INVALID_REQUEST. asked may be NULL. */
int limits_check(const ProcessLimits *asked, sa_error **err);
/* LIMIT_UNAVAILABLE says which one and why. asked may be NULL. */
int limits_available(const struct limits *l, const ProcessLimits *asked, sa_error **err);
/* Appends cgroups and settings of a process to its spec. name: of its own cgroups. asked may be NULL. */
void limits_pack(const struct limits *l, const char *name, const ProcessLimits *asked, struct shim_spec *h,
                 struct sa_buf *b);

/* The directory of our own cgroup in the hierarchy that has `controller` ("memory", or "" for v2 itself),
 * from the text of /proc/self/mountinfo and /proc/self/cgroup: 1 for v1, 2 for v2, 0 when there is none. v2
 * has only those controllers that its files tell. */
int limits_find(const char *mountinfo, const char *cgroup, const char *controller,
                struct sa_buf *ret_directory);

#endif
