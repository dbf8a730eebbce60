#include "services/cli/command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/cli/cli.h"
#include "services/cli/process.h"

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* Lines of --env, and PATH where they have none. */
static int read_env(struct sa_arena *a, const char *lines, ProcessSpec *spec, sa_error **err)
{
    static const char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char *rest = lines ? sa_arena_strdup(a, lines) : NULL;
    bool has_path = false;
    size_t max = 2;
    for (const char *c = lines; c && *c; c++)
        max += *c == '\n';
    spec->env = sa_arena_alloc(a, max * sizeof *spec->env);
    for (char *line; rest && (line = strsep(&rest, "\n"));) {
        const char *own = strchr(line, '=') ? NULL : getenv(line);
        if (*line == '=' || !*line || (!own && !strchr(line, '=')))
            return sa_fail(err, SA_INVALID_CONFIG,
                           "option `--env`: `%s` is neither NAME=value nor a variable that we have", line);
        if (own)
            line = sa_arena_format(a, "%s=%s", line, own);
        has_path |= !strncmp(line, "PATH=", 5);
        spec->env[spec->n_env++] = bytes_of(line);
    }
    if (!has_path)
        spec->env[spec->n_env++] = bytes_of(path);
    return 0;
}

static int read_cwd(struct sa_arena *a, const char *cwd, ProcessSpec *spec, sa_error **err)
{
    cleanup_free char *here = cwd && *cwd != '/' ? getcwd(NULL, 0) : NULL;
    if (!cwd)
        return 0;
    if (*cwd != '/' && !here)
        return sa_fail(err, SA_FILE_NOT_FOUND,
                       "option `--cwd`: our own directory is gone, `%s` means nothing", cwd);
    spec->cwd = bytes_of(here ? sa_arena_format(a, "%s/%s", here, cwd) : sa_arena_strdup(a, cwd));
    return 0;
}

ProcessSpec *command_spec(struct sa_arena *a, const struct options *o, sa_error **err)
{
    ProcessSpec *spec = sa_arena_alloc(a, sizeof *spec);
    process_spec__init(spec);
    spec->n_argv = (size_t)options_count(o);
    spec->argv = sa_arena_alloc(a, (spec->n_argv + 1) * sizeof *spec->argv);
    for (size_t i = 0; i < spec->n_argv; i++)
        spec->argv[i] = bytes_of(options_arguments(o)[i]);
    if (options_text(o, "user"))
        spec->user = (char *)(uintptr_t)options_text(o, "user");
    if (options_text(o, "group"))
        spec->group = (char *)(uintptr_t)options_text(o, "group");
    if (read_env(a, options_text(o, "env"), spec, err) < 0 ||
        read_cwd(a, options_text(o, "cwd"), spec, err) < 0)
        return NULL;
    return spec;
}

int command_failed(sa_error *err)
{
    int code = sa_error_is(err, SA_EXEC_FAILED) ? PROCESS_NO_COMMAND : PROCESS_RUN_FAILED;
    cli_failed(err);
    return code;
}
