/* `sandbox-agent fs watch [DIRECTORY]`: what changes below it, a line for each change. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "sandboxagent/fs/v1/watch_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/show.h"

static const struct service_option own[] = {
    {"flat", SERVICE_OPTION_FLAG, NULL, 0, 0, "not what is below its directories"},
    {"ignore", SERVICE_OPTION_LIST, NULL, 0, 0, "leave out what fits this pattern; may be repeated"},
    {"gitignore", SERVICE_OPTION_FLAG, NULL, 0, 0, "leave out .git and what .gitignore files say"},
    {"events", SERVICE_OPTION_UINT, NULL, 1, 1000000000, "end after so many changes"},
    {0},
};

struct watching {
    bool json;
    uint64_t left; /* changes until the end */
    WatchCursor cursor;
    char *epoch;
};

static void print_event(const WatchEvent *e)
{
    const char *kind = show_enum(&watch_event_kind__descriptor, (int)e->kind, "WATCH_EVENT_KIND_");
    printf("%-9s ", kind);
    if (e->old_path.len) {
        fs_show_name(stdout, e->old_path);
        printf(" -> ");
    }
    fs_show_name(stdout, e->path);
    printf("%s%s%s\n", e->directory ? "/" : "", *e->reason ? "  " : "", e->reason);
}

static void take_batch(struct watching *w, const WatchEventBatch *b)
{
    for (size_t i = 0; i < b->n_events && w->left; i++, w->left--) {
        if (w->json)
            show_json(stdout, &b->events[i]->base);
        else
            print_event(b->events[i]);
    }
    w->cursor.after_seq = b->last_seq;
}

/* 1: it goes on; 0: it is over. */
static int take(struct watching *w, const WatchTreeResponse *m)
{
    switch (m->kind_case) {
    case WATCH_TREE_RESPONSE__KIND_OPENED:
        free(w->epoch);
        w->epoch = w->cursor.epoch = sa_strdup(m->opened->epoch);
        w->cursor.after_seq = m->opened->head_seq;
        for (size_t i = 0; i < m->opened->n_unwatched && !w->json; i++)
            print_event(m->opened->unwatched[i]);
        if (!w->json)
            fprintf(stderr, "sandbox-agent: watching %" PRIu64 " directories\n", m->opened->watched);
        break;
    case WATCH_TREE_RESPONSE__KIND_BATCH:
        take_batch(w, m->batch);
        break;
    case WATCH_TREE_RESPONSE__KIND_GAP:
        fprintf(stderr, "sandbox-agent: changes before this were missed\n");
        w->cursor.after_seq = m->gap->first_available_seq - 1;
        break;
    case WATCH_TREE_RESPONSE__KIND_CLOSED:
        fprintf(stderr, "sandbox-agent: the directory is gone\n");
        return 0;
    default:
        break;
    }
    fflush(stdout);
    return w->left > 0;
}

/* One call to its end: 1: it may be asked again; 0: it is over. */
static int watch_once(struct client *c, WatchTreeRequest *req, struct watching *w, sa_error **err)
{
    struct rpc_call_options opt = {.wait_for_ready = w->epoch};
    struct rpc_stream *s = watch_tree_begin(c->channel, req, &opt);
    WatchTreeResponse *m;
    int got = 0, more = 1;
    while (more && (got = watch_tree_next(s, &m, err)) == 1) {
        more = take(w, m);
        rpc_message_free(m);
    }
    rpc_stream_free(s);
    return got < 0 ? -1 : more && got;
}

static size_t split(char *text, ProtobufCBinaryData *ret, size_t max)
{
    size_t n = 0;
    for (char *rest, *line = text ? strtok_r(text, "\n", &rest) : NULL; line && n < max;
         line = strtok_r(NULL, "\n", &rest))
        ret[n++] = fs_path(line);
    return n;
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    enum { PATTERNS_MAX = 65 }; /* one more than the service takes: it says so */
    ProtobufCBinaryData patterns[PATTERNS_MAX];
    cleanup_free char *ignore = sa_strdup(options_text(o, "ignore"));
    struct watching w = {.json = options_flag(o, "json"),
                         .left = options_given(o, "events") ? options_uint(o, "events") : UINT64_MAX,
                         .cursor = WATCH_CURSOR__INIT};
    WatchTreeRequest req = WATCH_TREE_REQUEST__INIT;
    req.root = fs_root(o);
    req.path = fs_path(options_count(o) ? options_arguments(o)[0] : ".");
    req.recursive = !options_flag(o, "flat");
    req.gitignore = options_flag(o, "gitignore");
    req.ignore = patterns;
    req.n_ignore = split(ignore, patterns, PATTERNS_MAX);
    int r = 1;
    while (r == 1) {
        sa_error *failed = NULL;
        r = watch_once(c, &req, &w, &failed);
        /* A service that was there and is being restarted comes back. */
        if (r < 0 && failed->code == SA_CODE_UNAVAILABLE && w.epoch)
            r = 1;
        req.resume = &w.cursor;
        if (r < 0)
            sa_pass(err, failed);
        else
            sa_error_free(failed);
    }
    free(w.epoch);
    return r;
}

int fs_watch(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .usage = "watch [options] [DIRECTORY]",
        .summary = "Shows what changes below a directory, a line for each change, until it is interrupted.",
        .most = 1,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
