/* Processes of the operating system, as /proc tells. They come and go while it is read: a process that
 * vanishes is left out, and a number is believed only together with its start time. No state; any thread. One
 * process costs some ten microseconds, a table that much for each process of the machine: in workers. */
#ifndef SERVICES_PROCESS_SVC_PROCFS_H_
#define SERVICES_PROCESS_SVC_PROCFS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"

enum {
    PROC_NAME_MAX = 64,      /* with the NUL; the kernel's own threads have names of more than 15 bytes */
    PROC_TABLE_MAX = 262144, /* processes in a table; more are not seen */
    PROC_COMMAND_MAX = 4096, /* bytes of arguments */
};

struct proc {
    int pid, parent, session;
    char state; /* one letter, as ps shows it */
    char name[PROC_NAME_MAX];
    uint32_t threads;
    uint64_t start_ticks;                            /* since boot */
    uint64_t user_ticks, system_ticks;               /* its own */
    uint64_t waited_user_ticks, waited_system_ticks; /* of children it has waited for, and of theirs */
    uint64_t resident_pages;
    bool taken; /* by a walk */
    int mark;   /* for whoever has the table */
};

/* The text of /proc/<pid>/stat; the name may hold anything. false: it is not such a text. */
bool proc_parse_stat(const char *text, size_t n, struct proc *ret);
/* 0, or -1: there is no such process, or it is not for us to see. */
int proc_read(int pid, struct proc *ret);

struct proc_io {
    uint64_t read_bytes, written_bytes; /* from and to storage */
};
/* With the children it has waited for. false (zeros): not ours to see, or the kernel does not count. */
bool proc_read_io(int pid, struct proc_io *ret);
/* Without them; of a process with one thread. */
bool proc_read_own_io(int pid, struct proc_io *ret);
/* Arguments joined by spaces, at most PROC_COMMAND_MAX bytes; the name in brackets where there are none.
 * Appends. */
void proc_read_command(const struct proc *p, struct sa_buf *ret);
/* Real user id; -1: unknown. */
int64_t proc_read_uid(int pid);
/* Microseconds since 1970 at boot: + start_ticks is when a process started. 0: unknown. */
int64_t proc_boot_us(void);
int64_t proc_ticks_us(uint64_t ticks);

/* ---- all of them ---- */

struct proc_table {
    struct proc *list; /* ascending pid */
    struct proc **by_parent;
    size_t n;
};
/* Only `root` and what descends from it: costs no more than these. What is started or handed to a new parent
 * meanwhile may be missing; so may everything, where the kernel does not list children. */
void proc_table_read_tree(struct proc_table *ret, int root);
/* All processes of the machine. Freed by proc_table_fini, also when it fails. */
int proc_table_read(struct proc_table *ret, sa_error **err);
void proc_table_fini(struct proc_table *t);
#define cleanup_proc_table __attribute__((cleanup(proc_table_fini)))
/* start_ticks 0: whatever it is. NULL: it is not there. */
struct proc *proc_table_find(const struct proc_table *t, int pid, uint64_t start_ticks);

struct proc_list {
    struct proc **list; /* of the table */
    size_t n;
};
void proc_list_fini(struct proc_list *l);
/* Appends root, if `itself`, and what is below it, parents before children. A walk takes every process once:
 * what an earlier one has taken is left out. */
void proc_walk(const struct proc_table *t, struct proc *root, bool itself, struct proc_list *ret);

#endif
