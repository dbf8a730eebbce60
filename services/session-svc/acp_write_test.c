#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "services/session-svc/acp_write.h"

static struct json parsed(struct sa_buf *out)
{
    struct json_rpc rpc;
    assert_int_equal(json_rpc_parse(out->data, out->len, &rpc, NULL), 0);
    return rpc.raw;
}

static void a_prompt_keeps_its_blocks_in_order_behind_the_context(void **state)
{
    (void)state;
    uint8_t data[] = {0, 1, 2, 255};
    BinaryContent image = BINARY_CONTENT__INIT;
    image.mime_type = (char[]){"image/png"};
    image.data = (ProtobufCBinaryData){sizeof data, data};
    ResourceLink link = RESOURCE_LINK__INIT;
    link.uri = (char[]){"file:///a"};
    link.name = (char[]){"a"};
    static char raw[] = "{\"type\":\"resource\",\"n\":1e400}";
    ContentBlock blocks[4] = {CONTENT_BLOCK__INIT, CONTENT_BLOCK__INIT, CONTENT_BLOCK__INIT,
                              CONTENT_BLOCK__INIT};
    blocks[0].kind_case = CONTENT_BLOCK__KIND_TEXT;
    blocks[0].text = (char[]){"say \"hi\"\n"};
    blocks[1].kind_case = CONTENT_BLOCK__KIND_IMAGE;
    blocks[1].image = &image;
    blocks[2].kind_case = CONTENT_BLOCK__KIND_RESOURCE_LINK;
    blocks[2].resource_link = &link;
    blocks[3].kind_case = CONTENT_BLOCK__KIND_JSON;
    blocks[3].json = (ProtobufCBinaryData){strlen(raw), (uint8_t *)raw};
    ContentBlock *list[] = {&blocks[0], &blocks[1], &blocks[2], &blocks[3]};
    cleanup_buf struct sa_buf out = {0}, context = {0};
    sa_buf_addf(&context, "before");
    acp_prompt(&out, 7, "agent-1", list, 4, &context);
    struct json v = parsed(&out);
    assert_true(json_is(json_get(v, "method"), "session/prompt"));
    assert_true(json_is(json_get(v, "params.sessionId"), "agent-1"));
    assert_int_equal(json_count(json_get(v, "params.prompt")), 5);
    assert_true(json_is(json_get(v, "params.prompt.0.text"), "before"));
    assert_true(json_is(json_get(v, "params.prompt.1.text"), "say \"hi\"\n"));
    assert_true(json_is(json_get(v, "params.prompt.2.data"), "AAEC/w=="));
    assert_true(json_is(json_get(v, "params.prompt.3.uri"), "file:///a"));
    assert_int_equal(json_get(v, "params.prompt.4").n, strlen(raw)); /* byte for byte */
    assert_null(memchr(out.data, '\n', out.len));
}

static void answers_carry_the_id_as_it_came(void **state)
{
    (void)state;
    static const char *const ids[] = {"7", "\"a\\u0041\"", "12345678901234567890", "1.50", "null"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        cleanup_buf struct sa_buf out = {0};
        acp_error(&out, json_of(ids[i]), -32601, "no \"such\" method");
        struct json id = json_get(parsed(&out), "id");
        assert_int_equal(id.n, strlen(ids[i]));
        assert_memory_equal(id.p, ids[i], id.n);
    }
}

static void the_client_offers_what_it_has(void **state)
{
    (void)state;
    cleanup_buf struct sa_buf with = {0}, without = {0}, load = {0};
    acp_initialize(&with, 1, true);
    acp_initialize(&without, 1, false);
    assert_true(json_true(json_get(parsed(&with), "params.clientCapabilities.fs.readTextFile")));
    assert_false(json_true(json_get(parsed(&without), "params.clientCapabilities.fs.writeTextFile")));
    assert_true(json_true(json_get(parsed(&with), "params.clientCapabilities.terminal")));
    acp_open_session(&load, 2, "session/load", "/w", 2, "x", json_of("[]"));
    assert_true(json_is(json_get(parsed(&load), "params.sessionId"), "x"));
    assert_int_equal(json_type(json_get(parsed(&load), "params.mcpServers")), JSON_ARRAY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_keeps_its_blocks_in_order_behind_the_context),
        cmocka_unit_test(answers_carry_the_id_as_it_came),
        cmocka_unit_test(the_client_offers_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
