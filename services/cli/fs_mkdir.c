/* `sandbox-agent fs mkdir PATH...`: directories. */
#include "services/cli/fs.h"

static const struct service_option own[] = {
    {"parents", SERVICE_OPTION_FLAG, NULL, 0, 0, "missing parents, too; fine when it is there"},
    {0},
};

static int make(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    MakeDirectoryRequest req = MAKE_DIRECTORY_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.parents = options_flag(o, "parents");
    MakeDirectoryResponse *res = make_directory_wait(c->channel, &req, NULL, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    (void)err;
    return fs_each(c, o, 0, make);
}

int fs_mkdir(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "p=parents",
        .usage = "mkdir [options] PATH...",
        .summary = "Makes directories.",
        .least = 1,
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
