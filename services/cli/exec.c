/* `sandbox-agent exec COMMAND...`: runs a command as if it ran here: with our terminal, or with our input and
 * output; and `exec --attach PROCESS`: joins a terminal. One event loop carries the stream, our input and
 * signals. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "services/cli/cli.h"
#include "services/cli/command.h"
#include "services/cli/exec.h"
#include "services/cli/process.h"

enum { READ_MAX = 32 << 10, LEAVE_KEY = 0x1d, END_KEY = 4 };

static const struct service_option exec_options[] = {
    {"interactive", SERVICE_OPTION_FLAG, NULL, 0, 0, "its input is ours; else it is empty"},
    {"tty", SERVICE_OPTION_FLAG, NULL, 0, 0, "on a terminal, of the size of ours"},
    {"cwd", SERVICE_OPTION_TEXT, NULL, 0, 0, "its directory; a relative one begins at ours (default /)"},
    {"env", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value, or NAME for ours; else it has only PATH"},
    {"user", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this user"},
    {"group", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this group"},
    {"attach", SERVICE_OPTION_TEXT, NULL, 0, 0, "join the terminal of this process instead; Ctrl-] leaves"},
    {"read-only", SERVICE_OPTION_FLAG, NULL, 0, 0, "with --attach: only look"},
    {"take-over", SERVICE_OPTION_FLAG, NULL, 0, 0, "with --attach: type, whoever types now"},
    {0},
};

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
enum { SIGNALS = sizeof signals / sizeof *signals };

void exec_leave(struct execution *e)
{
    sa_loop_stop(e->client->loop);
}

/* ---- our input ---- */

void exec_taken(struct execution *e, uint64_t next)
{
    if (next <= e->input_offset)
        return;
    size_t n = next - e->input_offset < e->input.len ? (size_t)(next - e->input_offset) : e->input.len;
    sa_buf_consume(&e->input, n);
    e->sent -= n < e->sent ? n : e->sent;
    e->input_offset = next;
    if (e->input.len < EXEC_INPUT_WAITING && !e->input_ended && e->interactive)
        sa_io_set(e->stdin_io, SA_IO_READ);
}

static void input_ended(struct execution *e)
{
    e->input_ended = true;
    sa_io_set(e->stdin_io, 0);
    if (e->terminal && !e->tty.raw)
        sa_buf_add(&e->input, &(char){END_KEY}, 1); /* what a file's end is on a terminal */
}

/* With --attach: Ctrl-] leaves; while another one types, nothing else does anything. */
static bool is_for_us(struct execution *e, const uint8_t *keys, size_t n)
{
    if (!e->attached)
        return false;
    if (memchr(keys, LEAVE_KEY, n) || (!e->interactive && memchr(keys, 3, n)))
        exec_leave(e);
    return memchr(keys, LEAVE_KEY, n) || !e->in_control;
}

static void on_input(void *user, int fd, int events)
{
    struct execution *e = user;
    (void)events;
    uint8_t *at = sa_buf_reserve(&e->input, READ_MAX);
    ssize_t n = read(fd, at, READ_MAX);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0)
        input_ended(e);
    else if (!is_for_us(e, at, (size_t)n))
        e->input.len += (size_t)n;
    if (e->input.len >= EXEC_INPUT_WAITING)
        sa_io_set(e->stdin_io, 0);
    exec_send(e);
}

/* ---- signals ---- */

static void on_passed(void *user, const SignalProcessResponse *res, const sa_error *err)
{
    (void)user, (void)res, (void)err; /* it has ended: that is told by the stream */
}

/* A terminal's keys are bytes; from elsewhere, and without a terminal, a signal is for the command. The
 * second one is for us. */
static void on_signal(void *user, int signum)
{
    struct execution *e = user;
    if (signum == SIGWINCH) {
        exec_resize(e);
        return;
    }
    if (e->terminal || e->code) {
        e->code = 128 + signum;
        exec_leave(e);
        return;
    }
    SignalProcessRequest req = SIGNAL_PROCESS_REQUEST__INIT;
    req.process_id = e->id;
    req.signal = (uint32_t)signum;
    e->code = 128 + signum;
    signal_process_call(e->client->channel, &req, NULL, on_passed, NULL);
}

static void on_again(void *user)
{
    exec_open(user);
}

/* ---- from start to end ---- */

static int follow(struct execution *e, sa_error **err)
{
    struct sa_loop *loop = e->client->loop;
    struct sa_signal *watched[SIGNALS];
    sa_loop_lock(loop);
    for (int i = 0; i < SIGNALS; i++)
        watched[i] = sa_signal_new(loop, signals[i], on_signal, e);
    e->again = sa_timer_new(loop, on_again, e);
    e->stdin_io = sa_io_new(loop, STDIN_FILENO, on_input, e);
    if (e->terminal && (e->interactive || e->attached))
        tty_raw(&e->tty);
    if (e->interactive || e->attached)
        sa_io_set(e->stdin_io, SA_IO_READ);
    else
        e->input_ended = true;
    exec_open(e);
    sa_loop_unlock(loop);
    sa_loop_run(loop);

    sa_loop_lock(loop);
    exec_close(e);
    sa_io_free(steal_pointer(&e->stdin_io));
    sa_timer_free(steal_pointer(&e->again));
    for (int i = 0; i < SIGNALS; i++)
        sa_signal_free(watched[i]);
    sa_loop_unlock(loop);
    tty_restore(&e->tty, e->terminal && (e->attached || !e->ended || e->code > 128));
    sa_buf_fini(&e->input);
    if (!e->err)
        return 0;
    sa_pass(err, steal_pointer(&e->err));
    return client_explain(e->client, err);
}

static void add_terminal(struct sa_arena *a, ProcessSpec *spec)
{
    TerminalSpec *t = spec->terminal = sa_arena_alloc(a, sizeof *t);
    terminal_spec__init(t);
    tty_size(&t->rows, &t->columns);
    if (getenv("TERM"))
        t->term = getenv("TERM");
}

static int start(struct execution *e, const struct options *o, sa_error **err)
{
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    struct sa_arena *a = sa_arena_new();
    StartProcessResponse *res = NULL;
    char request_id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), request_id);
    req.request_id = request_id;
    req.spec = command_spec(a, o, err);
    if (req.spec && e->terminal)
        add_terminal(a, req.spec);
    else if (req.spec)
        req.spec->stdout_retention = RETENTION_POLICY_ACKNOWLEDGED;
    if (req.spec && !(res = start_process_wait(e->client->channel, &req, NULL, err)))
        client_explain(e->client, err);
    if (res)
        e->id = sa_strdup(res->process->process_id);
    rpc_message_free(res);
    sa_arena_free(a);
    return e->id ? 0 : -1;
}

/* What we have started ends with us, and leaves nothing. */
static void forget(struct execution *e)
{
    cleanup_error sa_error *err = NULL;
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    const struct rpc_call_options opt = {.wait_for_ready = true};
    req.process_id = e->id;
    req.kill = true;
    DeleteProcessResponse *res = delete_process_wait(e->client->channel, &req, &opt, &err);
    if (!res)
        fprintf(stderr, "sandbox-agent: process %s is left behind: %s\n", e->id, err->message);
    rpc_message_free(res);
}

static int exec(struct execution *e, const struct options *o, sa_error **err)
{
    if (client_open_process(e->client, o, err) < 0)
        return -1;
    if (e->attached) {
        e->id = process_find_id(e->client, options_text(o, "attach"), err);
        return e->id ? follow(e, err) : -1;
    }
    if (start(e, o, err) < 0)
        return -1;
    int r = follow(e, err);
    forget(e);
    return r;
}

static int check_options(const struct options *o, bool attached)
{
    const char *wrong = NULL;
    if (attached && options_count(o))
        wrong = "--attach joins a process, it starts no command";
    else if (!attached && !options_count(o))
        wrong = "exec what? See --help";
    else if (!attached && (options_flag(o, "read-only") || options_flag(o, "take-over")))
        wrong = "--read-only and --take-over are for --attach";
    else if (options_flag(o, "read-only") && options_flag(o, "take-over"))
        wrong = "--read-only and --take-over exclude each other";
    if (wrong)
        fprintf(stderr, "sandbox-agent: %s\n", wrong);
    return wrong ? 2 : -1;
}

/* Before there are threads: signals are for the loop alone. */
static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < SIGNALS; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* the terminal must be put right first */
    signal(SIGTSTP, SIG_IGN);
}

int cli_exec(int argc, char **argv)
{
    struct options *o = options_new(exec_options, client_options);
    sa_error *err = NULL;
    options_letter(o, 'i', "interactive");
    options_letter(o, 't', "tty");
    int r = cli_parse(
        o, argc, argv, true, "exec [-it] [options] [--] COMMAND [ARGUMENT]...",
        "Runs a command as if it ran here: -it with this terminal, -i with our input. The exit code is\n"
        "its own, or 128 + the signal that ended it; 127: there is no such command, 125: it was not\n"
        "run. Nothing of it stays. With --attach: joins the terminal of a process that runs.");
    bool attached = r < 0 && options_text(o, "attach");
    if (r < 0)
        r = check_options(o, attached);
    if (r < 0) {
        struct client c = {0};
        struct execution e = {
            .client = &c,
            .attached = attached,
            .terminal = attached || options_flag(o, "tty"),
            .interactive = attached ? !options_flag(o, "read-only") : options_flag(o, "interactive"),
            .takes_over = attached ? options_flag(o, "take-over") : true,
        };
        block_signals();
        r = exec(&e, o, &err) < 0 ? command_failed(err) : e.code;
        client_close(&c);
        free(e.id);
    }
    options_free(o);
    return r;
}
