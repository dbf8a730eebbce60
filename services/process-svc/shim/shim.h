/* One shim: starts one child, journals what it writes, feeds it, signals its tree, keeps its exit record. */
#ifndef SERVICES_PROCESS_SVC_SHIM_SHIM_H_
#define SERVICES_PROCESS_SVC_SHIM_SHIM_H_

struct shim_descriptors {
    int connection; /* SEQPACKET to the one who asked */
    int spec;       /* memfd */
};

/* Becomes the shim; the working directory is the one that holds the processes' directories. Single-threaded
 * caller, SIGCHLD blocked, SIGPIPE ignored. Returns the exit status for the process. */
int shim_run(const struct shim_descriptors *d);

#endif
