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
    printf("%-10s %" PRIu64 " (%" PRIu64 " on the disk)\n", "size", f->size, f->allocated_bytes);
    printf("%-10s %04o (%s)\n", "mode", f->mode, mode);
    printf("%-10s %s\n", "modified", when);
    fs_time_text(f->change_time, when);
    printf("%-10s %s\n", "changed", when);
    fs_time_text(f->birth_time, when);
    printf("%-10s %s\n", "born", when);
    printf("%-10s %u, group %u\n", "owner", f->uid, f->gid);
    printf("%-10s %" PRIu64 ", %" PRIu64 " names\n", "inode", f->inode, f->links);
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
    if (!fs_show_json(o, &res->file->base))
        print(res->file);
    rpc_message_free(res);
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    (void)err;
    return fs_each(c, o, 0, stat_one);
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
