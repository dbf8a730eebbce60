/* The sandbox-agent command: a table of verbs. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/runtime/options.h"

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
} verbs[] = {
    {"server", cli_server, "start all services and keep them running"},
    {"supervise", cli_supervise, "keep one command running, as process 1 of a container"},
    {"health", cli_health, "ask one service of this machine whether it serves"},
    {"install", cli_install, "install a coding agent"},
    {"agents", cli_agents, "which agents there are; report and install one"},
    {"mcp", cli_mcp, "MCP servers that agents are told of"},
    {"skills", cli_skills, "skills that agents find"},
    {"credentials", cli_credentials, "secrets that sessions refer to by name"},
    {"prompt", cli_prompt, "ask an agent and show what it does"},
    {"sessions", cli_sessions, "list, show, rename, archive, suspend, resume or fork sessions"},
    {"turns", cli_turns, "list the turns of a session"},
    {"queue", cli_queue, "prompts that wait: list, move, withdraw"},
    {"events", cli_events, "show the events of a session"},
    {"attach", cli_attach, "follow a session, answer its questions, send prompts"},
    {"permissions", cli_permissions, "list or answer what agents ask permission for"},
    {"run", cli_run, "run a command to its end"},
    {"start", cli_start, "start a process that goes on by itself"},
    {"exec", cli_exec, "run a command on this terminal, or join one that runs"},
    {"ps", cli_ps, "list processes"},
    {"logs", cli_logs, "show what processes have written"},
    {"kill", cli_kill, "send processes a signal"},
    {"stop", cli_stop, "end processes and all that descends from them"},
    {"wait", cli_wait, "wait for the end of processes"},
    {"rm", cli_rm, "forget ended processes"},
    {"inspect", cli_inspect, "show all about processes"},
    {"census", cli_census, "show what is alive, and kill what belongs to nobody"},
    {"process-config", cli_process_config, "limits and defaults of the process service"},
    {"fs", cli_fs, "files: list, read, write, search, watch; `fs --help` has the verbs"},
};

static void print_help(FILE *out)
{
    fprintf(out,
            "usage: sandbox-agent VERB [options]\n\n"
            "Coding agents in sandboxes behind one API. `sandbox-agent VERB --help` tells more.\n\nVerbs:\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(out, "  %-14s %s\n", verbs[i].name, verbs[i].doc);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(name, verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    print_help(help ? stdout : stderr);
    if (!help)
        fprintf(stderr, "\nsandbox-agent: there is no verb `%s`\n", name);
    return help && argc > 1 ? 0 : 2;
}

int cli_failed(sa_error *err)
{
    fprintf(stderr, "sandbox-agent: %s\n", err->message);
    sa_error_free(err);
    return 1;
}

int cli_parse(struct options *o, int argc, char **argv, bool stop_at_first, const char *usage,
              const char *summary)
{
    sa_error *err = NULL;
    int r = options_parse(o, argc, argv, stop_at_first, &err);
    if (r == 0 && options_help_wanted(o)) {
        cleanup_free char *full = sa_format("sandbox-agent %s", usage);
        options_print_help(o, stdout, full, summary);
        return 0;
    }
    if (r == 0)
        return -1;
    cli_failed(err);
    return 2;
}

char *cli_default_data_dir(void)
{
    const char *own = getenv("SANDBOX_AGENT_DATA_DIR"), *xdg = getenv("XDG_DATA_HOME"),
               *home = getenv("HOME");
    if (own && *own)
        return sa_strdup(own);
    if (xdg && *xdg == '/')
        return sa_format("%s/sandbox-agent", xdg);
    return sa_format("%s/.local/share/sandbox-agent", home && *home ? home : "/root");
}

char *cli_sibling(const char *name)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    return sa_format("%s/%s", self, name);
}
