/* Verbs whose first word says what to do: `mcp ls`, `mcp set NAME ...`. */
#ifndef SERVICES_CLI_ACTIONS_H_
#define SERVICES_CLI_ACTIONS_H_

#include "services/cli/client.h"

struct action {
    const char *word; /* NULL ends the table; the first one is also done when there is no word */
    int least, most;  /* plain arguments after the word; most < 0: any number */
    int (*act)(struct client *c, const struct options *o, char **words, int n, sa_error **err);
};

struct action_verb {
    const struct service_option *own; /* NULL: none */
    const struct action *actions;
    bool stop_at_first; /* what follows the first plain argument is not looked at for options */
    const char *usage, *summary;
};

/* The exit code. */
int cli_act(const struct action_verb *v, int argc, char **argv);

#endif
