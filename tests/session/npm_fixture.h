/* An npm and a node that do what a test tells them, first on PATH; the mock agent is what they install. */
#ifndef TESTS_SESSION_NPM_FIXTURE_H_
#define TESTS_SESSION_NPM_FIXTURE_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "tests/session/stack.h"

/* A directory with `bin` (npm, node), `agents` (the prefix) and what tells npm how to behave:
 *     log    a line for each run: its arguments
 *     gate   a FIFO: npm waits until somebody writes into it
 *     fail   npm fails
 *     wrong  it installs another version
 *     broken what it installs does not speak ACP */
static const char *place;
static const char npm[] =
    "#!/bin/sh\n"
    "cd %s\n"
    "echo \"$*\" >> log\n"
    "echo 'npm has begun'\n"
    "[ ! -e gate ] || read -r _ < gate\n"
    "[ ! -e fail ] || { echo 'npm ERR! there is no such registry' >&2; exit 1; }\n"
    "verb=$1 && shift\n"
    "while [ $# -gt 0 ]; do\n"
    "    case $1 in\n"
    "    --prefix) prefix=$2 && shift ;;\n"
    "    -*) ;;\n"
    "    *) packages=\"$packages $1\" ;;\n"
    "    esac\n"
    "    shift\n"
    "done\n"
    "bin=$prefix/node_modules/.bin\n"
    "mkdir -p \"$bin\"\n"
    "for package in $packages; do\n"
    "    [ $verb = install ] || { rm -rf $prefix/node_modules/$package $bin/codex-acp; continue; }\n"
    "    name=${package%%@*} version=${package##*@}\n"
    "    [ ! -e wrong ] || version=0.0.1\n"
    "    mkdir -p $prefix/node_modules/$name\n"
    "    echo \"{\\\"version\\\":\\\"$version\\\"}\" > $prefix/node_modules/$name/package.json\n"
    "done\n"
    "for program in codex-acp pi-acp; do\n"
    "    [ $verb = install ] || continue\n"
    "    if [ -e broken ]; then ln -sf /bin/false $bin/$program; else ln -sf %s $bin/$program; fi\n"
    "done\n";

static char *path_of(const char *name)
{
    return sa_format("%s/%s", place, name);
}

static void put(const char *name, const char *text, mode_t mode)
{
    cleanup_free char *file = path_of(name);
    assert_int_equal(sa_write_file(file, text, strlen(text), mode, NULL), 0);
}

static inline void take(const char *name)
{
    cleanup_free char *file = path_of(name);
    unlink(file);
}

static char *read_log(void)
{
    cleanup_free char *file = path_of("log");
    cleanup_buf struct sa_buf text = {0};
    sa_read_file(file, 1 << 20, &text, NULL);
    return sa_strdup(sa_buf_string(&text));
}

static inline size_t runs_of_npm(void)
{
    cleanup_free char *log = read_log();
    size_t n = 0;
    for (const char *p = log; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

/* Node of this version, as npm and agents find it. */
static void put_node(const char *version)
{
    cleanup_free char *text =
        sa_format("#!/bin/sh\necho node %s\n[ ! -e %s/package ] || cat %s/package\n", version, place, place);
    put("bin/node", text, 0755);
}

/* Makes a new place, and puts its programs first on our PATH; the words that tell session-svc of it, then
 * `more`. */
static const char *const *npm_begin(const char *const *more)
{
    place = harness_dir();
    cleanup_free char *bin = path_of("bin"), *prefix = path_of("agents");
    cleanup_free char *mock = realpath(harness_binary("mock-agent"), NULL);
    cleanup_free char *script = sa_format(npm, place, mock);
    assert_int_equal(sa_mkdirs(bin, 0755, NULL) | sa_mkdirs(prefix, 0755, NULL), 0);
    put("bin/npm", script, 0755);
    put_node("22.1.0");
    static char *path;
    if (!path)
        path = sa_strdup(getenv("PATH"));
    cleanup_free char *longer = sa_format("%s:%s", bin, path);
    setenv("PATH", longer, 1);
    static const char *words[12];
    static char dir[4096];
    snprintf(dir, sizeof dir, "%s", prefix);
    int n = 0;
    words[n++] = "--agents-dir";
    words[n++] = dir;
    for (int i = 0; more && more[i]; i++)
        words[n++] = more[i];
    words[n] = NULL;
    return words;
}

#endif
