/* `sandbox-agent census`: what is alive below the process service; `process-config`: its limits and defaults.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "adapters/os/mem.h"
#include "services/cli/cli.h"
#include "services/cli/process.h"
#include "services/cli/show.h"

/* ---- census ---- */

static const struct service_option census_options[] = {
    {"clear", SERVICE_OPTION_FLAG, NULL, 0, 0, "kill what belongs to no process"},
    {0},
};

static void print_usage(const char *name, const char *mark, const ResourceUsage *u)
{
    char size[PROCESS_TEXT];
    process_size_text(u ? u->resident_bytes : 0, size);
    printf("%-12s  %9u  %10s  %8.2f s%s\n", name, u ? u->processes : 0, size,
           u ? (double)(u->user_ms + u->system_ms) / 1000 : 0.0, mark);
}

static void print_stray(const SystemProcess *s)
{
    char age[PROCESS_TEXT];
    process_age_text(s->start_time, age);
    printf("stray %-8u  parent %-8u  %s  %7s  ", s->pid, s->parent_pid, s->state, age);
    show_text(stdout, (const char *)s->command.data, s->command.len);
    putchar('\n');
}

static int take_census(struct client *c, bool json, sa_error **err)
{
    TakeCensusRequest req = TAKE_CENSUS_REQUEST__INIT;
    TakeCensusResponse *res = take_census_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (json) {
        show_json(stdout, &res->base);
        rpc_message_free(res);
        return 0;
    }
    printf("%-12s  %9s  %10s  %10s\n", "ID", "PROCESSES", "MEMORY", "CPU");
    for (size_t i = 0; i < res->n_trees; i++)
        print_usage(process_short_id(res->trees[i]->process_id),
                    res->trees[i]->ended ? "  (left behind)" : "", res->trees[i]->usage);
    if (res->tree_count > res->n_trees)
        printf("... and %zu more\n", res->tree_count - res->n_trees);
    print_usage("all", "", res->usage);
    for (size_t i = 0; i < res->n_strays; i++)
        print_stray(res->strays[i]);
    if (res->stray_count > res->n_strays)
        printf("... and %zu more strays\n", res->stray_count - res->n_strays);
    rpc_message_free(res);
    return 0;
}

static int clear_strays(struct client *c, bool json, int *ret_code, sa_error **err)
{
    ClearStraysRequest req = CLEAR_STRAYS_REQUEST__INIT;
    ClearStraysResponse *res = clear_strays_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    if (json)
        show_json(stdout, &res->base);
    else
        printf("killed %u\n", res->cleared);
    for (size_t i = 0; i < res->n_left && !json; i++)
        print_stray(res->left[i]);
    *ret_code = res->n_left > 0;
    rpc_message_free(res);
    return 0;
}

int cli_census(int argc, char **argv)
{
    struct options *o = options_new(census_options, client_options);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(
        o, argc, argv, false, "census [options]",
        "Shows which processes have something running and what it uses, and what lives that belongs\n"
        "to none of them. --clear: exit code 1 when something would not die.");
    if (r < 0) {
        bool json = options_flag(o, "json");
        int code = 0;
        bool good = client_open_process(&c, o, &err) == 0 &&
                    (options_flag(o, "clear") ? clear_strays(&c, json, &code, &err)
                                              : take_census(&c, json, &err)) == 0;
        r = good ? code : cli_failed(err);
    }
    client_close(&c);
    options_free(o);
    return r;
}

/* ---- configuration ---- */

static uint64_t number_of(const ProcessConfig *config, const ProtobufCFieldDescriptor *f)
{
    const char *at = (const char *)config + f->offset;
    uint64_t wide;
    uint32_t narrow;
    if (f->type == PROTOBUF_C_TYPE_UINT64) {
        memcpy(&wide, at, sizeof wide);
        return wide;
    }
    memcpy(&narrow, at, sizeof narrow);
    return narrow;
}

static void print_config(const ProcessConfig *config, bool json)
{
    const ProtobufCMessageDescriptor *d = &process_config__descriptor;
    if (json) {
        show_json(stdout, &config->base);
        return;
    }
    for (unsigned i = 0; i < d->n_fields; i++)
        printf("%-24s %" PRIu64 "\n", d->fields[i].name, number_of(config, &d->fields[i]));
}

static int get_config(struct client *c, bool json, sa_error **err)
{
    GetConfigRequest req = GET_CONFIG_REQUEST__INIT;
    GetConfigResponse *res = get_config_wait(c->channel, &req, NULL, err);
    if (!res)
        return client_explain(c, err);
    print_config(res->config, json);
    rpc_message_free(res);
    return 0;
}

static int set_config(struct client *c, const struct options *o, sa_error **err)
{
    static const struct json_mapping mapping = {0};
    ProcessConfig config = PROCESS_CONFIG__INIT;
    SetConfigRequest req = SET_CONFIG_REQUEST__INIT;
    struct sa_arena *a = sa_arena_new();
    SetConfigResponse *res = NULL;
    int r = 0;
    req.config = &config;
    for (int i = 0; i < options_count(o) && r == 0; i++) {
        char *name = options_arguments(o)[i], *value = strchr(name, '=');
        if (!value)
            r = sa_fail(err, SA_INVALID_CONFIG, "`%s` is not name=value", name);
        else
            r = json_set_field(a, &config.base, sa_arena_format(a, "%.*s", (int)(value - name), name),
                               value + 1, &mapping, err);
    }
    if (r == 0 && !(res = set_config_wait(c->channel, &req, NULL, err)))
        r = client_explain(c, err);
    if (res)
        print_config(res->config, options_flag(o, "json"));
    rpc_message_free(res);
    sa_arena_free(a);
    return r;
}

int cli_process_config(int argc, char **argv)
{
    struct options *o = options_new(client_options, NULL);
    struct client c = {0};
    sa_error *err = NULL;
    int r = cli_parse(o, argc, argv, false, "process-config [options] [NAME=VALUE]...",
                      "Shows limits and defaults of the process service, or changes them for good.");
    if (r < 0) {
        bool good =
            client_open_process(&c, o, &err) == 0 &&
            (options_count(o) ? set_config(&c, o, &err) : get_config(&c, options_flag(o, "json"), &err)) == 0;
        r = good ? 0 : cli_failed(err);
    }
    client_close(&c);
    options_free(o);
    return r;
}
