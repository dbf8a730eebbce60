/* `sandbox-agent health SERVICE`: asks a service of this machine, over its unix socket, whether it serves.
 * For probes of containers: exit code 0 when it does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/rpc.h"
#include "adapters/os/mem.h"
#include "grpc/health/v1/health.rpc.h"
#include "services/cli/cli.h"
#include "services/runtime/options.h"

static const struct service_option health_options[] = {
    {"run-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "sockets of the services; else <data-dir>/run"},
    {"data-dir", SERVICE_OPTION_TEXT, NULL, 0, 0, "else ~/.local/share/sandbox-agent"},
    {"timeout", SERVICE_OPTION_UINT, "5000", 1, 600000, "milliseconds"},
    {0},
};

static int ask(const char *target, const char *name, uint32_t timeout_ms, sa_error **err)
{
    struct sa_loop *loop = sa_loop_new(err);
    if (!loop)
        return -1;
    struct rpc_runtime *rpc = rpc_runtime_new(loop);
    struct rpc_channel_options channel_options = {.target = target};
    sa_loop_lock(loop);
    struct rpc_channel *channel = rpc_channel_new(rpc, &channel_options);
    sa_loop_unlock(loop);
    Grpc__Health__V1__HealthCheckRequest req = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = timeout_ms};
    Grpc__Health__V1__HealthCheckResponse *res = grpc__health__v1__check_wait(channel, &req, &opt, err);
    int r = -1;
    if (res && res->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        r = 0;
    else if (res)
        sa_fail(err, SA_UNAVAILABLE, "the %s service does not serve", name);
    else
        sa_wrap(err, "the %s service at `%s` does not answer", name, target);
    rpc_message_free(res);
    sa_loop_lock(loop);
    rpc_channel_free(channel);
    sa_loop_unlock(loop);
    rpc_runtime_free(rpc);
    sa_loop_free(loop);
    return r;
}

int cli_health(int argc, char **argv)
{
    struct options *o = options_new(health_options, NULL);
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false, "health [options] SERVICE",
        "Asks a service of this machine (session, process, fs, provider, gateway) whether it serves.");
    if (r < 0 && options_count(o) != 1) {
        fprintf(stderr, "sandbox-agent: the health of which service? See --help\n");
        r = 2;
    }
    if (r < 0) {
        const char *data = options_text(o, "data-dir"), *run = options_text(o, "run-dir");
        const char *name = options_arguments(o)[0];
        cleanup_free char *base = data ? sa_strdup(data) : cli_default_data_dir();
        cleanup_free char *target =
            run ? sa_format("unix:%s/%s.sock", run, name) : sa_format("unix:%s/run/%s.sock", base, name);
        r = ask(target, name, (uint32_t)options_uint(o, "timeout"), &err) < 0 ? cli_failed(err) : 0;
    }
    options_free(o);
    return r;
}
