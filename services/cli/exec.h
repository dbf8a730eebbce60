/* What exec.c and exec_stream.c share: one process that is run or joined. Everything under the loop's lock,
 * but for what exec.c does before and after it. */
#ifndef SERVICES_CLI_EXEC_H_
#define SERVICES_CLI_EXEC_H_

#include "adapters/os/mem.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/process/v1/terminal_service.rpc.h"
#include "services/cli/client.h"
#include "services/cli/tty.h"

enum { EXEC_INPUT_WAITING = 1 << 20 };

struct execution {
    struct client *client;
    char *id;
    bool terminal;    /* it runs on one */
    bool interactive; /* our input is its */
    bool attached;    /* joined, not started by us */
    bool takes_over;
    struct tty tty;
    /* The stream. */
    struct rpc_request *stream;
    struct sa_timer *again;
    bool opened, worked, full;
    unsigned tries;  /* since it was open last */
    uint64_t out[2]; /* next byte of output: standard output, standard error */
    uint64_t acknowledged;
    /* Input that was read and not taken yet. */
    struct sa_io *stdin_io;
    struct sa_buf input;
    uint64_t input_offset; /* of its first byte */
    size_t sent;           /* how much of it was sent on this stream */
    bool input_ended, end_sent;
    /* Of a terminal. */
    uint64_t viewer_id, lease;
    bool in_control;
    /* The end. */
    bool ended;
    int code;
    sa_error *err;
};

/* Opens the stream, the first time or again. */
void exec_open(struct execution *e);
/* There is more input, or it has ended. */
void exec_send(struct execution *e);
void exec_resize(struct execution *e);
/* No callback comes any more. */
void exec_close(struct execution *e);

/* exec.c: ends the loop. */
void exec_leave(struct execution *e);
/* exec.c: input was taken: more may be read. */
void exec_taken(struct execution *e, uint64_t next);

#endif
