/* One table says everything about a setting but its place in the API's message: that is found by name, so the
 * message and the table cannot drift apart unseen (config_load checks). */
#include "services/process-svc/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "adapters/os/log.h"
#include "services/process-svc/processes.h"

enum { MIB = 1 << 20 };

static const struct setting {
    const char *name; /* of the message's field, and the key in the store */
    size_t offset;    /* in struct config */
    uint64_t value, min, max;
    const char *option; /* where the command line can say it */
} settings[] = {
    {"max_processes", offsetof(struct config, max_processes), 4096, 1, 100000, "max-processes"},
    {"max_runs", offsetof(struct config, max_runs), 64, 1, 10000, "max-runs"},
    {"default_run_timeout_ms", offsetof(struct config, default_run_timeout_ms), 30000, 1, 86400000, NULL},
    {"max_run_timeout_ms", offsetof(struct config, max_run_timeout_ms), 600000, 1, 86400000, NULL},
    {"max_run_output_bytes", offsetof(struct config, max_run_output_bytes), MIB, 1, RUNNER_OUTPUT_MAX, NULL},
    {"default_journal_bytes", offsetof(struct config, default_journal_bytes), 16 * MIB, SHIM_JOURNAL_MIN,
     SHIM_JOURNAL_MAX, NULL},
    {"max_input_bytes", offsetof(struct config, max_input_bytes), MIB, 4096, RUNNER_INPUT_MAX, NULL},
};

enum { SETTINGS = sizeof settings / sizeof *settings };

static uint64_t *value_of(struct config *c, const struct setting *s)
{
    return (uint64_t *)(void *)((char *)c + s->offset);
}

uint64_t config_run_timeout(const struct config *c)
{
    return c->default_run_timeout_ms < c->max_run_timeout_ms ? c->default_run_timeout_ms
                                                             : c->max_run_timeout_ms;
}

/* ---- the API's message ---- */

static const ProtobufCFieldDescriptor *field_of(const struct setting *s)
{
    return protobuf_c_message_descriptor_get_field_by_name(&process_config__descriptor, s->name);
}

/* Is the optional field set? */
static bool get_field(const ProcessConfig *m, const ProtobufCFieldDescriptor *f, uint64_t *ret)
{
    const char *at = (const char *)m + f->offset;
    uint32_t which;
    memcpy(&which, (const char *)m + f->quantifier_offset, sizeof which);
    if (which != f->id)
        return false;
    *ret = f->type == PROTOBUF_C_TYPE_UINT64 ? *(const uint64_t *)(const void *)at
                                             : *(const uint32_t *)(const void *)at;
    return true;
}

static void set_field(ProcessConfig *m, const ProtobufCFieldDescriptor *f, uint64_t value)
{
    void *at = (char *)m + f->offset;
    memcpy((char *)m + f->quantifier_offset, &f->id, sizeof f->id);
    if (f->type == PROTOBUF_C_TYPE_UINT64)
        *(uint64_t *)at = value;
    else
        *(uint32_t *)at = (uint32_t)value;
}

static ProcessConfig *config_message(struct sa_arena *a, struct config *c)
{
    ProcessConfig *m = sa_arena_alloc(a, sizeof *m);
    process_config__init(m);
    for (int i = 0; i < SETTINGS; i++)
        set_field(m, field_of(&settings[i]), *value_of(c, &settings[i]));
    return m;
}

/* ---- what is kept ---- */

static struct store_key key_of(const struct setting *s)
{
    return store_key_of(s->name, strlen(s->name));
}

int config_load(struct processes *all, sa_error **err)
{
    for (int i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        struct store_key key = key_of(s);
        cleanup_message ConfigRecord *r = NULL;
        uint64_t *value = value_of(&all->config, s);
        if (!field_of(s))
            return sa_fail(err, SA_INTERNAL, "setting %s is not in ProcessConfig", s->name);
        *value = s->option ? service_uint(all->svc, s->option) : s->value;
        int found = store_get(all->store, TABLE_CONFIG, &key, &r, err);
        if (found < 0)
            return -1;
        if (found && r->value >= s->min && r->value <= s->max) /* else an older program's limits were wider */
            *value = r->value;
        if (found)
            sa_log(SA_LOG_INFO, "config.stored", "setting=%s value=%llu", s->name,
                   (unsigned long long)*value);
    }
    return 0;
}

/* ---- handlers ---- */

void config_get(void *api, struct rpc_call *call, const GetConfigRequest *req)
{
    struct processes *all = api;
    (void)req;
    GetConfigResponse res = GET_CONFIG_RESPONSE__INIT;
    res.config = config_message(rpc_arena(call), &all->config);
    get_config_reply(call, &res);
}

struct change {
    struct processes *all;
    struct rpc_call *call;
    bool changed[SETTINGS];
    uint64_t values[SETTINGS];
};

static int check(const ProcessConfig *m, struct change *c, sa_error **err)
{
    for (int i = 0; m && i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        c->changed[i] = get_field(m, field_of(s), &c->values[i]);
        if (c->changed[i] && (c->values[i] < s->min || c->values[i] > s->max))
            return sa_fail(err, SA_INVALID_CONFIG, "%s is %llu, allowed are %llu to %llu", s->name,
                           (unsigned long long)c->values[i], (unsigned long long)s->min,
                           (unsigned long long)s->max);
    }
    return 0;
}

static void committed(void *user, const sa_error *err)
{
    struct change *c = user;
    if (err) {
        rpc_fail(c->call, sa_error_copy(err));
    } else {
        SA_FAULT("config.committed");
        for (int i = 0; i < SETTINGS; i++)
            if (c->changed[i])
                *value_of(&c->all->config, &settings[i]) = c->values[i];
        SetConfigResponse res = SET_CONFIG_RESPONSE__INIT;
        res.config = config_message(rpc_arena(c->call), &c->all->config);
        set_config_reply(c->call, &res);
    }
    rpc_call_unref(c->call);
    service_release(c->all->svc);
    free(c);
}

/* Each setting is a row, so that two changes at once do not undo each other. */
void config_set(void *api, struct rpc_call *call, const SetConfigRequest *req)
{
    struct processes *all = api;
    sa_error *err = NULL;
    struct change *c = sa_calloc(1, sizeof *c);
    struct store_set *set = store_set_new();
    *c = (struct change){.all = all, .call = rpc_call_ref(call)};
    service_hold(all->svc);
    check(req->config, c, &err);
    for (int i = 0; !err && i < SETTINGS; i++) {
        struct store_key key = key_of(&settings[i]);
        ConfigRecord r = CONFIG_RECORD__INIT;
        r.value = c->values[i];
        if (c->changed[i])
            store_put(set, TABLE_CONFIG, &key, &r.base);
    }
    if (err)
        store_set_free(set);
    else
        store_commit(all->store, set, committed, c, &err);
    if (!err)
        return;
    committed(c, err);
    sa_error_free(err);
}
