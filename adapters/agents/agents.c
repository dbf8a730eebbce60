#include "adapters/agents/agents.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/agents/entries.h"

static const struct agent *const catalogue[] = {
    &agent_claude, &agent_codex,  &agent_opencode, &agent_cursor, &agent_amp,
    &agent_pi,     &agent_gemini, &agent_qwen,     &agent_mock,   NULL,
};

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const struct agent *const *agents_all(void)
{
    return catalogue;
}

const struct agent *agents_find(const char *name, sa_error **err)
{
    for (const struct agent *const *a = catalogue; *a; a++)
        if (!strcmp((*a)->name, name))
            return *a;
    cleanup_buf struct sa_buf names = {0};
    for (const struct agent *const *a = catalogue; *a; a++)
        sa_buf_addf(&names, "%s%s", names.len ? ", " : "", (*a)->name);
    sa_fail(err, SA_UNKNOWN_AGENT, "agent \"%.64s\" is not known; there are: %s", name,
            sa_buf_string(&names));
    return NULL;
}

static bool runs(const char *file)
{
    struct stat st;
    return !stat(file, &st) && S_ISREG(st.st_mode) && !access(file, X_OK);
}

static char *in_directory(const char *dir, size_t n, const char *command)
{
    char *file = sa_format("%.*s/%s", (int)n, dir, command);
    if (runs(file))
        return file;
    sa_cleanup_free(&file);
    return NULL;
}

static char *on_path(const char *path, const char *command)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, ":");
        char *file = n && *p == '/' ? in_directory(p, n, command) : NULL;
        if (file)
            return file;
        p += n + (p[n] == ':');
    }
    return NULL;
}

static int not_installed(const struct agent *a, sa_error **err)
{
    if (a->built_in)
        return sa_fail(err, SA_AGENT_NOT_INSTALLED, "agent %s: %s does not lie beside the other programs",
                       a->name, a->command);
    if (!a->npm_packages[0])
        return sa_fail(err, SA_AGENT_NOT_INSTALLED, "agent %s: there is no program %s", a->name, a->command);
    cleanup_buf struct sa_buf packages = {0};
    for (const char *const *p = a->npm_packages; *p; p++)
        sa_buf_addf(&packages, " %s", *p);
    return sa_fail(
        err, SA_AGENT_NOT_INSTALLED,
        "agent %s is not installed: there is no %s in the agents directory or on PATH; npm install%s",
        a->name, a->command, sa_buf_string(&packages));
}

static char *launcher(const struct agent *a, const struct agents_place *place)
{
    if (!place->launchers_dir)
        return NULL;
    cleanup_free char *name = sa_format("%s-acp", a->name);
    return in_directory(place->launchers_dir, strlen(place->launchers_dir), name);
}

static char *in_prefix(const struct agent *a, const struct agents_place *place)
{
    if (!place->agents_dir)
        return NULL;
    cleanup_free char *bin = sa_format("%s/node_modules/.bin", place->agents_dir);
    return in_directory(bin, strlen(bin), a->command);
}

char *agents_command(const struct agent *a, const struct agents_place *place, enum agents_source *ret_source,
                     sa_error **err)
{
    enum agents_source source = AGENTS_LAUNCHER;
    char *file = launcher(a, place);
    if (!file && a->built_in && place->own_dir) {
        source = AGENTS_BUILT_IN;
        file = in_directory(place->own_dir, strlen(place->own_dir), a->command);
    } else if (!file && !a->built_in && *a->command == '/') {
        source = AGENTS_PATH;
        file = runs(a->command) ? sa_strdup(a->command) : NULL;
    } else if (!file && !a->built_in) {
        source = AGENTS_PREFIX;
        file = in_prefix(a, place);
        if (!file) {
            source = AGENTS_PATH;
            file = on_path(place->path ? place->path : default_path, a->command);
        }
    }
    if (!file)
        not_installed(a, err);
    else if (ret_source)
        *ret_source = source;
    return file;
}

char *agents_path(const struct agents_place *place)
{
    const char *path = place->path && *place->path ? place->path : default_path;
    if (!place->agents_dir)
        return sa_strdup(path);
    return sa_format("%s/node_modules/.bin:%s", place->agents_dir, path);
}
