/* The verbs `sandbox-agent fs`, against a real server: relative paths are below its HOME. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/file.h"
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

/* A script in which `f` is `sandbox-agent fs`, and the directory is the server's HOME; what it prints. */
static char *shell(int code, const char *script)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    cleanup_free char *whole =
        sa_format("f() { '%s' fs \"$@\"; }; cd '%s'; %s", harness_binary("sandbox-agent"), sys.home, script);
    struct program_options opt = {.home = sys.home, .env = WORDS(data, "TZ=UTC")};
    int got;
    char *output = program_run(WORDS("/bin/sh", "-c", whole), &opt, &got);
    if (got != code)
        fail_msg("`%s`: exit code %d instead of %d:\n%s", script, got, code, output);
    return output;
}

static void assert_prints(const char *expected, int code, const char *script)
{
    cleanup_free char *output = shell(code, script);
    if (strcmp(output, expected) != 0)
        fail_msg("`%s` printed:\n%s\ninstead of:\n%s", script, output, expected);
}

static void assert_has(int code, const char *part, const char *script)
{
    cleanup_free char *output = shell(code, script);
    if (!strstr(output, part))
        fail_msg("`%s`: `%s` is not in:\n%s", script, part, output);
}

static void directories_are_listed(void **state)
{
    (void)state;
    free(shell(0, "mkdir -p ls/d/e; printf 123 >ls/b; printf 1 >ls/c; touch ls/.h ls/d/e/x; ln -s b ls/l;"
                  "touch -d 2001-02-03T04:05:06 ls/b"));
    assert_prints("b\nc\nd\nl\n", 0, "f ls ls");
    assert_prints(".h\nb\nc\nd\nl\n", 0, "f ls -a ls");
    assert_prints("l\nd\nc\nb\n", 0, "f ls -r ls");
    assert_prints("ls/b\nls/c\nls/d\nls/d/e\nls/d/e/x\nls/l\n", 0, "f ls -R ls");
    assert_prints("b\n", 0, "f ls --sort time ls | tail -n 1");
    assert_prints("c\nb\n", 0, "f ls --sort size -r ls | grep '[bc]'");
    assert_prints("b\n", 0, "f ls ls/b");
    assert_has(0, "-rw-r--r--             3  2001-02-03 04:05:06  b\n", "chmod 644 ls/b; f ls -l ls");
    assert_has(0, "  l -> b\n", "f ls -l ls");
    assert_has(0, "\"kind\":\"FILE_KIND_SYMLINK\"", "f ls --json ls");
    assert_prints("a?b\n", 0, "mkdir odd; touch \"$(printf 'odd/a\\033b')\"; f ls odd");
    assert_has(1, "name, size or time", "f ls --sort age ls 2>&1");
    assert_has(1, "`none`", "f ls none 2>&1");
    assert_has(0, "size       3 (", "f stat ls/b");
    assert_has(0, "kind       symlink", "f stat --no-follow ls/l");
}

static void names_are_made_and_go(void **state)
{
    (void)state;
    assert_prints("", 0, "f mkdir -p m/a/b && test -d m/a/b && f mkdir -p m/a");
    assert_has(1, "exists", "f mkdir m/a 2>&1");
    assert_prints("", 0, "f touch m/file && test -f m/file && test ! -s m/file");
    assert_prints("x", 0,
                  "printf x >m/file; touch -d 2001-01-01 m/file; f touch m/file;"
                  "test -n \"$(find m/file -mmin -5)\" && cat m/file");
    assert_prints("-rwxr-----\n", 0, "f chmod 740 m/file; stat -c %A m/file");
    assert_has(1, "no mode", "f chmod u+x m/file 2>&1");
    assert_prints("file\n", 0, "f ln -s file m/link; readlink m/link");
    assert_has(1, "-s", "f ln file m/hard 2>&1");
    assert_has(1, "recursive", "f cp m copy 2>&1");
    assert_prints("xx", 0, "f cp -r m copy && f cp m/file copy/a && cat copy/file copy/a/file");
    assert_has(1, "exists", "f cp m/file copy/a/file 2>&1; f mv m/file copy/a 2>&1");
    assert_prints("y", 0, "printf y >m/file; f mv -f m/file copy/a; cat copy/a/file; test ! -e m/file");
    assert_has(1, "is none", "f mv copy/a/file copy/file nowhere 2>&1");
    assert_prints("b\nfile\n", 0, "f mv copy/a/b copy/a/file m; ls m | grep -v '^a$\\|link'");
    assert_has(1, "not empty", "f rm copy m/none 2>&1");
    assert_has(1, "`m/none`", "f rm copy m/none 2>&1");
    assert_prints("", 0, "f rm -rf copy m none; test ! -e copy -a ! -e m");
    assert_has(2, "usage: sandbox-agent fs rm", "f rm 2>&1");
}

static void what_there_is_is_told(void **state)
{
    (void)state;
    assert_has(0, "5 B of content, 1 files, 2 directories", "mkdir -p u/v; printf 12345 >u/v/file; f du u");
    assert_has(0, "\"contentBytes\":\"5\"", "f du --json u");
    assert_has(0, "(default)         read-write           -  /, relative paths below /", "f roots");
    assert_has(0, "mkdir ", "f --help");
    assert_has(2, "there is no verb `fs nonsense`", "f nonsense 2>&1");
    assert_has(1, "no root `none`", "f ls --root none . 2>&1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_are_listed),
        cmocka_unit_test(names_are_made_and_go),
        cmocka_unit_test(what_there_is_is_told),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
