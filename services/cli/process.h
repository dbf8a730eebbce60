/* What the verbs around processes have in common: which process is meant, and how it is shown. */
#ifndef SERVICES_CLI_PROCESS_H_
#define SERVICES_CLI_PROCESS_H_

#include <stdio.h>

#include "sandboxagent/process/v1/process_service.rpc.h"
#include "services/cli/client.h"

enum {
    PROCESS_SHORT_ID = 8,
    PROCESS_TEXT = 512,       /* bytes of a text below */
    PROCESS_WAIT_MS = 600000, /* the longest deadline of a call; one that waits is made again */
    PROCESS_RUN_FAILED = 125, /* exit codes, as those of other programs that run a command */
    PROCESS_NO_COMMAND = 127,
    PROCESS_TIMED_OUT = 124,
};
#define PROCESS_NAME_LABEL "name"

/* The id of the process that `name` means: an id, the end or the start of exactly one, the name of the newest
 * one that was started with --name, or "last". NULL: PROCESS_NOT_FOUND, or INVALID_REQUEST when it may be
 * several. free() it. */
char *process_find_id(struct client *c, const char *name, sa_error **err);
/* Calls `see` with every process, newest first, until it answers false. Labels: as in ListProcesses, or "".
 */
int process_each(struct client *c, const char *label_key, const char *label_value,
                 bool (*see)(void *user, const Process *p), void *user, sa_error **err);
/* One process. NULL: *err. rpc_message_free it. */
GetProcessResponse *process_get(struct client *c, const char *id, sa_error **err);
/* Waits for the end of a process, also across restarts of the service. NULL: *err, also when the service is
 * not there at the start. */
WaitProcessResponse *process_wait(struct client *c, const char *id, sa_error **err);

/* The last characters of an id: they tell processes apart. */
const char *process_short_id(const char *id);
/* As a shell tells it: the code, 128 + the signal, 1 when it was lost. */
int process_exit_code(const ExitRecord *e);
/* "exited 3", "killed by TERM", "lost: the machine was restarted". */
void process_exit_text(const ExitRecord *e, char ret[static PROCESS_TEXT]);
/* "running", "ready", "not ready", "restarting", "stopping", or how it ended. */
void process_state_text(const Process *p, char ret[static PROCESS_TEXT]);
/* "12 s", "5 min", "3 h", "2 d" from then to now. */
void process_age_text(const Google__Protobuf__Timestamp *t, char ret[static PROCESS_TEXT]);
/* Bytes as people read them: "12.3 MiB". */
void process_size_text(uint64_t bytes, char ret[static PROCESS_TEXT]);
/* Arguments joined by blanks, without control characters. */
void process_show_command(FILE *out, const ProcessSpec *spec);

/* Runs a verb whose arguments are processes: opens the client, finds each, calls `act`. What fails for one is
 * told and does not hinder the others. Returns the exit code. usage, summary: of cli_parse. o: freed. */
struct options;
int process_verb(struct options *o, int argc, char **argv, const char *usage, const char *summary,
                 int (*act)(struct client *c, const struct options *o, const char *id, sa_error **err));

#endif
