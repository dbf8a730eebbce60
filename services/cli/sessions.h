/* Verbs of `sandbox-agent sessions`, of the form of main(): see cli.h. */
#ifndef SERVICES_CLI_SESSIONS_H_
#define SERVICES_CLI_SESSIONS_H_

/* sessions_transcript.c */
int sessions_export(int argc, char **argv);
int sessions_import(int argc, char **argv);
int sessions_verify(int argc, char **argv);
/* sessions_search.c */
int sessions_search(int argc, char **argv);

#endif
