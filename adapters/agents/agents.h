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

struct agent {
    const char *name;  /* as CreateSession takes it */
    const char *title; /* for a person */
    const char *const
        *npm_packages;              /* exact package@version, the first one is the adapter; NULL-terminated */
    const char *command;            /* program that speaks ACP on its standard streams */
    const char *const *arguments;   /* after the command; NULL-terminated */
    const char *const *environment; /* defaults as NAME=value; NULL-terminated */
    const char *const
        *credentials;       /* variables worth passing on from the services' environment; NULL-terminated */
    uint32_t initialize_ms; /* how long it may take to answer `initialize` */
    uint32_t open_ms;       /* and session/new, load, resume, set_mode */
    bool built_in;          /* the program lies beside our own */
    bool no_files;          /* works better when the client offers no fs methods */
};

/* All agents in their fixed order, NULL-terminated. */
const struct agent *const *agents_all(void);
/* NULL: UNKNOWN_AGENT names it and those there are. */
const struct agent *agents_find(const char *name, sa_error **err);

/* Where programs are looked for. Any may be NULL. */
struct agents_place {
    const char *agents_dir; /* npm prefix: programs in <agents_dir>/node_modules/.bin */
    const char *own_dir;    /* directory of our own programs */
    const char *path;       /* PATH */
};

/* Absolute path of the agent's program; NULL when there is none: AGENT_NOT_INSTALLED says what to install.
 * Looks at the file system. free() it. */
char *agents_command(const struct agent *a, const struct agents_place *place, sa_error **err);

/* PATH for the agent: its prefix first, so that helpers installed with it are found. free() it. */
char *agents_path(const struct agents_place *place);

#endif
