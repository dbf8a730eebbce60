/* `sandbox-agent run COMMAND...`: a command to its end; its output is ours, and its exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/cli/cli.h"
#include "services/cli/command.h"
#include "services/cli/process.h"
#include "services/cli/show.h"
#include "services/cli/values.h"
#include "services/cli/write.h"

enum { STDIN_MAX = 1 << 20, DAY_MS = 86400000 };

static const struct service_option run_options[] = {
    {"cwd", SERVICE_OPTION_TEXT, NULL, 0, 0, "its directory; a relative one begins at ours (default /)"},
    {"env", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value, or NAME for ours; else it has only PATH"},
    {"user", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this user"},
    {"group", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this group"},
    {"timeout", SERVICE_OPTION_TEXT, NULL, 0, 0, "kill it after so long (default: the service's, 30s)"},
    {"stdin", SERVICE_OPTION_FLAG, NULL, 0, 0,
     "its input is ours, to the end (at most 1 MiB); else it is empty"},
    {"keep-descendants", SERVICE_OPTION_FLAG, NULL, 0, 0, "leave alone what it started in the background"},
    {0},
};

static int read_stdin(struct sa_buf *ret, sa_error **err)
{
    size_t got;
    while (ret->len <= STDIN_MAX && (got = fread(sa_buf_reserve(ret, 65536), 1, 65536, stdin)) > 0)
        ret->len += got;
    if (ferror(stdin))
        return sa_fail(err, SA_SYSTEM_ERROR, "standard input cannot be read");
    if (ret->len > STDIN_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "standard input has more than %d bytes", STDIN_MAX);
    return 0;
}

static int fill(RunProcessRequest *req, struct sa_arena *a, struct sa_buf *input, const struct options *o,
                sa_error **err)
{
    uint64_t timeout = 0;
    const char *text = options_text(o, "timeout");
    if (text && value_duration("timeout", text, DAY_MS, &timeout, err) < 0)
        return -1;
    if (text && !timeout)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--timeout`: nothing ends in no time");
    req->timeout_ms = (uint32_t)timeout;
    req->keep_descendants = options_flag(o, "keep-descendants");
    req->spec = command_spec(a, o, err);
    if (!req->spec || (options_flag(o, "stdin") && read_stdin(input, err) < 0))
        return -1;
    req->stdin = (ProtobufCBinaryData){input->len, input->data};
    return 0;
}

static int tell(const RunProcessResponse *res)
{
    char text[PROCESS_TEXT];
    write_all(1, res->stdout.data, res->stdout.len);
    write_all(2, res->stderr.data, res->stderr.len);
    if (res->stdout_truncated)
        fprintf(stderr, "sandbox-agent: standard output is cut after %zu bytes\n", res->stdout.len);
    if (res->stderr_truncated)
        fprintf(stderr, "sandbox-agent: standard error is cut after %zu bytes\n", res->stderr.len);
    if (res->timed_out) {
        fprintf(stderr, "sandbox-agent: killed after %.1f s (--timeout)\n", (double)res->duration_ms / 1000);
        return PROCESS_TIMED_OUT;
    }
    if (res->exit->kind_case == EXIT_RECORD__KIND_EXIT_CODE)
        return process_exit_code(res->exit);
    process_exit_text(res->exit, text);
    fprintf(stderr, "sandbox-agent: %s\n", text);
    return process_exit_code(res->exit);
}

static int run(struct client *c, const struct options *o, int *ret_code, sa_error **err)
{
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = DAY_MS};
    cleanup_buf struct sa_buf input = {0};
    struct sa_arena *a = sa_arena_new();
    RunProcessResponse *res = NULL;
    if (fill(&req, a, &input, o, err) == 0 && client_open_process(c, o, err) == 0 &&
        !(res = run_process_wait(c->channel, &req, &opt, err)))
        client_explain(c, err);
    if (res && options_flag(o, "json")) {
        show_json(stdout, &res->base);
        *ret_code = res->timed_out ? PROCESS_TIMED_OUT : process_exit_code(res->exit);
    } else if (res) {
        *ret_code = tell(res);
    }
    sa_arena_free(a);
    bool good = res;
    rpc_message_free(res);
    return good ? 0 : -1;
}

int cli_run(int argc, char **argv)
{
    struct options *o = options_new(run_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, true, "run [options] [--] COMMAND [ARGUMENT]...",
        "Runs a command to its end and prints its output. The exit code is its own, or 128 + the\n"
        "signal that ended it; 124: timed out, 127: there is no such command, 125: it was not run.");
    if (r < 0 && !options_count(o)) {
        fprintf(stderr, "sandbox-agent: run what? See --help\n");
        r = 2;
    }
    if (r < 0 && run(&c, o, &r, &err) < 0)
        r = command_failed(err);
    client_close(&c);
    options_free(o);
    return r;
}
