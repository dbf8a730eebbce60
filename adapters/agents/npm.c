#include <ctype.h>
#include <string.h>

#include "adapters/agents/agents.h"
#include "adapters/json/json.h"
#include "adapters/os/file.h"

/* What runs agents that need a newer Node than there is. */
static const char node_package[] = "node@22.23.3";

enum { PACKAGES_MAX = 16, PACKAGE_JSON_MAX = 1 << 20 };

static char *copy(struct sa_arena *arena, const char *text)
{
    return sa_arena_strdup(arena, text);
}

char **agents_npm_install(const struct agent *a, const char *prefix, const char *adapter, bool with_node,
                          struct sa_arena *arena)
{
    static const char *const words[] = {"npm",
                                        "install",
                                        "--save-exact",
                                        "--no-audit",
                                        "--no-fund",
                                        "--no-update-notifier",
                                        "--loglevel=error",
                                        "--prefix"};
    enum { WORDS = sizeof words / sizeof *words };
    char **argv = sa_arena_alloc(arena, (WORDS + PACKAGES_MAX + 3) * sizeof *argv);
    size_t n = 0;
    for (; n < WORDS; n++)
        argv[n] = copy(arena, words[n]);
    argv[n++] = copy(arena, prefix);
    for (size_t i = 0; a->npm_packages[i] && i < PACKAGES_MAX; i++)
        argv[n++] = copy(arena, i == 0 && adapter ? adapter : a->npm_packages[i]);
    if (with_node)
        argv[n++] = copy(arena, node_package);
    return argv;
}

/* "@scope/name@1.2.3": the length of the name. */
static size_t name_length(const char *package)
{
    const char *at = strchr(package + (*package == '@'), '@');
    return at ? (size_t)(at - package) : strlen(package);
}

char **agents_npm_uninstall(const struct agent *a, const char *prefix, struct sa_arena *arena)
{
    static const char *const words[] = {"npm",       "uninstall",        "--no-audit",
                                        "--no-fund", "--loglevel=error", "--prefix"};
    enum { WORDS = sizeof words / sizeof *words };
    char **argv = sa_arena_alloc(arena, (WORDS + PACKAGES_MAX + 2) * sizeof *argv);
    size_t n = 0;
    for (; n < WORDS; n++)
        argv[n] = copy(arena, words[n]);
    argv[n++] = copy(arena, prefix);
    for (size_t i = 0; a->npm_packages[i] && i < PACKAGES_MAX; i++)
        argv[n++] = sa_arena_format(arena, "%.*s", (int)name_length(a->npm_packages[i]), a->npm_packages[i]);
    return argv;
}

/* 1.2.3, 1.2.3-beta.1+build */
static bool is_version(const char *v)
{
    for (int dots = 0; dots < 3; dots++, v++) {
        if (!isdigit((unsigned char)*v))
            return false;
        while (isdigit((unsigned char)*v))
            v++;
        if (dots == 2)
            break;
        if (*v != '.')
            return false;
    }
    return !*v || ((*v == '-' || *v == '+') && !v[strspn(v, "-+.0123456789abcdefghijklmnopqrstuvwxyz"
                                                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ")]);
}

static bool is_name(const char *p, size_t n)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.@/";
    size_t slashes = 0;
    for (size_t i = 0; i < n; i++) {
        if (!strchr(allowed, p[i]) || (p[i] == '@' && i) || (p[i] == '.' && (!i || p[i - 1] == '/')))
            return false;
        slashes += p[i] == '/';
    }
    return n && *p != '-' && slashes == (*p == '@') && p[n - 1] != '/';
}

bool agents_npm_exact(const char *package)
{
    size_t n = name_length(package);
    return package[n] == '@' && is_name(package, n) && is_version(package + n + 1);
}

char *agents_npm_version(const char *prefix, const char *package)
{
    cleanup_free char *file =
        sa_format("%s/node_modules/%.*s/package.json", prefix, (int)name_length(package), package);
    cleanup_buf struct sa_buf text = {0};
    struct json v;
    if (sa_read_file(file, PACKAGE_JSON_MAX, &text, NULL) || json_check(text.data, text.len, &v, NULL))
        return NULL;
    return json_string(json_get(v, "version"));
}

int agents_npm_check(const struct agent *a, const char *prefix, const char *adapter, sa_error **err)
{
    for (size_t i = 0; a->npm_packages[i]; i++) {
        const char *wanted = i == 0 && adapter ? adapter : a->npm_packages[i];
        cleanup_free char *version = agents_npm_version(prefix, wanted);
        if (!version)
            return sa_fail(err, SA_AGENT_INSTALL_FAILED, "agent %s: %s is not in %s", a->name, wanted,
                           prefix);
        if (strcmp(version, wanted + name_length(wanted) + 1) != 0)
            return sa_fail(err, SA_AGENT_INSTALL_FAILED, "agent %s: version %.64s is there instead of %s",
                           a->name, version, wanted);
    }
    return 0;
}
