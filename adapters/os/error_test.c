#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "adapters/os/mem.h"

static int read_config(sa_error **err)
{
    return sa_fail(err, SA_FILE_NOT_FOUND, "open `%s`", "/etc/x");
}

static void a_failure_carries_code_reason_and_sentence(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    assert_int_equal(read_config(&err), -1);
    assert_int_equal(err->code, SA_CODE_NOT_FOUND);
    assert_string_equal(err->reason, "FILE_NOT_FOUND");
    assert_string_equal(err->message, "open `/etc/x`");
    assert_true(sa_error_is(err, SA_FILE_NOT_FOUND));
    assert_false(sa_error_is(err, SA_NOT_FOUND));
}

static void wrapping_keeps_the_reason_and_prepends_context(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    read_config(&err);
    assert_int_equal(sa_wrap(&err, "start of %s", "fs-svc"), -1);
    assert_string_equal(err->message, "start of fs-svc: open `/etc/x`");
    assert_string_equal(err->reason, "FILE_NOT_FOUND");
}

static void a_caller_that_does_not_care_passes_null(void **state)
{
    (void)state;
    assert_int_equal(read_config(NULL), -1);
    assert_int_equal(sa_wrap(NULL, "context"), -1);
    assert_int_equal(sa_pass(NULL, NULL), -1);
}

static void errno_values_get_their_reason(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        enum sa_reason reason;
    } rows[] = {{ENOENT, SA_FILE_NOT_FOUND},     {EACCES, SA_PERMISSION_DENIED}, {ENOSPC, SA_NO_SPACE},
                {EADDRINUSE, SA_ADDRESS_IN_USE}, {EMFILE, SA_TOO_MANY},          {EIO, SA_SYSTEM_ERROR}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cleanup_error sa_error *err = NULL;
        assert_int_equal(sa_fail_errno(&err, rows[i].errnum, "write `f`"), -1);
        assert_string_equal(err->reason, sa_reason_name(rows[i].reason));
        assert_int_equal(err->code, sa_reason_code(rows[i].reason));
        assert_memory_equal(err->message, "write `f`: ", 11);
    }
}

static void an_error_from_the_wire_keeps_a_reason_we_do_not_know(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    sa_fail_remote(&err, SA_CODE_ABORTED, "FROM_THE_FUTURE", "no");
    assert_string_equal(err->reason, "FROM_THE_FUTURE");
    sa_fail_remote(&err, SA_CODE_UNAVAILABLE, NULL, "gone");
    assert_string_equal(err->reason, "UNAVAILABLE");
    assert_int_equal(sa_code_to_http(err->code), 503);
    assert_int_equal(sa_code_to_http((enum sa_code)999), 502);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failure_carries_code_reason_and_sentence),
        cmocka_unit_test(wrapping_keeps_the_reason_and_prepends_context),
        cmocka_unit_test(a_caller_that_does_not_care_passes_null),
        cmocka_unit_test(errno_values_get_their_reason),
        cmocka_unit_test(an_error_from_the_wire_keeps_a_reason_we_do_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
