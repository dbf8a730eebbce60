/* What a caller may do wrong with RunProcess and StartProcess: each answer names what is wrong, and nothing
 * was started. Both are asked with the same specs. */
#include "services/process-svc/tests/fixture.h"

#include "adapters/os/file.h"

/* The reason of both methods, which is the same; error_message is the last one's. Takes the spec. */
static const char *refused(struct svc *s, struct spec *spec)
{
    struct spec *copy = malloc(sizeof *copy);
    *copy = *spec;
    copy->message.argv = copy->argv;
    copy->message.env = copy->env;
    copy->message.labels = copy->labels;
    const char *first = start_error(s, copy, "");
    cleanup_free char *message = sa_strdup(error_message);
    const char *second = run_error(s, spec, NULL);
    assert_string_equal(first, second);
    assert_string_equal(message, error_message);
    return second;
}

static void expect(struct svc *s, struct spec *spec, const char *reason, const char *message)
{
    assert_string_equal(refused(s, spec), reason);
    if (!strstr(error_message, message))
        fail_msg("`%s` is not in `%s`", message, error_message);
}

static struct spec *word(const char *program)
{
    struct spec *spec = spec_new();
    spec_word(spec, program);
    return spec;
}

static void the_command(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/file", dir), *below = sa_format("%s/file/x", dir);
    assert_int_equal(sa_write_file(file, "x\n", 2, 0644, NULL), 0);
    expect(s, spec_new(), "INVALID_REQUEST", "spec.argv names no program");
    expect(s, word(""), "INVALID_REQUEST", "spec.argv names no program");
    expect(s, word("no-such-program"), "EXEC_FAILED", "`no-such-program`: it is not in the PATH");
    expect(s, word("/no/such"), "EXEC_FAILED", "`/no/such`: it or its interpreter does not exist");
    expect(s, word(file), "EXEC_FAILED", "Permission denied");
    expect(s, word(below), "EXEC_FAILED", "Not a directory");
    expect(s, word("/usr"), "EXEC_FAILED", "cannot run `/usr`: Is a directory");
    assert_int_equal(chmod(file, 0755), 0);
    expect(s, word(file), "EXEC_FAILED", "neither a program nor a script with #!");
    struct spec *spec = shell("echo");
    spec->argv[1] = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "a\0b"};
    expect(s, spec, "INVALID_REQUEST", "spec.argv[1] contains a NUL byte");
}

static void the_environment_the_directory_and_the_user(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("true");
    spec_env(spec, "SECRET");
    expect(s, spec, "INVALID_REQUEST", "spec.env[1] is not NAME=value");
    assert_null(strstr(error_message, "SECRET")); /* never says what is in it */
    spec = shell("true");
    spec_env(spec, "=value");
    expect(s, spec, "INVALID_REQUEST", "spec.env[1] is not NAME=value");
    spec = shell("true");
    spec_env(spec, "");
    spec->env[1] = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "A=b\0c"};
    expect(s, spec, "INVALID_REQUEST", "spec.env[1] contains a NUL byte");
    spec = shell("true");
    spec->message.cwd = bytes_of("relative");
    expect(s, spec, "INVALID_REQUEST", "spec.cwd is not an absolute path");
    spec = shell("true");
    spec->message.cwd = bytes_of("/no/such");
    expect(s, spec, "EXEC_FAILED", "working directory `/no/such`: No such file");
    spec = shell("true");
    spec->message.cwd = bytes_of("/dev/null");
    expect(s, spec, "EXEC_FAILED", "working directory `/dev/null`: Not a directory");
    spec = shell("true");
    spec->message.user = (char *)(uintptr_t) "no-such-user";
    expect(s, spec, "INVALID_REQUEST", "user `no-such-user` does not exist");
}

/* `count` arguments of `size` bytes each, with their NULs, for `true`; then one of `last` bytes. */
static struct spec *large(struct spec *spec, const char *bytes, size_t count, size_t size, size_t last)
{
    spec->message.argv = calloc(count + 2, sizeof *spec->message.argv);
    for (size_t i = 0; i < count; i++)
        spec->message.argv[1 + i] = (ProtobufCBinaryData){size - 1, (uint8_t *)(uintptr_t)bytes};
    spec->message.argv[0] = bytes_of("true");
    spec->message.argv[count + 1] = (ProtobufCBinaryData){last - 1, (uint8_t *)(uintptr_t)bytes};
    spec->message.n_argv = count + 2;
    return spec;
}

static void arguments_of_exactly_a_mebibyte(void **state)
{
    struct svc *s = *state;
    enum { SIZE = 65536, COUNT = MIB / SIZE - 1, REST = SIZE - 5 /* "true" */ };
    char *bytes = malloc(2 * SIZE);
    memset(bytes, 'x', 2 * SIZE);
    for (size_t more = 0; more < 2; more++) {
        struct spec *spec = large(spec_new(), bytes, COUNT, SIZE, REST + more);
        ProtobufCBinaryData *argv = spec->message.argv;
        if (more)
            assert_string_equal(run_error(s, spec, NULL), "INVALID_REQUEST");
        else
            assert_int_equal(run(s, spec, NULL)->exit->exit_code, 0);
        free(argv);
    }
    assert_string_equal(error_message, "spec.argv has 1048577 bytes, at most 1048576 are allowed");
    /* Within our bound, but not within the kernel's for one argument. */
    struct spec *spec = large(spec_new(), bytes, 0, 0, 2 * SIZE + 1);
    ProtobufCBinaryData *argv = spec->message.argv;
    argv[1].len = 2 * SIZE;
    assert_string_equal(run_error(s, spec, NULL), "EXEC_FAILED");
    assert_non_null(strstr(error_message, "one string has at most 128 KiB"));
    free(argv);
    free(bytes);
}

static void what_is_not_for_a_command(void **state)
{
    struct svc *s = *state;
    TerminalSpec terminal = TERMINAL_SPEC__INIT;
    RestartPolicy restart = RESTART_POLICY__INIT;
    ReadinessProbe readiness = READINESS_PROBE__INIT;
    struct spec *spec = shell("true");
    spec->message.terminal = &terminal;
    assert_string_equal(run_error(s, spec, NULL), "INVALID_REQUEST");
    assert_string_equal(error_message, "spec.terminal is not for RunProcess: use StartProcess");
    spec = shell("true");
    spec->message.restart = &restart;
    assert_string_equal(run_error(s, spec, NULL), "INVALID_REQUEST");
    spec = shell("true");
    spec->message.readiness = &readiness;
    assert_string_equal(run_error(s, spec, NULL), "INVALID_REQUEST");
}

static void limits_of_a_command_at_n_and_one_more(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.timeout_ms = 600000;
    assert_string_equal(run_error(s, shell("true"), &req), "OK");
    req.timeout_ms = 600001;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    assert_string_equal(error_message, "timeout_ms is 600001, at most 600000 are allowed");
    req.timeout_ms = 0;
    req.max_output_bytes = MIB;
    assert_string_equal(run_error(s, shell("true"), &req), "OK");
    req.max_output_bytes = MIB + 1;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    assert_string_equal(error_message, "max_output_bytes is 1048577, at most 1048576 are allowed");
    req.max_output_bytes = UINT32_MAX;
    assert_string_equal(run_error(s, shell("true"), &req), "INVALID_REQUEST");
    req.max_output_bytes = 0; /* the most */
    uint8_t *input = calloc(1, MIB + 1);
    req.stdin = (ProtobufCBinaryData){MIB, input};
    RunProcessResponse *r = run(s, shell("cat"), &req);
    assert_int_equal(r->stdout.len, MIB);
    assert_false(r->stdout_truncated);
    req.stdin.len++;
    assert_string_equal(run_error(s, shell("cat"), &req), "INVALID_REQUEST");
    assert_string_equal(error_message, "stdin has 1048577 bytes, at most 1048576 are allowed");
    free(input);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_command),
        TEST(the_environment_the_directory_and_the_user),
        TEST(arguments_of_exactly_a_mebibyte),
        TEST(what_is_not_for_a_command),
        TEST(limits_of_a_command_at_n_and_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
