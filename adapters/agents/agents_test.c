#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapters/agents/agents.h"
#include "adapters/os/file.h"

static void every_entry_is_complete(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct agent *const *a = agents_all(); *a; a++, n++) {
        assert_ptr_equal(agents_find((*a)->name, NULL), *a);
        assert_true((*a)->title && (*a)->command && (*a)->arguments && (*a)->environment &&
                    (*a)->credentials);
        assert_in_range((*a)->initialize_ms, 1000, 300000);
        assert_in_range((*a)->open_ms, 1000, 300000);
        assert_true((*a)->built_in == !(*a)->npm_packages[0]);
        for (const char *const *p = (*a)->npm_packages; *p; p++) {
            const char *version = strrchr(*p, '@'); /* exact: npm takes an older one without it */
            assert_true(version > *p && agents_npm_exact(*p));
        }
        for (const char *const *e = (*a)->environment; *e; e++)
            assert_non_null(strchr(*e, '='));
    }
    assert_true(n >= 9);
}

static void an_unknown_agent_is_named(void **state)
{
    (void)state;
    cleanup_error sa_error *err = NULL;
    assert_null(agents_find("nobody", &err));
    assert_true(sa_error_is(err, SA_UNKNOWN_AGENT));
    assert_non_null(strstr(err->message, "nobody"));
    assert_non_null(strstr(err->message, "claude"));
}

static void make_program(const char *dir, const char *name)
{
    cleanup_free char *file = sa_format("%s/%s", dir, name);
    assert_int_equal(sa_mkdirs(dir, 0755, NULL), 0);
    assert_int_equal(sa_write_file(file, "x", 1, 0755, NULL), 0);
}

static void programs_are_found_in_the_prefix_then_on_path(void **state)
{
    (void)state;
    char root[] = "/tmp/agents_test.XXXXXX";
    assert_non_null(mkdtemp(root));
    cleanup_free char *prefix = sa_format("%s/prefix", root), *path = sa_format("/nowhere:%s/bin", root);
    cleanup_free char *bin = sa_format("%s/node_modules/.bin", prefix), *other = sa_format("%s/bin", root);
    cleanup_free char *launchers = sa_format("%s/launchers", root);
    struct agents_place place = {.agents_dir = prefix, .own_dir = other, .path = path};
    const struct agent *claude = agents_find("claude", NULL), *mock = agents_find("mock", NULL);

    cleanup_error sa_error *err = NULL;
    assert_null(agents_command(claude, &place, NULL, &err));
    assert_true(sa_error_is(err, SA_AGENT_NOT_INSTALLED));
    assert_non_null(strstr(err->message, claude->npm_packages[0]));

    make_program(other, claude->command);
    cleanup_free char *first = agents_command(claude, &place, NULL, NULL);
    assert_non_null(first);
    assert_true(!strncmp(first, other, strlen(other)));
    make_program(bin, claude->command);
    cleanup_free char *second = agents_command(claude, &place, NULL, NULL);
    assert_true(!strncmp(second, bin, strlen(bin)));

    assert_null(agents_command(mock, &place, NULL, NULL));
    place.launchers_dir = launchers;
    make_program(launchers, "claude-acp");
    enum agents_source source;
    cleanup_free char *launcher = agents_command(claude, &place, &source, NULL);
    assert_true(!strncmp(launcher, launchers, strlen(launchers)));
    assert_int_equal(source, AGENTS_LAUNCHER);
    make_program(other, mock->command);
    cleanup_free char *third = agents_command(mock, &place, NULL, NULL);
    assert_non_null(third);

    cleanup_free char *all = agents_path(&place);
    assert_true(!strncmp(all, bin, strlen(bin)) && strstr(all, path));
    assert_int_equal(sa_remove_tree(root, NULL), 0);
}

static void only_exact_packages_are_exact(void **state)
{
    (void)state;
    const char *good[] = {"a@1.2.3", "@a/b-c@0.0.1", "a@1.2.3-beta.1", "node@22.23.3"};
    const char *bad[] = {
        "a",          "a@",          "a@latest", "a@^1.2.3",  "a@1.2",     "@a@1.2.3", "a@1.2.3 b",
        "../a@1.2.3", "a@file:../x", "-g@1.2.3", "a/b@1.2.3", "@a/@1.2.3", "@1.2.3",   ""};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(agents_npm_exact(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(agents_npm_exact(bad[i]));
}

static void put_package(const char *prefix, const char *name, const char *version)
{
    cleanup_free char *dir = sa_format("%s/node_modules/%s", prefix, name),
                      *file = sa_format("%s/package.json", dir);
    cleanup_free char *text = sa_format("{\"version\":\"%s\"}", version);
    assert_int_equal(sa_mkdirs(dir, 0755, NULL), 0);
    assert_int_equal(sa_write_file(file, text, strlen(text), 0644, NULL), 0);
}

/* npm picks an older release by the age of Node when it may: what lies there is looked at afterwards. */
static void another_version_than_the_wanted_one_is_told(void **state)
{
    (void)state;
    char root[] = "/tmp/agents_test.XXXXXX";
    assert_non_null(mkdtemp(root));
    const struct agent *codex = agents_find("codex", NULL);
    cleanup_error sa_error *err = NULL;
    assert_int_equal(agents_npm_check(codex, root, NULL, &err), -1);
    assert_true(sa_error_is(err, SA_AGENT_INSTALL_FAILED));
    put_package(root, "@agentclientprotocol/codex-acp", "1.0.0");
    assert_int_equal(agents_npm_check(codex, root, NULL, NULL), -1);
    assert_int_equal(agents_npm_check(codex, root, "@agentclientprotocol/codex-acp@1.0.0", NULL), 0);
    const char *version = strrchr(codex->npm_packages[0], '@') + 1;
    put_package(root, "@agentclientprotocol/codex-acp", version);
    assert_int_equal(agents_npm_check(codex, root, NULL, NULL), 0);
    cleanup_free char *there = agents_npm_version(root, codex->npm_packages[0]);
    assert_string_equal(there, version);
    assert_int_equal(sa_remove_tree(root, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_entry_is_complete),
        cmocka_unit_test(an_unknown_agent_is_named),
        cmocka_unit_test(programs_are_found_in_the_prefix_then_on_path),
        cmocka_unit_test(only_exact_packages_are_exact),
        cmocka_unit_test(another_version_than_the_wanted_one_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
