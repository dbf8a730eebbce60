/* Everything that lives below this service, told apart: the trees of known processes, and strays. In three
 * steps, because /proc is read without the lock and what is known only under it:
 *
 *     scan_read      in a worker: one pass over /proc
 *     scan_known     under the lock: what is known by then. Whatever a process started later is not in the
 *                    pass, so nothing can be taken for a stray because it was too new
 *     scan_classify  in a worker: walks. A tree that was deleted in between looks like strays that have ended
 */
#ifndef SERVICES_PROCESS_SVC_SCAN_H_
#define SERVICES_PROCESS_SVC_SCAN_H_

#include "services/process-svc/tree.h"

struct scan_tree {
    struct sa_id id;
    struct tree_root root; /* shim 0: being started, the shim has not spoken */
    bool ended;            /* only what it left behind runs */
    const struct proc *shim;
    struct proc_list list; /* found */
};

struct scan {
    struct processes *all;
    struct proc_table table;
    struct scan_tree *trees; /* newest first */
    size_t n_trees;
    struct tree_root *kept; /* runners that keep what a command of RunProcess has left */
    size_t n_kept;
    int helper;
    struct proc_list strays; /* parents before children */
};

int scan_read(struct scan *s, sa_error **err);
void scan_known(struct scan *s);
int scan_classify(struct scan *s, sa_error **err);
/* Leaves out what has ended meanwhile. */
void scan_drop_ended(struct proc_list *strays);
/* Empty again, all aside. */
void scan_reset(struct scan *s);

#endif
