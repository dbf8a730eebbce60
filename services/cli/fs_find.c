/* `sandbox-agent fs find [PATH]`: files by name and properties, or the best for what was typed. */
#include <inttypes.h>
#include <string.h>

#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/fs_filter.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"glob", SERVICE_OPTION_LIST, NULL, 0, 0,
     "only names that fit, as *.c or src/**; !GLOB excludes; may be repeated"},
    {"type", SERVICE_OPTION_TEXT, NULL, 0, 0, "only of this kind: file, dir, link"},
    {"rank", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "the best files whose path has these letters in order, best first"},
    {"limit", SERVICE_OPTION_UINT, NULL, 0, 10000000, "at most so many [100000; with --rank 50]"},
    {"depth", SERVICE_OPTION_UINT, NULL, 0, 256, "so many levels [256]"},
    {"min-size", SERVICE_OPTION_UINT, NULL, 0, UINT64_MAX, "bytes"},
    {"max-size", SERVICE_OPTION_UINT, NULL, 0, UINT64_MAX, "bytes"},
    {"hidden", SERVICE_OPTION_FLAG, NULL, 0, 0, "also names with a dot"},
    {"no-ignore", SERVICE_OPTION_FLAG, NULL, 0, 0, "do not obey .gitignore and .ignore"},
    {"any-case", SERVICE_OPTION_FLAG, NULL, 0, 0, "globs do not tell apart upper and lower case"},
    {"print0", SERVICE_OPTION_FLAG, NULL, 0, 0, "end each path with NUL, as it is"},
    {0},
};

static void print_path(const struct options *o, ProtobufCBinaryData path)
{
    if (options_flag(o, "print0")) {
        fwrite(path.data, 1, path.len, stdout);
        putchar(0);
        return;
    }
    fs_show_name(stdout, path);
    putchar('\n');
}

static void warn(const FindSummary *s)
{
    if (s->unreadable)
        fprintf(stderr, "sandbox-agent: %" PRIu64 " directories could not be read\n", s->unreadable);
    if (s->limit_reached)
        fprintf(stderr, "sandbox-agent: there may be more files (--limit)\n");
}

static int rank(struct client *c, const struct options *o, FileFilter *filter, const char *path,
                sa_error **err)
{
    RankFilesRequest req = RANK_FILES_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.query = fs_path(options_text(o, "rank"));
    req.filter = filter;
    req.limit = (uint32_t)options_uint(o, "limit");
    RankFilesResponse *res = rank_files_wait(c->channel, &req, NULL, err);
    if (!res)
        return -1;
    for (size_t i = 0; i < res->n_files; i++)
        if (options_flag(o, "json"))
            show_json(stdout, &res->files[i]->base);
        else
            print_path(o, res->files[i]->path);
    rpc_message_free(res);
    return 0;
}

static int take_kind(const struct options *o, FileKind *ret, sa_error **err)
{
    static const struct {
        const char *name;
        FileKind kind;
    } kinds[] = {{"file", FILE_KIND_REGULAR}, {"dir", FILE_KIND_DIRECTORY}, {"link", FILE_KIND_SYMLINK}};
    const char *name = options_text(o, "type");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(name, kinds[i].name) || (name[0] == kinds[i].name[0] && !name[1])) {
            *ret = kinds[i].kind;
            return 0;
        }
    return sa_fail(err, SA_INVALID_CONFIG, "--type is file, dir or link, not `%s`", name);
}

static int find(struct client *c, const struct options *o, FileFilter *filter, const char *path,
                sa_error **err)
{
    FindFilesRequest req = FIND_FILES_REQUEST__INIT;
    FileKind kind;
    req.root = fs_root(o);
    req.path = fs_path(path);
    req.filter = filter;
    req.min_size = options_uint(o, "min-size");
    req.max_size = options_uint(o, "max-size");
    req.limit = (uint32_t)options_uint(o, "limit");
    if (options_text(o, "type")) {
        if (take_kind(o, &kind, err) < 0)
            return -1;
        req.n_kinds = 1;
        req.kinds = &kind;
    }
    struct rpc_stream *s = find_files_begin(c->channel, &req, NULL);
    FindFilesResponse *res;
    int r;
    while ((r = find_files_next(s, &res, err)) > 0) {
        for (size_t i = 0; i < res->n_files; i++)
            if (options_flag(o, "json"))
                show_json(stdout, &res->files[i]->base);
            else
                print_path(o, res->files[i]->path);
        fflush(stdout);
        if (res->summary)
            warn(res->summary);
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return r;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    struct sa_arena *a = sa_arena_new();
    const char *path = options_count(o) ? options_arguments(o)[0] : ".";
    FileFilter *filter = fs_filter_all(a, o);
    int r = options_text(o, "rank") ? rank(c, o, filter, path, err) : find(c, o, filter, path, err);
    sa_arena_free(a);
    return r;
}

int fs_find(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "g=glob,t=type,d=depth,0=print0",
        .usage = "find [options] [PATH]",
        .summary = "Finds files below a directory, in order; ignore files are obeyed.",
        .most = 1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
