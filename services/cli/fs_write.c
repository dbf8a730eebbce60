/* `sandbox-agent fs write PATH`, `fs append PATH`: content from standard input. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/cli/show.h"
#include "services/cli/transfer.h"

static const struct service_option write_own[] = {
    TRANSFER_WRITE_OPTIONS,
    {"offset", SERVICE_OPTION_UINT, NULL, 0, INT64_MAX, "bytes: put it there, keep what is around it"},
    {"truncate", SERVICE_OPTION_FLAG, NULL, 0, 0, "with --offset: the file ends where the input ends"},
    {"in-place", SERVICE_OPTION_FLAG, NULL, 0, 0, "with --offset: change the file itself, not a copy"},
    {0},
};

static const struct service_option append_own[] = {
    TRANSFER_WRITE_OPTIONS,
    {"in-place", SERVICE_OPTION_FLAG, NULL, 0, 0, "change the file itself, not a copy: for large ones"},
    {0},
};

static int write_input(struct client *c, const struct options *o, WriteFileOpen *open, sa_error **err)
{
    const char *path = options_arguments(o)[0], *if_match = options_text(o, "if-match");
    struct progress p;
    if (transfer_mode(o, &open->mode, err) < 0)
        return -1;
    open->root = fs_root(o);
    open->path = fs_path(path);
    open->make_parents = options_flag(o, "parents");
    open->create_only = options_flag(o, "create-only");
    open->in_place = options_flag(o, "in-place");
    if (if_match)
        open->if_match = (char *)(uintptr_t)if_match;
    progress_begin(&p, path, UINT64_MAX, 0);
    WriteFileResponse *res = transfer_write(c, open, STDIN_FILENO, "standard input", &p, err);
    progress_end(&p);
    if (!res)
        return -1;
    if (options_flag(o, "json"))
        show_json(stdout, &res->file->base);
    rpc_message_free(res);
    return 0;
}

static int act_write(struct client *c, const struct options *o, sa_error **err)
{
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    if (options_given(o, "offset")) {
        open.method = WRITE_METHOD_AT_OFFSET;
        open.offset = options_uint(o, "offset");
    }
    open.truncate = options_flag(o, "truncate");
    return write_input(c, o, &open, err);
}

static int act_append(struct client *c, const struct options *o, sa_error **err)
{
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.method = WRITE_METHOD_APPEND;
    return write_input(c, o, &open, err);
}

int fs_write(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = write_own,
        .letters = "p=parents",
        .usage = "write [options] PATH",
        .summary =
            "Replaces a file by what comes from standard input, or puts that at an offset. Until the input\n"
            "ends, the old content stays.",
        .least = 1,
        .most = 1,
        .act = act_write,
    };
    return fs_verb(&verb, argc, argv);
}

int fs_append(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = append_own,
        .letters = "p=parents",
        .usage = "append [options] PATH",
        .summary = "Adds what comes from standard input to the end of a file, when the input ends.",
        .least = 1,
        .most = 1,
        .act = act_append,
    };
    return fs_verb(&verb, argc, argv);
}
