/* A service from its first to its last instruction. The order matters:
 *
 *     options, log -> directories and their locks -> secrets -> loop, signals, RPC -> spec->start
 *     -> listen -> run ... SIGTERM -> spec->drain, no new calls, running ones end -> spec->stop -> free
 *
 * Signals are blocked before any thread exists, so that every thread inherits that and only the loop reads
 * them. */
#include "services/runtime/service.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/nng/bus.h"
#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/runtime/auth.h"

enum {
    DRAIN_MS = 10000,
    PEERS_MAX = 8,
    PEM_MAX = 1 << 20,
    SUN_PATH_MAX = 107, /* of a unix socket's address, without the NUL */
};

static const struct service_option common_options[] = {
    {"data-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "directory of what the services keep; needed"},
    {"run-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "directory of their sockets; else <data-dir>/run"},
    {"listen", SERVICE_OPTION_TEXT, NULL, 0, 0, "gRPC on HOST:PORT too, not only on a unix socket"},
    {"token-fd", SERVICE_OPTION_UINT, NULL, 0, 1023, "read the callers' token from this descriptor"},
    {"token-file", SERVICE_OPTION_TEXT, NULL, 0, 0, "read it from this file"},
    {"secret-fd", SERVICE_OPTION_UINT, NULL, 0, 1023, "read the services' secret from this descriptor"},
    {"secret-file", SERVICE_OPTION_TEXT, NULL, 0, 0, "read it from this file"},
    {"no-token", SERVICE_OPTION_FLAG, NULL, 0, 0, "let everyone call who can connect"},
    {"tls-cert", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: our certificate chain, for --listen"},
    {"tls-key", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: its private key"},
    {"tls-ca", SERVICE_OPTION_TEXT, NULL, 0, 0, "PEM file: callers need a certificate of this authority"},
    {"agent-user", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "run agents and user processes as this user (needs root)"},
    {"durability", SERVICE_OPTION_TEXT, "grouped", 0, 0,
     "grouped, nosync or fsync: what power loss may cost"},
    {"log-level", SERVICE_OPTION_TEXT, "info", 0, 0, "debug, info, warn or error"},
    {"bus-drop-percent", SERVICE_OPTION_UINT, "0", 0, 100, "tests: lose so many bus messages"},
    {0},
};

struct peer {
    char *name;
    struct rpc_channel *channel;
};

struct service {
    const struct service_spec *spec;
    struct options *options;
    const char *name; /* without "-svc" */
    char *data_dir, *run_dir;
    char *socket_dir; /* run_dir, or a shorter way to it */
    int data_lock, run_lock, run_fd;
    struct auth auth;
    struct sa_loop *loop;
    struct sa_signal *sigterm, *sigint;
    struct rpc_runtime *rpc;
    struct rpc_server *server;
    struct bus_publisher *bus;
    struct peer peers[PEERS_MAX];
    int n_peers;
    void *state;
    bool ready, listening;
    bool draining;
    bool drained; /* no call is left */
    unsigned holds;
    bool degraded;
    int exit_code;
};

/* ---- what `start` may use ---- */

struct sa_loop *service_loop(struct service *svc)
{
    return svc->loop;
}

struct rpc_server *service_rpc(struct service *svc)
{
    return svc->server;
}

struct rpc_runtime *service_rpc_runtime(struct service *svc)
{
    return svc->rpc;
}

const char *service_data_dir(const struct service *svc)
{
    return svc->data_dir;
}

const char *service_run_dir(const struct service *svc)
{
    return svc->run_dir;
}

const char *service_agent_user(const struct service *svc)
{
    return options_text(svc->options, "agent-user");
}

const char *service_text(const struct service *svc, const char *option)
{
    return options_text(svc->options, option);
}

uint64_t service_uint(const struct service *svc, const char *option)
{
    return options_uint(svc->options, option);
}

bool service_flag(const struct service *svc, const char *option)
{
    return options_flag(svc->options, option);
}

char *service_bus_url(const struct service *svc, const char *name)
{
    return sa_format("ipc://%s/%s.bus", svc->socket_dir, name);
}

struct bus_publisher *service_bus(struct service *svc, uint64_t epoch, sa_error **err)
{
    if (!svc->bus) {
        cleanup_free char *url = service_bus_url(svc, svc->name);
        struct bus_publisher_options opt = {
            .url = url,
            .epoch = epoch,
            .drop_percent = (uint32_t)options_uint(svc->options, "bus-drop-percent"),
        };
        svc->bus = bus_publisher_new(svc->loop, &opt, err);
    }
    return svc->bus;
}

struct rpc_channel *service_peer(struct service *svc, const char *name)
{
    for (int i = 0; i < svc->n_peers; i++)
        if (!strcmp(svc->peers[i].name, name))
            return svc->peers[i].channel;
    if (svc->n_peers == PEERS_MAX)
        abort(); /* there are five services */
    cleanup_free char *target = sa_format("unix:%s/%s.sock", svc->socket_dir, name);
    const char *const secret[] = {"x-service-secret", svc->auth.secret, NULL};
    struct rpc_channel_options opt = {
        .target = target,
        .token = svc->auth.secret ? NULL : svc->auth.token,
        .metadata = svc->auth.secret ? secret : NULL,
    };
    struct peer *p = &svc->peers[svc->n_peers++];
    *p = (struct peer){sa_strdup(name), rpc_channel_new(svc->rpc, &opt)};
    return p->channel;
}

/* Once, when both are true: it wants to serve and it listens. */
static void log_ready(struct service *svc)
{
    if (svc->ready && svc->listening)
        sa_log(SA_LOG_INFO, "service.ready", "pid=%d", (int)getpid());
}

void service_ready(struct service *svc)
{
    if (svc->ready)
        return;
    rpc_server_set_serving(svc->server, NULL, !svc->draining);
    rpc_server_set_serving(svc->server, SERVICE_DEPENDENCIES, !svc->draining && !svc->degraded);
    svc->ready = true;
    log_ready(svc);
}

void service_degraded(struct service *svc, const char *message)
{
    if (!message == !svc->degraded)
        return;
    svc->degraded = message != NULL;
    if (message)
        sa_log(SA_LOG_WARN, "service.degraded", "message=\"%s\"", message);
    else
        sa_log(SA_LOG_INFO, "service.recovered", "pid=%d", (int)getpid());
    rpc_server_set_serving(svc->server, SERVICE_DEPENDENCIES, !svc->draining && !svc->degraded);
}

const char *service_principal_of_token(const struct service *svc, const char *token)
{
    return auth_principal(&svc->auth, token);
}

/* ---- every call ---- */

static void on_finished(void *user, const char *method, enum sa_code code, uint64_t duration_us)
{
    (void)user;
    sa_log(SA_LOG_DEBUG, "rpc.finished", "method=%s code=%s us=%" PRIu64, method, sa_code_name(code),
           duration_us);
}

/* ---- the end ---- */

static void on_drained(void *user)
{
    struct service *svc = user;
    svc->drained = true;
    if (!svc->holds)
        sa_loop_stop(svc->loop);
}

void service_hold(struct service *svc)
{
    svc->holds++;
}

void service_release(struct service *svc)
{
    if (!--svc->holds && svc->drained)
        sa_loop_stop(svc->loop);
}

static void drain(struct service *svc)
{
    if (svc->draining)
        return;
    svc->draining = true;
    if (svc->spec->drain)
        svc->spec->drain(svc->state);
    rpc_server_drain(svc->server, DRAIN_MS, on_drained, svc);
}

static void on_signal(void *user, int signum)
{
    struct service *svc = user;
    if (!svc->draining)
        sa_log(SA_LOG_INFO, "service.drain", "signal=%s", signum == SIGTERM ? "TERM" : "INT");
    drain(svc);
}

void service_fatal(struct service *svc, sa_error *err)
{
    sa_log(SA_LOG_ERROR, "service.fatal", "reason=%s message=\"%s\"", err->reason, err->message);
    sa_error_free(err);
    svc->exit_code = 1;
    drain(svc);
}

/* ---- the beginning ---- */

static int log_level(const char *text, enum sa_log_level *ret, sa_error **err)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(text, names[i])) {
            *ret = (enum sa_log_level)i;
            return 0;
        }
    }
    return sa_fail(err, SA_INVALID_CONFIG, "option `--log-level`: `%s` is not debug, info, warn or error",
                   text);
}

static int check_options(const struct options *o, sa_error **err)
{
    const char *user = options_text(o, "agent-user"), *durability = options_text(o, "durability");
    if (!options_text(o, "data-dir"))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--data-dir` is needed");
    if (strcmp(durability, "grouped") && strcmp(durability, "nosync") && strcmp(durability, "fsync"))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--durability`: `%s` is not grouped, nosync or fsync",
                       durability);
    if (!options_text(o, "tls-cert") != !options_text(o, "tls-key"))
        return sa_fail(err, SA_INVALID_CONFIG, "--tls-cert and --tls-key go together");
    if (options_text(o, "tls-ca") && !options_text(o, "tls-cert"))
        return sa_fail(err, SA_INVALID_CONFIG, "--tls-ca needs --tls-cert and --tls-key");
    if (user && geteuid() != 0)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--agent-user` needs root");
    if (user && !getpwnam(user))
        return sa_fail(err, SA_INVALID_CONFIG, "option `--agent-user`: there is no user `%s`", user);
    return 0;
}

/* Makes `path` a directory of ours alone and returns its absolute name. */
static char *private_dir(const char *path, sa_error **err)
{
    struct stat st;
    if (sa_mkdirs(path, 0700, err) < 0)
        return NULL;
    char *full = realpath(path, NULL);
    if (!full || stat(full, &st) < 0) {
        sa_fail(err, SA_SYSTEM_ERROR, "directory `%s` cannot be resolved", path);
    } else if (st.st_uid != geteuid()) {
        sa_fail(err, SA_PERMISSION_DENIED, "directory `%s` belongs to user %d, not to us (%d)", path,
                (int)st.st_uid, (int)geteuid());
    } else if ((st.st_mode & 0077) && chmod(full, 0700) < 0) {
        sa_fail(err, SA_PERMISSION_DENIED, "directory `%s` is open to others and cannot be closed", path);
    } else {
        return full;
    }
    free(full);
    return NULL;
}

static int open_directories(struct service *svc, sa_error **err)
{
    const char *data = options_text(svc->options, "data-dir"), *run = options_text(svc->options, "run-dir");
    cleanup_free char *own = sa_format("%s/%s", data, svc->name), *default_run = sa_format("%s/run", data);
    /* The data directory itself may be passed through: other users' agents are installed below it. */
    if (sa_mkdirs(data, 0711, err) < 0)
        return -1;
    svc->data_dir = private_dir(own, err);
    svc->run_dir = svc->data_dir ? private_dir(run ? run : default_run, err) : NULL;
    if (!svc->run_dir)
        return -1;
    svc->data_lock = sa_lock_dir(svc->data_dir, err);
    if (svc->data_lock < 0)
        return -1;
    cleanup_free char *lock = sa_format("%s/%s.lock", svc->run_dir, svc->name);
    cleanup_free char *what = sa_format("%s in run directory `%s`", svc->spec->name, svc->run_dir);
    svc->run_lock = sa_lock_file(lock, what, err);
    if (svc->run_lock < 0)
        return -1;
    /* A unix socket's address is short; through a descriptor every directory has a short name. */
    svc->run_fd = open(svc->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (svc->run_fd < 0)
        return sa_fail(err, SA_SYSTEM_ERROR, "open directory `%s`", svc->run_dir);
    bool fits = strlen(svc->run_dir) + sizeof "/provider.sock" <= SUN_PATH_MAX;
    svc->socket_dir = fits ? sa_strdup(svc->run_dir) : sa_format("/proc/self/fd/%d", svc->run_fd);
    return 0;
}

static char *read_pem(const struct options *o, const char *name, sa_error **err)
{
    const char *path = options_text(o, name);
    cleanup_buf struct sa_buf pem = {0};
    if (!path)
        return NULL;
    if (sa_read_file(path, PEM_MAX, &pem, err) < 0) {
        sa_wrap(err, "option `--%s`", name);
        return NULL;
    }
    return sa_strdup(sa_buf_string(&pem));
}

static int listen_tcp(struct service *svc, const char *address, sa_error **err)
{
    sa_error *failed = NULL;
    cleanup_free char *cert = read_pem(svc->options, "tls-cert", &failed);
    cleanup_free char *key = failed ? NULL : read_pem(svc->options, "tls-key", &failed);
    cleanup_free char *ca = failed ? NULL : read_pem(svc->options, "tls-ca", &failed);
    if (failed)
        return sa_pass(err, failed);
    struct rpc_tls tls = {.cert_chain = cert, .private_key = key, .ca = ca};
    int port = 0;
    int r = rpc_server_listen(svc->server, address, cert ? &tls : NULL, &port, err);
    if (key)
        explicit_bzero(key, strlen(key));
    if (r == 0)
        sa_log(SA_LOG_INFO, "service.listening", "address=%s port=%d tls=%d", address, port, cert != NULL);
    return r;
}

static int listen_all(struct service *svc, sa_error **err)
{
    const char *tcp = options_text(svc->options, "listen");
    cleanup_free char *address = sa_format("unix:%s/%s.sock", svc->socket_dir, svc->name);
    if (rpc_server_listen(svc->server, address, NULL, NULL, err) < 0)
        return -1;
    return tcp ? listen_tcp(svc, tcp, err) : 0;
}

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int begin(struct service *svc, sa_error **err)
{
    if (open_directories(svc, err) < 0)
        return -1;
    svc->loop = sa_loop_new(err);
    if (!svc->loop)
        return -1;
    sa_loop_lock(svc->loop);
    svc->sigterm = sa_signal_new(svc->loop, SIGTERM, on_signal, svc);
    svc->sigint = sa_signal_new(svc->loop, SIGINT, on_signal, svc);
    sa_loop_unlock(svc->loop);
    svc->rpc = rpc_runtime_new(svc->loop);
    struct rpc_server_options opt = {
        .authorize = auth_authorize, .finished = on_finished, .user = &svc->auth};
    svc->server = rpc_server_new(svc->rpc, &opt);
    rpc_server_add_standard(svc->server);

    sa_loop_lock(svc->loop);
    int r = svc->spec->start(svc, &svc->state, err);
    sa_loop_unlock(svc->loop);
    if (r < 0)
        return -1;
    if (listen_all(svc, err) < 0) {
        if (svc->spec->stop)
            svc->spec->stop(svc->state);
        return -1;
    }
    rpc_server_start(svc->server);
    sa_loop_lock(svc->loop);
    svc->listening = true;
    log_ready(svc);
    sa_loop_unlock(svc->loop);
    return 0;
}

static void end(struct service *svc)
{
    if (svc->server)
        rpc_server_free(svc->server);
    if (svc->loop)
        sa_loop_lock(svc->loop);
    for (int i = 0; i < svc->n_peers; i++) {
        rpc_channel_free(svc->peers[i].channel);
        free(svc->peers[i].name);
    }
    bus_publisher_free(svc->bus);
    sa_signal_free(svc->sigterm);
    sa_signal_free(svc->sigint);
    if (svc->loop)
        sa_loop_unlock(svc->loop);
    if (svc->rpc)
        rpc_runtime_free(svc->rpc);
    sa_loop_free(svc->loop);
    auth_fini(&svc->auth);
    free(svc->socket_dir);
    free(svc->run_dir);
    free(svc->data_dir);
    sa_close(svc->run_fd);
    sa_close(svc->run_lock);
    sa_close(svc->data_lock);
    options_free(svc->options);
}

static int fail_start(struct service *svc, sa_error *err)
{
    fprintf(stderr, "%s: %s\n", svc->spec->name, err->message);
    sa_error_free(err);
    end(svc);
    return 1;
}

int service_main(const struct service_spec *spec, int argc, char **argv)
{
    struct service svc = {.spec = spec, .data_lock = -1, .run_lock = -1, .run_fd = -1};
    sa_error *err = NULL;
    enum sa_log_level level = SA_LOG_INFO;
    cleanup_free char *name = sa_strndup(spec->name, strcspn(spec->name, "-"));
    cleanup_free char *usage = sa_format("%s --data-dir D [options]", spec->name);
    svc.name = name;
    svc.options = options_new(common_options, spec->options);
    int r = options_parse(svc.options, argc, argv, false, &err);
    if (r == 0 && options_help_wanted(svc.options)) {
        options_print_help(svc.options, stdout, usage, spec->summary);
        options_free(svc.options);
        return 0;
    }
    if (r == 0 && options_count(svc.options))
        r = sa_fail(&err, SA_UNKNOWN_OPTION, "unknown argument `%s`; see --help",
                    options_arguments(svc.options)[0]);
    if (r < 0 || check_options(svc.options, &err) < 0 ||
        log_level(options_text(svc.options, "log-level"), &level, &err) < 0 ||
        auth_init(&svc.auth, svc.options, &err) < 0)
        return fail_start(&svc, err);
    sa_log_init(spec->name, level);
    block_signals();
    if (begin(&svc, &err) < 0)
        return fail_start(&svc, err);
    if (svc.auth.open)
        sa_log(SA_LOG_WARN, "service.open",
               "message=\"no token is asked for: whoever connects may do everything\"");
    sa_loop_run(svc.loop);
    sa_loop_lock(svc.loop);
    sa_loop_settle(svc.loop); /* what was deferred uses what `stop` frees */
    sa_loop_unlock(svc.loop);
    if (spec->stop)
        spec->stop(svc.state);
    sa_log(SA_LOG_INFO, "service.stopped", "exit=%d", svc.exit_code);
    end(&svc);
    return svc.exit_code;
}
