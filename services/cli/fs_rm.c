/* `sandbox-agent fs rm PATH...`: deletes. */
#include "services/cli/fs.h"

static const struct service_option own[] = {
    {"recursive", SERVICE_OPTION_FLAG, NULL, 0, 0, "directories with all that is in them"},
    {"force", SERVICE_OPTION_FLAG, NULL, 0, 0, "fine when nothing is there"},
    {0},
};

static int delete (struct client *c, const struct options *o, const char *path, sa_error **err)
{
    DeleteFileRequest req = DELETE_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.recursive = options_flag(o, "recursive");
    req.missing_ok = options_flag(o, "force");
    DeleteFileResponse *res = delete_file_wait(c->channel, &req, &fs_patient, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    (void)err;
    return fs_each(c, o, 0, delete);
}

int fs_rm(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "r=recursive,f=force",
        .usage = "rm [options] PATH...",
        .summary = "Deletes files, links, empty directories, and trees with -r.",
        .least = 1,
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
