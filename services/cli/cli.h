/* The verbs of the sandbox-agent command. Each is one file and one function of the form of main(): argv[0] is
 * the verb. It returns the exit code: 0, or 1 after one line on standard error (2: it was called wrongly). */
#ifndef SERVICES_CLI_CLI_H_
#define SERVICES_CLI_CLI_H_

#include "adapters/os/error.h"

int cli_server(int argc, char **argv);
int cli_supervise(int argc, char **argv);
int cli_health(int argc, char **argv);
int cli_install(int argc, char **argv);
int cli_prompt(int argc, char **argv);
int cli_sessions(int argc, char **argv);
int cli_turns(int argc, char **argv);
int cli_queue(int argc, char **argv);
int cli_events(int argc, char **argv);
int cli_attach(int argc, char **argv);
int cli_agents(int argc, char **argv);
int cli_permissions(int argc, char **argv);
int cli_run(int argc, char **argv);
int cli_start(int argc, char **argv);
int cli_exec(int argc, char **argv);
int cli_ps(int argc, char **argv);
int cli_logs(int argc, char **argv);
int cli_kill(int argc, char **argv);
int cli_stop(int argc, char **argv);
int cli_wait(int argc, char **argv);
int cli_rm(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_census(int argc, char **argv);
int cli_process_config(int argc, char **argv);
int cli_fs(int argc, char **argv);
int cli_mcp(int argc, char **argv);
int cli_skills(int argc, char **argv);
int cli_credentials(int argc, char **argv);

/* Prints "sandbox-agent: <message>" and returns 1. Takes err. */
int cli_failed(sa_error *err);

struct options;
/* Parses the words of a verb. Returns -1 to go on; else the exit code: the help was shown, or an error.
 * `usage` goes on after "sandbox-agent ". */
int cli_parse(struct options *o, int argc, char **argv, bool stop_at_first, const char *usage,
              const char *summary);

/* Where the server keeps its data, unless told otherwise: $SANDBOX_AGENT_DATA_DIR,
 * $XDG_DATA_HOME/sandbox-agent or
 * ~/.local/share/sandbox-agent. free() it. */
char *cli_default_data_dir(void);
/* A program that lies beside our own. free() it. */
char *cli_sibling(const char *name);

#endif
