/* `sandbox-agent start COMMAND...`: starts a process that goes on by itself; prints its id. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "services/cli/cli.h"
#include "services/cli/command.h"
#include "services/cli/process.h"
#include "services/cli/show.h"
#include "services/cli/values.h"

enum { LOOK_AGAIN_US = 50000, WAIT_MAX_MS = 86400000 };

static const struct service_option start_options[] = {
    {"cwd", SERVICE_OPTION_TEXT, NULL, 0, 0, "its directory; a relative one begins at ours (default /)"},
    {"env", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value, or NAME for ours; else it has only PATH"},
    {"user", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this user"},
    {"group", SERVICE_OPTION_TEXT, NULL, 0, 0, "run it as this group"},
    {"name", SERVICE_OPTION_TEXT, NULL, 0, 0, "what it may be called in other verbs; the label `name`"},
    {"label", SERVICE_OPTION_LIST, NULL, 0, 0, "NAME=value, for ps --label"},
    {"tty", SERVICE_OPTION_FLAG, NULL, 0, 0, "on a terminal, of the size of ours"},
    {"restart", SERVICE_OPTION_TEXT, "none", 0, 0,
     "none, on-failure or always; :N after it gives up after N times (default 10)"},
    {"ready-output", SERVICE_OPTION_TEXT, NULL, 0, 0, "it is ready once it has written this"},
    {"ready-port", SERVICE_OPTION_UINT, NULL, 1, 65535, "it is ready once it listens there"},
    {"wait-ready", SERVICE_OPTION_FLAG, NULL, 0, 0, "return once it is ready; 1: it has ended before"},
    {"wait-timeout", SERVICE_OPTION_TEXT, "1m", 0, 0, "of --wait-ready"},
    {"memory", SERVICE_OPTION_TEXT, NULL, 0, 0, "limit for all that descends from it, such as 512M"},
    {"pids", SERVICE_OPTION_UINT, "0", 0, UINT32_MAX, "limit of processes and threads"},
    {"cpu", SERVICE_OPTION_TEXT, NULL, 0, 0, "limit in CPUs, such as 1.5"},
    {"open-files", SERVICE_OPTION_UINT, "0", 0, UINT32_MAX, "limit of open files of each process"},
    {"journal", SERVICE_OPTION_TEXT, NULL, 0, 0, "output that is kept of each stream (default 16M)"},
    {0},
};

/* ---- the spec ---- */

static void add_label(struct sa_arena *a, ProcessSpec *spec, const char *key, const char *value)
{
    ProcessSpec__LabelsEntry *l = spec->labels[spec->n_labels++] = sa_arena_alloc(a, sizeof *l);
    process_spec__labels_entry__init(l);
    l->key = (char *)(uintptr_t)key;
    l->value = (char *)(uintptr_t)value;
}

static int add_labels(struct sa_arena *a, ProcessSpec *spec, const struct options *o, sa_error **err)
{
    const char *lines = options_text(o, "label");
    char *rest = lines ? sa_arena_strdup(a, lines) : NULL;
    size_t max = 2;
    for (const char *c = lines; c && *c; c++)
        max += *c == '\n';
    spec->labels = sa_arena_alloc(a, max * sizeof *spec->labels);
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, '=');
        if (!value || value == line)
            return sa_fail(err, SA_INVALID_CONFIG, "option `--label`: `%s` is not NAME=value", line);
        *value = 0;
        add_label(a, spec, line, value + 1);
    }
    if (options_text(o, "name"))
        add_label(a, spec, PROCESS_NAME_LABEL, options_text(o, "name"));
    return 0;
}

static int add_restart(struct sa_arena *a, ProcessSpec *spec, const char *text, sa_error **err)
{
    static const struct {
        const char *name;
        RestartMode mode;
    } modes[] = {{"none", RESTART_MODE_NONE},
                 {"on-failure", RESTART_MODE_ON_FAILURE},
                 {"always", RESTART_MODE_ALWAYS}};
    size_t n = strcspn(text, ":"), i = 0;
    char *end = NULL;
    unsigned long times = text[n] ? strtoul(text + n + 1, &end, 10) : 0;
    while (i < 3 && (strlen(modes[i].name) != n || strncmp(modes[i].name, text, n) != 0))
        i++;
    if (i == 3 || (text[n] && (*end || end == text + n + 1 || !times || times > UINT32_MAX)))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--restart` is none, on-failure or always, not `%s`",
                       text);
    if (modes[i].mode == RESTART_MODE_NONE)
        return 0;
    spec->restart = sa_arena_alloc(a, sizeof *spec->restart);
    restart_policy__init(spec->restart);
    spec->restart->mode = modes[i].mode;
    spec->restart->max_restarts = (uint32_t)times;
    return 0;
}

static int add_limits(struct sa_arena *a, ProcessSpec *spec, const struct options *o, sa_error **err)
{
    ProcessLimits *l = sa_arena_alloc(a, sizeof *l);
    process_limits__init(l);
    if (options_text(o, "memory") &&
        value_size("memory", options_text(o, "memory"), &l->memory_bytes, err) < 0)
        return -1;
    if (options_text(o, "cpu") && value_thousandths("cpu", options_text(o, "cpu"), &l->cpu_millis, err) < 0)
        return -1;
    if (options_text(o, "journal") &&
        value_size("journal", options_text(o, "journal"), &spec->journal_bytes, err) < 0)
        return -1;
    l->pids = (uint32_t)options_uint(o, "pids");
    l->open_files = (uint32_t)options_uint(o, "open-files");
    if (l->memory_bytes || l->cpu_millis || l->pids || l->open_files)
        spec->limits = l;
    return 0;
}

static int add_readiness(struct sa_arena *a, ProcessSpec *spec, const struct options *o, sa_error **err)
{
    const char *output = options_text(o, "ready-output");
    bool port = options_given(o, "ready-port");
    if (output && port)
        return sa_fail(err, SA_INVALID_CONFIG, "--ready-output and --ready-port exclude each other");
    if (!output && !port)
        return 0;
    ReadinessProbe *probe = spec->readiness = sa_arena_alloc(a, sizeof *probe);
    readiness_probe__init(probe);
    probe->kind_case = port ? READINESS_PROBE__KIND_TCP_PORT : READINESS_PROBE__KIND_OUTPUT_CONTAINS;
    if (port)
        probe->tcp_port = (uint32_t)options_uint(o, "ready-port");
    else
        probe->output_contains = (ProtobufCBinaryData){strlen(output), (uint8_t *)(uintptr_t)output};
    return 0;
}

static void add_terminal(struct sa_arena *a, ProcessSpec *spec)
{
    struct winsize size = {0};
    spec->terminal = sa_arena_alloc(a, sizeof *spec->terminal);
    terminal_spec__init(spec->terminal);
    if (ioctl(0, TIOCGWINSZ, &size) == 0 || ioctl(1, TIOCGWINSZ, &size) == 0) {
        spec->terminal->rows = size.ws_row;
        spec->terminal->columns = size.ws_col;
    }
    if (getenv("TERM"))
        spec->terminal->term = getenv("TERM");
}

static ProcessSpec *read_spec(struct sa_arena *a, const struct options *o, sa_error **err)
{
    ProcessSpec *spec = command_spec(a, o, err);
    if (!spec || add_labels(a, spec, o, err) < 0 ||
        add_restart(a, spec, options_text(o, "restart"), err) < 0 || add_limits(a, spec, o, err) < 0 ||
        add_readiness(a, spec, o, err) < 0)
        return NULL;
    if (options_flag(o, "tty"))
        add_terminal(a, spec);
    return spec;
}

/* ---- readiness ---- */

/* 0 once it is ready, 1 when that will not be. */
static int wait_ready(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    uint64_t ms, until;
    if (value_duration("wait-timeout", options_text(o, "wait-timeout"), WAIT_MAX_MS, &ms, err) < 0)
        return -1;
    for (until = sa_now_ms() + ms;; usleep(LOOK_AGAIN_US)) {
        char text[PROCESS_TEXT];
        GetProcessResponse *res = process_get(c, id, err);
        if (!res)
            return -1;
        bool ready = res->process->ready, ended = res->process->exit;
        process_state_text(res->process, text);
        rpc_message_free(res);
        if (ready)
            return 0;
        if (ended || sa_now_ms() >= until) {
            fprintf(stderr, "sandbox-agent: process %s is not ready: %s\n", process_short_id(id), text);
            return 1;
        }
    }
}

/* ---- the verb ---- */

static int start(struct client *c, const struct options *o, int *ret_code, sa_error **err)
{
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    struct sa_arena *a = sa_arena_new();
    StartProcessResponse *res = NULL;
    char request_id[SA_ID_TEXT + 1];
    sa_id_format(sa_id_new(), request_id);
    req.request_id = request_id;
    req.spec = read_spec(a, o, err);
    if (req.spec && client_open_process(c, o, err) == 0 &&
        !(res = start_process_wait(c->channel, &req, NULL, err)))
        client_explain(c, err);
    sa_arena_free(a);
    if (!res)
        return -1;
    cleanup_free char *id = sa_strdup(res->process->process_id);
    if (options_flag(o, "json"))
        show_json(stdout, &res->process->base);
    else
        puts(id);
    fflush(stdout);
    rpc_message_free(res);
    *ret_code = options_flag(o, "wait-ready") ? wait_ready(c, o, id, err) : 0;
    return *ret_code < 0 ? -1 : 0;
}

int cli_start(int argc, char **argv)
{
    struct options *o = options_new(start_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    options_letter(o, 't', "tty");
    int r = cli_parse(
        o, argc, argv, true, "start [options] [--] COMMAND [ARGUMENT]...",
        "Starts a process that goes on by itself, and prints its id. 127: there is no such command,\n"
        "125: it was not started.");
    if (r < 0 && !options_count(o)) {
        fprintf(stderr, "sandbox-agent: start what? See --help\n");
        r = 2;
    }
    if (r < 0 && start(&c, o, &r, &err) < 0)
        r = command_failed(err);
    client_close(&c);
    options_free(o);
    return r;
}
