/* provider-svc: sandboxes at providers. The map:
 *
 *     main.c          options, start, stop, which providers there are
 *     api.c           SandboxService
 *     sandboxes.c     what exists: the states of a sandbox, durable before and after each step; recovery
 *     records.c       sandboxes in LMDB (provider_store.proto)
 *
 * and the drivers, one file per provider, in adapters/providers (provider.h is their interface). */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/provider-svc/api.h"
#include "services/runtime/service.h"

static const struct service_option options[] = {
    {"server-program", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "the `sandbox-agent` of local sandboxes; else the one beside this program"},
    {"agents-dir", SERVICE_OPTION_TEXT, NULL, 0, 0,
     "where agents are installed, for all local sandboxes; else each has its own"},
    {0},
};

static char *default_program(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    return sa_format("%s/sandbox-agent", self);
}

static int add_local(struct service *svc, struct sandboxes *all, sa_error **err)
{
    const char *given = service_text(svc, "server-program");
    cleanup_free char *program = given ? sa_strdup(given) : default_program();
    cleanup_free char *dir = sa_format("%s/local", service_data_dir(svc));
    struct provider_options opt = {
        .loop = service_loop(svc),
        .rpc = service_rpc_runtime(svc),
        .data_dir = dir,
        .ended = sandboxes_ended,
        .user = all,
    };
    struct provider_local_options local = {
        .program = program,
        .agent_user = service_agent_user(svc),
        .agents_dir = service_text(svc, "agents-dir"),
        .durability = service_text(svc, "durability"),
    };
    struct provider *p = provider_local_new(&opt, &local, err);
    if (p)
        sandboxes_add_provider(all, p);
    return p ? 0 : -1;
}

static void on_degraded(void *svc, const char *message)
{
    service_degraded(svc, message);
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    struct sandboxes_options opt = {
        .loop = service_loop(svc),
        .dir = service_data_dir(svc),
        .durability = store_durability_of(service_text(svc, "durability")),
        .degraded = on_degraded,
        .user = svc,
    };
    struct sandboxes *all = sandboxes_open(&opt, err);
    struct bus_publisher *bus = NULL;
    if (all && add_local(svc, all, err) == 0)
        bus = service_bus(svc, sandboxes_epoch(all), err);
    if (!bus) {
        sa_loop_unlock(opt.loop);
        sandboxes_free(all);
        sa_loop_lock(opt.loop);
        return -1;
    }
    sandboxes_recover(all, bus);
    sandbox_service_register(service_rpc(svc), &sandbox_api, all);
    service_ready(svc);
    *ret_state = all;
    return 0;
}

static void stop(void *state)
{
    sandboxes_free(state);
}

static const struct service_spec spec = {
    .name = "provider-svc",
    .summary = "Makes, finds and ends sandboxes at providers over gRPC.",
    .options = options,
    .start = start,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return service_main(&spec, argc, argv);
}
