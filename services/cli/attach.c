/* `sandbox-agent attach SESSION`: follows a session live, and takes prompts and answers from standard input.
 * One event loop carries the stream and the terminal. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/permission_service.rpc.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/show.h"

enum { INPUT_MAX = 1 << 20, AGAIN_MS = 500, OPTIONS_MAX = 16 };

static const struct service_option attach_options[] = {
    {"after", SERVICE_OPTION_UINT, "0", 0, UINT64_MAX, "show only events after this number"},
    {"verbose", SERVICE_OPTION_FLAG, NULL, 0, 0, "show every event: logs, usage, states"},
    {0},
};

static const char help_text[] = "A line is sent as a prompt. Commands:\n"
                                "  /1 ... /9   answer the agent's last question\n"
                                "  /cancel     stop the running turn\n"
                                "  /quit       leave; the session goes on (as do Ctrl-C and Ctrl-D)\n";

/* The agent's last question that nobody has answered. */
struct question {
    char *permission_id;
    char *options[OPTIONS_MAX];
    int n_options;
};

struct attached {
    struct client *client;
    struct show show;
    char *session_id;
    uint64_t seq;
    bool connected; /* it worked once */
    struct rpc_request *stream;
    struct sa_timer *again;
    struct sa_io *input;
    struct sa_buf line;
    bool input_ended;
    int sent;            /* requests of ours that are under way */
    uint64_t last_turn;  /* the newest turn that we asked for */
    uint64_t ended_turn; /* the newest turn that has ended */
    struct question question;
    sa_error *err;
};

static void follow(struct attached *a);

static void leave(struct attached *a)
{
    sa_loop_stop(a->client->loop);
}

/* Input that came from a file or a pipe is over: leave when its prompts are answered. */
static void leave_if_done(struct attached *a)
{
    if (a->input_ended && !a->sent && a->ended_turn >= a->last_turn)
        leave(a);
}

/* ---- what comes from the session ---- */

static void forget_question(struct attached *a)
{
    free(a->question.permission_id);
    for (int i = 0; i < a->question.n_options; i++)
        free(a->question.options[i]);
    a->question = (struct question){0};
}

static void remember_question(struct attached *a, const PermissionRequested *p)
{
    forget_question(a);
    a->question.permission_id = sa_strdup(p->permission_id);
    for (size_t i = 0; i < p->n_options && i < OPTIONS_MAX; i++)
        a->question.options[a->question.n_options++] = sa_strdup(p->options[i]->option_id);
}

static void on_event(struct attached *a, const Event *e)
{
    a->seq = e->seq;
    show_event(&a->show, e);
    if (e->kind_case == EVENT__KIND_PERMISSION_REQUESTED)
        remember_question(a, e->permission_requested);
    if (e->kind_case == EVENT__KIND_PERMISSION_RESOLVED && a->question.permission_id &&
        !strcmp(e->permission_resolved->permission_id, a->question.permission_id))
        forget_question(a);
    if (e->kind_case == EVENT__KIND_TURN_ENDED && e->turn > a->ended_turn)
        a->ended_turn = e->turn;
}

static void on_message(void *user, const StreamEventsResponse *m)
{
    struct attached *a = user;
    a->connected = true;
    if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_BATCH) {
        for (size_t i = 0; i < m->batch->n_events; i++)
            on_event(a, m->batch->events[i]);
        leave_if_done(a);
    }
    if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_GAP)
        fprintf(stderr, "(events before %" PRIu64 " are no longer kept)\n", m->gap->first_available_seq);
    if (m->kind_case == STREAM_EVENTS_RESPONSE__KIND_CLOSED && strcmp(m->closed->reason, "DRAINING") != 0)
        leave(a);
}

/* The position is all that is needed to go on. */
static void on_stream_end(void *user, const sa_error *err)
{
    struct attached *a = user;
    a->stream = NULL;
    if (err && (err->code != SA_CODE_UNAVAILABLE || !a->connected)) {
        a->err = sa_error_copy(err);
        leave(a);
        return;
    }
    sa_timer_start(a->again, AGAIN_MS);
}

static void on_again(void *user)
{
    follow(user);
}

static void follow(struct attached *a)
{
    static const struct stream_events_client events = {.on_message = on_message, .on_end = on_stream_end};
    StreamEventsRequest req = STREAM_EVENTS_REQUEST__INIT;
    req.session_id = a->session_id;
    req.after_seq = a->seq;
    a->stream = stream_events_open(a->client->channel, &req, NULL, &events, a);
}

/* ---- what goes to the session ---- */

static void told(struct attached *a, const sa_error *err)
{
    a->sent--;
    if (err) {
        show_break(&a->show);
        fprintf(stderr, "sandbox-agent: %s\n", err->message);
    }
    leave_if_done(a);
}

static void on_prompt_sent(void *user, const SendPromptResponse *res, const sa_error *err)
{
    struct attached *a = user;
    if (res && res->turn > a->last_turn)
        a->last_turn = res->turn;
    told(a, err);
}

static void on_answered(void *user, const AnswerPermissionResponse *res, const sa_error *err)
{
    (void)res;
    told(user, err);
}

static void on_cancelled(void *user, const CancelTurnResponse *res, const sa_error *err)
{
    (void)res;
    told(user, err);
}

static void send_prompt(struct attached *a, char *text)
{
    ContentBlock block = CONTENT_BLOCK__INIT, *blocks[] = {&block};
    SendPromptRequest req = SEND_PROMPT_REQUEST__INIT;
    char request_id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), request_id);
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = text;
    req.session_id = a->session_id;
    req.request_id = request_id;
    req.content = blocks;
    req.n_content = 1;
    a->sent++;
    send_prompt_call(a->client->channel, &req, NULL, on_prompt_sent, a);
}

static void send_answer(struct attached *a, int number)
{
    AnswerPermissionRequest req = ANSWER_PERMISSION_REQUEST__INIT;
    if (number < 1 || number > a->question.n_options) {
        fprintf(stderr, a->question.permission_id ? "there is no such answer\n" : "nothing was asked\n");
        return;
    }
    req.session_id = a->session_id;
    req.permission_id = a->question.permission_id;
    req.option_id = a->question.options[number - 1];
    a->sent++;
    answer_permission_call(a->client->channel, &req, NULL, on_answered, a);
}

static void send_cancel(struct attached *a)
{
    CancelTurnRequest req = CANCEL_TURN_REQUEST__INIT;
    req.session_id = a->session_id;
    a->sent++;
    cancel_turn_call(a->client->channel, &req, NULL, on_cancelled, a);
}

static void on_line(struct attached *a, char *line)
{
    if (!*line)
        return;
    if (line[0] != '/')
        send_prompt(a, line);
    else if (line[1] >= '1' && line[1] <= '9' && !line[2])
        send_answer(a, line[1] - '0');
    else if (!strcmp(line, "/cancel"))
        send_cancel(a);
    else if (!strcmp(line, "/quit"))
        leave(a);
    else
        fputs(help_text, stderr);
}

static void on_input(void *user, int fd, int events)
{
    struct attached *a = user;
    (void)events;
    ssize_t n = read(fd, sa_buf_reserve(&a->line, 4096), 4096);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n > 0)
        a->line.len += (size_t)n;
    for (char *end; a->line.len && (end = memchr(a->line.data, '\n', a->line.len));) {
        size_t len = (size_t)(end - (char *)a->line.data);
        *end = 0;
        on_line(a, (char *)a->line.data);
        sa_buf_consume(&a->line, len + 1);
    }
    if (n <= 0 || a->line.len > INPUT_MAX) {
        sa_io_set(a->input, 0);
        a->input_ended = true;
        leave_if_done(a);
    }
}

static void on_signal(void *user, int signum)
{
    (void)signum;
    leave(user);
}

static int attach(struct attached *a, sa_error **err)
{
    struct sa_loop *loop = a->client->loop;
    sa_loop_lock(loop);
    struct sa_signal *sigint = sa_signal_new(loop, SIGINT, on_signal, a);
    a->again = sa_timer_new(loop, on_again, a);
    a->input = sa_io_new(loop, STDIN_FILENO, on_input, a);
    sa_io_set(a->input, SA_IO_READ);
    follow(a);
    sa_loop_unlock(loop);
    sa_loop_run(loop);

    sa_loop_lock(loop);
    rpc_abandon(a->stream);
    sa_io_free(a->input);
    sa_timer_free(a->again);
    sa_signal_free(sigint);
    sa_loop_unlock(loop);
    show_fini(&a->show);
    if (!a->err)
        return 0;
    sa_pass(err, steal_pointer(&a->err));
    return client_explain(a->client, err);
}

int cli_attach(int argc, char **argv)
{
    struct options *o = options_new(attach_options, client_options);
    sa_error *err = NULL;
    cleanup_free char *summary = sa_format("Follows a session live. SESSION may be `last`.\n\n%s", help_text);
    int r = cli_parse(o, argc, argv, false, "attach [options] SESSION", summary);
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: attach to which session? `sandbox-agent sessions` lists them\n");
        r = 2;
    }
    if (r < 0) {
        struct client c = {0};
        struct attached a = {
            .client = &c,
            .show = {.out = stdout,
                     .json = options_flag(o, "json"),
                     .brief = !options_flag(o, "verbose"),
                     .colour = isatty(1)},
            .seq = options_uint(o, "after"),
        };
        /* Before there are threads: Ctrl-C is for the loop alone. */
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGINT);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        if (client_open(&c, o, &err) == 0)
            a.session_id = client_session(&c, options_arguments(o)[0], &err);
        r = a.session_id && attach(&a, &err) == 0 ? 0 : cli_failed(err);
        client_close(&c); /* requests that are still under way end here: they may touch `a` */
        forget_question(&a);
        sa_buf_fini(&a.line);
        free(a.session_id);
    }
    options_free(o);
    return r;
}
