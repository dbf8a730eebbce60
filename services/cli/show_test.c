#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "services/cli/show.h"

struct page {
    struct show show;
    char *text;
    size_t n;
};

static void open_page(struct page *p)
{
    *p = (struct page){0};
    p->show.out = open_memstream(&p->text, &p->n);
}

static void assert_page(struct page *p, const char *expected)
{
    show_fini(&p->show);
    fclose(p->show.out);
    assert_string_equal(p->text, expected);
    free(p->text);
}

static void say(struct page *p, Event__KindCase kind, const char *text, uint64_t seq)
{
    Event e = EVENT__INIT;
    ContentChunk chunk = CONTENT_CHUNK__INIT;
    ContentBlock block = CONTENT_BLOCK__INIT;
    block.kind_case = CONTENT_BLOCK__KIND_TEXT;
    block.text = (char *)(uintptr_t)text;
    chunk.content = &block;
    e.seq = seq;
    e.kind_case = kind;
    e.agent_message_chunk = &chunk;
    show_event(&p->show, &e);
}

static void pieces_of_one_text_are_joined(void **state)
{
    (void)state;
    struct page p;
    open_page(&p);
    say(&p, EVENT__KIND_AGENT_THOUGHT_CHUNK, "let me", 1);
    say(&p, EVENT__KIND_AGENT_THOUGHT_CHUNK, " see", 2);
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "Hel", 3);
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "lo", 4);
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "!\n", 5);
    say(&p, EVENT__KIND_AGENT_THOUGHT_CHUNK, "done", 6);
    assert_page(&p, "(thinks) let me see\nHello!\n(thinks) done\n");
}

static void numbered_events_stand_alone(void **state)
{
    (void)state;
    struct page p;
    open_page(&p);
    p.show.numbers = true;
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "a", 9);
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "b", 10);
    assert_page(&p, "     9  a\n    10  b\n");
}

static void an_agent_cannot_control_the_terminal(void **state)
{
    (void)state;
    struct page p;
    open_page(&p);
    say(&p, EVENT__KIND_AGENT_MESSAGE_CHUNK, "\033]0;title\007 \033[2J \302\2332J \177 \303\244 a\tb\nc\r",
        1);
    assert_page(&p, "?]0;title? ?[2J ?2J ? \303\244 a\tb\nc?\n");
}

static void a_question_shows_its_answers(void **state)
{
    (void)state;
    struct page p;
    Event e = EVENT__INIT;
    PermissionRequested r = PERMISSION_REQUESTED__INIT;
    ToolCall t = TOOL_CALL__INIT;
    PermissionOption o = PERMISSION_OPTION__INIT, *options[] = {&o};
    t.title = (char *)(uintptr_t) "rm -rf /";
    o.option_id = (char *)(uintptr_t) "no";
    o.name = (char *)(uintptr_t) "Never";
    r.permission_id = (char *)(uintptr_t) "p1";
    r.tool_call = &t;
    r.options = options;
    r.n_options = 1;
    e.kind_case = EVENT__KIND_PERMISSION_REQUESTED;
    e.permission_requested = &r;
    open_page(&p);
    show_event(&p.show, &e);
    assert_page(&p, "MAY IT? rm -rf / (permission p1)\n    1  Never  [no]\n");
}

static void the_end_of_a_turn_tells_how_and_how_long(void **state)
{
    (void)state;
    struct page p;
    Event e = EVENT__INIT;
    TurnEnded t = TURN_ENDED__INIT;
    t.stop_reason = STOP_REASON_AGENT_EXITED;
    t.message = (char *)(uintptr_t) "it is gone";
    t.duration_ms = 1234;
    e.kind_case = EVENT__KIND_TURN_ENDED;
    e.turn_ended = &t;
    open_page(&p);
    show_event(&p.show, &e);
    assert_page(&p, "turn ended: agent_exited: it is gone (1.2 s)\n");
}

static void json_is_one_line_and_keeps_the_agents_own(void **state)
{
    (void)state;
    struct page p;
    Event e = EVENT__INIT;
    TurnStarted t = TURN_STARTED__INIT;
    static char raw[] = "{\"b\": 1, \"a\": 12345678901234567890}";
    e.seq = 7;
    e.kind_case = EVENT__KIND_TURN_STARTED;
    e.turn_started = &t;
    e.agent_json.data = (uint8_t *)raw;
    e.agent_json.len = sizeof raw - 1;
    open_page(&p);
    p.show.json = true;
    show_event(&p.show, &e);
    fflush(p.show.out);
    assert_non_null(strstr(p.text, "\"seq\":\"7\""));
    assert_non_null(strstr(p.text, raw));
    assert_int_equal(strcspn(p.text, "\n"), p.n - 1);
    fclose(p.show.out);
    free(p.text);
}

static void call_tool(struct page *p, const char *id, const char *title, ToolCallStatus status, bool update)
{
    Event e = EVENT__INIT;
    ToolCall t = TOOL_CALL__INIT;
    t.tool_call_id = (char *)(uintptr_t)id;
    t.title = (char *)(uintptr_t)title;
    t.status = status;
    e.kind_case = update ? EVENT__KIND_TOOL_CALL_UPDATE : EVENT__KIND_TOOL_CALL;
    e.tool_call = &t;
    show_event(&p->show, &e);
}

static void an_update_of_a_tool_call_is_shown_by_its_title(void **state)
{
    (void)state;
    struct page p;
    open_page(&p);
    p.show.brief = true;
    call_tool(&p, "t1", "Write a file", TOOL_CALL_STATUS_PENDING, false);
    call_tool(&p, "t1", "", TOOL_CALL_STATUS_UNSPECIFIED, true);
    call_tool(&p, "t1", "", TOOL_CALL_STATUS_COMPLETED, true);
    call_tool(&p, "t2", "", TOOL_CALL_STATUS_FAILED, true);
    assert_page(&p, "tool Write a file: pending\n ... Write a file: completed\n ... t2: failed\n");
}

static void what_is_brief_leaves_details_out(void **state)
{
    (void)state;
    struct page p;
    Event e = EVENT__INIT;
    AgentLog log = AGENT_LOG__INIT;
    log.text = (char *)(uintptr_t) "noise";
    e.kind_case = EVENT__KIND_AGENT_LOG;
    e.agent_log = &log;
    open_page(&p);
    show_event(&p.show, &e);
    p.show.brief = true;
    show_event(&p.show, &e);
    assert_page(&p, "log noise\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_one_text_are_joined),
        cmocka_unit_test(numbered_events_stand_alone),
        cmocka_unit_test(an_agent_cannot_control_the_terminal),
        cmocka_unit_test(a_question_shows_its_answers),
        cmocka_unit_test(the_end_of_a_turn_tells_how_and_how_long),
        cmocka_unit_test(an_update_of_a_tool_call_is_shown_by_its_title),
        cmocka_unit_test(what_is_brief_leaves_details_out),
        cmocka_unit_test(json_is_one_line_and_keeps_the_agents_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
