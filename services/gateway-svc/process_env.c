/* What a process starts with that is not told otherwise: little, and nothing of the environment of services
 * but how to find programs and how to write. */
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "services/gateway-svc/gateway.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *or_else(const char *text, const char *other)
{
    return text && *text ? text : other;
}

/* The home directory is that of fs-svc, so that relative paths mean the same in both. */
void process_env_init(struct gateway *gw)
{
    const char *user = service_agent_user(gw->svc), *own = getenv("HOME");
    struct passwd *pw = user ? getpwnam(user) : getpwuid(geteuid());
    const char *home = or_else(pw ? pw->pw_dir : NULL, "/");
    const char *name = pw ? pw->pw_name : or_else(user, "user");
    size_t n = 0;
    if (!user && own && *own == '/')
        home = own;
    gw->home = sa_strdup(home);
    gw->env[n++] = sa_format("PATH=%s", or_else(getenv("PATH"), DEFAULT_PATH));
    gw->env[n++] = sa_format("HOME=%s", home);
    gw->env[n++] = sa_format("USER=%s", name);
    gw->env[n++] = sa_format("LOGNAME=%s", name);
    gw->env[n++] = sa_format("SHELL=%s", or_else(pw ? pw->pw_shell : NULL, "/bin/sh"));
    gw->env[n++] = sa_format("LANG=%s", or_else(getenv("LANG"), "C.UTF-8"));
    if (getenv("TZ"))
        gw->env[n++] = sa_format("TZ=%s", getenv("TZ"));
}

void process_env_fini(struct gateway *gw)
{
    for (size_t i = 0; i < GATEWAY_ENV_MAX; i++)
        free(gw->env[i]);
    free(gw->home);
}
