/* `sandbox-agent fs stat PATH...`: all about files. */
#include <inttypes.h>
#include <stdlib.h>

#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"no-follow", SERVICE_OPTION_FLAG, NULL, 0, 0, "a link itself, not what it points to"},
    {0},
};

static void print(const FileInfo *f)
{
    char mode[FS_MODE_TEXT], when[FS_TIME_TEXT];
    fs_mode_text(f, mode);
    fs_time_text(f->modify_time, when);
    printf("%-10s ", "path");
    fs_show_name(stdout, f->path);
    if (f->link_target.len) {
        printf(" -> ");
        fs_show_name(stdout, f->link_target);
    }
    printf("\n%-10s %s\n", "kind", show_enum(&file_kind__descriptor, (int)f->kind, "FILE_KIND_"));
    printf("%-10s %" PRIu64 "\n", "size", f->size);
    printf("%-10s %04o (%s)\n", "mode", f->mode, mode);
    printf("%-10s %s\n", "modified", when);
    printf("%-10s %s\n", "etag", f->etag);
}

static int stat_one(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.no_follow = options_flag(o, "no-follow");
    StatFileResponse *res = stat_file_wait(c->channel, &req, NULL, err);
    if (!res)
        return -1;
    if (options_flag(o, "json"))
        show_json(stdout, &res->file->base);
    else
        print(res->file);
    rpc_message_free(res);
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    (void)err;
    int r = 0;
    for (int i = 0; i < options_count(o); i++) {
        sa_error *failed = NULL;
        if (i && !options_flag(o, "json"))
            putchar('\n');
        if (stat_one(c, o, options_arguments(o)[i], &failed) < 0)
            r = fs_failed(c, failed);
    }
    return r;
}

int fs_stat(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .usage = "stat [options] PATH...",
        .summary = "Shows all that is known about files.",
        .least = 1,
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
