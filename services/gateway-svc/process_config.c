/* GET and POST /v1/processes/config: the settings of process-svc under the peer's names. */
#include <string.h>

#include "services/gateway-svc/processes.h"

static void put(struct json_writer *w, const char *name, uint64_t value)
{
    json_key(w, name);
    json_put_uint(w, value);
}

static void reply(struct exchange *x, const ProcessConfig *c)
{
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    json_begin_object(&w);
    put(&w, "maxConcurrentProcesses", c->max_processes);
    put(&w, "defaultRunTimeoutMs", c->default_run_timeout_ms);
    put(&w, "maxRunTimeoutMs", c->max_run_timeout_ms);
    put(&w, "maxOutputBytes", c->max_run_output_bytes);
    put(&w, "maxLogBytesPerProcess", c->default_journal_bytes);
    put(&w, "maxInputBytesPerRequest", c->max_input_bytes);
    json_end_object(&w);
    peer_reply(x, &body);
}

static void on_config(void *user, const GetConfigResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    x->state = NULL;
    if (err)
        process_fail(x, err);
    else
        reply(x, res->config);
}

void processes_get_config(struct exchange *x)
{
    GetConfigRequest req = GET_CONFIG_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    process_begin(x, get_config_call(x->gw->process, &req, &opt, on_config, x));
}

static void on_set(void *user, const SetConfigResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    x->state = NULL;
    if (err)
        process_fail(x, err);
    else
        reply(x, res->config);
}

/* All are required, and 0 is none of them. */
static bool read(struct exchange *x, struct json body, const char *name, uint64_t max, uint64_t *ret)
{
    if (!peer_uint(x, body, name, true, max, ret))
        return false;
    if (*ret > 0)
        return true;
    cleanup_free char *message = sa_format("%s must be greater than 0", name);
    peer_problem(x, PEER_INVALID, sa_reason_name(SA_INVALID_CONFIG), message);
    return false;
}

void processes_set_config(struct exchange *x)
{
    SetConfigRequest req = SET_CONFIG_REQUEST__INIT;
    ProcessConfig c = PROCESS_CONFIG__INIT;
    struct rpc_call_options opt = calls_options(x);
    uint64_t processes, run_default, run_max, output, input, journal;
    struct json body;
    if (!peer_body(x, &body) || !read(x, body, "maxConcurrentProcesses", UINT32_MAX, &processes) ||
        !read(x, body, "defaultRunTimeoutMs", UINT32_MAX, &run_default) ||
        !read(x, body, "maxRunTimeoutMs", UINT32_MAX, &run_max) ||
        !read(x, body, "maxOutputBytes", UINT32_MAX, &output) ||
        !read(x, body, "maxLogBytesPerProcess", INT64_MAX, &journal) ||
        !read(x, body, "maxInputBytesPerRequest", UINT32_MAX, &input))
        return;
    c._max_processes_case = PROCESS_CONFIG___MAX_PROCESSES_MAX_PROCESSES;
    c.max_processes = (uint32_t)processes;
    c._default_run_timeout_ms_case = PROCESS_CONFIG___DEFAULT_RUN_TIMEOUT_MS_DEFAULT_RUN_TIMEOUT_MS;
    c.default_run_timeout_ms = (uint32_t)(run_default < run_max ? run_default : run_max);
    c._max_run_timeout_ms_case = PROCESS_CONFIG___MAX_RUN_TIMEOUT_MS_MAX_RUN_TIMEOUT_MS;
    c.max_run_timeout_ms = (uint32_t)run_max;
    c._max_run_output_bytes_case = PROCESS_CONFIG___MAX_RUN_OUTPUT_BYTES_MAX_RUN_OUTPUT_BYTES;
    c.max_run_output_bytes = (uint32_t)output;
    c._max_input_bytes_case = PROCESS_CONFIG___MAX_INPUT_BYTES_MAX_INPUT_BYTES;
    c.max_input_bytes = (uint32_t)input;
    c._default_journal_bytes_case = PROCESS_CONFIG___DEFAULT_JOURNAL_BYTES_DEFAULT_JOURNAL_BYTES;
    c.default_journal_bytes = journal;
    req.config = &c;
    process_begin(x, set_config_call(x->gw->process, &req, &opt, on_set, x));
}
