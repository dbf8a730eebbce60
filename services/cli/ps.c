/* `sandbox-agent ps`: processes as a table; `inspect`: all about one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/process.h"
#include "services/cli/show.h"

/* ---- ps ---- */

static const struct service_option ps_options[] = {
    {"all", SERVICE_OPTION_FLAG, NULL, 0, 0, "ended ones, too"},
    {"label", SERVICE_OPTION_TEXT, NULL, 0, 0, "only those with this label: NAME or NAME=value"},
    {"quiet", SERVICE_OPTION_FLAG, NULL, 0, 0, "ids only"},
    {0},
};

struct listing {
    const struct options *options;
    bool headed;
};

static void print_ports(const Process *p)
{
    char text[64] = "";
    size_t at = 0;
    for (size_t i = 0; i < p->n_ports && at < sizeof text - 8; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%u", i ? "," : "", p->ports[i]);
    printf("  %-11s", *text ? text : "-");
}

static void print_row(const Process *p)
{
    char state[PROCESS_TEXT], age[PROCESS_TEXT];
    process_state_text(p, state);
    process_age_text(p->start_time, age);
    printf("%-8s  ", process_short_id(p->process_id));
    int n = (int)strlen(state);
    show_text(stdout, state, (size_t)n);
    printf("%*s  %7s  %8u", n < 15 ? 15 - n : 0, "", age, p->restarts);
    print_ports(p);
    printf("  ");
    process_show_command(stdout, p->spec);
    putchar('\n');
}

static bool list_one(void *user, const Process *p)
{
    struct listing *l = user;
    if (p->state == PROCESS_STATE_EXITED && !options_flag(l->options, "all"))
        return true;
    if (options_flag(l->options, "json")) {
        show_json(stdout, &p->base);
    } else if (options_flag(l->options, "quiet")) {
        puts(p->process_id);
    } else {
        if (!l->headed)
            printf("%-8s  %-15s  %7s  %8s  %-11s  %s\n", "ID", "STATE", "AGE", "RESTARTS", "PORTS",
                   "COMMAND");
        print_row(p);
    }
    l->headed = true;
    return true;
}

int cli_ps(int argc, char **argv)
{
    struct options *o = options_new(ps_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    options_letter(o, 'a', "all");
    options_letter(o, 'q', "quiet");
    int r = cli_parse(o, argc, argv, false, "ps [options]",
                      "Lists processes, newest first: those that have not ended, or all with -a.");
    if (r < 0 && options_count(o)) {
        fprintf(stderr, "sandbox-agent: unknown argument `%s`; see --help\n", options_arguments(o)[0]);
        r = 2;
    }
    if (r < 0) {
        struct listing l = {.options = o};
        const char *label = options_text(o, "label") ? options_text(o, "label") : "";
        size_t key = strcspn(label, "=");
        cleanup_free char *name = sa_strndup(label, key);
        r = client_open_process(&c, o, &err) < 0 ||
                    process_each(&c, name, label[key] ? label + key + 1 : "", list_one, &l, &err) < 0
                ? cli_failed(err)
                : 0;
    }
    client_close(&c);
    options_free(o);
    return r;
}

/* ---- inspect ---- */

static void print_line(const char *name, const char *text)
{
    printf("%-12s ", name);
    show_text(stdout, text, strlen(text));
    putchar('\n');
}

static void print_time(const char *name, const Google__Protobuf__Timestamp *t)
{
    char text[64], age[PROCESS_TEXT];
    time_t at = t ? (time_t)t->seconds : 0;
    struct tm tm;
    if (!t || !t->seconds)
        return;
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
    process_age_text(t, age);
    printf("%-12s %s (%s ago)\n", name, text, age);
}

static void print_stream(const char *name, uint64_t first, uint64_t end)
{
    char all[PROCESS_TEXT];
    process_size_text(end, all);
    printf("%-12s %s", name, all);
    if (first)
        printf(", kept from byte %" PRIu64, first);
    putchar('\n');
}

static void print_policies(const Process *p)
{
    const ProcessSpec *s = p->spec;
    char size[PROCESS_TEXT];
    if (s->restart && s->restart->mode > RESTART_MODE_NONE)
        printf("%-12s %s, %u so far\n", "restart",
               show_enum(&restart_mode__descriptor, (int)s->restart->mode, "RESTART_MODE_"), p->restarts);
    if (s->limits && s->limits->memory_bytes) {
        process_size_text(s->limits->memory_bytes, size);
        printf("%-12s memory %s\n", "limit", size);
    }
    if (s->limits && s->limits->pids)
        printf("%-12s %u processes\n", "limit", s->limits->pids);
    if (s->limits && s->limits->cpu_millis)
        printf("%-12s %.3g CPU\n", "limit", s->limits->cpu_millis / 1000.0);
    if (s->limits && s->limits->open_files)
        printf("%-12s %u open files\n", "limit", s->limits->open_files);
    if (s->readiness)
        printf("%-12s %s\n", "ready", p->ready ? "yes" : "no");
    if (s->terminal && p->terminal_size)
        printf("%-12s %u x %u\n", "terminal", p->terminal_size->columns, p->terminal_size->rows);
}

static void print_process(const Process *p)
{
    char text[PROCESS_TEXT];
    print_line("id", p->process_id);
    process_state_text(p, text);
    print_line("state", text);
    printf("%-12s ", "command");
    process_show_command(stdout, p->spec);
    printf("\n%-12s ", "directory");
    show_text(stdout, p->spec->cwd.len ? (const char *)p->spec->cwd.data : "/",
              p->spec->cwd.len ? p->spec->cwd.len : 1);
    printf("\n");
    if (*p->spec->user)
        print_line("user", p->spec->user);
    for (size_t i = 0; i < p->spec->n_labels; i++) {
        cleanup_free char *label = sa_format("%s=%s", p->spec->labels[i]->key, p->spec->labels[i]->value);
        print_line("label", label);
    }
    if (p->pid)
        printf("%-12s %u\n", "pid", p->pid);
    print_time("started", p->start_time);
    if (p->exit)
        print_time("ended", p->exit->time);
    print_policies(p);
    if (p->last_exit) {
        process_exit_text(p->last_exit, text);
        print_line("last run", text);
    }
    print_stream("output", p->stdout_first, p->stdout_end);
    print_stream("errors", p->stderr_first, p->stderr_end);
    printf("%-12s %" PRIu64 " bytes\n", "input", p->stdin_offset);
}

static void print_tree(const GetProcessTreeResponse *tree)
{
    char size[PROCESS_TEXT];
    for (size_t i = 0; i < tree->n_ports; i++) {
        cleanup_free char *port = sa_format("%s, port %u (pid %u)", tree->ports[i]->address,
                                            tree->ports[i]->port, tree->ports[i]->pid);
        print_line("listens on", port);
    }
    for (size_t i = 0; i < tree->n_processes; i++) {
        const SystemProcess *s = tree->processes[i];
        process_size_text(s->usage ? s->usage->resident_bytes : 0, size);
        printf("%-12s %u %s, %s, %.2f s  ", i ? "" : "tree", s->pid, s->state, size,
               s->usage ? (double)(s->usage->user_ms + s->usage->system_ms) / 1000 : 0.0);
        show_text(stdout, (const char *)s->command.data, s->command.len);
        putchar('\n');
    }
}

static int inspect_one(struct client *c, const struct options *o, const char *id, sa_error **err)
{
    GetProcessTreeRequest req = GET_PROCESS_TREE_REQUEST__INIT;
    GetProcessResponse *res = process_get(c, id, err);
    if (!res)
        return -1;
    if (options_flag(o, "json")) {
        show_json(stdout, &res->process->base);
        rpc_message_free(res);
        return 0;
    }
    print_process(res->process);
    bool alive = !res->process->exit || res->process->descendants;
    rpc_message_free(res);
    req.process_id = (char *)(uintptr_t)id;
    GetProcessTreeResponse *tree = alive ? get_process_tree_wait(c->channel, &req, NULL, err) : NULL;
    if (alive && !tree)
        return client_explain(c, err);
    if (tree)
        print_tree(tree);
    rpc_message_free(tree);
    return 0;
}

int cli_inspect(int argc, char **argv)
{
    return process_verb(options_new(client_options, NULL), argc, argv, "inspect [options] PROCESS...",
                        "Shows all that is known about processes, and what runs below them.", inspect_one);
}
