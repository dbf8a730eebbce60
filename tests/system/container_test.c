/* The services apart, as in containers: process-svc in a PID namespace of its own, kept by `sandbox-agent
 * supervise` as process 1. There, too, a kill -9 in the middle of a turn costs nothing, and the end leaves
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "sandboxagent/session/v1/session_service.rpc.h"
#include "tests/harness/harness.h"
#include "tests/system/view.h"

struct pod {
    const char *dir;
    char *data, *run, *secret, *token;
    struct program process, session, fs; /* process: unshare, the parent of process 1 */
};

/* The child of `parent` whose command line has `word`, as seen from here. */
static pid_t child_of(pid_t parent, const char *word)
{
    char path[64], line[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *f = fopen(path, "re");
    pid_t found = 0;
    for (int pid; f && !found && fscanf(f, "%d", &pid) == 1;) {
        snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line);
        if (n > 0 && memmem(line, (size_t)n, word, strlen(word)))
            found = pid;
        if (fd >= 0)
            close(fd);
    }
    if (f)
        fclose(f);
    return found;
}

static struct program start_service(const struct pod *p, const char *name)
{
    struct program s = program_start(WORDS(name, "--data-dir", p->data, "--run-dir", p->run, "--secret-file",
                                           p->secret, "--token-file", p->token),
                                     &(struct program_options){.home = p->dir});
    program_wait_for(&s, "service.ready");
    return s;
}

static struct pod start_pod(void)
{
    struct pod p = {.dir = harness_dir()};
    p.data = sa_format("%s/data", p.dir);
    p.run = sa_format("%s/run", p.dir);
    p.secret = sa_format("%s/secret", p.dir);
    p.token = sa_format("%s/token", p.dir);
    assert_int_equal(sa_write_file(p.secret, "the-secret\n", 11, 0600, NULL), 0);
    assert_int_equal(sa_write_file(p.token, "the-token\n", 10, 0600, NULL), 0);
    cleanup_free char *sandbox_agent = sa_strdup(harness_binary("sandbox-agent"));
    p.process = program_start(WORDS("/usr/bin/unshare", geteuid() ? "--map-root-user" : "--fork", "--pid",
                                    "--fork", "--kill-child", "--mount-proc", sandbox_agent, "supervise",
                                    "--", "process-svc", "--data-dir", p.data, "--run-dir", p.run,
                                    "--secret-file", p.secret, "--token-file", p.token),
                              &(struct program_options){.home = p.dir});
    program_wait_for(&p.process, "service.ready");
    p.fs = start_service(&p, "fs-svc");
    p.session = start_service(&p, "session-svc");
    return p;
}

static void stop_pod(struct pod *p)
{
    pid_t one = child_of(p->process.pid, "supervise");
    assert_true(one > 0);
    program_signal(&p->session, SIGTERM);
    assert_int_equal(program_wait(&p->session), 0);
    program_signal(&p->fs, SIGTERM);
    assert_int_equal(program_wait(&p->fs), 0);
    kill(one, SIGTERM);
    assert_int_equal(program_wait(&p->process),
                     0); /* process 1 has ended, and with it all in its namespace */
    program_free(&p->session);
    program_free(&p->fs);
    program_free(&p->process);
    free(p->data);
    free(p->run);
    free(p->secret);
    free(p->token);
}

static void process_svc_is_killed_under_process_1(void **state)
{
    (void)state;
    struct pod p = start_pod();
    cleanup_free char *target = sa_format("unix:%s/session.sock", p.run);
    struct caller c = caller_open(target, "the-token", NULL);
    cleanup_free char *id = new_session(&c);
    struct view v = {.caller = &c, .session_id = id};
    send_text(&c, id, "TICK 60 30", "r1");
    for (int i = 1; i <= 3; i++) {
        view_until(&v, 10 * i);
        pid_t one = child_of(p.process.pid, "supervise"), victim = child_of(one, "process-svc");
        assert_true(one > 0 && victim > 0);
        assert_int_equal(kill(victim, SIGKILL), 0);
        program_wait_for(&p.process, "child.restarted");
    }
    view_until(&v, 0);
    assert_int_equal(v.ticks, 60);
    assert_int_equal(v.stop_reason, STOP_REASON_END_TURN);
    caller_close(&c);
    stop_pod(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(process_svc_is_killed_under_process_1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
