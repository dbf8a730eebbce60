/* `sandbox-agent kill`, `stop`, `wait`, `rm`: what is done to processes that are named. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/process.h"
#include "services/cli/show.h"
#include "services/cli/values.h"

enum { GRACE_MAX_MS = 600000 };

static void tell_end(const struct options *o, const char *id, const ExitRecord *e)
{
    char text[PROCESS_TEXT];
    if (options_flag(o, "json")) {
        show_json(stdout, &e->base);
        return;
    }
    process_exit_text(e, text);
    printf("%s %s\n", process_short_id(id), text);
    fflush(stdout);
}

/* ---- kill ---- */

static const struct service_option kill_options[] = {
    {"signal", SERVICE_OPTION_TEXT, "TERM", 0, 0, "name or number of the signal"},
    {"scope", SERVICE_OPTION_TEXT, "tree", 0, 0,
     "process (alone), group, or tree: everything that descends from it"},
    {0},
};

static int read_scope(const char *text, SignalScope *ret, sa_error **err)
{
    if (!strcmp(text, "process"))
        *ret = SIGNAL_SCOPE_PROCESS;
    else if (!strcmp(text, "group"))
        *ret = SIGNAL_SCOPE_GROUP;
    else if (!strcmp(text, "tree"))
        *ret = SIGNAL_SCOPE_TREE;
    else
        return sa_fail(err, SA_INVALID_CONFIG, "option `--scope` is process, group or tree, not `%s`", text);
    return 0;
}

static int kill_one(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    SignalProcessRequest req = SIGNAL_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    if (value_signal("signal", options_text(o, "signal"), &req.signal, err) < 0 ||
        read_scope(options_text(o, "scope"), &req.scope, err) < 0)
        return -1;
    SignalProcessResponse *res = signal_process_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    rpc_message_free(res);
    return 0;
}

int cli_kill(int argc, char **argv)
{
    struct options *o = options_new(kill_options, client_options);
    options_letter(o, 's', "signal");
    return process_verb(o, argc, argv, "kill [options] PROCESS...", "Sends processes a signal.", kill_one);
}

/* ---- stop ---- */

static const struct service_option stop_options[] = {
    {"grace", SERVICE_OPTION_TEXT, NULL, 0, 0, "time before KILL (default 5s)"},
    {"signal", SERVICE_OPTION_TEXT, "TERM", 0, 0, "first signal"},
    {0},
};

static int stop_one(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PROCESS_WAIT_MS};
    uint64_t grace = 0;
    req.process_id = (char *)(uintptr_t)id;
    if (value_signal("signal", options_text(o, "signal"), &req.signal, err) < 0 ||
        (options_text(o, "grace") &&
         value_duration("grace", options_text(o, "grace"), GRACE_MAX_MS, &grace, err) < 0))
        return -1;
    if (options_text(o, "grace")) {
        req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
        req.grace_ms = (uint32_t)grace;
    }
    StopProcessResponse *res = stop_process_wait(c->channel, &req, &opt, err);
    if (!res)
        return client_explain(c, err);
    if (res->exit)
        tell_end(o, id, res->exit);
    rpc_message_free(res);
    return 0;
}

int cli_stop(int argc, char **argv)
{
    return process_verb(options_new(stop_options, client_options), argc, argv, "stop [options] PROCESS...",
                        "Ends processes and all that descends from them: a signal, a time of grace, KILL.\n"
                        "They are not started again.",
                        stop_one);
}

/* ---- wait ---- */

static int wait_one(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    WaitProcessResponse *res = process_wait(c, id, err);
    if (!res)
        return -1;
    tell_end(o, id, res->exit);
    int code = process_exit_code(res->exit);
    rpc_message_free(res);
    return code;
}

int cli_wait(int argc, char **argv)
{
    return process_verb(
        options_new(client_options, NULL), argc, argv, "wait [options] PROCESS...",
        "Waits for the end of processes and tells it. The exit code is theirs (of several, the\n"
        "largest): the code, 128 + the signal, or 1 for one that was lost.",
        wait_one);
}

/* ---- rm ---- */

static const struct service_option rm_options[] = {
    {"force", SERVICE_OPTION_FLAG, NULL, 0, 0, "kill what still runs"},
    {0},
};

static int rm_one(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    DeleteProcessRequest req = DELETE_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)id;
    req.kill = options_flag(o, "force");
    DeleteProcessResponse *res = delete_process_wait(c->channel, &req, NULL, err);
    if (!res && sa_error_is(*err, SA_PROCESS_RUNNING))
        return sa_wrap(err, "not removed (-f kills it first)");
    if (!res)
        return client_explain(c, err);
    rpc_message_free(res);
    return 0;
}

int cli_rm(int argc, char **argv)
{
    struct options *o = options_new(rm_options, client_options);
    options_letter(o, 'f', "force");
    return process_verb(o, argc, argv, "rm [options] PROCESS...",
                        "Forgets ended processes, with their output.", rm_one);
}
