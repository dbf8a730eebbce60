/* `sandbox-agent fs grep PATTERN [PATH...]`: lines of files. The exit code is grep's: 1 when there are none.
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/fs_filter.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"ignore-case", SERVICE_OPTION_FLAG, NULL, 0, 0, "letters fit in either case"},
    {"word", SERVICE_OPTION_FLAG, NULL, 0, 0, "only whole words"},
    {"fixed", SERVICE_OPTION_FLAG, NULL, 0, 0, "the pattern is plain text"},
    {"number", SERVICE_OPTION_FLAG, NULL, 0, 0, "tell the numbers of lines"},
    {"after", SERVICE_OPTION_UINT, NULL, 0, 100, "so many lines after each match"},
    {"before", SERVICE_OPTION_UINT, NULL, 0, 100, "so many lines before each match"},
    {"context", SERVICE_OPTION_UINT, NULL, 0, 100, "so many lines on both sides"},
    {"max-count", SERVICE_OPTION_UINT, NULL, 0, UINT32_MAX, "at most so many lines of a file"},
    {"limit", SERVICE_OPTION_UINT, NULL, 0, 1000000, "at most so many lines in all [10000]"},
    {"text", SERVICE_OPTION_FLAG, NULL, 0, 0, "also binary files"},
    {"glob", SERVICE_OPTION_LIST, NULL, 0, 0,
     "only files that fit, as *.c or src/**; !GLOB excludes; may be repeated"},
    {"depth", SERVICE_OPTION_UINT, NULL, 0, 256, "so many levels [256]"},
    {"hidden", SERVICE_OPTION_FLAG, NULL, 0, 0, "also files whose names begin with a dot"},
    {"no-ignore", SERVICE_OPTION_FLAG, NULL, 0, 0, "do not obey .gitignore and .ignore"},
    {"any-case", SERVICE_OPTION_FLAG, NULL, 0, 0, "globs do not tell apart upper and lower case"},
    {"colour", SERVICE_OPTION_TEXT, "auto", 0, 0, "always, never, or auto: on a terminal"},
    {0},
};

#define PATH_COLOUR "\033[35m"
#define NUMBER_COLOUR "\033[32m"
#define MATCH_COLOUR "\033[1;31m"
#define PLAIN "\033[0m"

struct printing {
    const struct options *o;
    bool colour, context;
    uint64_t last; /* number of the line that was printed last, of `path` */
    struct sa_buf path;
    bool first;
    uint64_t matches;
};

static void in_colour(const struct printing *p, const char *colour)
{
    if (p->colour)
        fputs(colour, stdout);
}

static void print_text(const struct printing *p, const SearchedLine *l)
{
    size_t at = 0;
    for (size_t i = 0; i < l->n_ranges && p->colour; i++) {
        size_t start = l->ranges[i]->start, end = l->ranges[i]->end;
        if (start < at || end > l->text.len)
            continue;
        show_text(stdout, (const char *)l->text.data + at, start - at);
        in_colour(p, MATCH_COLOUR);
        show_text(stdout, (const char *)l->text.data + start, end - start);
        in_colour(p, PLAIN);
        at = end;
    }
    show_text(stdout, (const char *)l->text.data + at, l->text.len - at);
}

static void print_line(struct printing *p, ProtobufCBinaryData path, const SearchedLine *l)
{
    char sign = l->n_ranges ? ':' : '-';
    bool same = p->path.len == path.len && (path.len == 0 || !memcmp(p->path.data, path.data, path.len));
    if (p->context && !p->first && (!same || l->number > p->last + 1))
        puts("--");
    in_colour(p, PATH_COLOUR);
    fs_show_name(stdout, path);
    in_colour(p, PLAIN);
    putchar(sign);
    if (options_flag(p->o, "number")) {
        in_colour(p, NUMBER_COLOUR);
        printf("%" PRIu64, l->number);
        in_colour(p, PLAIN);
        putchar(sign);
    }
    if (l->text_start)
        fputs("...", stdout);
    print_text(p, l);
    puts(l->cut ? "..." : "");
    if (!same) {
        p->path.len = 0;
        sa_buf_add(&p->path, path.data, path.len);
    }
    p->last = l->number;
    p->first = false;
}

static void warn(const SearchSummary *s)
{
    if (s->unreadable)
        fprintf(stderr, "sandbox-agent: %" PRIu64 " files and directories could not be read\n",
                s->unreadable);
    if (s->binary)
        fprintf(stderr, "sandbox-agent: %" PRIu64 " binary files were passed by (--text)\n", s->binary);
    if (s->limit_reached)
        fprintf(stderr, "sandbox-agent: there may be more lines (--limit)\n");
}

static int search(struct client *c, struct printing *p, const SearchFilesRequest *req, sa_error **err)
{
    struct rpc_stream *s = search_files_begin(c->channel, req, NULL);
    SearchFilesResponse *res;
    int r;
    while ((r = search_files_next(s, &res, err)) > 0) {
        if (options_flag(p->o, "json"))
            show_json(stdout, &res->base);
        else
            for (size_t i = 0; i < res->n_lines; i++)
                print_line(p, res->path, res->lines[i]);
        fflush(stdout);
        if (res->summary) {
            p->matches += res->summary->matches;
            warn(res->summary);
        }
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return r;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    const char *colour = options_text(o, "colour");
    struct sa_arena *a = sa_arena_new();
    struct printing p = {.o = o, .first = true};
    p.colour = !strcmp(colour, "always") || (strcmp(colour, "never") != 0 && isatty(STDOUT_FILENO));
    SearchFilesRequest req = SEARCH_FILES_REQUEST__INIT;
    uint32_t context = (uint32_t)options_uint(o, "context");
    char **words = options_arguments(o), *here[] = {(char *)(uintptr_t) "."};
    req.root = fs_root(o);
    req.filter = fs_filter_all(a, o);
    req.pattern = fs_path(words[0]);
    req.literal = options_flag(o, "fixed");
    req.ignore_case = options_flag(o, "ignore-case");
    req.word = options_flag(o, "word");
    req.binary = options_flag(o, "text");
    req.before = options_given(o, "before") ? (uint32_t)options_uint(o, "before") : context;
    req.after = options_given(o, "after") ? (uint32_t)options_uint(o, "after") : context;
    req.max_per_file = (uint32_t)options_uint(o, "max-count");
    req.max_matches = (uint32_t)options_uint(o, "limit");
    p.context = req.before || req.after;
    int n = options_count(o) - 1, r = 0;
    char **paths = n ? words + 1 : here;
    for (int i = 0; r == 0 && i < (n ? n : 1); i++) {
        req.path = fs_path(paths[i]);
        r = search(c, &p, &req, err);
    }
    sa_buf_fini(&p.path);
    sa_arena_free(a);
    return r < 0 ? -1 : p.matches == 0;
}

int fs_grep(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters =
            "i=ignore-case,w=word,F=fixed,n=number,A=after,B=before,C=context,m=max-count,a=text,g=glob",
        .usage = "grep [options] PATTERN [PATH...]",
        .summary = "Finds lines that fit a regular expression (PCRE2); ignore files are obeyed.",
        .least = 1,
        .most = -1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
