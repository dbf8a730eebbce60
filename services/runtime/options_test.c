#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/runtime/options.h"

static const struct service_option first[] = {
    {"host", SERVICE_OPTION_TEXT, "127.0.0.1", 0, 0, "where"},
    {"port", SERVICE_OPTION_UINT, "2468", 1, 65535, "which"},
    {"open", SERVICE_OPTION_FLAG, NULL, 0, 0, "for all"},
    {"root", SERVICE_OPTION_LIST, "/", 0, 0, "roots"},
    {0},
};
static const struct service_option second[] = {{"redis", SERVICE_OPTION_TEXT, NULL, 0, 0, "url"}, {0}};

static struct options *parse(sa_error **err, bool stop_at_first, const char *const *words)
{
    struct options *o = options_new(first, second);
    options_letter(o, 'p', "port");
    int n = 0;
    while (words[n])
        n++;
    if (options_parse(o, n, (char **)words, stop_at_first, err) < 0)
        assert_true(!err || *err);
    return o;
}
#define PARSE(err, stop, ...) parse(err, stop, (const char *const[]){"cmd", __VA_ARGS__, NULL})

static void defaults_hold_until_an_option_is_given(void **state)
{
    (void)state;
    struct options *o = PARSE(NULL, false, "--redis=redis://h:1");
    assert_string_equal(options_text(o, "host"), "127.0.0.1");
    assert_int_equal(options_uint(o, "port"), 2468);
    assert_false(options_flag(o, "open"));
    assert_string_equal(options_text(o, "redis"), "redis://h:1");
    assert_true(options_given(o, "redis"));
    assert_false(options_given(o, "port"));
    options_free(o);
}

static void both_forms_and_letters_are_understood(void **state)
{
    (void)state;
    struct options *o = PARSE(NULL, false, "--host", "::1", "a", "-p", "80", "--open", "--", "--b");
    assert_string_equal(options_text(o, "host"), "::1");
    assert_int_equal(options_uint(o, "port"), 80);
    assert_true(options_flag(o, "open"));
    assert_int_equal(options_count(o), 2);
    assert_string_equal(options_arguments(o)[0], "a");
    assert_string_equal(options_arguments(o)[1], "--b");
    options_free(o);
}

static void a_list_collects_what_is_given(void **state)
{
    (void)state;
    struct options *o = PARSE(NULL, false, "--root", "a", "--root=b");
    assert_string_equal(options_text(o, "root"), "a\nb");
    options_free(o);
    o = PARSE(NULL, false, "--open");
    assert_string_equal(options_text(o, "root"), "/");
    options_free(o);
}

static void a_command_keeps_its_own_options(void **state)
{
    (void)state;
    struct options *o = PARSE(NULL, true, "--open", "sleep", "--port", "x");
    assert_int_equal(options_count(o), 3);
    assert_string_equal(options_arguments(o)[1], "--port");
    options_free(o);
}

static void refused(const char *const *words, const char *reason, const char *part)
{
    cleanup_error sa_error *err = NULL;
    struct options *o = parse(&err, false, words);
    assert_non_null(err);
    assert_string_equal(err->reason, reason);
    assert_non_null(strstr(err->message, part));
    options_free(o);
}
#define REFUSED(reason, part, ...) refused((const char *const[]){"cmd", __VA_ARGS__, NULL}, reason, part)

static void mistakes_are_named(void **state)
{
    (void)state;
    REFUSED("UNKNOWN_OPTION", "`--prot`", "--prot", "1");
    REFUSED("UNKNOWN_OPTION", "`-x`", "-x");
    REFUSED("INVALID_CONFIG", "needs a value", "--host");
    REFUSED("INVALID_CONFIG", "takes no value", "--open=1");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port", "0");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port", "65536");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port", "-1");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port", " 1");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port", "1x");
    REFUSED("INVALID_CONFIG", "1 to 65535", "--port=");
}

static void help_names_every_option(void **state)
{
    (void)state;
    struct options *o = PARSE(NULL, false, "--help", "--nonsense");
    assert_true(options_help_wanted(o));
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    options_print_help(o, f, "cmd [options]", "Does things.");
    fclose(f);
    assert_non_null(strstr(text, "usage: cmd [options]"));
    assert_non_null(strstr(text, "-p, --port N"));
    assert_non_null(strstr(text, "(1 to 65535) [2468]"));
    assert_non_null(strstr(text, "--redis TEXT"));
    free(text);
    options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_until_an_option_is_given),
        cmocka_unit_test(both_forms_and_letters_are_understood),
        cmocka_unit_test(a_list_collects_what_is_given),
        cmocka_unit_test(a_command_keeps_its_own_options),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(help_names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
