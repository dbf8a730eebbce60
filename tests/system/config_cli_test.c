/* `sandbox-agent agents`, mcp, skills and credentials, against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/harness.h"

static struct system sys;

static int start(void **state)
{
    (void)state;
    sys = system_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    system_stop(&sys);
    system_free(&sys);
    return 0;
}

static char *run(int code, const char *const *words)
{
    int got;
    char *output = system_cli(&sys, words, &got);
    if (got != code)
        fail_msg("exit code %d instead of %d:\n%s", got, code, output);
    return output;
}

static void expect(int code, const char *part, const char *const *words)
{
    cleanup_free char *output = run(code, words);
    if (!strstr(output, part))
        fail_msg("`%s` is not in:\n%s", part, output);
}

static void a_secret_comes_from_standard_input_and_is_never_shown(void **state)
{
    (void)state;
    int code;
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data), .input = "top-secret-value\n"};
    free(program_run(WORDS("sandbox-agent", "credentials", "set", "token"), &opt, &code));
    assert_int_equal(code, 0);
    cleanup_free char *list = run(0, WORDS("credentials")),
                      *json = run(0, WORDS("credentials", "ls", "--json"));
    assert_non_null(strstr(list, "token"));
    assert_non_null(strstr(json, "\"name\":\"token\""));
    assert_null(strstr(list, "top-secret"));
    assert_null(strstr(json, "top-secret"));
    expect(2, "takes other words", WORDS("credentials", "set"));
    expect(1, "is empty", WORDS("credentials", "set", "empty"));
}

static void mcp_servers_are_set_listed_and_removed(void **state)
{
    (void)state;
    expect(0, "",
           WORDS("mcp", "--directory", "/work", "--value", "A=b", "--secret", "T=token", "set", "tool",
                 "/bin/tool", "--flag"));
    expect(0, "", WORDS("mcp", "--url", "https://example.org/", "--bearer", "token", "set", "web"));
    expect(0, "/work  /bin/tool", WORDS("mcp", "ls"));
    expect(0, "\"args\":[\"--flag\"]", WORDS("mcp", "--json"));
    expect(0, "\"credential\":\"token\"", WORDS("mcp", "--json"));
    expect(1, "nobody", WORDS("mcp", "--url", "https://example.org/", "--bearer", "nobody", "set", "web"));
    expect(1, "`--url` or a command", WORDS("mcp", "set", "web"));
    expect(0, "", WORDS("mcp", "rm", "web"));
    cleanup_free char *left = run(0, WORDS("mcp"));
    assert_null(strstr(left, "example.org"));
}

static void skills_are_set_listed_and_removed(void **state)
{
    (void)state;
    expect(0, "", WORDS("skills", "set", "one", "/skills/one"));
    expect(0, "", WORDS("skills", "set", "two", "owner/name", "--ref", "main", "--subpath", "skills/two"));
    expect(0, "owner/name  skills/two", WORDS("skills"));
    expect(1, "owner/name", WORDS("skills", "set", "three", "no-source"));
    expect(0, "", WORDS("skills", "rm", "one", "two"));
    cleanup_free char *left = run(0, WORDS("skills", "ls"));
    assert_string_equal(left, "");
}

static void an_agent_is_reported(void **state)
{
    (void)state;
    expect(0, "mock", WORDS("agents"));
    expect(0, "not installed", WORDS("agents", "report", "claude", "--discover"));
    expect(0, "ANTHROPIC_API_KEY", WORDS("agents", "report", "claude"));
    expect(0, "You said: hello", WORDS("prompt", "hello"));
    expect(0, "it told", WORDS("agents", "report", "mock"));
    expect(0, "DONE", WORDS("agents", "install", "mock", "--json"));
    expect(1, "not known", WORDS("agents", "install", "nobody"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_secret_comes_from_standard_input_and_is_never_shown),
        cmocka_unit_test(mcp_servers_are_set_listed_and_removed),
        cmocka_unit_test(skills_are_set_listed_and_removed),
        cmocka_unit_test(an_agent_is_reported),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
