/* `sandbox-agent fs ln -s TARGET LINK`: a symbolic link. */
#include "services/cli/fs.h"

static const struct service_option own[] = {
    {"symbolic", SERVICE_OPTION_FLAG, NULL, 0, 0, "must be given: there are no others"},
    {0},
};

static int act(struct client *c, const struct options *o, sa_error **err)
{
    MakeLinkRequest req = MAKE_LINK_REQUEST__INIT;
    if (!options_flag(o, "symbolic"))
        return sa_fail(err, SA_INVALID_CONFIG, "only symbolic links are made: -s");
    req.root = fs_root(o);
    req.target = fs_path(options_arguments(o)[0]);
    req.path = fs_path(options_arguments(o)[1]);
    MakeLinkResponse *res = make_link_wait(c->channel, &req, NULL, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

int fs_ln(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "s=symbolic",
        .usage = "ln -s TARGET LINK",
        .summary = "Makes a symbolic link. In a named root its target must be relative and stay in the root.",
        .least = 2,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
