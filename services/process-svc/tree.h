/* What runs below a process, and what it uses. */
#ifndef SERVICES_PROCESS_SVC_TREE_H_
#define SERVICES_PROCESS_SVC_TREE_H_

#include "services/process-svc/processes.h"
#include "services/process-svc/procfs.h"

enum {
    TREE_MESSAGES_MAX = 1000,    /* processes of the system in one answer */
    TREE_COMMANDS_MAX = 2 << 20, /* bytes of their arguments together; then names stand for them */
    LOOKS_MAX = 16,              /* calls that look through /proc at once */
};

/* Where the tree of a process hangs: everything below its shim. */
struct tree_root {
    int shim, child;
    uint64_t shim_start;
};
/* Under the service lock. false: nothing of it runs, as far as we know. */
bool tree_root_of(const struct process *p, struct tree_root *ret);

/* ---- any thread ---- */

/* Takes the tree: the process itself first. Appends; returns its shim, NULL when that is gone. */
const struct proc *tree_walk(const struct proc_table *t, const struct tree_root *root, struct proc_list *ret);
/* What they use together, with all that have ended and were waited for, up to the shim (which may be NULL).
 */
ResourceUsage *tree_usage(struct sa_arena *a, const struct proc *shim, const struct proc_list *list);
/* Adds up. */
void tree_usage_add(ResourceUsage *sum, const ResourceUsage *u);
/* At most TREE_MESSAGES_MAX of them. */
SystemProcess **tree_messages(struct sa_arena *a, const struct proc_list *list, size_t *ret_n);

/* ---- calls that look through /proc in a worker, under the service lock ---- */

/* Counts one in; TOO_MANY when LOOKS_MAX are under way. The service does not stop until look_end. */
int look_begin(struct processes *all, sa_error **err);
void look_end(struct processes *all);

/* GetProcessTree. */
void get_process_tree_handler(void *api, struct rpc_call *call, const GetProcessTreeRequest *req);

#endif
