/* `sandbox-agent fs diff MARK [MARK]`: what changed since a mark. */
#include <inttypes.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/mark_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"names", SERVICE_OPTION_FLAG, NULL, 0, 0, "only which files changed"},
    {"context", SERVICE_OPTION_UINT, "3", 0, 100, "lines around a change"},
    {0},
};

static void print_change(const struct options *o, const Change *c)
{
    if (options_flag(o, "json")) {
        show_json(stdout, &c->base);
        return;
    }
    if (c->diff.len) {
        show_text(stdout, (const char *)c->diff.data, c->diff.len);
        return;
    }
    printf("%-9s ", show_enum(&change_kind__descriptor, (int)c->kind, "CHANGE_KIND_"));
    if (c->old_path.len) {
        fs_show_name(stdout, c->old_path);
        printf(" -> ");
    }
    fs_show_name(stdout, c->path);
    bool dir = c->new_kind == FILE_KIND_DIRECTORY || (!c->new_kind && c->old_kind == FILE_KIND_DIRECTORY);
    printf("%s", dir ? "/" : "");
    if (c->kind == CHANGE_KIND_MODE)
        printf("  %04o -> %04o", c->old_mode, c->new_mode);
    printf("%s%s%s\n", c->binary ? "  (binary)" : "", c->diff_omitted ? "  (too large to be shown)" : "",
           c->unsure ? "  (perhaps)" : "");
}

static void print_summary(const DiffSummary *s)
{
    fprintf(stderr,
            "%" PRIu64 " added, %" PRIu64 " modified, %" PRIu64 " deleted, %" PRIu64 " renamed, %" PRIu64
            " with another mode\n",
            s->added, s->modified, s->deleted, s->renamed, s->mode_changed);
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    DiffMarksRequest req = DIFF_MARKS_REQUEST__INIT;
    req.from_mark_id = options_arguments(o)[0];
    if (options_count(o) > 1)
        req.to_mark_id = options_arguments(o)[1];
    req.names_only = options_flag(o, "names");
    req._context_lines_case = DIFF_MARKS_REQUEST___CONTEXT_LINES_CONTEXT_LINES;
    req.context_lines = (uint32_t)options_uint(o, "context");
    struct rpc_stream *s = diff_marks_begin(c->channel, &req, NULL);
    DiffMarksResponse *m;
    int got;
    while ((got = diff_marks_next(s, &m, err)) == 1) {
        if (m->kind_case == DIFF_MARKS_RESPONSE__KIND_CHANGE)
            print_change(o, m->change);
        else if (m->kind_case == DIFF_MARKS_RESPONSE__KIND_SUMMARY && !options_flag(o, "json"))
            print_summary(m->summary);
        rpc_message_free(m);
    }
    rpc_stream_free(s);
    return got;
}

int fs_diff(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .usage = "diff [options] MARK [MARK]",
        .summary = "Shows what changed from a mark to another, or to now, as `git diff` does.",
        .least = 1,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
