#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/json.h"

/* An exact-size copy on the heap, so that a sanitizer sees one byte too much. Freed by the caller. */
static char *exact(const char *text, size_t n)
{
    char *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, text, n);
    return p;
}

static bool accepted(const char *text, size_t n)
{
    char *p = exact(text, n);
    struct json v;
    bool ok = !json_check(p, n, &v, NULL);
    free(p);
    return ok;
}

static void valid_texts_are_accepted(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "-1",
        "10",
        "0.5",
        "1e5",
        "1E+5",
        "1.25e-3",
        "\"\"",
        "\"a\"",
        "[]",
        "{}",
        " [ ] ",
        "\t{ }\r\n",
        "[1]",
        "[1,2]",
        "[ 1 , 2 ]",
        "{\"a\":1}",
        "{ \"a\" : 1 , \"a\" : 2 }",
        "[[],{},[{}]]",
        "{\"\":0}",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"\x7f\"",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
        "123456789012345678901234567890",
        "1e99999",
        "\"12345678\"",
        "\"1234567890123456 \"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!accepted(texts[i], strlen(texts[i])))
            fail_msg("refused: %s", texts[i]);
    }
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x1",
        "1 2",
        "[1 2]",
        "[1,]",
        "[,1]",
        "[,]",
        "[1,,2]",
        "[",
        "]",
        "[]]",
        "[[]",
        "{",
        "}",
        "{]",
        "[}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "{1:1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "\"",
        "\"a",
        "'a'",
        "\"\\\"",
        "\"\\\\\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\",
        "\"\\u",
        "\"\n\"",
        "\"\t\"",
        "\"1234567\n9\"",
        "\"12345678\n\"",
        "// c\n1",
        "/**/1",
        "\357\273\2771",
        "\"\x80\"",
        "\"\xc3\"",
        "\"\xc3\x28\"",
        "\"\xc0\x80\"",
        "\"\xc1\xbf\"",
        "\"\xe0\x80\x80\"",
        "\"\xe0\x9f\xbf\"",
        "\"\xed\xa0\x80\"",
        "\"\xf0\x80\x80\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xff\"",
        "\"\xe2\x82\"",
        "\"1234567\xff\"",
        "\v1",
        "\f1",
        "undefined",
        "truefalse",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (accepted(texts[i], strlen(texts[i])))
            fail_msg("accepted: %s", texts[i]);
    }
    assert_false(accepted("1\0", 2));
    assert_false(accepted("\"\0\"", 3));
    assert_false(accepted("\"\\\0\"", 4));
    assert_false(accepted("[1,\0]", 5));
}

static void no_prefix_of_a_text_reads_beyond_its_end(void **state)
{
    (void)state;
    static const char text[] =
        "{\"k\\u00e9\":[true,false,null,-1.5e+3,\"\xf0\x9f\x98\x80\\ud83d\\ude00\"],\"o\":{\"a\":{}}}";
    for (size_t n = 0; n < sizeof text - 1; n++)
        assert_false(accepted(text, n));
    assert_true(accepted(text, sizeof text - 1));
}

static void errors_name_the_byte(void **state)
{
    (void)state;
    struct json v;
    cleanup_error sa_error *err = NULL;
    assert_int_equal(json_check("{\"a\": tru}", 10, &v, &err), -1);
    assert_true(sa_error_is(err, SA_MALFORMED_MESSAGE));
    assert_string_equal(err->message, "JSON: byte 6: value expected");
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    char text[2 * JSON_DEPTH_MAX + 2];
    memset(text, '[', JSON_DEPTH_MAX);
    memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_true(accepted(text, 2 * JSON_DEPTH_MAX));
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_false(accepted(text, sizeof text));
    cleanup_free char *deep = sa_malloc(1 << 20);
    memset(deep, '[', 1 << 20);
    assert_false(accepted(deep, 1 << 20));
}

/* ---- lines ---- */

static void lines_come_out_of_any_chunking(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":1}\n\r\n[2]\r\n\nrest";
    static const char *const lines[] = {"{\"a\":1}", "", "[2]", ""};
    for (size_t chunk = 1; chunk < sizeof text; chunk++) {
        cleanup_buf struct sa_buf b = {0};
        size_t scanned = 0, found = 0;
        for (size_t at = 0; at < sizeof text - 1; at += chunk) {
            sa_buf_add(&b, text + at, at + chunk < sizeof text - 1 ? chunk : sizeof text - 1 - at);
            struct json line;
            for (size_t n; (n = json_line(b.data, b.len, &scanned, &line)); sa_buf_consume(&b, n)) {
                assert_int_equal(line.n, strlen(lines[found]));
                assert_memory_equal(line.p, lines[found], line.n);
                found++;
            }
        }
        assert_int_equal(found, 4);
        assert_int_equal(scanned, 4);
    }
}

/* ---- JSON-RPC ---- */

static struct json_rpc parse(const char *text)
{
    struct json_rpc m = {0};
    sa_error *err = NULL;
    if (json_rpc_parse(text, strlen(text), &m, &err))
        fail_msg("%s: %s", text, err->message);
    return m;
}

static void assert_raw(struct json v, const char *expected)
{
    cleanup_free char *text = sa_strndup(v.n ? v.p : "", v.n);
    assert_string_equal(text, expected);
}

static void messages_are_told_apart_and_kept_raw(void **state)
{
    (void)state;
    struct json_rpc m = parse(" {\"jsonrpc\":\"2.0\",\"params\":{\"z\":1, "
                              "\"a\":1.0e0},\"id\":12345678901234567890123,\"method\":\"x/y\"} ");
    assert_int_equal(m.kind, JSON_RPC_REQUEST);
    assert_raw(m.id, "12345678901234567890123");
    assert_raw(m.method, "\"x/y\"");
    assert_raw(m.params, "{\"z\":1, \"a\":1.0e0}");
    m = parse("{\"method\":\"n\"}");
    assert_int_equal(m.kind, JSON_RPC_NOTIFICATION);
    m = parse("{\"id\":\"a\\\"b\",\"result\":null}");
    assert_int_equal(m.kind, JSON_RPC_RESPONSE);
    assert_raw(m.id, "\"a\\\"b\"");
    assert_raw(m.result, "null");
    m = parse("{\"id\":null,\"error\":{\"code\":-32700}}");
    assert_int_equal(m.kind, JSON_RPC_ERROR);
    m = parse("{\"id\":1,\"error\":null,\"result\":{}}");
    assert_int_equal(m.kind, JSON_RPC_RESPONSE);
    m = parse("{\"id\":1,\"id\":2,\"m\\u0065thod\":\"escaped\"}");
    assert_raw(m.id, "1");
    assert_true(json_is(m.method, "escaped"));
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[]",
        "1",
        "{}",
        "{\"id\":1}",
        "{\"jsonrpc\":\"1.0\",\"method\":\"x\"}",
        "{\"jsonrpc\":2.0,\"method\":\"x\"}",
        "{\"id\":{},\"method\":\"x\"}",
        "{\"id\":true,\"method\":\"x\"}",
        "{\"method\":1}",
        "{\"method\":\"x\",\"params\":1}",
        "{\"id\":1,\"result\":1,\"error\":{}}",
        "{\"result\":1}",
        "{\"id\":1,\"error\":\"e\"}",
        "[{\"method\":\"x\"}]",
    };
    struct json_rpc m;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!json_rpc_parse(texts[i], strlen(texts[i]), &m, NULL))
            fail_msg("accepted: %s", texts[i]);
    }
}

/* ---- looking ---- */

static struct json checked(const char *text)
{
    struct json v;
    assert_int_equal(json_check(text, strlen(text), &v, NULL), 0);
    return v;
}

static void parts_are_found_by_path(void **state)
{
    (void)state;
    struct json v =
        checked("{\"params\":{\"update\":{\"sessionUpdate\":\"plan\",\"x\":[{\"k\":1},{\"k\":2}]},\"a.b\":3},"
                "\"s\":\"}\\\\\",\"d\":1,\"d\":2}");
    assert_raw(json_get(v, "params.update.sessionUpdate"), "\"plan\"");
    assert_raw(json_get(v, "params.update.x.1.k"), "2");
    assert_raw(json_get(v, "params.update.x.2.k"), "");
    assert_raw(json_get(v, "params.update.x.k"), "");
    assert_raw(json_get(v, "params.nothing.x"), "");
    assert_raw(json_get(v, "s.x"), "");
    assert_raw(json_get(v, "d"), "1");
    assert_raw(json_member(json_get(v, "params"), "a.b", 3), "3");
    assert_int_equal(json_count(v), 4);
    assert_int_equal(json_count(json_get(v, "params.update.x")), 2);
    assert_int_equal(json_count(checked("[ ]")), 0);
    assert_int_equal(json_type(json_get(v, "params")), JSON_OBJECT);
    assert_int_equal(json_type(json_get(v, "nope")), JSON_ABSENT);
}

static void strings_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *text;
        bool refused;
    } cases[] = {
        {"\"\"", "", false},
        {"\"a\\\"\\\\\\/\\b\\f\\n\\r\\tz\"", "a\"\\/\b\f\n\r\tz", false},
        {"\"\\u00e9\\u20AC\\ud83d\\uDE00\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", false},
        {"\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80", false},
        {"\"x\\ud800\"", "x\xef\xbf\xbd", true},
        {"\"\\ud800\\u0041\"", "\357\277\275A", true},
        {"\"\\udc00\\ud800\"", "\xef\xbf\xbd\xef\xbf\xbd", true},
        {"\"a\\u0000b\"", "a\357\277\275b", true},
    };
    struct sa_arena *arena = sa_arena_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json v = checked(cases[i].raw);
        cleanup_free char *s = json_string(v);
        assert_string_equal(s, cases[i].text);
        assert_string_equal(json_arena_string(arena, v), cases[i].text);
        assert_int_equal(json_is(v, cases[i].text), !cases[i].refused);
        assert_false(json_is(v, "other"));
        cleanup_buf struct sa_buf b = {0};
        sa_buf_add(&b, "keep", 4);
        assert_int_equal(json_decode(v, JSON_REFUSE, &b, NULL), cases[i].refused ? -1 : 0);
        if (cases[i].refused)
            assert_int_equal(b.len, 4);
    }
    assert_null(json_string(checked("1")));
    assert_string_equal(json_arena_string(arena, checked("{}")), "");
    sa_arena_free(arena);
}

static void integers_are_exact_or_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *raw;
        bool ok;
        int64_t v;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"7", true, 7},
        {"-12", true, -12},
        {"100", true, 100},
        {"1.0", true, 1},
        {"1.50", false, 0},
        {"1e3", true, 1000},
        {"1.5e1", true, 15},
        {"1200e-2", true, 12},
        {"1250e-2", false, 0},
        {"0.001e3", true, 1},
        {"0.0", true, 0},
        {"0e99999999999", true, 0},
        {"1e-1", false, 0},
        {"1e19", false, 0},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"1e999999999999999999999", false, 0},
        {"10000000000000000000000000e-25", true, 1},
        {"\"1\"", false, 0},
        {"null", false, 0},
        {"9007199254740993", true, 9007199254740993},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 0;
        bool ok = json_int(checked(cases[i].raw), &v);
        if (ok != cases[i].ok || v != cases[i].v)
            fail_msg("%s: %d %lld", cases[i].raw, ok, (long long)v);
    }
    uint64_t u;
    assert_true(json_uint(checked("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(json_uint(checked("18446744073709551616"), &u));
    assert_false(json_uint(checked("-1"), &u));
    double d;
    assert_true(json_double(checked("-2.5e3"), &d) && d == -2500);
    bool b;
    assert_true(json_bool(checked("true"), &b) && b);
    assert_true(json_bool(checked("false"), &b) && !b);
    assert_false(json_bool(checked("1"), &b));
    assert_true(json_true(checked("true")));
    assert_false(json_true(checked("false")));
    assert_false(json_true((struct json){0}));
}

/* ---- writing ---- */

static void the_writer_sets_commas_and_escapes(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = {0};
    struct json_writer w = json_writer(&b);
    json_begin_object(&w);
    json_key(&w, "a\"b");
    json_put_string(&w, "\x01\b\f\n\r\t\"\\/\xc3\xa9\xff\x7f");
    json_key(&w, "list");
    json_begin_array(&w);
    json_put_int(&w, INT64_MIN);
    json_put_uint(&w, UINT64_MAX);
    json_put_double(&w, 0.1);
    json_put_double(&w, 1e300);
    json_put_double(&w, NAN);
    json_put_bool(&w, true);
    json_put_null(&w);
    json_put_string(&w, NULL);
    json_put_raw(&w, json_of("{\"z\": 1e2}"));
    json_put_raw(&w, (struct json){0});
    json_begin_object(&w);
    json_end_object(&w);
    json_begin_array(&w);
    json_end_array(&w);
    json_end_array(&w);
    json_key(&w, "nul");
    json_put_bytes(&w, "a\0b", 3);
    json_end_object(&w);
    assert_string_equal(sa_buf_string(&b), "{\"a\\\"b\":\"\\u0001\\b\\f\\n\\r\\t\\\"\\\\/"
                                           "\xc3\xa9\xef\xbf\xbd\x7f\",\"list\":[-9223372036854775808,"
                                           "18446744073709551615,0.1,1e+300,null,true,null,null,{\"z\": "
                                           "1e2},null,{},[]],\"nul\":\"a\\u0000b\"}");
    assert_true(accepted((char *)b.data, b.len));
}

static void replacing_a_part_keeps_every_other_byte(void **state)
{
    (void)state;
    struct json_rpc m = parse("{ \"params\" : {\"n\":1.00} ,\"id\" : 7, \"method\":\"x\" }");
    cleanup_buf struct sa_buf b = {0};
    json_replace(m.raw, m.id, json_of("\"conn-1\""), &b);
    assert_string_equal(sa_buf_string(&b),
                        "{ \"params\" : {\"n\":1.00} ,\"id\" : \"conn-1\", \"method\":\"x\" }");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_texts_are_accepted),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(no_prefix_of_a_text_reads_beyond_its_end),
        cmocka_unit_test(errors_name_the_byte),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(lines_come_out_of_any_chunking),
        cmocka_unit_test(messages_are_told_apart_and_kept_raw),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(parts_are_found_by_path),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(integers_are_exact_or_nothing),
        cmocka_unit_test(the_writer_sets_commas_and_escapes),
        cmocka_unit_test(replacing_a_part_keeps_every_other_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
