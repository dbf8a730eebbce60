/* What the validator lets through and what it refuses, at the limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs the four above first */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "google/protobuf/struct.pb-c.h"
#include "sandboxagent/test/v1/echo_service.rpc.h"

static const ProtobufCMessageDescriptor *const once = &echo_once_request__descriptor;

static void add_varint(struct sa_buf *b, uint64_t v)
{
    do {
        uint8_t c = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        sa_buf_add(b, &c, 1);
        v >>= 7;
    } while (v);
}

static void add_field(struct sa_buf *b, unsigned number, const void *p, size_t n)
{
    add_varint(b, number << 3 | 2);
    add_varint(b, n);
    sa_buf_add(b, p, n);
}

static void accepts(const ProtobufCMessageDescriptor *d, const void *p, size_t n)
{
    cleanup_error sa_error *err = NULL;
    void *m = rpc_unpack(d, p, n, &err);
    if (!m)
        fail_msg("refused: %s", err->message);
    rpc_message_free(m);
}

static void refuses(const ProtobufCMessageDescriptor *d, const void *p, size_t n, const char *why)
{
    cleanup_error sa_error *err = NULL;
    assert_null(rpc_unpack(d, p, n, &err));
    assert_true(sa_error_is(err, SA_MALFORMED_MESSAGE));
    assert_int_equal(err->code, SA_CODE_INVALID_ARGUMENT);
    if (!strstr(err->message, why))
        fail_msg("`%s` does not say `%s`", err->message, why);
}

static void text(unsigned number, const char *p, size_t n, bool good)
{
    cleanup_buf struct sa_buf b = {0};
    add_field(&b, number, p, n);
    if (good)
        accepts(once, b.data, b.len);
    else
        refuses(once, b.data, b.len, "EchoOnceRequest.text is not UTF-8");
}

static void text_must_be_utf8_without_nul(void **state)
{
    (void)state;
    text(1, "", 0, true);
    text(1, "plain ascii text of some length", 31, true);
    text(1, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", 9, true);
    text(1, "\xf4\x8f\xbf\xbf", 4, true);
    text(1, "a\0b", 3, false);
    text(1, "12345678\0", 9, false);
    text(1, "\xff", 1, false);
    text(1, "\xc0\x80", 2, false);         /* overlong */
    text(1, "\xe0\x9f\xbf", 3, false);     /* overlong */
    text(1, "\xed\xa0\x80", 3, false);     /* surrogate */
    text(1, "\xf4\x90\x80\x80", 4, false); /* above U+10FFFF */
    text(1, "abcdefg\xe2\x82", 9, false);  /* cut short */
    text(2, "a\0\xff", 3, true);           /* bytes may be anything */
}

/* ListValue of ListValue of ...: each level is two messages (Value and ListValue). */
static void nest(struct sa_buf *b, int depth)
{
    for (int i = 0; i < depth; i++) {
        struct sa_buf inner = *b;
        *b = (struct sa_buf){0};
        add_field(b, i % 2 ? 1 : 6, inner.data, inner.len);
        sa_buf_fini(&inner);
    }
}

static void nesting_ends_at_the_limit(void **state)
{
    (void)state;
    for (int depth = RPC_DEPTH_MAX - 2; depth <= RPC_DEPTH_MAX + 1; depth++) {
        cleanup_buf struct sa_buf b = {0};
        nest(&b, depth - 1); /* the outermost message is the first level */
        const ProtobufCMessageDescriptor *d =
            depth % 2 ? &google__protobuf__list_value__descriptor : &google__protobuf__value__descriptor;
        if (depth <= RPC_DEPTH_MAX)
            accepts(d, b.data, b.len);
        else
            refuses(d, b.data, b.len, "nests too deep");
    }
}

static void deep_nesting_does_not_recurse(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf b = {0};
    nest(&b, 20000); /* about 74 KB: the parser alone would run out of stack */
    refuses(&google__protobuf__list_value__descriptor, b.data, b.len, "nests too deep");
}

static void elements_are_counted(void **state)
{
    (void)state;
    uint8_t *numbers = calloc(1, RPC_ELEMENTS_MAX + 1);
    for (size_t n = RPC_ELEMENTS_MAX - 1; n <= RPC_ELEMENTS_MAX; n++) {
        cleanup_buf struct sa_buf b = {0};
        add_field(&b, 6, numbers, n); /* the field itself counts too */
        if (n < RPC_ELEMENTS_MAX)
            accepts(once, b.data, b.len);
        else
            refuses(once, b.data, b.len, "too many elements");
    }
    free(numbers);
    for (size_t n = RPC_ELEMENTS_MAX; n <= RPC_ELEMENTS_MAX + 1; n++) {
        cleanup_buf struct sa_buf words = {0}, unknown = {0};
        for (size_t i = 0; i < n; i++) {
            add_field(&words, 5, "", 0);
            sa_buf_add(&unknown, "\xa0\x06\x01", 3); /* field 100 = 1 */
        }
        if (n == RPC_ELEMENTS_MAX) {
            accepts(once, words.data, words.len);
            accepts(once, unknown.data, unknown.len);
        } else {
            refuses(once, words.data, words.len, "too many elements");
            refuses(once, unknown.data, unknown.len, "too many elements");
        }
    }
}

static void damaged_bytes_are_refused(void **state)
{
    (void)state;
    refuses(once, "\x00\x01", 2, "bad field number");
    refuses(once, "\x80", 1, "bad field number");
    refuses(once, "\xff\xff\xff\xff\xff\x01", 6, "bad field number");
    refuses(once, "\x0a\x05hell", 6, "text is cut short");
    refuses(once, "\x0a\xff\xff\xff\xff\x0f", 6, "cut short");
    refuses(once, "\x0a\xff\xff\xff\xff\xff\x01", 7, "cut short");
    refuses(once, "\x08\x01", 2, "text has the wrong wire type");
    refuses(once, "\x42\x02\x0a\x05", 4, "EchoTree.name is cut short");
    refuses(once, "\x42\x03\x0a\x01\xff", 5, "EchoTree.name is not UTF-8");
    refuses(once, "\x0b\x0c", 2, "wire type");
    refuses(once, "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, "mode has a bad number");
    refuses(once, "\x69\x01\x02", 3, "fixed is cut short");
    refuses(once, "\x32\x01\x80", 3, "numbers has a bad number");
    accepts(once, "\x32\x02\x01\x02", 4);                              /* packed */
    accepts(once, "\x30\x01\x30\x02", 4);                              /* the same, not packed */
    accepts(once, "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11); /* enum -1 */
}

/* Merging would copy what the first one holds again and again. */
static void a_single_message_may_not_come_twice(void **state)
{
    (void)state;
    refuses(once, "\x42\x00\x42\x00", 4, "tree occurs twice");
    accepts(once, "\x42\x04\x12\x00\x12\x00", 6);                  /* a repeated one may */
    accepts(once, "\x42\x08\x12\x02\x12\x00\x12\x02\x12\x00", 10); /* and each of them holds one */
}

static void what_is_packed_passes(void **state)
{
    (void)state;
    EchoOnceRequest req = ECHO_ONCE_REQUEST__INIT;
    EchoLeaf leaf = ECHO_LEAF__INIT;
    char word[] = "word", *words[] = {word, word};
    int32_t numbers[] = {1, -1, 300};
    leaf.value = -5;
    req.n_words = 2;
    req.words = words;
    req.n_numbers = 3;
    req.numbers = numbers;
    req.kind_case = ECHO_ONCE_REQUEST__KIND_LEAF;
    req.leaf = &leaf;
    req.ratio = 0.5f;
    req.fixed = 7;
    uint8_t buf[256];
    size_t n = echo_once_request__pack(&req, buf);
    accepts(once, buf, n);
    for (size_t i = 0; i < n; i++) /* any prefix gives an answer */
        rpc_message_free(rpc_unpack(once, buf, i, NULL));
}

static void bad_text_is_replaced(void **state)
{
    (void)state;
    struct sa_arena *a = sa_arena_new();
    assert_string_equal(rpc_utf8(a, "good \xc3\xbc", 7), "good \xc3\xbc");
    assert_string_equal(rpc_utf8(a, "a\xff\0b", 4), "a\xef\xbf\xbd\xef\xbf\xbd"
                                                    "b");
    assert_string_equal(rpc_utf8(a, "\xe2\x82", 2), "\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(rpc_utf8(a, "", 0), "");
    sa_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_must_be_utf8_without_nul),
        cmocka_unit_test(nesting_ends_at_the_limit),
        cmocka_unit_test(deep_nesting_does_not_recurse),
        cmocka_unit_test(elements_are_counted),
        cmocka_unit_test(damaged_bytes_are_refused),
        cmocka_unit_test(a_single_message_may_not_come_twice),
        cmocka_unit_test(what_is_packed_passes),
        cmocka_unit_test(bad_text_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
