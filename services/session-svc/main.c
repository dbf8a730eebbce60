/* session-svc: sessions with coding agents, and the durable log of each. The map:
 *
 *     main.c          options, start, drain, stop
 *     sessions.c      the registry; at a start, what was running is taken up
 *     session.c       one session: its row, its state;   state.c: which state follows which
 *     batch.c         decide, commit, then tell
 *     turns.c         prompts: accepted, queued, run, cancelled, ended
 *     queue.c         prompts that wait: moved, withdrawn, put first
 *     profile.c       title, labels, archived or not
 *     budget.c        what a session may take;   usage.c: what it took, measured, estimated or unknown
 *     permissions.c   the inbox of permission requests and questions: answers, deadlines;
 *     permission_*.c  asked (ask), as callers see them (rows), watched (watch)
 *     policies.c      rules that answer by themselves: kept and set;   policy.c: which rule decides
 *     elicitation.c   forms of questions;   tools.c: what was told of recent tool calls
 *
 * the log as a whole:
 *     retention.c     how much of it is kept
 *     walk.c          work on every event, page by page, on a worker:   export.c, search.c (search_text.c)
 *     import.c        a transcript as a session
 *     blobs.c         bytes too large for events:   blob_api.c, blob_prompt.c, blob_lines.c (of the agent)
 *
 * the agent:
 *     config.c        mode, model and other options of the agent;   acp_config.c: what it offers
 *     link.c          an incarnation of an agent process: start, deadlines, end
 *     link_io.c       its standard streams, by offset, through process-svc;   lines.c: cut into lines
 *     talk.c          the conversation: handshake, updates, answers
 *     requests.c      what the agent asks of us;   files.c: its fs methods, through fs-svc
 *     terminals.c     its commands, through process-svc;   terminal_calls.c: their output, their kill
 *     acp_read.c      a line of the protocol as an event;   acp_write.c: messages for the agent
 *     prepare.c       what is fetched before it starts
 *     environment.c   its command line and environment;   history.c: the conversation as text
 *
 * the agents there are:
 *     registry.c      built in, from the file, registered;   acp_report.c: what they told of themselves
 *     report.c        kept for all sessions
 *     install*.c      from npm, one at a time;   job.c: processes of our own, run to their end
 *
 * what they are set up with:
 *     config_store.c  MCP servers and skills of a session;   mcp.c: servers as the agent is told of them
 *     skills.c        skills, fetched and linked
 *     secrets.c       credentials by name, and the filter that masks them;   mask.c: it, for a session
 *
 * the callers:
 *     api*.c          the methods;   page_token.c: pages of lists
 *     follow.c        readers of a log, as cursors;   window.c: recent events, packed once
 *     presence*.c     who is here: PresenceService, in memory or in Redis
 *
 * the store:
 *     db.c            tables and keys;   session_store.proto: what is in them */
#include <libgen.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "services/session-svc/api.h"
#include "services/session-svc/follow.h"
#include "services/session-svc/install.h"
#include "services/session-svc/permission_watch.h"
#include "services/session-svc/presence_api.h"
#include "services/session-svc/profile.h"
#include "services/session-svc/sessions.h"

enum { REDIS_URL_MAX = 1024 };

static const struct service_option options[] = {
    {"agents-dir", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "npm prefix where agents are installed (its node_modules/.bin); without it they are looked for on PATH"},
    {"programs-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "where mock-agent is [where session-svc is]"},
    {"cwd", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "working directory of sessions that name none [HOME of the agents]"},
    {"pass-credentials", SERVICE_OPTION_FLAG, NULL, 0, 0,
     "pass the agents' known credential variables on from our environment"},
    {"store-mib", SERVICE_OPTION_UINT, "0", 0, 1 << 20, "MiB that the store may grow to; 0: 64 GiB"},
    {"journal-mib", SERVICE_OPTION_UINT, "128", 1, 1024, "MiB of an agent's output kept until it is stored"},
    {"initialize-timeout-ms", SERVICE_OPTION_UINT, "0", 0, 600000,
     "for an agent to answer initialize; 0: its own"},
    {"open-timeout-ms", SERVICE_OPTION_UINT, "0", 0, 600000, "for an agent to open its session; 0: its own"},
    {"cancel-timeout-ms", SERVICE_OPTION_UINT, "10000", 1, 600000,
     "for an agent to obey a cancel, before it is killed"},
    {"quiet-ms", SERVICE_OPTION_UINT, "120000", 1, 86400000, "silence in a turn that is told as an event"},
    {"idle-suspend-ms", SERVICE_OPTION_UINT, "600000", 0, PROFILE_IDLE_MAX,
     "without a turn, until an agent is ended; the next prompt starts it again; 0: never"},
    {"retain-events", SERVICE_OPTION_UINT, "0", 0, UINT64_MAX,
     "events kept of a session's log, unless the session says otherwise; 0: all"},
    {"retain-mib", SERVICE_OPTION_UINT, "0", 0, 1 << 20, "MiB kept of a session's log; 0: all"},
    {"retain-hours", SERVICE_OPTION_UINT, "0", 0, 1 << 20, "hours that events are kept; 0: for ever"},
    {"blob-hours", SERVICE_OPTION_UINT, "24", 0, 1 << 20,
     "hours that a blob waits for a prompt to refer to it"},
    {"redis", SERVICE_OPTION_TEXT, NULL, 0, 0, "presence through redis://host:port; else in memory"},
    {"redis-file", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "read that address from this file: it may hold a password"},
    {"agents-file", SERVICE_OPTION_TEXT, NULL, 0, 0, "more agents: JSON, {\"agents\":[CustomAgent, ...]}"},
    {0},
};

struct state {
    struct sessions *sessions;
    struct presence_api *presence;
    char *redis_url; /* NULL: presence in memory */
    char *home, *own_dir, *launchers_dir;
};

static char *home_of_agents(struct service *svc)
{
    const char *user = service_agent_user(svc), *home = getenv("HOME");
    struct passwd *pw = user ? getpwnam(user) : NULL;
    if (pw)
        return sa_strdup(pw->pw_dir);
    if (home && *home == '/')
        return sa_strdup(home);
    pw = getpwuid(geteuid());
    return sa_strdup(pw ? pw->pw_dir : "/");
}

static char *directory_of_ourselves(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0)
        return sa_strdup("/usr/bin");
    path[n] = '\0';
    return sa_strdup(dirname(path));
}

/* Where the agents' user keeps programs of its own for agents. XDG_DATA_HOME is ours, so it counts where the
 * agents have our user. */
static char *directory_of_launchers(struct service *svc, const char *home)
{
    const char *data = service_agent_user(svc) ? NULL : getenv("XDG_DATA_HOME");
    if (data && *data == '/')
        return sa_format("%s/sandbox-agent/bin/agent_processes", data);
    return sa_format("%s/.local/share/sandbox-agent/bin/agent_processes", home);
}

static const char *text_of_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool says_yes(const char *value)
{
    return value && (!strcmp(value, "1") || !strcmp(value, "true") || !strcmp(value, "yes"));
}

static void state_free(struct state *st)
{
    free(st->redis_url);
    free(st->home);
    free(st->own_dir);
    free(st->launchers_dir);
    free(st);
}

static bool session_exists(void *user, const char *id, sa_error **err)
{
    struct sa_id parsed;
    cleanup_message StoredSession *s = sessions_read(user, id, &parsed, err);
    return s != NULL;
}

static int find_redis(struct service *svc, struct state *st, sa_error **err)
{
    const char *url = service_text(svc, "redis"), *file = service_text(svc, "redis-file");
    cleanup_buf struct sa_buf text = {0};
    if (url && file)
        return sa_fail(err, SA_INVALID_CONFIG, "--redis and --redis-file exclude each other");
    if (file && sa_read_file(file, REDIS_URL_MAX, &text, err) < 0)
        return sa_wrap(err, "option `--redis-file`");
    st->redis_url =
        file ? sa_strndup(sa_buf_string(&text), strcspn(sa_buf_string(&text), "\n")) : sa_strdup(url);
    return 0;
}

static int start_presence(struct service *svc, struct state *st, sa_error **err)
{
    if (find_redis(svc, st, err) < 0)
        return -1;
    struct presence_api_options opt = {
        .loop = service_loop(svc),
        .store = st->sessions->store,
        .floor_table = DB_PRESENCE,
        .redis_url = st->redis_url,
        .session_exists = session_exists,
        .user = st->sessions,
    };
    st->presence = presence_api_new(&opt, err);
    if (!st->presence)
        return -1;
    presence_api_register(st->presence, service_rpc(svc));
    return 0;
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    struct state *st = sa_calloc(1, sizeof *st);
    const char *programs = service_text(svc, "programs-dir"), *cwd = service_text(svc, "cwd");
    st->home = home_of_agents(svc);
    st->own_dir = programs ? sa_strdup(programs) : directory_of_ourselves();
    st->launchers_dir = directory_of_launchers(svc, st->home);
    struct sessions_config config = {
        .place = {st->launchers_dir, service_text(svc, "agents-dir"), st->own_dir, getenv("PATH")},
        .home = st->home,
        .default_cwd = cwd ? cwd : st->home,
        .store_bytes = service_uint(svc, "store-mib") << 20,
        .journal_bytes = service_uint(svc, "journal-mib") << 20,
        .initialize_ms = (uint32_t)service_uint(svc, "initialize-timeout-ms"),
        .open_ms = (uint32_t)service_uint(svc, "open-timeout-ms"),
        .cancel_ms = (uint32_t)service_uint(svc, "cancel-timeout-ms"),
        .quiet_ms = (uint32_t)service_uint(svc, "quiet-ms"),
        .idle_suspend_ms = service_uint(svc, "idle-suspend-ms"),
        .blob_hours = service_uint(svc, "blob-hours"),
        .pass_credentials = service_flag(svc, "pass-credentials"),
        .retention = {.events = service_uint(svc, "retain-events"),
                      .bytes = service_uint(svc, "retain-mib") << 20,
                      .age_s = service_uint(svc, "retain-hours") * 3600},
        .agents_file = service_text(svc, "agents-file"),
        .registry_url = text_of_environment("SANDBOX_AGENT_ACP_REGISTRY_URL"),
        .require_preinstall = says_yes(getenv("SANDBOX_AGENT_REQUIRE_PREINSTALL")),
    };
    config.line_max = config.journal_bytes / 4 < LINK_LINE_MAX ? config.journal_bytes / 4 : LINK_LINE_MAX;
    st->sessions = sessions_new(svc, &config, err);
    if (!st->sessions || start_presence(svc, st, err)) {
        sa_loop_unlock(service_loop(svc));
        sessions_free(st->sessions);
        sa_loop_lock(service_loop(svc));
        state_free(st);
        return -1;
    }
    api_register(st->sessions);
    service_ready(svc);
    *ret_state = st;
    return 0;
}

/* Agents go on under their shims; what they write waits for the next start. */
static void drain(void *state)
{
    struct state *st = state;
    st->sessions->draining = true;
    follow_drain(st->sessions);
    permission_watch_drain(st->sessions);
    installs_drain(st->sessions);
    presence_api_drain(st->presence);
}

static void stop(void *state)
{
    struct state *st = state;
    sa_loop_lock(st->sessions->loop);
    presence_api_free(st->presence);
    sa_loop_unlock(st->sessions->loop);
    sessions_free(st->sessions);
    state_free(st);
}

static const struct service_spec spec = {
    .name = "session-svc",
    .summary = "Runs sessions with coding agents and keeps the log of each.",
    .options = options,
    .start = start,
    .drain = drain,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return service_main(&spec, argc, argv);
}
