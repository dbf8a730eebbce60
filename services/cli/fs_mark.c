/* `sandbox-agent fs mark [DIRECTORY]`: records how a directory is, lists marks, forgets one. */
#include <inttypes.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/mark_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/show.h"
#include "services/cli/values.h"

static const struct service_option own[] = {
    {"ignore", SERVICE_OPTION_LIST, NULL, 0, 0, "leave out what fits this pattern; may be repeated"},
    {"gitignore", SERVICE_OPTION_FLAG, NULL, 0, 0, "leave out .git and what .gitignore files say"},
    {"keep", SERVICE_OPTION_TEXT, "1d", 0, 0, "keep it so long: 30m, 12h, 7d"},
    {"list", SERVICE_OPTION_FLAG, NULL, 0, 0, "list marks instead"},
    {"delete", SERVICE_OPTION_TEXT, NULL, 0, 0, "forget this mark instead"},
    {0},
};

static int delete (struct client *c, const char *id, sa_error **err)
{
    DeleteMarkRequest req = DELETE_MARK_REQUEST__INIT;
    req.mark_id = (char *)(uintptr_t)id;
    DeleteMarkResponse *res = delete_mark_wait(c->channel, &req, NULL, err);
    rpc_message_free(res);
    return res ? 0 : -1;
}

static void print_mark(const struct options *o, const Mark *m)
{
    if (options_flag(o, "json")) {
        show_json(stdout, &m->base);
        return;
    }
    char when[FS_TIME_TEXT];
    fs_time_text(m->create_time, when);
    printf("%s  %s  %8" PRIu64 " paths  ", m->mark_id, when, m->entries);
    fs_show_name(stdout, m->path);
    putchar('\n');
}

static int list(struct client *c, const struct options *o, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    do {
        ListMarksRequest req = LIST_MARKS_REQUEST__INIT;
        req.page_token = token;
        if (options_given(o, "root")) {
            req._root_case = LIST_MARKS_REQUEST___ROOT_ROOT;
            req.root = fs_root(o);
        }
        ListMarksResponse *res = list_marks_wait(c->channel, &req, NULL, err);
        if (!res)
            return -1;
        for (size_t i = 0; i < res->n_marks; i++)
            print_mark(o, res->marks[i]);
        sa_cleanup_free(&token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

static int create(struct client *c, const struct options *o, sa_error **err)
{
    enum { PATTERNS_MAX = 65 }; /* one more than the service takes: it says so */
    ProtobufCBinaryData patterns[PATTERNS_MAX];
    cleanup_free char *ignore = sa_strdup(options_text(o, "ignore"));
    uint64_t keep_ms = 0;
    CreateMarkRequest req = CREATE_MARK_REQUEST__INIT;
    if (value_duration("keep", options_text(o, "keep"), (uint64_t)UINT32_MAX * 1000, &keep_ms, err) < 0)
        return -1;
    req.root = fs_root(o);
    req.path = fs_path(options_count(o) ? options_arguments(o)[0] : ".");
    req.gitignore = options_flag(o, "gitignore");
    req.keep_s = (uint32_t)(keep_ms / 1000);
    req.ignore = patterns;
    for (char *rest, *line = ignore ? strtok_r(ignore, "\n", &rest) : NULL;
         line && req.n_ignore < PATTERNS_MAX; line = strtok_r(NULL, "\n", &rest))
        patterns[req.n_ignore++] = fs_path(line);
    struct rpc_call_options opt = {.deadline_ms = 600000};
    CreateMarkResponse *res = create_mark_wait(c->channel, &req, &opt, err);
    if (!res)
        return -1;
    if (options_flag(o, "json"))
        show_json(stdout, &res->mark->base);
    else
        printf("%s\n", res->mark->mark_id);
    rpc_message_free(res);
    return 0;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    if (options_given(o, "delete"))
        return delete (c, options_text(o, "delete"), err);
    return options_flag(o, "list") ? list(c, o, err) : create(c, o, err);
}

int fs_mark(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .usage = "mark [options] [DIRECTORY]",
        .summary = "Records how a directory is and prints the mark's name, for `fs diff`.",
        .most = 1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
