/* For tests that run programs: start them with a HOME of their own, wait for what they print and for their
 * end, never longer than a deadline, and leave nothing behind. For cmocka: what goes wrong fails the test and
 * shows the output. */
#ifndef TESTS_HARNESS_HARNESS_H_
#define TESTS_HARNESS_HARNESS_H_

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/mem.h"

enum { PATIENCE_MS = 30000 }; /* after that, what is waited for will not come */

/* ---- programs ---- */

struct program {
    pid_t pid; /* 0: it has ended and was reaped */
    int wstatus;
    int output_fd;
    int input_fd;         /* with `interactive`; else -1 */
    struct sa_buf output; /* standard output and error, as far as it was read */
    size_t seen;          /* how far program_wait_for has looked */
};

struct program_fd {
    int fd;           /* in the program; 0 ends the list */
    const char *text; /* what it reads there */
};

struct program_options {
    const char *home;       /* HOME; NULL: a new directory that nobody else uses */
    const char *const *env; /* NAME=value, beside PATH, HOME and what sanitizers need; NULL-terminated */
    const struct program_fd *fds; /* NULL: none */
    const char *input;            /* standard input; NULL: empty */
    bool interactive;             /* standard input comes from program_type instead */
    bool own_session;             /* setsid */
};

/* argv[0]: a path, or a name of //deploy:bin. opt may be NULL. */
struct program program_start(const char *const *argv, const struct program_options *opt);
/* Waits until the output goes on with `text` somewhere after what was found last. The position is behind it
 * then. */
void program_wait_for(struct program *p, const char *text);
/* Takes what it has printed by now. A pipe may hold as little as a page (the kernel gives a user with many
 * pipes small ones), and a program that nobody reads stands still: to be called between calls to it. */
void program_read(struct program *p);
/* Waits for the end; the exit code, or 128 + signal. */
int program_wait(struct program *p);
void program_signal(struct program *p, int signum);
/* Types a line (newline included) to an interactive program; NULL: the end of input. */
void program_type(struct program *p, const char *line);
/* All output so far, as text. */
const char *program_output(struct program *p);
/* KILLs it if it still runs. */
void program_free(struct program *p);
/* The four steps in one: its output (free() it), and its exit code. */
char *program_run(const char *const *argv, const struct program_options *opt, int *ret_code);
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Path of a program of //deploy:bin. */
const char *harness_binary(const char *name);
/* A new directory below /dev/shm or /tmp, short enough for sockets; removed at the end of the process. */
const char *harness_dir(void);
/* The first of n free neighbouring TCP ports on loopback. */
unsigned harness_ports(unsigned n);
/* Calls `is_so` until it answers true, again after any change that can be seen from outside only. */
void wait_until(bool (*is_so)(void *user), void *user, const char *what);

/* ---- a client without a loop: for the blocking forms ---- */

struct caller {
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct rpc_channel *channel;
};
/* token, metadata: may be NULL. */
struct caller caller_open(const char *target, const char *token, const char *const *metadata);
void caller_close(struct caller *c);

/* ---- the whole system ---- */

struct system {
    struct program server; /* `sandbox-agent server` */
    const char *dir;       /* home/ and data/ are below it */
    char *home, *data;
    unsigned http_port, grpc_port; /* session is on grpc_port + 1 */
    char *http, *target;           /* "http://127.0.0.1:2468", "127.0.0.1:7401" */
    char *token;
};

/* Starts it on free ports and waits until it is ready. extra: more words for the command line,
 * NULL-terminated; may be NULL. */
struct system system_start(const char *const *extra);
/* Starts it again, on the same data and ports. */
void system_restart(struct system *s, const char *const *extra);
/* TERM, and waits for the end, which must be a good one. */
void system_stop(struct system *s);
void system_free(struct system *s);
/* A caller of its session service, as owner. */
struct caller system_caller(const struct system *s);
/* Pid of one of its services ("session"), as its lock file tells; 0: none. */
pid_t system_service_pid(const struct system *s, const char *name);
/* Runs `sandbox-agent VERB...` against it. */
char *system_cli(const struct system *s, const char *const *words, int *ret_code);

#endif
