/* The verbs `sandbox-agent fs find`, grep, upload and download, against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
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

/* A script in which `f` is `sandbox-agent fs`, and the directory is the server's HOME. */
static void assert_prints(const char *expected, int code, const char *script)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    cleanup_free char *whole =
        sa_format("f() { '%s' fs \"$@\"; }; cd '%s'; %s", harness_binary("sandbox-agent"), sys.home, script);
    struct program_options opt = {.home = sys.home, .env = WORDS(data, "TZ=UTC", "LC_ALL=C.UTF-8")};
    int got;
    cleanup_free char *output = program_run(WORDS("/bin/sh", "-c", whole), &opt, &got);
    if (got != code || strcmp(output, expected) != 0)
        fail_msg("`%s`: exit code %d instead of %d; printed:\n%s\ninstead of:\n%s", script, got, code, output,
                 expected);
}

static void files_are_found(void **state)
{
    (void)state;
    assert_prints(
        "p/a.c\np/d\np/d/b.h\n", 0,
        "mkdir -p p/d p/build; touch p/a.c p/d/b.h p/build/x p/.env; echo build/ > p/.gitignore; f find p");
    assert_prints("p/d/b.h\n", 0, "f find -g '*.h' p");
    assert_prints("p/d\n", 0, "f find -t dir p");
    assert_prints(".env\n.gitignore\na.c\nbuild\nbuild/x\nd\nd/b.h\n", 0,
                  "f find --hidden --no-ignore p | sed 's,p/,,'");
    assert_prints("p/a.c|p/d|", 0, "f find -0 -d 1 p | tr '\\0' '|'");
    assert_prints("p/d/b.h\n", 0, "f find --rank dbh --limit 1 p");
    assert_prints("sandbox-agent: open `none`: No such file or directory\n", 1, "f find none");
    assert_prints("sandbox-agent: --type is file, dir or link, not `x`\n", 1, "f find -t x");
}

static void lines_are_found(void **state)
{
    (void)state;
    assert_prints(
        "g/a:2:two words\n", 0,
        "mkdir g; printf 'one\\ntwo words\\nthree\\n' > g/a; printf 'Two\\n' > g/b; f grep -n two g");
    assert_prints("g/a:two words\ng/b:Two\n", 0, "f grep -i two g");
    assert_prints("g/a-1-one\ng/a:2:two words\ng/a-3-three\n", 0, "f grep -n -C 1 't.o' g");
    assert_prints("g/b:Two\n", 0, "f grep -F Two g/a g/b");
    assert_prints("\033[35mg/a\033[0m:two \033[1;31mword\033[0ms\n", 0, "f grep --colour always wor[d] g");
    assert_prints("", 1, "f grep nothing g");
    assert_prints("sandbox-agent: the pattern is wrong at byte 1: missing closing parenthesis\n", 1,
                  "f grep '(' g");
    assert_prints("a\n", 0, "f grep --json two g/a | grep -o '\"number\":\"2\"' | sed 's/.*/a/'");
}

static void trees_go_there_and_back(void **state)
{
    (void)state;
    assert_prints("4 entries, 6 bytes\n", 0,
                  "mkdir -p here/sub; printf one > here/1; printf two > here/sub/2; ln -s 1 here/link; f "
                  "upload here there");
    assert_prints("", 0, "diff -r here there && test -L there/link");
    assert_prints("sandbox-agent: `there` exists and is not empty\n", 1, "f upload --whole here there");
    assert_prints("4 entries, 6 bytes\n", 0,
                  "touch there/old; f upload --whole --overwrite replace here there; test ! -e there/old");
    assert_prints("sandbox-agent: 1: it exists\nsandbox-agent: link: it exists\nsandbox-agent: sub/2: it "
                  "exists\n1 entries, 0 bytes, 3 failed\n",
                  1, "f upload here there");
    assert_prints("1 entries, 3 bytes\n", 0, "tar -czf t.tgz -C here 1; f upload - fromtar < t.tgz");
    assert_prints("1\nlink\nsub/\nsub/2\n", 0, "f download there | tar -t");
    assert_prints("sub/\nsub/2\n", 0, "f download -f tar.gz -g sub -g 'sub/**' there | tar -tz");
    assert_prints("4 entries, 6 bytes\n", 0, "f download there back && diff -r here back");
    assert_prints("sandbox-agent: open `none`: No such file or directory\n", 1, "f download none x");
    assert_prints("sandbox-agent: the archive cannot be read: Unrecognized archive format\n", 1,
                  "f upload here/1 y");
    assert_prints("", 0, "find . -name '.sa-*'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_found),
        cmocka_unit_test(lines_are_found),
        cmocka_unit_test(trees_go_there_and_back),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
