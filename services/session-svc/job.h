/* A process that is run to its end for ourselves (npm, git, an agent that is tried), through process-svc: it
 * is found again by its request_id after a crash of either service, and nothing of it stays behind.
 *
 * Under the service lock. */
#ifndef SERVICES_SESSION_SVC_JOB_H_
#define SERVICES_SESSION_SVC_JOB_H_

#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/session-svc/sessions.h"

enum { JOB_LINE_MAX = 256 << 10 /* bytes of a line; what is longer is skipped */ };

struct job_options {
    const char *request_id; /* names the process */
    const char *label;      /* of the process: name of what it is for; see jobs_sweep */
    char *const *argv;      /* NULL-terminated */
    char *const *env;       /* NAME=value, NULL-terminated */
    const char *cwd;        /* absolute */
    bool as_ourselves;      /* as our own user, and not as that of the agents */
    const char *input;      /* standard input, which stays open then; NULL: none */
    uint32_t timeout_ms;
    /* A line of its output (stream 1 or 2), again from the start after a crash. True: that is all that was
     * wanted, the job is done. May be NULL. */
    bool (*line)(void *user, unsigned stream, const char *p, size_t n);
    /* Called once. exit NULL, err NULL: line said so. err: it could not be started, or DEADLINE_EXCEEDED. The
     * process is still known to process-svc, so that it is not run again if we crash before its result is
     * committed: call job_end then. */
    void (*done)(void *user, const ExitRecord *exit, const sa_error *err);
    void *user;
};

struct job;
/* Copies the options. */
struct job *job_start(struct sessions *all, const struct job_options *opt);
/* Deletes the process with all that descends from it, in the background, and frees the job. NULL is fine. */
void job_end(struct job *j);
/* Deletes processes with label "job" whose value `wanted` does not know: left from a crash. */
void jobs_sweep(struct sessions *all, bool (*wanted)(void *user, const char *label), void *user);
/* At the end of the service: forgets all, processes go on. */
void jobs_free(struct sessions *all);

/* "exited with code 1", in the arena. */
const char *job_exit_text(const ExitRecord *exit, struct sa_arena *arena);

#endif
