/* What real agents offer, and what no agent should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "adapters/os/file.h"
#include "services/session-svc/acp_config.h"

static const char *const *recordings;

/* "id/category=value(choices) ..." of the options in a text. */
static char *describe(struct sa_arena *arena, struct json v)
{
    cleanup_buf struct sa_buf text = {0};
    size_t n;
    struct acp_option *options = acp_config(arena, v, &n);
    for (size_t i = 0; i < n; i++) {
        const ConfigOption *o = options[i].option;
        static const char *const setters[] = {"", "mode:", "model:"};
        sa_buf_addf(&text, "%s%s%s/%s=%s(%zu)%s", i ? " " : "", setters[options[i].setter], o->option_id,
                    o->category, o->value, o->n_choices, o->choices_cut ? "+" : "");
    }
    sa_buf_addf(&text, "%s", "");
    return sa_arena_strdup(arena, sa_buf_string(&text));
}

static void offers(const char *json, const char *expected)
{
    struct sa_arena *arena = sa_arena_new();
    struct json v;
    assert_int_equal(json_check(json, strlen(json), &v, NULL), 0);
    assert_string_equal(describe(arena, v), expected);
    sa_arena_free(arena);
}

/* The answer to session/new in a recording. */
static void recorded(const char *name, const char *expected)
{
    cleanup_buf struct sa_buf all = {0};
    struct sa_arena *arena = sa_arena_new();
    const char *const *file = recordings;
    while (*file && !strstr(*file, name))
        file++;
    assert_non_null(*file);
    assert_int_equal(sa_read_file(*file, 16 << 20, &all, NULL), 0);
    const char *found = NULL;
    for (char *rest, *line = strtok_r(sa_buf_string(&all), "\n", &rest); line && !found;
         line = strtok_r(NULL, "\n", &rest)) {
        struct json v;
        if (!json_check(line, strlen(line), &v, NULL) && json_get(v, "msg.result.configOptions").n)
            found = describe(arena, json_get(v, "msg.result"));
    }
    assert_non_null(found);
    assert_string_equal(found, expected);
    sa_arena_free(arena);
}

static void real_agents_offer(void **state)
{
    (void)state;
    recorded("claude-basic.jsonl", "mode/mode=auto(5) model/model=default(5) effort/thought_level=default(6) "
                                   "fast/model_config=off(2) ultracode/model_config=off(2)");
    recorded("codex-write.jsonl",
             "mode/mode=agent(4) collaboration_mode/collaboration_mode=default(2) model/model=gpt-6.1-sol(9) "
             "reasoning_effort/thought_level=low(6) fast-mode/model_config=off(2)");
    recorded("opencode-write.jsonl", "model/model=fake/fake-model(10) mode/mode=build(2)");
    recorded("pi-config.jsonl",
             "model/model=fake/fake-model(2) thought_level/thought_level=off(1) mode:mode/mode=off(1)");
}

static void older_forms_count_where_there_is_no_option(void **state)
{
    (void)state;
    offers("{\"modes\":{\"currentModeId\":\"a\",\"availableModes\":[{\"id\":\"a\"},{\"id\":\"b\"}]},"
           "\"models\":{\"currentModelId\":\"m\",\"availableModels\":[{\"modelId\":\"m\"}]}}",
           "mode:mode/mode=a(2) model:model/model=m(1)");
    offers("{\"modes\":{\"currentModeId\":\"a\",\"availableModes\":[]},\"configOptions\":[{\"id\":\"x\","
           "\"category\":\"mode\",\"currentValue\":\"q\",\"options\":[{\"value\":\"q\"}]}]}",
           "x/mode=q(1)");
}

static void groups_and_switches_are_options_too(void **state)
{
    (void)state;
    offers(
        "{\"configOptions\":[{\"id\":\"m\",\"currentValue\":\"1\",\"options\":[{\"group\":\"g\",\"options\":["
        "{\"value\":\"1\"},{\"value\":\"2\"}]},{\"group\":\"h\",\"options\":[{\"value\":\"3\"}]}]},"
        "{\"id\":\"on\",\"type\":\"boolean\",\"currentValue\":true}]}",
        "m/=1(3) on/=true(2)");
}

static void nonsense_is_left_out(void **state)
{
    (void)state;
    offers("{}", "");
    offers("[1,2]", "");
    offers("{\"configOptions\":{\"id\":\"x\"},\"modes\":[],\"models\":7}", "");
    offers(
        "{\"configOptions\":[1,null,{\"id\":\"\",\"currentValue\":\"v\"},{\"id\":\"a\",\"currentValue\":7},"
        "{\"id\":\"b\",\"currentValue\":\"v\",\"options\":[{\"value\":\"\"},{\"name\":\"x\"}]},"
        "{\"id\":\"b\",\"currentValue\":\"again\"}]}",
        "b/=v(0)+");
}

int main(int argc, char **argv)
{
    (void)argc;
    recordings = (const char *const *)argv + 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_agents_offer),
        cmocka_unit_test(older_forms_count_where_there_is_no_option),
        cmocka_unit_test(groups_and_switches_are_options_too),
        cmocka_unit_test(nonsense_is_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
