/* `sandbox-agent fs cp SOURCE... TARGET` and `fs mv`: into a directory, or to a new name. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/cli/fs.h"

static char *to_root(const struct options *o)
{
    const char *root = options_text(o, "to-root");
    return root ? (char *)(uintptr_t)root : fs_root(o);
}

/* 1: the target is a directory; 0: it is not, or is not there. */
static int is_dir(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    sa_error *failed = NULL;
    req.root = to_root(o);
    req.path = fs_path(path);
    StatFileResponse *res = stat_file_wait(c->channel, &req, NULL, &failed);
    int dir = res && res->file->kind == FILE_KIND_DIRECTORY;
    rpc_message_free(res);
    if (!failed || sa_error_is(failed, SA_FILE_NOT_FOUND)) {
        sa_error_free(failed);
        return dir;
    }
    return sa_pass(err, failed);
}

/* "<dir>/<last part of source>". */
static char *inside(const char *dir, const char *source)
{
    size_t end = strlen(source), n = strlen(dir);
    while (end > 1 && source[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && source[start - 1] != '/')
        start--;
    return sa_format("%s%s%.*s", dir, n && dir[n - 1] == '/' ? "" : "/", (int)(end - start), source + start);
}

static int copy(struct client *c, const struct options *o, const char *from, const char *to, sa_error **err)
{
    CopyFileRequest req = COPY_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(from);
    req.to_root = to_root(o);
    req.to_path = fs_path(to);
    req.recursive = options_flag(o, "recursive");
    req.overwrite = options_flag(o, "force");
    req.preserve = options_flag(o, "preserve");
    CopyFileResponse *res = copy_file_wait(c->channel, &req, &fs_patient, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static int move(struct client *c, const struct options *o, const char *from, const char *to, sa_error **err)
{
    MoveFileRequest req = MOVE_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(from);
    req.to_root = to_root(o);
    req.to_path = fs_path(to);
    req.overwrite = options_flag(o, "force");
    MoveFileResponse *res = move_file_wait(c->channel, &req, &fs_patient, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static int each(struct client *c, const struct options *o,
                int (*act)(struct client *c, const struct options *o, const char *from, const char *to,
                           sa_error **err),
                sa_error **err)
{
    int r = 0, n = options_count(o) - 1;
    const char *target = options_arguments(o)[n];
    int dir = is_dir(c, o, target, err);
    if (dir < 0)
        return -1;
    if (n > 1 && !dir)
        return sa_fail(err, SA_NOT_A_DIRECTORY, "several go into a directory, and `%s` is none", target);
    for (int i = 0; i < n; i++) {
        sa_error *failed = NULL;
        const char *from = options_arguments(o)[i];
        cleanup_free char *to = dir ? inside(target, from) : sa_strdup(target);
        if (act(c, o, from, to, &failed) < 0)
            r = fs_failed(c, failed);
    }
    return r;
}

static int act_copy(struct client *c, const struct options *o, sa_error **err)
{
    return each(c, o, copy, err);
}

static int act_move(struct client *c, const struct options *o, sa_error **err)
{
    return each(c, o, move, err);
}

int fs_cp(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"recursive", SERVICE_OPTION_FLAG, NULL, 0, 0, "directories with all that is in them"},
        {"force", SERVICE_OPTION_FLAG, NULL, 0, 0, "replace a file that is there"},
        {"preserve", SERVICE_OPTION_FLAG, NULL, 0, 0, "keep times, owner and set-id bits"},
        {"to-root", SERVICE_OPTION_TEXT, NULL, 0, 0, "root of the target; default: the same"},
        {0},
    };
    static const struct fs_verb verb = {
        .own = own,
        .letters = "r=recursive,f=force,p=preserve",
        .usage = "cp [options] SOURCE... TARGET",
        .summary = "Copies to a new name, or into a directory that is there.",
        .least = 2,
        .most = -1,
        .act = act_copy,
    };
    return fs_verb(&verb, argc, argv);
}

int fs_mv(int argc, char **argv)
{
    static const struct service_option own[] = {
        {"force", SERVICE_OPTION_FLAG, NULL, 0, 0, "replace a file that is there"},
        {"to-root", SERVICE_OPTION_TEXT, NULL, 0, 0, "root of the target; default: the same"},
        {0},
    };
    static const struct fs_verb verb = {
        .own = own,
        .letters = "f=force",
        .usage = "mv [options] SOURCE... TARGET",
        .summary = "Moves to a new name, or into a directory that is there.",
        .least = 2,
        .most = -1,
        .act = act_move,
    };
    return fs_verb(&verb, argc, argv);
}
