/* What process-svc and its shims say to each other, and what a shim leaves on disk.
 *
 * Everything is in the byte order of the machine: both sides share it. Each record starts with a magic number
 * and a version; a record is believed only after its check_ function said so. A process's directory holds
 *
 *     sock      SEQPACKET: requests in, one shim_status per message out
 *     state     struct shim_state: who runs here, and the first kept byte of each stream
 *     out, err  the streams: offset in the file = offset in the stream, the size is the end, the front is a
 * hole out.index, err.index   struct shim_index_record, when which bytes came; bounded, its front is a hole
 * too in        input that the child has not read yet, at its offset exit      struct shim_exit, renamed into
 * place when the child has ended
 *
 * The spec never touches a disk (it holds the environment): it comes to the shim as a memfd. */
#ifndef SERVICES_PROCESS_SVC_SHIM_PROTOCOL_H_
#define SERVICES_PROCESS_SVC_SHIM_PROTOCOL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SHIM_VERSION = 2,
    SHIM_STDOUT = 0,
    SHIM_STDERR = 1,
    SHIM_STREAMS = 2,
    SHIM_ID_TEXT = 26,
    SHIM_BOOT_ID_TEXT = 36,

    SHIM_ARGV_MAX = 1 << 20, /* bytes of all arguments, with their NULs */
    SHIM_ENV_MAX = 1 << 20,
    SHIM_CWD_MAX = 4096,
    SHIM_GROUPS_MAX = 64,
    SHIM_JOURNAL_MIN = 64 << 10,
    SHIM_JOURNAL_MAX = 1 << 30,
    SHIM_INPUT_PENDING_MAX = 32 << 20, /* bytes that the shim has taken and the child has not read */
    SHIM_INPUT_CHUNK_MAX = 32 << 10,   /* bytes of one SHIM_INPUT request */
    SHIM_CGROUPS_MAX = 4,              /* hierarchies */
    SHIM_SETTINGS_MAX = 16,
    SHIM_CGROUP_PATHS_MAX = 64 << 10, /* bytes of all their names, and of the settings */
    SHIM_PATTERN_MAX = 4096,
    SHIM_SIDE_MAX = 1000, /* rows and columns of a terminal */
};

/* ---- the spec: header, then groups (u32 each), cwd, arguments, environment, cgroups, settings, each string
 * with its NUL, then the pattern ---- */

#define SHIM_SPEC_MAGIC 0x63707353u /* "Sspc" */

enum shim_retention {
    SHIM_RING,         /* bounded: the oldest bytes go */
    SHIM_ACKNOWLEDGED, /* bounded: the child is blocked until bytes are acknowledged */
};

/* When the child is started again after its end. */
enum shim_restart { SHIM_RESTART_NONE, SHIM_RESTART_ON_FAILURE, SHIM_RESTART_ALWAYS };

enum {
    SHIM_FLAG_RUN = 1, /* for a runner: there is no id */
    SHIM_FLAG_SET_USER = 2,
    SHIM_FLAG_KEEP = 4,     /* for a runner: leave alone what the command has started */
    SHIM_FLAG_TERMINAL = 8, /* all three standard descriptors are a terminal of rows and columns */
};

struct shim_spec {
    uint32_t magic, version;
    uint32_t size; /* of the header and all that follows */
    uint32_t flags;
    uint32_t argc, envc, n_groups;
    uint32_t cwd_bytes, argv_bytes, env_bytes; /* with the NULs */
    uint32_t uid, gid;                         /* with SHIM_FLAG_SET_USER */
    uint32_t retention[SHIM_STREAMS];
    uint32_t rows, columns; /* with SHIM_FLAG_TERMINAL */
    uint64_t journal_bytes; /* bound of each stream */
    char id[SHIM_ID_TEXT + 2];
    uint32_t restart;                                  /* enum shim_restart */
    uint32_t backoff_ms, backoff_max_ms, max_restarts; /* see again.c */
    uint32_t open_files;                               /* RLIMIT_NOFILE; 0: as we have it */
    uint32_t n_cgroups, cgroups_bytes;                 /* directories to make and to put the child into */
    uint32_t n_settings, settings_bytes;               /* file, value, file, value: written before */
    uint32_t pattern_bytes; /* what `matched` of the status looks for; 0: nothing */
};

/* Where the parts of a checked spec are. */
struct shim_spec_parts {
    const uint32_t *groups;
    const char *cwd, *argv, *env; /* argv and env: strings one after the other */
    const char *cgroups, *settings, *pattern;
};
/* Does it hold together: sizes, counts, terminators, limits? */
bool shim_check_spec(const void *data, size_t n, struct shim_spec_parts *ret_parts);

/* ---- requests to the spawn helper; the answer is the helper's own or a shim_status on the connection ----
 */

#define SHIM_SPAWN_MAGIC 0x6e707353u /* "Sspn" */

enum shim_spawn_type {
    /* With descriptors: the shim's end of its first connection, the spec. No answer: the connection gives a
     * status or ends. */
    SHIM_SPAWN = 1,
    /* A shim died without an exit record: end what it left behind. Answered with the same message. */
    SHIM_SWEEP = 2,
    /* With descriptors: the runner's end of its connection, the memory file. No answer, as above. */
    SHIM_SPAWN_RUNNER = 3,
};

struct shim_spawn {
    uint32_t magic, version, type;
    uint32_t shim_pid, child_pid; /* SHIM_SWEEP */
    uint32_t survivors;           /* answer to SHIM_SWEEP: what would not die */
    uint64_t shim_start, child_start;
    uint64_t number; /* comes back in the answer */
};
bool shim_check_spawn(const void *data, size_t n, struct shim_spawn *ret);

/* ---- requests to a shim ---- */

#define SHIM_REQUEST_MAGIC 0x71727353u /* "Ssrq" */

enum shim_request_type {
    SHIM_STATUS = 1,  /* asks for a status */
    SHIM_INPUT = 2,   /* offset, eof, then the bytes */
    SHIM_ACK = 3,     /* stream, offset: what comes before is no longer needed. Not answered */
    SHIM_SIGNAL = 4,  /* value: signal, scope */
    SHIM_RELEASE = 5, /* the exit record was taken: end when no descendant is left. Not answered */
    SHIM_LAST = 6,    /* no run follows the present one; between two runs it is over now. Not answered */
    SHIM_RESIZE = 7,  /* value: rows, scope: columns */
    SHIM_RUN = 16,    /* to a runner: value: bytes of the spec, offset: bytes of input */
};

enum shim_scope { SHIM_SCOPE_PROCESS = 1, SHIM_SCOPE_GROUP = 2, SHIM_SCOPE_TREE = 3 };

struct shim_request {
    uint32_t magic, version, type;
    uint32_t stream; /* SHIM_ACK */
    uint32_t value;  /* SHIM_SIGNAL: the signal; SHIM_INPUT: 1 for end of input after the bytes */
    uint32_t scope;  /* SHIM_SIGNAL, SHIM_RESIZE */
    uint64_t number; /* counts the requests of a connection from 1; comes back as `answered` */
    uint64_t offset; /* SHIM_INPUT, SHIM_ACK */
};
/* The header of a message; what follows it is input. */
bool shim_check_request(const void *data, size_t n, struct shim_request *ret);

/* ---- runners ----
 *
 * A runner tells SHIM_STARTING once, then runs one command for each SHIM_RUN and answers with SHIM_FAILED or
 * SHIM_EXITED. Nothing of the command is left then, unless SHIM_FLAG_KEEP was set and `descendants` is told:
 * then the connection ends and the runner with the last of them. SHIM_SIGNAL with SIGKILL ends the command;
 * it has no answer of its own. The spec, the input and the heads of the output are in the runner's memory
 * file, each in a part of its own; process-svc empties it. */
enum {
    RUNNER_SPEC_AT = 0,
    RUNNER_INPUT_AT = 4 << 20,
    RUNNER_OUTPUT_AT = 8 << 20, /* then standard error, RUNNER_PART behind */
    RUNNER_PART = 4 << 20,
    RUNNER_END = RUNNER_OUTPUT_AT + SHIM_STREAMS * RUNNER_PART,
    RUNNER_INPUT_MAX = 1 << 20,
    RUNNER_OUTPUT_MAX = 1 << 20,
};

/* A runner with SHIM_FLAG_KEEP has this file, a struct shim_state, beside the directories of the shims, named
 * by its pid, from before the command starts until nothing is left of it. */
#define SHIM_KEPT_PREFIX "kept."

/* ---- the exit record ---- */

#define SHIM_EXIT_MAGIC 0x74787353u /* "Ssxt" */

enum shim_exit_kind { SHIM_EXIT_CODE = 1, SHIM_EXIT_SIGNAL = 2 };

struct shim_exit {
    uint32_t magic, version, kind, value;
    int64_t time_us;
    uint64_t end[SHIM_STREAMS]; /* of each stream when the child had ended */
    uint64_t stdin_next;
    uint64_t check;
};
void shim_seal_exit(struct shim_exit *e);
bool shim_check_exit(const void *data, size_t n, struct shim_exit *ret);

/* ---- status: everything a shim knows, in every message ---- */

#define SHIM_STATUS_MAGIC 0x74737353u /* "Ssst" */

enum shim_phase {
    SHIM_STARTING = 1,
    SHIM_FAILED = 2, /* failed_stage, failed_errno; the shim ends */
    SHIM_RUNNING = 3,
    SHIM_EXITED = 4,      /* exit is set, all its output is in the journals */
    SHIM_BACKING_OFF = 5, /* as EXITED, but it is started again after a pause */
};

enum shim_stage {
    SHIM_STAGE_SHIM = 1, /* the shim's own preparations */
    SHIM_STAGE_FORK = 2,
    SHIM_STAGE_USER = 3,
    SHIM_STAGE_CWD = 4,
    SHIM_STAGE_EXEC = 5,
    SHIM_STAGE_LIMITS = 6,
};

struct shim_status {
    uint32_t magic, version, phase;
    uint32_t shim_pid, child_pid; /* SHIM_BACKING_OFF: the child that was */
    uint32_t failed_stage, failed_errno;
    uint32_t answer_errno;  /* of the request `answered` */
    uint32_t journal_errno; /* not 0: a journal cannot be written, the child is blocked meanwhile */
    uint8_t stdin_closed;   /* by the caller or by the child */
    uint8_t descendants;    /* phase SHIM_EXITED: some are left */
    uint8_t matched;        /* the pattern has come since the child was last started */
    uint8_t unused[1];
    uint32_t restarts, oom_kills;     /* how often started again; killed by the limit of memory */
    uint32_t rows, columns;           /* of the terminal now; 0: there is none */
    uint64_t answered;                /* number of the connection's last request that was answered; 0: none */
    uint64_t shim_start, child_start; /* clock ticks since boot, as in /proc/<pid>/stat */
    int64_t started_us;
    uint64_t stdin_next;    /* next expected offset */
    uint64_t stdin_pending; /* bytes taken that the child has not read */
    uint64_t first[SHIM_STREAMS], end[SHIM_STREAMS];
    struct shim_exit exit;      /* of the run that has ended: SHIM_EXITED, SHIM_BACKING_OFF */
    struct shim_exit last_exit; /* with restarts: of the run that the last restart followed */
};
bool shim_check_status(const void *data, size_t n, struct shim_status *ret);

/* ---- files ---- */

#define SHIM_STATE_MAGIC 0x61747353u /* "Ssta" */

/* A reader takes bytes from a stream, then `first` from here: bytes before it are not what was written. (The
 * shim writes `first` before it frees.) */
struct shim_state {
    uint32_t magic, version;
    uint64_t first[SHIM_STREAMS];
    uint32_t shim_pid, child_pid; /* child_pid 0: not yet started */
    uint64_t shim_start, child_start;
    int64_t started_us;
    char boot_id[SHIM_BOOT_ID_TEXT + 4]; /* pids mean nothing after another boot */
};
bool shim_check_state(const void *data, size_t n, struct shim_state *ret);

struct shim_index_record {
    uint64_t offset;  /* of the first byte */
    int64_t time_us;  /* when it came */
    uint64_t arrival; /* counts the records of all streams: which came first */
    uint64_t length;  /* 0: no record */
};

/* ---- processes ---- */

/* Start time of a process in clock ticks since boot; 0: there is no such process. ret_parent, ret_session and
 * ret_zombie may be NULL. */
uint64_t shim_process_start(int pid, int *ret_parent, int *ret_session, bool *ret_zombie);
/* The boot's id; an empty text where the kernel tells none. */
void shim_boot_id(char ret_text[static SHIM_BOOT_ID_TEXT + 1]);

#endif
