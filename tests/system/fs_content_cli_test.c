/* The verbs of `sandbox-agent fs` that move content, against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "sandboxagent/fs/v1/upload_service.rpc.h"
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

/* A script in which `fs` is `sandbox-agent fs`, in a new directory; HOME is the server's. What it prints. */
static char *shell(int code, const char *script)
{
    static int n;
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    cleanup_free char *whole = sa_format("fs() { '%s' fs \"$@\"; }; mkdir '%s/%d' && cd '%s/%d' && { %s\n}",
                                         harness_binary("sandbox-agent"), sys.dir, n, sys.dir, n, script);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    int got;
    n++;
    char *output = program_run(WORDS("/bin/sh", "-c", whole), &opt, &got);
    if (got != code)
        fail_msg("exit code %d instead of %d:\n%s", got, code, output);
    return output;
}

static void assert_prints(const char *script, const char *text)
{
    cleanup_free char *output = shell(0, script);
    assert_string_equal(output, text);
}

static void content_is_printed_whole_and_in_parts(void **state)
{
    (void)state;
    assert_prints("seq 1 10 >~/ten; fs cat ten | cmp - ~/ten && echo same", "same\n");
    assert_prints("fs cat --offset 2 --length 3 ten", "2\n3");
    assert_prints("fs cat --lines 3:5 ten", "3\n4\n5\n");
    assert_prints("fs cat --lines 9: ten; fs cat --lines :2 ten; fs cat --lines 7 ten", "9\n10\n1\n2\n7\n");
    assert_prints("seq 1 50000 >~/many; fs cat --lines 100:45000 many | cmp - - <<X && echo same\n"
                  "$(seq 100 45000)\nX\nfs cat --lines 20001:20002 many",
                  "same\n20001\n20002\n");
    cleanup_free char *missing = shell(1, "fs cat missing ten | tail -n1; fs cat missing");
    assert_non_null(strstr(missing, "10\n"));
    assert_non_null(strstr(missing, "missing"));
    free(shell(1, "fs cat --lines 5:3 ten"));
}

static void standard_input_is_written_and_appended(void **state)
{
    (void)state;
    assert_prints(
        "echo one | fs write -p new/dir/file && echo two | fs append new/dir/file && cat ~/new/dir/file",
        "one\ntwo\n");
    assert_prints("printf TWO | fs write --offset 4 new/dir/file && cat ~/new/dir/file", "one\nTWO\n");
    assert_prints("echo x | fs write --offset 0 --truncate --in-place new/dir/file && cat ~/new/dir/file",
                  "x\n");
    free(shell(1, "echo y | fs write --create-only new/dir/file"));
    free(shell(1, "echo y | fs write --if-match nonsense new/dir/file"));
    assert_prints("echo y | fs put --mode 600 - from-input && stat -c %a ~/from-input && cat ~/from-input",
                  "600\ny\n");
}

static void files_go_there_and_come_back(void **state)
{
    (void)state;
    assert_prints(
        "seq 1 1000 >small && chmod 750 small && fs put small there/ 2>/dev/null;"
        "fs put -p small there/ && stat -c %a ~/there/small && fs get there/small back && cmp small back"
        " && stat -c %a back && ls",
        "750\n750\nback\nsmall\n");
    assert_prints("seq 1 3000000 >large && fs put large big && cmp large ~/big && fs put large big &&"
                  "fs get big . && cmp large big && ls -A ~ | grep -c '^[.]sa-'; true",
                  "0\n");
    /* A part of the file as it is there is gone on with; a part of an earlier state is not used. */
    assert_prints("fs get big whole; etag=$(fs stat --json big | sed 's/.*\"etag\":\"\\([^\"]*\\).*/\\1/');"
                  "head -c 5000000 whole >again.$etag.part && head -c 10 /dev/zero >again.other.part &&"
                  "printf Y | dd of=again.$etag.part conv=notrunc status=none;"
                  "fs get big again && head -c 1 again && cmp whole again | wc -l && ls",
                  "Y1\nagain\nagain.other.part\nwhole\n");
}

/* ---- interruptions ---- */

static uint64_t committed_of(struct caller *c)
{
    struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};
    ListUploadsRequest req = LIST_UPLOADS_REQUEST__INIT;
    ListUploadsResponse *res = list_uploads_wait(c->channel, &req, &patient, NULL);
    assert_non_null(res);
    uint64_t committed = res->n_uploads ? res->uploads[0]->committed_offset : 0;
    rpc_message_free(res);
    return committed;
}

struct watched {
    struct caller *caller;
    uint64_t from; /* more than this, or all */
};

static bool has_got_on(void *user)
{
    struct watched *w = user;
    uint64_t committed = committed_of(w->caller);
    return committed > w->from || (w->from && !committed);
}

static struct program begin_put(const char *file, const char *option)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    return program_start(WORDS("sandbox-agent", "fs", "put", file, "resumed", option), &opt);
}

static void a_put_is_resumed_where_it_broke(void **state)
{
    (void)state;
    cleanup_free char *file = sa_format("%s/source", sys.dir),
                      *target = sa_format("unix:%s/run/fs.sock", sys.data);
    cleanup_free char *compare = sa_format("cmp '%s' ~/resumed && echo same", file);
    cleanup_close int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    for (int i = 0; i < 24; i++)
        assert_int_equal(pwrite(fd, "some content", 12, (off_t)i * 10000019), 12);
    struct caller c = caller_open(target, sys.token, NULL);
    /* The client is killed: a later one goes on. */
    struct program put = begin_put(file, "--json");
    struct watched w = {.caller = &c};
    wait_until(has_got_on, &w, "the upload is under way");
    program_signal(&put, SIGKILL);
    program_wait(&put);
    program_free(&put);
    /* What had come from the first one may be committed still; more than that is the second one's. */
    w.from = committed_of(&c) + (48 << 20);
    /* The service is killed: the client goes on by itself. */
    put = begin_put(file, "--resume");
    wait_until(has_got_on, &w, "the upload goes on");
    pid_t pid = system_service_pid(&sys, "fs");
    assert_true(pid > 0);
    kill(pid, SIGKILL);
    int code = program_wait(&put);
    if (code)
        fail_msg("put: %s", program_output(&put));
    program_free(&put);
    assert_int_equal(committed_of(&c), 0);
    assert_prints(compare, "same\n");
    caller_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_is_printed_whole_and_in_parts),
        cmocka_unit_test(standard_input_is_written_and_appended),
        cmocka_unit_test(files_go_there_and_come_back),
        cmocka_unit_test(a_put_is_resumed_where_it_broke),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
