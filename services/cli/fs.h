/* What the verbs `sandbox-agent fs VERB` have in common. Each is a file fs_<verb>.c and a function of the
 * form of main() (cli.h) in the table of fs.c. */
#ifndef SERVICES_CLI_FS_H_
#define SERVICES_CLI_FS_H_

#include <stdio.h>

#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "services/cli/client.h"

int fs_append(int argc, char **argv);
int fs_cat(int argc, char **argv);
int fs_get(int argc, char **argv);
int fs_ls(int argc, char **argv);
int fs_put(int argc, char **argv);
int fs_stat(int argc, char **argv);
int fs_mkdir(int argc, char **argv);
int fs_rm(int argc, char **argv);
int fs_mv(int argc, char **argv);
int fs_cp(int argc, char **argv);
int fs_ln(int argc, char **argv);
int fs_chmod(int argc, char **argv);
int fs_touch(int argc, char **argv);
int fs_du(int argc, char **argv);
int fs_roots(int argc, char **argv);
int fs_find(int argc, char **argv);
int fs_grep(int argc, char **argv);
int fs_upload(int argc, char **argv);
int fs_download(int argc, char **argv);
int fs_write(int argc, char **argv);
int fs_watch(int argc, char **argv);
int fs_mark(int argc, char **argv);
int fs_diff(int argc, char **argv);

/* A verb: its words are parsed with `own` (NULL: none), --root and the client's options; it wants from
 * `least` to `most` plain arguments (most < 0: any number). With the connection open, `act` does it and
 * answers the exit code, or -1 and *err, which is printed. usage goes on after "sandbox-agent fs ". */
struct fs_verb {
    const struct service_option *own;
    const char *letters; /* pairs of a letter and the option that it stands for: "l=long,a=all"; NULL: none */
    const char *usage, *summary;
    int least, most;
    int (*act)(struct client *c, const struct options *o, sa_error **err);
};
int fs_verb(const struct fs_verb *v, int argc, char **argv);

/* --root, or "" for the default one; for a message, which does not change it. */
char *fs_root(const struct options *o);
/* A plain argument as bytes of a message; borrowed. */
ProtobufCBinaryData fs_path(const char *argument);
/* Does it with every plain argument from the one with this index on; what fails with one is told and does not
 * hinder the others. The exit code. */
int fs_each(struct client *c, const struct options *o, int first,
            int (*act)(struct client *c, const struct options *o, const char *path, sa_error **err));
/* For calls that take as long as a tree is large. */
extern const struct rpc_call_options fs_patient;
/* The error of one of several paths: printed; 1. Takes err. */
int fs_failed(const struct client *c, sa_error *err);

/* A name from a file system: without control characters. */
void fs_show_name(FILE *out, ProtobufCBinaryData name);
/* Prints an answer as JSON if so wanted; false: it is not. */
bool fs_show_json(const struct options *o, const ProtobufCMessage *m);
/* "drwxr-xr-x" of a file. */
enum { FS_MODE_TEXT = 11 };
void fs_mode_text(const FileInfo *f, char ret[static FS_MODE_TEXT]);
/* "2026-11-25 16:47:03", local time; "-" when it is not told. */
enum { FS_TIME_TEXT = 32 };
void fs_time_text(const Google__Protobuf__Timestamp *t, char ret[static FS_TIME_TEXT]);

#endif
