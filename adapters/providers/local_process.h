/* The processes of local sandboxes: starting a server, knowing it again, ending all of it. Plain blocking
 * functions, any thread. */
#ifndef ADAPTERS_PROVIDERS_LOCAL_PROCESS_H_
#define ADAPTERS_PROVIDERS_LOCAL_PROCESS_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/os/error.h"

/* Every process of a sandbox has this in its environment: "<id>", or "<outer id>/<id>" in a sandbox in a
 * sandbox. */
#define LOCAL_LABEL "SANDBOX_AGENT_SANDBOX"

/* A process that cannot be taken for another one that got its number later. */
struct local_process {
    pid_t pid; /* 0: none */
    uint64_t start_ticks;
    char boot_id[40];
};

/* false: it does not run (also: it has ended and waits to be reaped). */
bool local_process_alive(const struct local_process *p);
/* A pidfd of it, -1 when it does not run. */
int local_process_open(const struct local_process *p);

/* Starts argv in a session of its own, with clean signals and descriptors, standard output and error appended
 * to `log`, and the label in its environment. EXEC_FAILED. */
int local_process_start(char *const *argv, const char *dir, const char *log, const char *sandbox_id,
                        struct local_process *ret, sa_error **err);

/* Sends a signal to every process with the sandbox's label and to all that descend from one. Returns how many
 * there were (ended ones that wait to be reaped are none). */
int local_process_signal_all(const char *sandbox_id, int signum);

/* The first of n free neighbouring ports of loopback; 0: none was found. */
unsigned local_free_ports(unsigned n);

#endif
