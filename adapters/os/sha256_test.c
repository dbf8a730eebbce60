#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "adapters/os/sha256.h"
#include "adapters/os/sha256_internal.h"

static void digest(const char *text, size_t n, char *ret)
{
    struct sa_sha256 c;
    sa_sha256_init(&c);
    sa_sha256_add(&c, text, n);
    sa_sha256_end_text(&c, ret);
}

/* FIPS 180-4 examples. */
static void known_digests_come_out(void **state)
{
    (void)state;
    char hex[SA_SHA256_TEXT + 1], *a = test_malloc(1000000);
    digest("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    memset(a, 'a', 1000000);
    digest(a, 1000000, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    test_free(a);
}

static void any_split_and_a_saved_state_give_the_same_digest(void **state)
{
    (void)state;
    char text[300], whole[SA_SHA256_TEXT + 1], parts[SA_SHA256_TEXT + 1];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    digest(text, sizeof text, whole);
    for (size_t cut = 0; cut <= sizeof text; cut++) {
        uint8_t saved[SA_SHA256_SAVED];
        struct sa_sha256 c, again;
        sa_sha256_init(&c);
        sa_sha256_add(&c, text, cut);
        sa_sha256_save(&c, saved);
        sa_sha256_load(&again, saved);
        sa_sha256_add(&again, text + cut, sizeof text - cut);
        sa_sha256_end_text(&again, parts);
        assert_string_equal(whole, parts);
    }
}

static void the_fast_way_is_the_plain_way(void **state)
{
    (void)state;
    uint32_t plain[8] = {1, 2, 3, 4, 5, 6, 7, 0x80000000}, fast[8];
    uint8_t blocks[64 * 5];
    memcpy(fast, plain, sizeof fast);
    for (size_t i = 0; i < sizeof blocks; i++)
        blocks[i] = (uint8_t)(i * 13 + (i >> 3));
    if (!sha256_blocks_fast(fast, blocks, 5)) {
        print_message("skipped: this processor has no instructions for it\n");
        skip();
    }
    sha256_blocks_plain(plain, blocks, 5);
    assert_memory_equal(fast, plain, sizeof fast);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fast_way_is_the_plain_way),
        cmocka_unit_test(known_digests_come_out),
        cmocka_unit_test(any_split_and_a_saved_state_give_the_same_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
