/* `sandbox-agent server`: every service in its own process, kept running by this one.
 *
 *     check what can be checked -> start all -> all serve -> tell where they are
 *     -> restart what crashes ... INT or TERM -> stop the services in order, then whatever else is left below
 * us
 *
 * Services get the callers' token and the secret of this start through descriptors, never through arguments.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/fleet.h"
#include "services/runtime/options.h"

enum {
    LEFT_OVER_MS = 3000, /* TERM to KILL for processes that agents and users have left running */
    TOKEN_MAX = 1024,
    SERVICES = 5,
    ARGUMENTS_MAX = 48,
    SUN_PATH_MAX = 107,
};

static const struct service_option server_options[] = {
    {"host", SERVICE_OPTION_TEXT, "127.0.0.1", 0, 0, "address of the HTTP gateway"},
    {"port", SERVICE_OPTION_UINT, "2468", 1, 65535, "its port"},
    {"token", SERVICE_OPTION_TEXT, NULL, 0, 0, "callers need this token; else one is made and kept"},
    {"no-token", SERVICE_OPTION_FLAG, NULL, 0, 0, "callers need none: whoever connects may do everything"},
    {"data-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "what is kept; else ~/.local/share/sandbox-agent"},
    {"run-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "sockets of the services; else <data-dir>/run"},
    {"redis", SERVICE_OPTION_TEXT, NULL, 0, 0, "presence through redis://host:port; else in memory"},
    {"allow-host", SERVICE_OPTION_LIST, NULL, 0, 0, "a name by which browsers may call the gateway"},
    {"grpc-host", SERVICE_OPTION_TEXT, "127.0.0.1", 0, 0, "address of gRPC"},
    {"grpc-port", SERVICE_OPTION_UINT, "7400", 1, 65531, "session, process, fs, provider are on +1 to +4"},
    {"agent-user", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "run agents and user processes as this user (needs root)"},
    {"agents-file", SERVICE_OPTION_TEXT, NULL, 0, 0, "more agents: a JSON file, see session-svc --help"},
    {"agents-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "where agents are installed; else <data-dir>/agents"},
    {"pass-credentials", SERVICE_OPTION_FLAG, NULL, 0, 0, "agents get their keys from our environment"},
    {"tls-cert", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: certificate chain of gRPC"},
    {"tls-key", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: its private key"},
    {"tls-ca", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: callers need a certificate of this authority"},
    {"durability", SERVICE_OPTION_TEXT, "grouped", 0, 0,
     "grouped, nosync or fsync: what power loss may cost"},
    {"log-level", SERVICE_OPTION_TEXT, "warn", 0, 0, "debug, info, warn or error"},
    {"bus-drop-percent", SERVICE_OPTION_UINT, NULL, 0, 100, "tests: lose so many bus messages"},
    {0},
};

/* In the order in which they are stopped; process-svc last: the others end through it what they have started.
 */
static const struct {
    const char *name;
    int port_offset; /* of gRPC, from --grpc-port; 0: not for callers */
} service_table[SERVICES] = {{"gateway", 0}, {"session", 1}, {"fs", 3}, {"provider", 4}, {"process", 2}};

struct words {
    char *argv[ARGUMENTS_MAX + 1];
    int argc;
};

struct server {
    struct options *options;
    char *data_dir, *run_dir, *agents_dir, *socket_dir;
    char *token; /* NULL: callers need none */
    bool token_made;
    char *redis_file; /* NULL: presence in memory */
    char secret[2 * SA_ID_TEXT + 1];
    int lock, run_fd;
    struct words words[SERVICES];
    struct fleet_service services[SERVICES];
    struct fleet_spec spec;
    struct sa_loop *loop;
    struct rpc_runtime *rpc;
    struct reaper *reaper;
    struct sa_signal *sigterm, *sigint, *sighup;
    struct fleet *fleet;
    int exit_code;
};

/* ---- what can be checked before anything is started ---- */

static const char *text(const struct server *s, const char *name)
{
    return options_text(s->options, name);
}

static char *address_of(const char *host, unsigned port)
{
    return sa_format(strchr(host, ':') && *host != '[' ? "[%s]:%u" : "%s:%u", host, port);
}

static bool is_loopback(const struct sockaddr *a)
{
    const struct sockaddr_in *v4 = (const void *)a;
    const struct sockaddr_in6 *v6 = (const void *)a;
    return a->sa_family == AF_INET ? ntohl(v4->sin_addr.s_addr) >> 24 == 127
                                   : a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* loopback_only: plain text does not leave this machine. */
static int check_port(const char *host, unsigned port, bool loopback_only, sa_error **err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    int r = getaddrinfo(host, service, &hints, &found);
    if (r)
        return sa_fail(err, SA_INVALID_CONFIG, "address `%s`: %s", host, gai_strerror(r));
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    bool bound = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 1) == 0;
    int saved = errno;
    bool stays = is_loopback(found->ai_addr);
    freeaddrinfo(found);
    sa_close(fd);
    if (loopback_only && !stays)
        return sa_fail(err, SA_INVALID_CONFIG,
                       "gRPC off the loopback (%s) needs TLS: --tls-cert and --tls-key", host);
    if (!bound && saved == EADDRINUSE)
        return sa_fail(err, SA_ADDRESS_IN_USE, "port %u of %s is in use", port, host);
    return bound ? 0 : sa_fail_errno(err, saved, "port %u of %s", port, host);
}

static int check_ports(const struct server *s, sa_error **err)
{
    unsigned base = (unsigned)options_uint(s->options, "grpc-port"),
             http = (unsigned)options_uint(s->options, "port");
    if (http > base && http <= base + 4)
        return sa_fail(err, SA_INVALID_CONFIG, "--port %u is one of the gRPC ports %u to %u", http, base + 1,
                       base + 4);
    if (check_port(text(s, "host"), http, false, err) < 0)
        return -1;
    for (unsigned i = 1; i <= 4; i++)
        if (check_port(text(s, "grpc-host"), base + i, !text(s, "tls-cert"), err) < 0)
            return -1;
    return 0;
}

/* What the services would refuse, each with a line of its own. */
static int check_options(const struct server *s, sa_error **err)
{
    static const char *const files[] = {"tls-cert", "tls-key", "tls-ca"};
    const char *user = text(s, "agent-user"), *durability = text(s, "durability"),
               *level = text(s, "log-level");
    if (user && geteuid() != 0)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--agent-user` needs root");
    if (user && !getpwnam(user))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--agent-user`: there is no user `%s`", user);
    if (strcmp(durability, "grouped") && strcmp(durability, "nosync") && strcmp(durability, "fsync"))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--durability`: `%s` is not grouped, nosync or fsync",
                       durability);
    if (strcmp(level, "debug") && strcmp(level, "info") && strcmp(level, "warn") && strcmp(level, "error"))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--log-level`: `%s` is not debug, info, warn or error",
                       level);
    if (!text(s, "tls-cert") != !text(s, "tls-key") || (text(s, "tls-ca") && !text(s, "tls-cert")))
        return sa_fail(err, SA_INVALID_CONFIG,
                       "--tls-cert and --tls-key go together, and --tls-ca with them");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (text(s, files[i]) && access(text(s, files[i]), R_OK) < 0)
            return sa_fail_errno(err, errno, "option `--%s`: `%s`", files[i], text(s, files[i]));
    return 0;
}

static int open_directories(struct server *s, sa_error **err)
{
    const char *data = text(s, "data-dir"), *run = text(s, "run-dir"), *agents = text(s, "agents-dir");
    cleanup_free char *wanted = data ? sa_strdup(data) : cli_default_data_dir();
    /* Other users may pass through it to the agents; what is private below it is closed itself. */
    if (sa_mkdirs(wanted, 0711, err) < 0)
        return -1;
    s->data_dir = realpath(wanted, NULL);
    if (!s->data_dir)
        return sa_fail_errno(err, errno, "data directory `%s`", wanted);
    s->lock = sa_lock_dir(s->data_dir, err);
    if (s->lock < 0)
        return -1;
    s->run_dir = run ? sa_strdup(run) : sa_format("%s/run", s->data_dir);
    s->agents_dir = agents ? sa_strdup(agents) : sa_format("%s/agents", s->data_dir);
    if (sa_mkdirs(s->run_dir, 0700, err) < 0 || sa_mkdirs(s->agents_dir, 0755, err) < 0)
        return -1;
    s->run_fd = open(s->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->run_fd < 0)
        return sa_fail_errno(err, errno, "run directory `%s`", s->run_dir);
    /* A unix socket's address is short; through a descriptor every directory has a short name. */
    bool fits = strlen(s->run_dir) + sizeof "/provider.sock" <= SUN_PATH_MAX;
    s->socket_dir = fits ? sa_strdup(s->run_dir) : sa_format("/proc/self/fd/%d", s->run_fd);
    return 0;
}

/* ---- token and secret ---- */

static void random_text(char ret[static 2 * SA_ID_TEXT + 1])
{
    struct sa_id id;
    for (size_t i = 0; i < 2; i++) {
        sa_random(id.bytes, sizeof id.bytes);
        sa_id_format(id, ret + i * SA_ID_TEXT);
    }
}

static bool is_token(const char *t)
{
    size_t n = strlen(t);
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)t[i]))
            return false;
    return n > 0 && n <= TOKEN_MAX;
}

/* --token, or the one that is kept from an earlier start, or a new one. Kept for the clients on this machine.
 */
static int find_token(struct server *s, sa_error **err)
{
    cleanup_free char *path = sa_format("%s/token", s->data_dir);
    cleanup_buf struct sa_buf kept = {0};
    const char *given = text(s, "token");
    if (options_flag(s->options, "no-token"))
        return given ? sa_fail(err, SA_INVALID_CONFIG, "--token and --no-token exclude each other") : 0;
    if (given) {
        if (!is_token(given))
            return sa_fail(err, SA_INVALID_CONFIG,
                           "a token is 1 to %d printable ASCII characters without blanks", TOKEN_MAX);
        s->token = sa_strdup(given);
        /* Arguments are for everyone to see: not this one, from here on. */
        memset((char *)(uintptr_t)given, '*', strlen(given));
    } else if (access(path, F_OK) == 0) {
        if (sa_read_file(path, TOKEN_MAX + 1, &kept, err) < 0)
            return -1;
        s->token = sa_strndup((char *)kept.data, kept.len ? strcspn(sa_buf_string(&kept), "\n") : 0);
        if (!is_token(s->token))
            return sa_fail(err, SA_INVALID_CONFIG, "`%s` holds no token; delete it to have a new one made",
                           path);
        return 0;
    } else {
        s->token = sa_malloc(sizeof s->secret);
        random_text(s->token);
        s->token_made = true;
    }
    cleanup_free char *line = sa_format("%s\n", s->token);
    return sa_write_file(path, line, strlen(line), 0600, err);
}

/* The address of Redis may hold a password, so it goes to session-svc by a file that only we can read. */
static int keep_redis(struct server *s, sa_error **err)
{
    const char *given = text(s, "redis");
    if (!given)
        return 0;
    s->redis_file = sa_format("%s/redis", s->run_dir);
    if (sa_write_file(s->redis_file, given, strlen(given), 0600, err) < 0)
        return -1;
    memset((char *)(uintptr_t)given, '*', strlen(given));
    return 0;
}

/* ---- the services' arguments ---- */

static void add(struct words *w, const char *option, const char *value)
{
    if (w->argc + 2 > ARGUMENTS_MAX)
        abort();
    w->argv[w->argc++] = sa_strdup(option);
    if (value)
        w->argv[w->argc++] = sa_strdup(value);
}

static void pass_on(const struct server *s, struct words *w, const char *name)
{
    cleanup_free char *option = sa_format("--%s", name);
    if (text(s, name))
        add(w, option, text(s, name));
}

static void pass_list(const struct server *s, struct words *w, const char *name)
{
    cleanup_free char *option = sa_format("--%s", name), *lines = sa_strdup(text(s, name));
    for (char *rest = lines, *line; rest && (line = strsep(&rest, "\n"));)
        add(w, option, line);
}

static void describe_service(const struct server *s, int i, struct words *w)
{
    static const char *const common[] = {"tls-cert",   "tls-key",   "tls-ca",          "agent-user",
                                         "durability", "log-level", "bus-drop-percent"};
    const char *name = service_table[i].name;
    cleanup_free char *program = sa_format("%s-svc", name), *path = cli_sibling(program);
    add(w, path, NULL);
    add(w, "--data-dir", s->data_dir);
    add(w, "--run-dir", s->run_dir);
    add(w, "--secret-fd", "3");
    _Static_assert(FLEET_SECRET_FD == 3 && FLEET_TOKEN_FD == 4, "as written here");
    if (s->token)
        add(w, "--token-fd", "4");
    else
        add(w, "--no-token", NULL);
    if (service_table[i].port_offset) {
        unsigned port =
            (unsigned)options_uint(s->options, "grpc-port") + (unsigned)service_table[i].port_offset;
        cleanup_free char *address = address_of(text(s, "grpc-host"), port);
        add(w, "--listen", address);
    }
    for (size_t c = 0; c < sizeof common / sizeof *common; c++)
        pass_on(s, w, common[c]);
    if (!strcmp(name, "gateway")) {
        char port[8];
        snprintf(port, sizeof port, "%u", (unsigned)options_uint(s->options, "port"));
        add(w, "--host", text(s, "host"));
        add(w, "--port", port);
        pass_list(s, w, "allow-host");
    }
    if (!strcmp(name, "session") || !strcmp(name, "provider"))
        add(w, "--agents-dir", s->agents_dir);
    if (!strcmp(name, "session")) {
        if (s->redis_file)
            add(w, "--redis-file", s->redis_file);
        if (text(s, "agents-file"))
            add(w, "--agents-file", text(s, "agents-file"));
        if (options_flag(s->options, "pass-credentials"))
            add(w, "--pass-credentials", NULL);
    }
}

static int describe_services(struct server *s, sa_error **err)
{
    for (int i = 0; i < SERVICES; i++) {
        describe_service(s, i, &s->words[i]);
        s->services[i] = (struct fleet_service){service_table[i].name, s->words[i].argv};
        if (access(s->words[i].argv[0], X_OK) < 0)
            return sa_fail_errno(err, errno, "program `%s`", s->words[i].argv[0]);
    }
    return 0;
}

/* ---- running ---- */

static char *endpoint_path(const struct server *s)
{
    return sa_format("%s/server", s->data_dir);
}

/* For the clients on this machine: what they call when they are not told. */
static void write_endpoint(const struct server *s)
{
    cleanup_free char *path = endpoint_path(s);
    unsigned port = (unsigned)options_uint(s->options, "grpc-port") + 1;
    cleanup_free char *grpc = address_of(text(s, "grpc-host"), port);
    cleanup_free char *process = address_of(text(s, "grpc-host"), port + 1);
    cleanup_free char *fs = address_of(text(s, "grpc-host"), port + 2);
    cleanup_free char *http = address_of(text(s, "host"), (unsigned)options_uint(s->options, "port"));
    cleanup_free char *lines =
        sa_format("grpc=%s\nprocess=%s\nfs=%s\nhttp=http://%s\n", grpc, process, fs, http);
    cleanup_error sa_error *err = NULL;
    if (sa_write_file(path, lines, strlen(lines), 0600, &err) < 0)
        sa_log(SA_LOG_WARN, "server.endpoint", "message=\"%s\"", err->message);
}

static void print_where(const struct server *s)
{
    unsigned base = (unsigned)options_uint(s->options, "grpc-port");
    const char *user = text(s, "agent-user");
    cleanup_free char *http = address_of(text(s, "host"), (unsigned)options_uint(s->options, "port"));
    printf("sandbox-agent is ready\n");
    printf("  HTTP    http://%s   (page: http://%s/ui/)\n", http, http);
    printf("  gRPC    %s, ports %u session, %u process, %u fs, %u provider%s\n", text(s, "grpc-host"),
           base + 1, base + 2, base + 3, base + 4, text(s, "tls-cert") ? " (TLS)" : "");
    printf("  data    %s\n", s->data_dir);
    if (s->token)
        printf("  token   in %s/token%s: export SANDBOX_AGENT_TOKEN=$(cat %s/token)\n", s->data_dir,
               s->token_made ? " (new)" : "", s->data_dir);
    else
        printf("  token   NONE: whoever can connect may do everything\n");
    if (user)
        printf("  agents  run as user %s\n", user);
    else
        printf(
            "  agents  run as this user and can read all of the above; --agent-user NAME separates them\n");
    fflush(stdout);
}

static void on_ready(void *user)
{
    struct server *s = user;
    write_endpoint(s);
    print_where(s);
}

static void on_failed(void *user, const char *message)
{
    struct server *s = user;
    fprintf(stderr, "sandbox-agent: %s\n", message);
    s->exit_code = 1;
    fleet_stop(s->fleet);
}

static void on_stopped(void *user)
{
    struct server *s = user;
    sa_loop_stop(s->loop);
}

static void on_signal(void *user, int signum)
{
    struct server *s = user;
    sa_log(SA_LOG_INFO, "server.stop", "signal=%d", signum);
    fleet_stop(s->fleet);
}

static void run(struct server *s, sa_error **err)
{
    s->rpc = rpc_runtime_new(s->loop);
    sa_loop_lock(s->loop);
    s->fleet = fleet_new(s->loop, s->rpc, s->reaper, &s->spec);
    if (fleet_start(s->fleet, err) < 0)
        fleet_stop(s->fleet);
    sa_loop_unlock(s->loop);
    sa_loop_run(s->loop);

    sa_loop_lock(s->loop);
    fleet_free(s->fleet);
    sa_loop_unlock(s->loop);
    rpc_runtime_free(s->rpc);
}

static int begin(struct server *s, sa_error **err)
{
    if (check_options(s, err) < 0 || open_directories(s, err) < 0 || find_token(s, err) < 0 ||
        keep_redis(s, err) < 0 || describe_services(s, err) < 0 || check_ports(s, err) < 0)
        return -1;
    s->loop = sa_loop_new(err);
    if (!s->loop)
        return -1;
    random_text(s->secret);
    s->spec = (struct fleet_spec){
        .services = s->services,
        .n_services = SERVICES,
        .socket_dir = s->socket_dir,
        .secret = s->secret,
        .token = s->token,
        .ready = on_ready,
        .failed = on_failed,
        .stopped = on_stopped,
        .user = s,
    };
    /* Blocked from here on in every thread: only the loop reads them. */
    sa_loop_lock(s->loop);
    s->reaper = reaper_new(s->loop);
    s->sigterm = sa_signal_new(s->loop, SIGTERM, on_signal, s);
    s->sigint = sa_signal_new(s->loop, SIGINT, on_signal, s);
    s->sighup = sa_signal_new(s->loop, SIGHUP, on_signal, s);
    sa_loop_unlock(s->loop);
    signal(SIGPIPE, SIG_IGN);
    run(s, err);
    return *err ? -1 : 0;
}

static void end(struct server *s)
{
    if (s->loop) {
        sa_loop_lock(s->loop);
        sa_signal_free(s->sigterm);
        sa_signal_free(s->sigint);
        sa_signal_free(s->sighup);
        reaper_free(s->reaper);
        sa_loop_unlock(s->loop);
        cleanup_free char *endpoint = endpoint_path(s);
        unlink(endpoint);
        int left = end_descendants(LEFT_OVER_MS);
        if (left)
            fprintf(stderr, "sandbox-agent: %d processes could not be ended\n", left);
    }
    sa_loop_free(s->loop);
    for (int i = 0; i < SERVICES; i++)
        for (int w = 0; w < s->words[i].argc; w++)
            free(s->words[i].argv[w]);
    free(s->redis_file);
    free(s->token);
    free(s->socket_dir);
    free(s->agents_dir);
    free(s->run_dir);
    free(s->data_dir);
    sa_close(s->run_fd);
    sa_close(s->lock);
    options_free(s->options);
}

int cli_server(int argc, char **argv)
{
    struct server s = {.lock = -1, .run_fd = -1};
    sa_error *err = NULL;
    s.options = options_new(server_options, NULL);
    options_letter(s.options, 'H', "host");
    options_letter(s.options, 'p', "port");
    options_letter(s.options, 't', "token");
    options_letter(s.options, 'n', "no-token");
    int r = cli_parse(s.options, argc, argv, false, "server [options]",
                      "Starts all services and keeps them running.");
    if (r < 0 && options_count(s.options)) {
        fprintf(stderr, "sandbox-agent: unknown argument `%s`; see --help\n",
                options_arguments(s.options)[0]);
        r = 2;
    }
    if (r < 0) {
        sa_log_init("sandbox-agent", !strcmp(text(&s, "log-level"), "debug")  ? SA_LOG_DEBUG
                                     : !strcmp(text(&s, "log-level"), "info") ? SA_LOG_INFO
                                                                              : SA_LOG_WARN);
        r = begin(&s, &err) < 0 ? cli_failed(err) : s.exit_code;
    }
    end(&s);
    return r;
}
