#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "services/session-svc/elicitation.h"

static const char form[] =
    "{\"type\":\"object\",\"properties\":{"
    "\"name\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":4},"
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150},"
    "\"height\":{\"type\":\"number\",\"minimum\":0.5},"
    "\"sure\":{\"type\":\"boolean\"},"
    "\"colour\":{\"type\":\"string\",\"enum\":[\"red\",\"green\"]},"
    "\"size\":{\"type\":\"string\",\"oneOf\":[{\"const\":\"s\",\"title\":\"Small\"},{\"const\":\"l\"}]},"
    "\"days\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":2,\"items\":{\"anyOf\":[{\"const\":\"mo\"},"
    "{\"const\":\"tu\"}]}}},\"required\":[\"name\"]}";

static void a_form_takes_what_fits(void **state)
{
    (void)state;
    static const char all[] =
        "{\"name\":\"Ada\",\"age\":0,\"height\":1.75,\"sure\":false,\"colour\":\"green\","
        "\"size\":\"l\",\"days\":[\"mo\",\"tu\"]}";
    static const char *const good[] = {
        "{\"name\":\"Ada\"}",
        "{\"n\\u0061me\":\"\\u00e4\\u00e4\\u00e4\\u00e4\"}", /* four characters, eight bytes */
        all,
        "{\"name\":\"Ada\",\"age\":150.0}",
    };
    static const char *const bad[] = {
        "[]",
        "{}",
        "{\"name\":\"A\"}",
        "{\"name\":\"Adela\"}",
        "{\"name\":7}",
        "{\"name\":\"Ada\",\"age\":-1}",
        "{\"name\":\"Ada\",\"age\":1.5}",
        "{\"name\":\"Ada\",\"age\":\"7\"}",
        "{\"name\":\"Ada\",\"height\":0.4}",
        "{\"name\":\"Ada\",\"sure\":\"yes\"}",
        "{\"name\":\"Ada\",\"colour\":\"blue\"}",
        "{\"name\":\"Ada\",\"size\":\"Small\"}",
        "{\"name\":\"Ada\",\"days\":[]}",
        "{\"name\":\"Ada\",\"days\":[\"mo\",\"tu\",\"mo\"]}",
        "{\"name\":\"Ada\",\"days\":[\"su\"]}",
        "{\"name\":\"Ada\",\"days\":\"mo\"}",
        "{\"name\":\"Ada\",\"other\":1}",
        "{\"name\":null}",
    };
    struct json schema = json_of(form);
    assert_int_equal(elicitation_check_schema(schema, NULL), 0);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cleanup_error sa_error *err = NULL;
        if (elicitation_check_content(schema, json_of(good[i]), &err))
            fail_msg("%s: %s", good[i], err->message);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!elicitation_check_content(schema, json_of(bad[i]), NULL))
            fail_msg("%s was taken", bad[i]);
}

static void a_schema_that_nobody_could_check_is_refused(void **state)
{
    (void)state;
    static const char *const good[] = {"{}", "{\"properties\":{}}",
                                       "{\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":null}"};
    static const char *const bad[] = {"[]",
                                      "null",
                                      "{\"properties\":[]}",
                                      "{\"properties\":{\"a\":{}}}",
                                      "{\"properties\":{\"a\":{\"type\":\"object\"}}}",
                                      "{\"properties\":{},\"required\":[\"a\"]}"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(elicitation_check_schema(json_of(good[i]), NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(elicitation_check_schema(json_of(bad[i]), NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_form_takes_what_fits),
        cmocka_unit_test(a_schema_that_nobody_could_check_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
