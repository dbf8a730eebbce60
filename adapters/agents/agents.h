/* The catalogue of coding agents: how each is installed, started, what it needs and where it differs. Data
 * and pure functions: any thread, no state. What is particular to an agent stands in its entry and nowhere
 * else. */
#ifndef ADAPTERS_AGENTS_AGENTS_H_
#define ADAPTERS_AGENTS_AGENTS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adapters/os/error.h"
#include "adapters/os/mem.h"

/* What an agent can do, as far as it is known without asking it. */
enum agent_feature {
    AGENT_LOAD = 1 << 0,
    AGENT_RESUME = 1 << 1,
    AGENT_LIST = 1 << 2,
    AGENT_FORK = 1 << 3,
    AGENT_CLOSE = 1 << 4,
    AGENT_IMAGE = 1 << 5,
    AGENT_AUDIO = 1 << 6,
    AGENT_EMBEDDED = 1 << 7, /* embedded resources in prompts */
    AGENT_MCP_HTTP = 1 << 8,
    AGENT_MCP_SSE = 1 << 9,
};

struct agent {
    const char *name;  /* as CreateSession takes it */
    const char *title; /* for a person */
    const char *const
        *npm_packages;              /* exact package@version, the first one is the adapter; NULL-terminated */
    const char *command;            /* program that speaks ACP on its standard streams */
    const char *const *arguments;   /* after the command; NULL-terminated */
    const char *const *environment; /* defaults as NAME=value; NULL-terminated */
    const char *const
        *credentials;        /* variables worth passing on from the services' environment; NULL-terminated */
    uint32_t initialize_ms;  /* how long it may take to answer `initialize` */
    uint32_t open_ms;        /* and session/new, load, resume, set_mode */
    bool built_in;           /* the program lies beside our own */
    bool no_files;           /* works better when the client offers no fs methods */
    bool no_load, no_resume; /* its session/load, session/resume is not to be used */
    uint32_t features;       /* of enum agent_feature */
    uint32_t node_min;       /* major version of Node that it needs; 0: any */
    const char *registry_id; /* in the ACP registry; NULL: none */
    /* NULL: none or not known. */
    const char *const *modes; /* the default one first */
    const char *const *thought_levels;
    const char *const *credential_files; /* below HOME: where it keeps a login of its own */
    const char *const *skill_dirs;       /* below the working directory: where it looks for skills */
};

/* All agents in their fixed order, NULL-terminated. */
const struct agent *const *agents_all(void);
/* NULL: UNKNOWN_AGENT names it and those there are. */
const struct agent *agents_find(const char *name, sa_error **err);

/* Where programs are looked for. Any may be NULL. */
struct agents_place {
    const char *launchers_dir; /* <launchers_dir>/<agent>-acp wins over everything, and takes no arguments */
    const char *agents_dir;    /* npm prefix: programs in <agents_dir>/node_modules/.bin */
    const char *own_dir;       /* directory of our own programs */
    const char *path;          /* PATH */
};

enum agents_source { AGENTS_LAUNCHER, AGENTS_BUILT_IN, AGENTS_PREFIX, AGENTS_PATH };

/* Absolute path of the agent's program; NULL when there is none: AGENT_NOT_INSTALLED says what to install.
 * Looks at the file system. free() it. ret_source: where it was found; may be NULL. */
char *agents_command(const struct agent *a, const struct agents_place *place, enum agents_source *ret_source,
                     sa_error **err);

/* PATH for the agent: its prefix first, so that helpers installed with it are found. free() it. */
char *agents_path(const struct agents_place *place);

/* ---- npm.c: what is installed from npm, always in exact versions ---- */

/* The command line that installs the agent's packages into a prefix, NULL-terminated, in the arena. adapter:
 * used instead of the first package; NULL: that one. with_node: a private Node, too. */
char **agents_npm_install(const struct agent *a, const char *prefix, const char *adapter, bool with_node,
                          struct sa_arena *arena);
/* The one that removes them. */
char **agents_npm_uninstall(const struct agent *a, const char *prefix, struct sa_arena *arena);
/* Is this package@version with a version that npm cannot understand as a range or a tag? */
bool agents_npm_exact(const char *package);
/* Version in which a package (package@version: any version of it) lies in the prefix; NULL: it does not.
 * Reads its package.json. free() it. */
char *agents_npm_version(const char *prefix, const char *package);
/* Do all packages lie there in exactly the wanted versions? AGENT_INSTALL_FAILED names one that does not. */
int agents_npm_check(const struct agent *a, const char *prefix, const char *adapter, sa_error **err);

#endif
