/* `sandbox-agent sessions`: lists them, shows one, and changes one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapters/os/mem.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/client.h"
#include "services/cli/sessions.h"
#include "services/cli/show.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} transcript_verbs[] = {
    {"export", sessions_export},
    {"import", sessions_import},
    {"search", sessions_search},
    {"verify", sessions_verify},
};

static const struct service_option sessions_options[] = {
    {"all", SERVICE_OPTION_FLAG, NULL, 0, 0, "list archived sessions too"},
    {"agent", SERVICE_OPTION_TEXT, NULL, 0, 0, "list those with this agent"},
    {"title", SERVICE_OPTION_TEXT, NULL, 0, 0, "list those with this text in the title"},
    {0},
};

static char *moment(char *text, size_t n, const Google__Protobuf__Timestamp *t)
{
    time_t at = t ? (time_t)t->seconds : 0;
    struct tm tm;
    strftime(text, n, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
    return text;
}

static void print_text(const char *text)
{
    show_text(stdout, text, strlen(text));
}

static void print_session(const Session *s)
{
    char made[32];
    moment(made, sizeof made, s->create_time);
    printf("%-26s  %-10s %-10s %s  %6" PRIu64 " events", s->session_id, s->agent,
           show_enum(&session_state__descriptor, (int)s->state, "SESSION_STATE_"), made, s->head_seq);
    if (s->pending_permissions)
        printf("  %" PRIu32 " to answer", s->pending_permissions);
    if (*s->title) {
        printf("  ");
        print_text(s->title);
    }
    if (s->archive_time)
        printf("  (archived)");
    if (*s->state_message) {
        printf("  ");
        show_text(stdout, s->state_message, strlen(s->state_message));
    }
    putchar('\n');
}

static int list(struct client *c, const struct options *o, sa_error **err)
{
    cleanup_free char *token = sa_strdup("");
    const char *agent = options_text(o, "agent"), *title = options_text(o, "title");
    do {
        ListSessionsRequest req = LIST_SESSIONS_REQUEST__INIT;
        req.page_token = token;
        req.agent = (char *)(uintptr_t)(agent ? agent : "");
        req.title_contains = (char *)(uintptr_t)(title ? title : "");
        req.archived = options_flag(o, "all") ? ARCHIVED_FILTER_ALL : ARCHIVED_FILTER_HIDE;
        ListSessionsResponse *res = list_sessions_wait(c->channel, &req, NULL, err);
        if (!res)
            return client_explain(c, err);
        for (size_t i = 0; i < res->n_sessions; i++) {
            if (options_flag(o, "json"))
                show_json(stdout, &res->sessions[i]->base);
            else
                print_session(res->sessions[i]);
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return 0;
}

/* ---- show ---- */

static void line(const char *name, const char *value)
{
    if (!*value)
        return;
    printf("%-14s ", name);
    print_text(value);
    putchar('\n');
}

static void print_usage(const SessionUsage *u)
{
    printf("%-14s %" PRIu64 " turns, %" PRIu64 " tokens measured", "usage", u->turns, u->measured_tokens);
    if (u->estimated_tokens)
        printf(", %" PRIu64 " estimated", u->estimated_tokens);
    if (u->unknown_token_turns)
        printf(", unknown in %" PRIu64 " turns", u->unknown_token_turns);
    if (*u->currency) {
        printf("; %.4f ", u->measured_cost);
        print_text(u->currency);
        printf(" measured");
    }
    if (u->estimated_cost > 0)
        printf(", %.4f estimated", u->estimated_cost);
    if (u->unknown_cost_turns)
        printf("%s unknown in %" PRIu64 " turns", *u->currency ? "," : "; cost", u->unknown_cost_turns);
    putchar('\n');
}

static void print_budget(const Budget *b)
{
    printf("%-14s", "budget");
    if (b->_max_turns_case)
        printf(" %" PRIu64 " turns", b->max_turns);
    if (b->_max_tokens_case)
        printf(" %" PRIu64 " tokens", b->max_tokens);
    if (b->_max_cost_case) {
        printf(" %.4f ", b->max_cost);
        print_text(b->currency);
    }
    printf("%s\n", b->unknown == UNKNOWN_USAGE_IGNORE ? ", what is unknown is ignored" : "");
}

static void print_option(const ConfigOption *o)
{
    line(o->option_id, o->value);
    for (size_t i = 0; i < o->n_choices; i++) {
        printf("%-14s   %c ", "", !strcmp(o->choices[i]->value, o->value) ? '*' : ' ');
        print_text(o->choices[i]->value);
        if (*o->choices[i]->name && strcmp(o->choices[i]->name, o->choices[i]->value) != 0) {
            printf("  ");
            print_text(o->choices[i]->name);
        }
        putchar('\n');
    }
}

static void print_all(const GetSessionResponse *res)
{
    const Session *s = res->session;
    char made[32];
    line("session", s->session_id);
    line("title", s->title);
    line("agent", s->agent);
    line("state", show_enum(&session_state__descriptor, (int)s->state, "SESSION_STATE_"));
    line("reason", s->state_message);
    line("created", moment(made, sizeof made, s->create_time));
    line("by", s->creator);
    if (s->archive_time)
        line("archived", moment(made, sizeof made, s->archive_time));
    printf("%-14s ", "directory");
    show_text(stdout, (const char *)s->cwd.data, s->cwd.len);
    printf("\n%-14s %" PRIu64 " events, %" PRIu64 " turns, %" PRIu32 " wait\n", "log", s->head_seq,
           s->last_turn, s->queued_prompts);
    for (size_t i = 0; i < s->n_labels; i++) {
        cleanup_free char *label = sa_format("%s=%s", s->labels[i]->key, s->labels[i]->value);
        line("label", label);
    }
    line("forked from", s->parent_session_id);
    if (s->usage)
        print_usage(s->usage);
    if (s->budget)
        print_budget(s->budget);
    for (size_t i = 0; i < res->n_config_options; i++)
        print_option(res->config_options[i]);
}

static int show_session(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    GetSessionRequest req = GET_SESSION_REQUEST__INIT;
    req.session_id = id;
    GetSessionResponse *res = get_session_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (json)
        show_json(stdout, &res->base);
    else
        print_all(res);
    rpc_message_free(res);
    return 0;
}

/* ---- change ---- */

static int changed(struct client *c, const Session *s, bool json, sa_error **err)
{
    if (!s)
        return client_explain(c, err);
    if (json)
        show_json(stdout, &s->base);
    else
        print_session(s);
    return 0;
}

static int rename_session(struct client *c, char *id, char *title, bool json, sa_error **err)
{
    UpdateSessionRequest req = UPDATE_SESSION_REQUEST__INIT;
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    char *paths[] = {(char[]){"title"}};
    mask.paths = paths;
    mask.n_paths = 1;
    req.session_id = id;
    req.title = title;
    req.update_mask = &mask;
    UpdateSessionResponse *res = update_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static int archive(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    ArchiveSessionRequest req = ARCHIVE_SESSION_REQUEST__INIT;
    req.session_id = id;
    ArchiveSessionResponse *res = archive_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static int unarchive(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    UnarchiveSessionRequest req = UNARCHIVE_SESSION_REQUEST__INIT;
    req.session_id = id;
    UnarchiveSessionResponse *res = unarchive_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static int suspend(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    SuspendSessionRequest req = SUSPEND_SESSION_REQUEST__INIT;
    req.session_id = id;
    SuspendSessionResponse *res = suspend_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static int resume(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    ResumeSessionRequest req = RESUME_SESSION_REQUEST__INIT;
    req.session_id = id;
    ResumeSessionResponse *res = resume_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static int fork_session(struct client *c, char *id, char *unused, bool json, sa_error **err)
{
    (void)unused;
    ForkSessionRequest req = FORK_SESSION_REQUEST__INIT;
    req.session_id = id;
    ForkSessionResponse *res = fork_session_wait(c->channel, &req, NULL, err);
    int r = changed(c, res ? res->session : NULL, json, err);
    rpc_message_free(res);
    return r;
}

static const struct {
    const char *word;
    int words; /* with the session */
    int (*run)(struct client *c, char *id, char *more, bool json, sa_error **err);
} verbs[] = {
    {"show", 2, show_session},   {"rename", 3, rename_session}, {"archive", 2, archive},
    {"unarchive", 2, unarchive}, {"suspend", 2, suspend},       {"resume", 2, resume},
    {"fork", 2, fork_session},
};

/* The verb that the words are for; -1: list; -2: none. */
static int find_verb(int n, char **words)
{
    if (n == 0 || (n == 1 && !strcmp(words[0], "list")))
        return -1;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (n == verbs[i].words && !strcmp(words[0], verbs[i].word))
            return (int)i;
    return -2;
}

static int call(struct client *c, const struct options *o, int verb, sa_error **err)
{
    char **words = options_arguments(o);
    if (client_open(c, o, err) < 0)
        return -1;
    if (verb == -1)
        return list(c, o, err);
    cleanup_free char *id = client_session(c, words[1], err);
    return id ? verbs[verb].run(c, id, words[2], options_flag(o, "json"), err) : -1;
}

int cli_sessions(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof transcript_verbs / sizeof *transcript_verbs; i++)
        if (!strcmp(argv[1], transcript_verbs[i].name))
            return transcript_verbs[i].run(argc - 1, argv + 1);
    struct options *o = options_new(sessions_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false,
                      "sessions [list] [options]\n"
                      "       sandbox-agent sessions show|archive|unarchive|suspend|resume|fork SESSION\n"
                      "       sandbox-agent sessions rename SESSION TITLE\n"
                      "       sandbox-agent sessions export|import|verify|search [options] ...",
                      "Lists sessions, newest first; shows one with what can be configured; or changes one.");
    if (r < 0) {
        int verb = find_verb(options_count(o), options_arguments(o));
        if (verb == -2)
            fprintf(stderr, "sandbox-agent: `sessions` does not know these words; see `sessions --help`\n");
        r = verb == -2 ? 2 : call(&c, o, verb, &err) < 0 ? cli_failed(err) : 0;
    }
    client_close(&c);
    options_free(o);
    return r;
}
