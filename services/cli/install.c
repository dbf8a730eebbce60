/* `sandbox-agent install AGENT`: exactly the npm packages of the catalogue, into the server's agents
 * directory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/agents/agents.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/runtime/options.h"

static const struct service_option install_options[] = {
    {"agents-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "npm prefix; else <data-dir>/agents"},
    {"data-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "of the server; else ~/.local/share/sandbox-agent"},
    {0},
};

static bool is_installed(const struct agent *a, const char *dir)
{
    cleanup_free char *own = cli_sibling("");
    struct agents_place place = {.agents_dir = dir, .own_dir = own};
    cleanup_free char *command = agents_command(a, &place, NULL, NULL);
    return command != NULL;
}

/* Becomes npm; returns only on failure. */
static int run_npm(const struct agent *a, const char *dir, sa_error **err)
{
    struct sa_arena *arena = sa_arena_new();
    char **argv = agents_npm_install(a, dir, NULL, false, arena);
    fflush(stdout);
    execvp(argv[0], argv);
    int failed = errno;
    sa_arena_free(arena);
    errno = failed;
    return sa_fail_errno(err, errno, "npm (from Debian's packages nodejs and npm)");
}

static int install(const char *name, const char *dir, sa_error **err)
{
    const struct agent *a = agents_find(name, err);
    if (!a)
        return -1;
    if (is_installed(a, dir)) {
        printf("%s is installed\n", a->title);
        return 0;
    }
    if (!a->npm_packages || !a->npm_packages[0])
        return sa_fail(err, SA_AGENT_NOT_INSTALLED,
                       "%s is not to be had from npm; put `%s` on PATH of the server", a->title, a->command);
    if (sa_mkdirs(dir, 0755, err) < 0)
        return -1;
    printf("installing %s: %s into %s\n", a->title, a->npm_packages[0], dir);
    return run_npm(a, dir, err);
}

int cli_install(int argc, char **argv)
{
    struct options *o = options_new(install_options, NULL);
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "install [options] AGENT",
                      "Installs a coding agent from npm, in exactly the version that is known to work.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: install which agent? `sandbox-agent agents` lists them\n");
        r = 2;
    }
    if (r < 0) {
        const char *data = options_text(o, "data-dir"), *agents = options_text(o, "agents-dir");
        cleanup_free char *base = data ? sa_strdup(data) : cli_default_data_dir();
        cleanup_free char *dir = agents ? sa_strdup(agents) : sa_format("%s/agents", base);
        bool made = agents || sa_mkdirs(base, 0711, &err) == 0;
        r = !made || install(options_arguments(o)[0], dir, &err) < 0 ? cli_failed(err) : 0;
    }
    options_free(o);
    return r;
}
