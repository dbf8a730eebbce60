#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "services/session-svc/search_text.h"

static Event chunk(const char *text, ContentChunk *c, ContentBlock *b, Event__KindCase kind)
{
    Event e = EVENT__INIT;
    *c = (ContentChunk)CONTENT_CHUNK__INIT;
    *b = (ContentBlock)CONTENT_BLOCK__INIT;
    b->kind_case = CONTENT_BLOCK__KIND_TEXT;
    b->text = (char *)(uintptr_t)text;
    c->content = b;
    e.kind_case = kind;
    e.agent_message_chunk = c;
    return e;
}

/* The pieces that it is found in, as letters: "b" for the second; and the snippet of the first. */
static char *find_as(const char *needle, const char *const *pieces, Event__KindCase kind, char **ret_snippet)
{
    struct search_scan s;
    cleanup_buf struct sa_buf where = {0}, first = {0};
    search_scan_init(&s, needle);
    for (int i = 0; pieces[i]; i++) {
        ContentChunk c;
        ContentBlock b;
        cleanup_buf struct sa_buf snippet = {0};
        Event e = chunk(pieces[i], &c, &b, kind);
        if (!search_scan_event(&s, &e, &snippet))
            continue;
        if (!where.len)
            sa_buf_add(&first, snippet.data, snippet.len);
        sa_buf_addf(&where, "%c", 'a' + i);
    }
    search_scan_fini(&s);
    if (ret_snippet)
        *ret_snippet = sa_strdup(sa_buf_string(&first));
    return sa_strdup(sa_buf_string(&where));
}

static void assert_found(const char *needle, const char *const *pieces, const char *expected)
{
    cleanup_free char *got = find_as(needle, pieces, EVENT__KIND_AGENT_MESSAGE_CHUNK, NULL);
    assert_string_equal(got, expected);
}

#define PIECES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void a_text_is_found_whatever_its_case_and_pieces(void **state)
{
    (void)state;
    assert_found("hello", PIECES("Hello world"), "a");
    assert_found("WORLD", PIECES("hello wor", "ld and", " world"), "bc");
    assert_found("hello", PIECES("he", "l", "l", "o", " hello"), "de");
    assert_found("ÄRGER mit ΣΟΦΙΑ und Ёлка", PIECES("ärger mit σοφια", " und ёЛКА"), "b");
    assert_found("x", PIECES("", "y", "x"), "c");
    assert_found("hello", PIECES("hell", ""), "");
    assert_found("aa", PIECES("a", "a", "a"), "bc");
}

/* The same text twice in one message is told where it ends, once for each event. */
static void messages_of_others_do_not_go_on(void **state)
{
    (void)state;
    struct search_scan s;
    ContentChunk c;
    ContentBlock b;
    cleanup_buf struct sa_buf snippet = {0};
    search_scan_init(&s, "hello");
    Event e = chunk("hel", &c, &b, EVENT__KIND_AGENT_MESSAGE_CHUNK);
    assert_false(search_scan_event(&s, &e, &snippet));
    e = chunk("lo", &c, &b, EVENT__KIND_AGENT_THOUGHT_CHUNK);
    assert_false(search_scan_event(&s, &e, &snippet));
    search_scan_fini(&s);
}

static void a_snippet_is_short_whole_characters_on_one_line(void **state)
{
    (void)state;
    cleanup_free char *long_text = sa_malloc(4001), *snippet = NULL;
    for (int i = 0; i < 2000; i++)
        memcpy(long_text + 2 * i, "\xc3\xa4", 2);
    long_text[4000] = '\0';
    cleanup_free char *where = find_as("needle", PIECES(long_text, "a\nNeedle\there", long_text),
                                       EVENT__KIND_USER_MESSAGE_CHUNK, &snippet);
    assert_string_equal(where, "b");
    assert_non_null(strstr(snippet, "a Needle here"));
    assert_true(strlen(snippet) <= SEARCH_SNIPPET_MAX);
    struct sa_arena *arena = sa_arena_new();
    assert_string_equal(rpc_utf8(arena, snippet, strlen(snippet)), snippet);
    sa_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_found_whatever_its_case_and_pieces),
        cmocka_unit_test(messages_of_others_do_not_go_on),
        cmocka_unit_test(a_snippet_is_short_whole_characters_on_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
