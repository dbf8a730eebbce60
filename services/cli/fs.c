/* `sandbox-agent fs VERB`: a table of verbs, and what they have in common. */
#include "services/cli/fs.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/show.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *doc;
} verbs[] = {
    {"append", fs_append, "add standard input to the end of a file"},
    {"cat", fs_cat, "print files, or lines or bytes of them"},
    {"get", fs_get, "fetch a file"},
    {"ls", fs_ls, "list directories"},
    {"put", fs_put, "send a file"},
    {"stat", fs_stat, "show all about files"},
    {"mkdir", fs_mkdir, "make directories"},
    {"rm", fs_rm, "delete files, or trees with -r"},
    {"mv", fs_mv, "move files and directories"},
    {"cp", fs_cp, "copy files, or trees with -r"},
    {"ln", fs_ln, "make a symbolic link"},
    {"chmod", fs_chmod, "change permissions"},
    {"touch", fs_touch, "set the time of files to now, or make empty ones"},
    {"du", fs_du, "how much trees take"},
    {"roots", fs_roots, "list the roots of the server"},
    {"find", fs_find, "find files by name and properties"},
    {"grep", fs_grep, "find lines of files"},
    {"upload", fs_upload, "unpack a directory or an archive of this machine there"},
    {"download", fs_download, "pack a directory there, or unpack it here"},
    {"write", fs_write, "replace a file by standard input"},
    {"watch", fs_watch, "show what changes below a directory"},
    {"mark", fs_mark, "record how a directory is"},
    {"diff", fs_diff, "show what changed since a mark"},
};

static const struct service_option common[] = {
    {"root", SERVICE_OPTION_TEXT, NULL, 0, 0, "below this root; default: the server's default root"},
    {0},
};

static void print_help(FILE *out)
{
    fprintf(
        out,
        "usage: sandbox-agent fs VERB [options]\n\n"
        "Files of the sandbox. A path is below a root of the server (--root); without roots there is the\n"
        "whole filesystem, relative paths begin at HOME. `fs VERB --help` tells more.\n\nVerbs:\n");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(out, "  %-14s %s\n", verbs[i].name, verbs[i].doc);
}

int cli_fs(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(name, verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    print_help(help ? stdout : stderr);
    if (!help && *name)
        fprintf(stderr, "\nsandbox-agent: there is no verb `fs %s`\n", name);
    return help ? 0 : 2;
}

static void set_letters(struct options *o, const char *at)
{
    while (at && *at) {
        size_t n = strcspn(at, ",");
        cleanup_free char *name = sa_strndup(at + 2, n - 2);
        options_letter(o, *at, name);
        at += n + (at[n] == ',');
    }
}

int fs_verb(const struct fs_verb *v, int argc, char **argv)
{
    struct options *o = options_new(v->own, common);
    struct client c = {0};
    sa_error *err = NULL;
    options_add(o, client_options);
    set_letters(o, v->letters);
    cleanup_free char *usage = sa_format("fs %s", v->usage);
    int r = cli_parse(o, argc, argv, false, usage, v->summary);
    int n = options_count(o);
    if (r < 0 && (n < v->least || (v->most >= 0 && n > v->most))) {
        fprintf(stderr, "sandbox-agent: usage: sandbox-agent %s\n", usage);
        r = 2;
    }
    if (r < 0) {
        r = client_open_fs(&c, o, &err) < 0 ? -1 : v->act(&c, o, &err);
        if (r < 0)
            r = fs_failed(&c, err);
    }
    client_close(&c);
    options_free(o);
    return r;
}

const struct rpc_call_options fs_patient = {.deadline_ms = 86400000};

int fs_each(struct client *c, const struct options *o, int first,
            int (*act)(struct client *c, const struct options *o, const char *path, sa_error **err))
{
    int r = 0;
    for (int i = first; i < options_count(o); i++) {
        sa_error *failed = NULL;
        if (act(c, o, options_arguments(o)[i], &failed) < 0)
            r = fs_failed(c, failed);
    }
    return r;
}

bool fs_show_json(const struct options *o, const ProtobufCMessage *m)
{
    if (!options_flag(o, "json"))
        return false;
    show_json(stdout, m);
    return true;
}

char *fs_root(const struct options *o)
{
    const char *root = options_text(o, "root");
    return (char *)(uintptr_t)(root ? root : "");
}

ProtobufCBinaryData fs_path(const char *argument)
{
    return (ProtobufCBinaryData){strlen(argument), (uint8_t *)(uintptr_t)argument};
}

int fs_failed(const struct client *c, sa_error *err)
{
    client_explain(c, &err);
    return cli_failed(err);
}

void fs_show_name(FILE *out, ProtobufCBinaryData name)
{
    cleanup_free char *copy = sa_strndup((const char *)name.data, name.len);
    for (char *c = copy; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = '?';
    show_text(out, copy, strlen(copy));
}

void fs_mode_text(const FileInfo *f, char ret[static FS_MODE_TEXT])
{
    static const char kinds[] = {
        [FILE_KIND_UNSPECIFIED] = '?', [FILE_KIND_REGULAR] = '-', [FILE_KIND_DIRECTORY] = 'd',
        [FILE_KIND_SYMLINK] = 'l',     [FILE_KIND_FIFO] = 'p',    [FILE_KIND_SOCKET] = 's',
        [FILE_KIND_DEVICE] = 'c'};
    static const char bits[] = "rwxrwxrwx";
    ret[0] = (size_t)f->kind < sizeof kinds ? kinds[f->kind] : '?';
    for (int i = 0; i < 9; i++)
        ret[1 + i] = '-';
    for (int i = 0; i < 9; i++)
        if (f->mode >> (8 - i) & 1)
            ret[1 + i] = bits[i];
    if (f->mode & 04000)
        ret[3] = f->mode & 0100 ? 's' : 'S';
    if (f->mode & 02000)
        ret[6] = f->mode & 010 ? 's' : 'S';
    if (f->mode & 01000)
        ret[9] = f->mode & 01 ? 't' : 'T';
    ret[10] = 0;
}

void fs_time_text(const Google__Protobuf__Timestamp *t, char ret[static FS_TIME_TEXT])
{
    struct tm tm;
    time_t at = t ? (time_t)t->seconds : 0;
    if (!t || !localtime_r(&at, &tm) || !strftime(ret, FS_TIME_TEXT, "%Y-%m-%d %H:%M:%S", &tm))
        snprintf(ret, FS_TIME_TEXT, "-");
}
