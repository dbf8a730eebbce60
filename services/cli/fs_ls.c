/* `sandbox-agent fs ls PATH...`: entries of directories. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"

static const struct service_option own[] = {
    {"long", SERVICE_OPTION_FLAG, NULL, 0, 0, "with mode, size and time"},
    {"all", SERVICE_OPTION_FLAG, NULL, 0, 0, "hidden ones, too"},
    {"recursive", SERVICE_OPTION_FLAG, NULL, 0, 0, "with all that is below"},
    {"sort", SERVICE_OPTION_TEXT, "name", 0, 0, "name, size or time"},
    {"reverse", SERVICE_OPTION_FLAG, NULL, 0, 0, "the other way round"},
    {0},
};

static void print_entry(const struct options *o, const FileInfo *f)
{
    if (fs_show_json(o, &f->base))
        return;
    if (options_flag(o, "long")) {
        char mode[FS_MODE_TEXT], when[FS_TIME_TEXT];
        fs_mode_text(f, mode);
        fs_time_text(f->modify_time, when);
        printf("%s  %12" PRIu64 "  %s  ", mode, f->size, when);
    }
    fs_show_name(stdout, options_flag(o, "recursive") ? f->path : f->name);
    if (options_flag(o, "long") && f->link_target.len) {
        printf(" -> ");
        fs_show_name(stdout, f->link_target);
    }
    putchar('\n');
}

/* The largest and the newest come first, as with ls. */
static int read_order(const struct options *o, ListDirectoryRequest *req, sa_error **err)
{
    const char *sort = options_text(o, "sort");
    if (!strcmp(sort, "size"))
        req->order = LIST_ORDER_SIZE;
    else if (!strcmp(sort, "time"))
        req->order = LIST_ORDER_MODIFY_TIME;
    else if (strcmp(sort, "name") != 0)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--sort`: `%s` is not name, size or time", sort);
    req->descending = options_flag(o, "reverse") == !strcmp(sort, "name");
    return 0;
}

static int list_file(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    StatFileResponse *res = stat_file_wait(c->channel, &req, NULL, err);
    if (res)
        print_entry(o, res->file);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static void print_unreadable(const ListDirectoryResponse *res)
{
    for (size_t i = 0; i < res->n_unreadable; i++) {
        fprintf(stderr, "sandbox-agent: cannot be read: ");
        fs_show_name(stderr, res->unreadable[i]);
        fputc('\n', stderr);
    }
}

/* Page by page, printed as it comes. */
static int list(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    enum { DEPTH_MAX = 64 };
    cleanup_free char *token = sa_strdup("");
    do {
        sa_error *failed = NULL;
        ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
        req.root = fs_root(o);
        req.path = fs_path(path);
        req.page_token = token;
        req.hide_hidden = !options_flag(o, "all");
        req.depth = options_flag(o, "recursive") ? DEPTH_MAX : 1;
        req.names_only = !options_flag(o, "long") && !options_flag(o, "json");
        if (read_order(o, &req, err) < 0)
            return -1;
        ListDirectoryResponse *res = list_directory_wait(c->channel, &req, NULL, &failed);
        if (!res && sa_error_is(failed, SA_NOT_A_DIRECTORY)) {
            sa_error_free(failed);
            return list_file(c, o, path, err);
        }
        if (!res)
            return sa_pass(err, failed);
        for (size_t i = 0; i < res->n_entries; i++)
            print_entry(o, res->entries[i]);
        print_unreadable(res);
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
        .letters = "l=long,a=all,R=recursive,r=reverse",
        .usage = "ls [options] [PATH...]",
        .summary = "Lists directories: what is in them, at most 64 levels down with -R.",
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
