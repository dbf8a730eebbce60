/* `sandbox-agent fs du PATH...`: how much trees take; `fs roots`: the roots of the server. */
#include <inttypes.h>
#include <stdlib.h>

#include "services/cli/fs.h"
#include "services/cli/process.h"
#include "services/cli/show.h"

static int measure(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    GetUsageRequest req = GET_USAGE_REQUEST__INIT;
    char disk[PROCESS_TEXT], content[PROCESS_TEXT], available[PROCESS_TEXT];
    req.root = fs_root(o);
    req.path = fs_path(path);
    GetUsageResponse *res = get_usage_wait(c->channel, &req, &fs_patient, err);
    if (!res)
        return -1;
    if (!fs_show_json(o, &res->base)) {
        process_size_text(res->allocated_bytes, disk);
        process_size_text(res->content_bytes, content);
        process_size_text(res->available_bytes, available);
        printf("%s on the disk, %s of content, %" PRIu64 " files, %" PRIu64 " directories, %s available  ",
               disk, content, res->files, res->directories, available);
        fs_show_name(stdout, req.path);
        putchar('\n');
        if (res->unreadable)
            fprintf(stderr, "sandbox-agent: %" PRIu64 " directories cannot be read\n", res->unreadable);
    }
    rpc_message_free(res);
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    return options_count(o) ? fs_each(c, o, 0, measure) : measure(c, o, ".", err);
}

int fs_du(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .usage = "du [options] [PATH...]",
        .summary = "Tells how much trees take, hard links counted once.",
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}

/* ---- roots ---- */

static void print_root(const Root *root)
{
    char limit[PROCESS_TEXT] = "-";
    if (root->max_write_bytes)
        process_size_text(root->max_write_bytes, limit);
    printf("%-16s  %-10s  %10s  ", *root->name ? root->name : "(default)",
           root->read_only ? "read-only" : "read-write", limit);
    fs_show_name(stdout, root->directory);
    if (root->whole_filesystem) {
        printf(", relative paths below ");
        fs_show_name(stdout, root->home);
    }
    putchar('\n');
}

static int act_roots(struct client *c, const struct options *o, sa_error **err)
{
    ListRootsRequest req = LIST_ROOTS_REQUEST__INIT;
    ListRootsResponse *res = list_roots_wait(c->channel, &req, NULL, err);
    if (!res)
        return -1;
    if (res->n_roots && !options_flag(o, "json"))
        printf("%-16s  %-10s  %10s  %s\n", "ROOT", "RIGHTS", "MAX WRITE", "DIRECTORY");
    for (size_t i = 0; i < res->n_roots; i++)
        if (!fs_show_json(o, &res->roots[i]->base))
            print_root(res->roots[i]);
    rpc_message_free(res);
    return 0;
}

int fs_roots(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .usage = "roots [options]",
        .summary = "Lists the roots of the server.",
        .act = act_roots,
    };
    return fs_verb(&verb, argc, argv);
}
