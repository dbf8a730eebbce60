/* A runner: runs commands of RunProcess, one after the other, and leaves nothing of one for the next. */
#ifndef SERVICES_PROCESS_SVC_SHIM_RUNNER_H_
#define SERVICES_PROCESS_SVC_SHIM_RUNNER_H_

/* Waits on the connection for SHIM_RUN requests until it is closed; file: the memory file whose parts
 * protocol.h tells. Takes both. Returns the exit code of the process. */
int runner_run(int connection, int file);

#endif
