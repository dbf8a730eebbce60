#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/message.h"
#include "message_test.pb-c.h"

typedef Json__Test__Everything Everything;
typedef Json__Test__Inner Inner;
#define DESCRIPTOR &json__test__everything__descriptor

static enum json_bytes form(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
    (void)d;
    if (strcmp(f->name, "raw_json") == 0)
        return JSON_BYTES_JSON;
    return strcmp(f->name, "path") == 0 ? JSON_BYTES_TEXT : JSON_BYTES_BASE64;
}

static const struct json_mapping mapping = {.bytes = form};

static char *print(const Everything *m, bool defaults)
{
    struct json_mapping map = {.defaults = defaults, .bytes = form};
    struct sa_buf out = {0};
    struct json_writer w = json_writer(&out);
    json_put_message(&w, &m->base, &map);
    sa_buf_add(&out, "", 1);
    return (char *)out.data;
}

static Everything *read_text(struct sa_arena *a, const char *text, sa_error **err)
{
    struct json v;
    if (json_check(text, strlen(text), &v, err) < 0)
        return NULL;
    return (Everything *)json_read_message(a, v, DESCRIPTOR, &mapping, err);
}

/* Reading the text and printing it gives `expected`. */
static void assert_round_trip(const char *text, const char *expected)
{
    struct sa_arena *a = sa_arena_new();
    cleanup_error sa_error *err = NULL;
    Everything *m = read_text(a, text, &err);
    if (!m)
        fail_msg("%s: %s", text, err->message);
    cleanup_free char *printed = print(m, false);
    assert_string_equal(printed, expected);
    sa_arena_free(a);
}

static void assert_refused(const char *text, const char *message)
{
    struct sa_arena *a = sa_arena_new();
    cleanup_error sa_error *err = NULL;
    if (read_text(a, text, &err))
        fail_msg("%s was accepted", text);
    assert_true(sa_error_is(err, SA_INVALID_REQUEST));
    assert_string_equal(err->message, message);
    sa_arena_free(a);
}

static void every_kind_of_field_survives_a_round_trip(void **state)
{
    static const char text[] =
        "{\"small\":-5,\"large\":\"-9223372036854775808\",\"huge\":\"18446744073709551615\",\"count\":"
        "4294967295,"
        "\"ratio\":0.5,\"amount\":0.1,\"isOn\":true,\"displayName\":\"a \\\"b\\\" ü\",\"data\":\"/wB+\","
        "\"path\":\"/tmp/ü\",\"rawJson\":{\"b\": 1e3, \"a\":[]},\"colour\":\"COLOUR_RED\","
        "\"createTime\":\"2026-11-23T06:00:00.120Z\",\"line\":0,\"oldText\":\"\",\"inner\":{\"bigNumber\":"
        "\"7\"},"
        "\"more\":[{},{\"words\":[\"x\",\"\"]}],\"numbers\":[1,-2],\"parts\":[\"\",\"AA==\"],"
        "\"labels\":{\"k\":\"v\",\"\":\"w\"},\"byNumber\":{\"-1\":{\"bigNumber\":\"1\"}},\"flag\":false}";
    (void)state;
    assert_round_trip(text, text);
}

/* A message that was nested as deeply as a value may be was printed as it was: whoever read the line in which
 * it stood, a few levels further down, refused it. */
static void bytes_that_hold_json_come_back_as_they_were(void **state)
{
    (void)state;
    char deep[2 * JSON_DEPTH_MAX + 1] = "";
    memset(deep, '[', JSON_DEPTH_MAX);
    memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    static const char *const plain = "{\"a\":\"[[[{{{\\\"[\"}";
    const char *const values[] = {deep, "{\"base64\":\"AA==\"}", "{\"base64\":1}", plain, "not JSON", "\\"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct sa_arena *a = sa_arena_new();
        Everything m = JSON__TEST__EVERYTHING__INIT;
        m.raw_json = (ProtobufCBinaryData){strlen(values[i]), (uint8_t *)(uintptr_t)values[i]};
        cleanup_free char *text = print(&m, false);
        assert_true((values[i] == plain) == (strstr(text, plain) != NULL));
        Everything *back = read_text(a, text, NULL);
        assert_non_null(back);
        assert_int_equal(back->raw_json.len, m.raw_json.len);
        assert_memory_equal(back->raw_json.data, m.raw_json.data, m.raw_json.len);
        sa_arena_free(a);
    }
}

static void other_spellings_are_understood(void **state)
{
    (void)state;
    assert_round_trip("{\"is_on\":true}", "{\"isOn\":true}");
    assert_round_trip("{\"small\":\"12\",\"large\":34,\"count\":1e2}",
                      "{\"small\":12,\"large\":\"34\",\"count\":100}");
    assert_round_trip("{\"colour\":1}", "{\"colour\":\"COLOUR_RED\"}");
    assert_round_trip("{\"colour\":77}", "{\"colour\":77}");
    assert_round_trip("{\"data\":\"_w-_\"}", "{\"data\":\"/w+/\"}");
    assert_round_trip("{\"data\":\"AA\"}", "{\"data\":\"AA==\"}");
    assert_round_trip("{\"createTime\":\"2026-11-23T07:30:00+01:30\"}",
                      "{\"createTime\":\"2026-11-23T06:00:00Z\"}");
    assert_round_trip("{\"amount\":\"NaN\"}", "{\"amount\":\"NaN\"}");
    assert_round_trip("{\"inner\":null,\"small\":null,\"numbers\":null}", "{}");
    assert_round_trip("{\"path\":{\"base64\":\"/w==\"}}", "{\"path\":{\"base64\":\"/w==\"}}");
}

static void what_does_not_fit_is_refused_by_its_name(void **state)
{
    (void)state;
    assert_refused("[]", "wants an object");
    assert_refused("{\"nope\":1}", "field nope: is not known");
    assert_refused("{\"isOn\":true,\"is_on\":true}", "field isOn: is there twice");
    assert_refused("{\"small\":2147483648}", "field small: wants an integer of 32 bits");
    assert_refused("{\"small\":1.5}", "field small: wants an integer of 32 bits");
    assert_refused("{\"count\":-1}", "field count: wants an unsigned integer of 32 bits");
    assert_refused("{\"huge\":\"18446744073709551616\"}", "field huge: wants an unsigned integer of 64 bits");
    assert_refused("{\"huge\":\"+1\"}", "field huge: wants an unsigned integer of 64 bits");
    assert_refused("{\"large\":\" 1\"}", "field large: wants an integer of 64 bits");
    assert_refused("{\"amount\":\"0x10\"}", "field amount: wants a number");
    assert_refused("{\"isOn\":1}", "field isOn: wants true or false");
    assert_refused("{\"displayName\":1}", "field displayName: wants a string");
    assert_refused("{\"displayName\":\"a\\u0000b\"}",
                   "field displayName: wants a plain value; a string must be Unicode without NUL");
    assert_refused("{\"displayName\":\"\\ud800\"}",
                   "field displayName: wants a plain value; a string must be Unicode without NUL");
    assert_refused("{\"data\":\"A\"}", "field data: wants base64");
    assert_refused("{\"data\":\"A===\"}", "field data: wants base64");
    assert_refused("{\"data\":\"AA=A\"}", "field data: wants base64");
    assert_refused("{\"path\":5}", "field path: wants a string, or {\"base64\": \"...\"}");
    assert_refused("{\"colour\":\"BLUE\"}", "field colour: is not a value of its enumeration");
    assert_refused("{\"createTime\":\"2026-02-29T00:00:00Z\"}",
                   "field createTime: wants a time as RFC 3339 has it");
    assert_refused("{\"inner\":[]}", "field inner: wants an object");
    assert_refused("{\"more\":[{},{\"words\":[\"a\",{}]}]}",
                   "field more[1].words[1]: wants a plain value; a string must be Unicode without NUL");
    assert_refused("{\"numbers\":[1,null]}", "field numbers[1]: must not be null");
    assert_refused("{\"labels\":[]}", "field labels: wants an object");
    assert_refused("{\"text\":\"a\",\"flag\":true}", "field flag: only one of these fields may be set");
}

static void long_lists_are_refused(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf text = {0};
    sa_buf_addf(&text, "{\"numbers\":[0");
    for (int i = 0; i < JSON_ELEMENTS_MAX; i++)
        sa_buf_addf(&text, ",0");
    sa_buf_addf(&text, "]}");
    assert_refused(sa_buf_string(&text), "field numbers: has too many elements");
}

static void defaults_are_written_when_wanted(void **state)
{
    Everything m = JSON__TEST__EVERYTHING__INIT;
    (void)state;
    cleanup_free char *without = print(&m, false);
    cleanup_free char *with = print(&m, true);
    assert_string_equal(without, "{}");
    assert_string_equal(
        with,
        "{\"small\":0,\"large\":\"0\",\"huge\":\"0\",\"count\":0,\"ratio\":0,\"amount\":0,\"isOn\":false,"
        "\"displayName\":\"\",\"data\":\"\",\"path\":\"\",\"rawJson\":null,\"colour\":\"COLOUR_UNSPECIFIED\","
        "\"more\":[],\"numbers\":[],\"parts\":[],\"labels\":{},\"byNumber\":{}}");
}

static void raw_json_stays_on_one_line(void **state)
{
    static char raw[] = "{\r\n\t\"a\" : \"b\\n\"\n}", broken[] = "{";
    Everything m = JSON__TEST__EVERYTHING__INIT;
    (void)state;
    m.raw_json = (ProtobufCBinaryData){sizeof(raw) - 1, (uint8_t *)raw};
    cleanup_free char *valid = print(&m, false);
    assert_string_equal(valid, "{\"rawJson\":{  \t\"a\" : \"b\\n\" }}");
    m.raw_json = (ProtobufCBinaryData){1, (uint8_t *)broken};
    cleanup_free char *invalid = print(&m, false);
    assert_string_equal(invalid, "{\"rawJson\":{\"base64\":\"ew==\"}}");
}

static void fields_are_set_from_text(void **state)
{
    struct sa_arena *a = sa_arena_new();
    Everything m = JSON__TEST__EVERYTHING__INIT;
    (void)state;
    assert_int_equal(json_set_field(a, &m.base, "displayName", "x\"y", &mapping, NULL), 0);
    assert_int_equal(json_set_field(a, &m.base, "count", "12", &mapping, NULL), 0);
    assert_int_equal(json_set_field(a, &m.base, "isOn", "true", &mapping, NULL), 0);
    assert_int_equal(json_set_field(a, &m.base, "path", "/a b", &mapping, NULL), 0);
    assert_int_equal(json_set_field(a, &m.base, "count", "x", &mapping, NULL), -1);
    assert_int_equal(json_set_field(a, &m.base, "numbers", "1", &mapping, NULL), -1);
    assert_int_equal(json_set_field(a, &m.base, "nope", "1", &mapping, NULL), -1);
    cleanup_free char *text = print(&m, false);
    assert_string_equal(text, "{\"count\":12,\"isOn\":true,\"displayName\":\"x\\\"y\",\"path\":\"/a b\"}");
    sa_arena_free(a);
}

static void times_of_all_centuries_are_right(void **state)
{
    (void)state;
    assert_round_trip("{\"createTime\":\"0001-01-01T00:00:00Z\"}",
                      "{\"createTime\":\"0001-01-01T00:00:00Z\"}");
    assert_round_trip("{\"createTime\":\"1969-12-31T23:59:59.000000001Z\"}",
                      "{\"createTime\":\"1969-12-31T23:59:59.000000001Z\"}");
    assert_round_trip("{\"createTime\":\"2000-02-29T12:34:56.000100Z\"}",
                      "{\"createTime\":\"2000-02-29T12:34:56.000100Z\"}");
    assert_round_trip("{\"createTime\":\"9999-12-31T23:59:59Z\"}",
                      "{\"createTime\":\"9999-12-31T23:59:59Z\"}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_field_survives_a_round_trip),
        cmocka_unit_test(bytes_that_hold_json_come_back_as_they_were),
        cmocka_unit_test(other_spellings_are_understood),
        cmocka_unit_test(what_does_not_fit_is_refused_by_its_name),
        cmocka_unit_test(long_lists_are_refused),
        cmocka_unit_test(defaults_are_written_when_wanted),
        cmocka_unit_test(raw_json_stays_on_one_line),
        cmocka_unit_test(fields_are_set_from_text),
        cmocka_unit_test(times_of_all_centuries_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
