/* process-svc as its callers see it: the real program, driven over its unix socket. */
#ifndef SERVICES_PROCESS_SVC_TESTS_FIXTURE_H_
#define SERVICES_PROCESS_SVC_TESTS_FIXTURE_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandboxagent/process/v1/process_service.rpc.h"
#include "tests/harness/harness.h"

enum { MIB = 1 << 20 };

struct svc {
    const char *dir;
    const char *fault; /* of svc_again: runs process-svc-faults, which dies there; see adapters/os/fault.h */
    struct program program;
    struct caller caller;
    struct rpc_channel *channel;
};

/* extra: more words of the command line, NULL-terminated; may be NULL. Setup and teardown for cmocka use
 * none. */
struct svc svc_start(const char *const *extra);
void svc_again(struct svc *s, const char *const *extra); /* after its end, on the same data */
void svc_kill(struct svc *s);                            /* kill -9 */
void svc_stop(struct svc *s);                            /* TERM; must end well. Frees */
int svc_setup(void **state);                             /* *state: struct svc */
int svc_teardown(void **state);                          /* TERM, then: nothing that was started is left */

/* Freed by the fixture at the test's end. */
char *keep_text(char *text);

/* ---- specs: a shell command, or words ---- */

struct spec {
    ProcessSpec message;
    ProtobufCBinaryData argv[16], env[8];
    ProcessSpec__LabelsEntry label, *labels[1];
    RestartPolicy restart;
    ReadinessProbe readiness;
    ProcessLimits limits;
};
struct spec *spec_new(void); /* PATH and nothing else; free() it */
void spec_word(struct spec *s, const char *word);
void spec_env(struct spec *s, const char *entry);
struct spec *shell(const char *command); /* freed with the process */
void spec_restart(struct spec *s, RestartMode mode, uint32_t backoff_ms, uint32_t backoff_max_ms,
                  uint32_t max);
ProcessLimits *spec_limits(struct spec *s); /* to be filled in */
ReadinessProbe *spec_readiness(struct spec *s);
ProtobufCBinaryData bytes_of(const char *text);

/* ---- calls that must succeed; what they return is freed by the fixture at the test's end ---- */

const char *start(struct svc *s, struct spec *spec); /* its id; frees spec */
const char *start_shell(struct svc *s, const char *command);
Process *get(struct svc *s, const char *id);
ExitRecord *wait_for(struct svc *s, const char *id);
ExitRecord *stop_it(struct svc *s, const char *id, uint32_t signum, uint32_t grace_ms);
/* Waits until the process is as is_so says; how it is then. */
Process *wait_until_process(struct svc *s, const char *id, bool (*is_so)(const Process *p), const char *what);
ExitRecord *delete_it(struct svc *s, const char *id, bool kill);
void send_signal(struct svc *s, const char *id, int signum, SignalScope scope);
/* All kept output from `offset` on; NUL-terminated. */
char *output_of(struct svc *s, const char *id, OutputStream stream, uint64_t offset);
RunProcessResponse *run(struct svc *s, struct spec *spec, RunProcessRequest *req);

GetProcessTreeResponse *tree_of(struct svc *s, const char *id);
TakeCensusResponse *census(struct svc *s);
/* n 0: all. */
ClearStraysResponse *clear_strays(struct svc *s, SystemProcess *const *strays, size_t n);

/* The same calls, for their errors: the reason, "OK" when there was none. `message` gets the sentence. */
extern char error_message[512];
const char *start_error(struct svc *s, struct spec *spec, const char *request_id);
const char *signal_error(struct svc *s, const char *id, int signum, SignalScope scope);
const char *delete_error(struct svc *s, const char *id, bool kill);
const char *stop_error(struct svc *s, const char *id, uint32_t signum, uint32_t grace_ms,
                       uint32_t deadline_ms);
const char *run_error(struct svc *s, struct spec *spec, RunProcessRequest *req);
const char *read_error(struct svc *s, const char *id, OutputStream stream, uint64_t offset);

/* ---- attachments ---- */

struct attached {
    struct rpc_stream *stream;
    AttachProcessResponse *message; /* the last one */
    sa_error *err;
};
struct attached attach(struct svc *s, const AttachOpen *open);
/* From standard output at `offset`. */
struct attached attach_output(struct svc *s, const char *id, uint64_t offset);
/* The next message; false at the end (err: when it was not OK). */
bool next(struct attached *a);
void put_input(struct attached *a, uint64_t offset, const char *data, bool eof);
void put_ack(struct attached *a, uint64_t offset);
/* Reads messages until input_taken: its next offset. */
uint64_t next_taken(struct attached *a);
void detach(struct attached *a);

/* A child that writes numbered lines, so that a hole or a repetition shows: line n is COUNT_FROM + n. */
enum { LINE = 16 };
#define COUNT_FROM 100000000000000ull
const char *counting(uint64_t lines); /* shell command */
/* Fails the test unless data continues the lines at `offset`. */
void assert_counts(const void *data, size_t n, uint64_t offset);

/* ---- processes of the machine ---- */

bool pid_alive(int pid);
/* Waits until the pid does not run any more. */
void wait_pid_gone(int pid);
/* The pid that a child has written to this file, waiting for it. */
int pid_in_file(const char *path);
int parent_of(int pid);
/* Memory that it shares with nobody. */
unsigned private_kib(int pid);

#endif
