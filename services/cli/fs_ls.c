/* `sandbox-agent fs ls PATH...`: entries of directories. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"long", SERVICE_OPTION_FLAG, NULL, 0, 0, "with mode, size and time"},
    {0},
};

static void print_entry(const struct options *o, const FileInfo *f)
{
    if (options_flag(o, "json")) {
        show_json(stdout, &f->base);
        return;
    }
    if (options_flag(o, "long")) {
        char mode[FS_MODE_TEXT], when[FS_TIME_TEXT];
        fs_mode_text(f, mode);
        fs_time_text(f->modify_time, when);
        printf("%s  %12" PRIu64 "  %s  ", mode, f->size, when);
    }
    fs_show_name(stdout, f->name);
    if (options_flag(o, "long") && f->link_target.len) {
        printf(" -> ");
        fs_show_name(stdout, f->link_target);
    }
    putchar('\n');
}

/* Page by page, printed as it comes. */
static int list(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
        req.root = fs_root(o);
        req.path = fs_path(path);
        req.page_token = token;
        ListDirectoryResponse *res = list_directory_wait(c->channel, &req, NULL, err);
        if (!res)
            return -1;
        for (size_t i = 0; i < res->n_entries; i++)
            print_entry(o, res->entries[i]);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    int r = 0, n = options_count(o);
    if (!n)
        return list(c, o, ".", err);
    for (int i = 0; i < n; i++) {
        sa_error *failed = NULL;
        if (n > 1 && !options_flag(o, "json"))
            printf("%s%s:\n", i ? "\n" : "", options_arguments(o)[i]);
        if (list(c, o, options_arguments(o)[i], &failed) < 0)
            r = fs_failed(c, failed);
    }
    return r;
}

int fs_ls(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "l=long",
        .usage = "ls [options] [PATH...]",
        .summary = "Lists directories, sorted by name.",
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
