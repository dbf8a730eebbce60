/* GetConfig and SetConfig: durable, checked, and in force at once for what comes then. */
#include "services/process-svc/tests/fixture.h"

static ProcessConfig *now(struct svc *s)
{
    static GetConfigResponse *res;
    GetConfigRequest req = GET_CONFIG_REQUEST__INIT;
    sa_error *err = NULL;
    rpc_message_free(res);
    res = get_config_wait(s->channel, &req, NULL, &err);
    if (!res)
        fail_msg("%s", err->message);
    return res->config;
}

/* One field of ProcessConfig by its name; the reason. */
static const char *change(struct svc *s, const char *name, uint64_t value)
{
    static char reason[64];
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(&process_config__descriptor, name);
    ProcessConfig config = PROCESS_CONFIG__INIT;
    SetConfigRequest req = SET_CONFIG_REQUEST__INIT;
    sa_error *err = NULL;
    uint32_t narrow = (uint32_t)value;
    bool wide = f->type == PROTOBUF_C_TYPE_UINT64;
    memcpy((char *)&config + f->offset, wide ? (void *)&value : (void *)&narrow,
           wide ? sizeof value : sizeof narrow);
    memcpy((char *)&config + f->quantifier_offset, &f->id, sizeof f->id);
    req.config = &config;
    SetConfigResponse *res = set_config_wait(s->channel, &req, NULL, &err);
    snprintf(reason, sizeof reason, "%s", err ? err->reason : "OK");
    if (err)
        snprintf(error_message, sizeof error_message, "%s", err->message);
    rpc_message_free(res);
    sa_error_free(err);
    return reason;
}

static void must_change(struct svc *s, const char *name, uint64_t value)
{
    if (strcmp(change(s, name, value), "OK") != 0)
        fail_msg("%s", error_message);
}

static void changes_outlive_the_service_and_what_was_not_changed_does_not_change(void **state)
{
    (void)state;
    struct svc s = svc_start(WORDS("--max-runs", "7"));
    ProcessConfig *c = now(&s);
    assert_int_equal(c->max_processes, 4096);
    assert_int_equal(c->max_runs, 7);
    assert_int_equal(c->default_run_timeout_ms, 30000);
    assert_int_equal(c->max_run_timeout_ms, 600000);
    assert_int_equal(c->max_run_output_bytes, MIB);
    assert_int_equal(c->default_journal_bytes, 16 * MIB);
    assert_int_equal(c->max_input_bytes, MIB);
    must_change(&s, "max_run_timeout_ms", 1000);
    must_change(&s, "default_journal_bytes", 1 << 30);
    svc_kill(&s);
    svc_again(&s, WORDS("--max-runs", "8"));
    c = now(&s);
    assert_int_equal(c->max_run_timeout_ms, 1000);
    assert_int_equal(c->default_journal_bytes, 1 << 30);
    assert_int_equal(c->max_runs, 8); /* as the command line says, until it is set: */
    must_change(&s, "max_runs", 9);
    svc_kill(&s);
    svc_again(&s, WORDS("--max-runs", "10"));
    assert_int_equal(now(&s)->max_runs, 9);
    svc_stop(&s);
}

static void values_out_of_range_are_refused_by_name_and_nothing_changes(void **state)
{
    struct svc *s = *state;
    static const struct {
        const char *name;
        uint64_t low, high;
    } limits[] = {
        {"max_processes", 1, 100000},
        {"max_runs", 1, 10000},
        {"default_run_timeout_ms", 1, 86400000},
        {"max_run_timeout_ms", 1, 86400000},
        {"max_run_output_bytes", 1, MIB},
        {"default_journal_bytes", 65536, 1 << 30},
        {"max_input_bytes", 4096, MIB},
    };
    assert_int_equal(sizeof limits / sizeof *limits, process_config__descriptor.n_fields);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        cleanup_free char *said = sa_format(
            "%s is %llu, allowed are %llu to %llu", limits[i].name, (unsigned long long)limits[i].high + 1,
            (unsigned long long)limits[i].low, (unsigned long long)limits[i].high);
        assert_string_equal(change(s, limits[i].name, limits[i].low - 1), "INVALID_CONFIG");
        assert_string_equal(change(s, limits[i].name, limits[i].high + 1), "INVALID_CONFIG");
        assert_string_equal(error_message, said);
        must_change(s, limits[i].name, limits[i].low);
        must_change(s, limits[i].name, limits[i].high);
    }
    /* Several at once, one of them wrong: none. */
    ProcessConfig config = PROCESS_CONFIG__INIT;
    SetConfigRequest req = SET_CONFIG_REQUEST__INIT;
    cleanup_error sa_error *err = NULL;
    config._max_runs_case = PROCESS_CONFIG___MAX_RUNS_MAX_RUNS;
    config.max_runs = 5;
    config._max_processes_case = PROCESS_CONFIG___MAX_PROCESSES_MAX_PROCESSES;
    req.config = &config;
    assert_null(set_config_wait(s->channel, &req, NULL, &err));
    assert_true(sa_error_is(err, SA_INVALID_CONFIG));
    assert_int_equal(now(s)->max_runs, 10000);
    /* Nothing at all is fine. */
    req.config = NULL;
    SetConfigResponse *res = set_config_wait(s->channel, &req, NULL, NULL);
    assert_int_equal(res->config->max_runs, 10000);
    rpc_message_free(res);
}

static void changes_count_at_once_for_what_comes_then(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    const char *before = start_shell(s, "exec sleep 1000");
    must_change(s, "max_run_output_bytes", 10);
    RunProcessResponse *r = run(s, shell("echo 0123456789abcdef"), NULL);
    assert_int_equal(r->stdout.len, 10);
    assert_true(r->stdout_truncated);
    must_change(s, "max_run_timeout_ms", 100);
    req.timeout_ms = 101;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    assert_true(run(s, shell("exec sleep 1000"), NULL)->timed_out); /* the default is not beyond the most */
    must_change(s, "max_run_timeout_ms", 600000);
    must_change(s, "default_run_timeout_ms", 50);
    assert_true(run(s, shell("exec sleep 1000"), NULL)->timed_out);
    must_change(s, "default_journal_bytes", 65536);
    assert_int_equal(get(s, start_shell(s, "exec sleep 1000"))->spec->journal_bytes, 65536);
    assert_int_equal(get(s, before)->spec->journal_bytes, 16 * MIB);
    must_change(s, "max_input_bytes", 4096);
    static uint8_t input[4097];
    req.timeout_ms = 0;
    req.stdin = (ProtobufCBinaryData){sizeof input, input};
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    struct attached a = attach_output(s, start_shell(s, "exec cat"), 0);
    static char text[4098];
    memset(text, 'x', 4097);
    put_input(&a, 0, text, false);
    assert_false(next(&a));
    assert_true(sa_error_is(a.err, SA_INVALID_REQUEST));
    detach(&a);
    must_change(s, "max_processes", 3);
    assert_string_equal(start_error(s, shell("true"), ""), "TOO_MANY");
    delete_it(s, before, true);
    assert_string_equal(start_error(s, shell("true"), ""), "OK");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_outlive_the_service_and_what_was_not_changed_does_not_change),
        TEST(values_out_of_range_are_refused_by_name_and_nothing_changes),
        TEST(changes_count_at_once_for_what_comes_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
