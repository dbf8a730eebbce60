/* A full disk, and somebody else who talks to a shim. */
#include "services/process-svc/tests/fixture.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "services/process-svc/shim/protocol.h"

/* ---- a full disk: journals on a small file system of their own ---- */

static void small_disk(const char *dir)
{
    assert_int_equal(sa_mkdirs(dir, 0700, NULL), 0);
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=700") == 0)
        return;
    if (geteuid() == 0)
        fail_msg("root may not mount here: this test needs the tag `local`");
    skip();
}

static void drain_exactly(struct svc *s, const char *id, uint64_t size)
{
    struct attached a = attach_output(s, id, 0);
    uint64_t offset = 0, acknowledged = 0;
    while (next(&a) && a.message->kind_case == ATTACH_PROCESS_RESPONSE__KIND_OUTPUT) {
        assert_int_equal(a.message->output->offset, offset);
        assert_counts(a.message->output->data.data, a.message->output->data.len, offset);
        offset += a.message->output->data.len;
        if (offset - acknowledged > 256 << 10)
            put_ack(&a, acknowledged = offset);
    }
    assert_non_null(a.message);
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_EXITED);
    assert_int_equal(offset, size);
    detach(&a);
}

static void a_full_disk_blocks_or_shortens_but_loses_nothing_unsaid(void **state)
{
    (void)state;
    struct svc s = {.dir = harness_dir()};
    cleanup_free char *processes = sa_format("%s/process/processes", s.dir);
    small_disk(processes);
    svc_again(&s, NULL);
    struct spec *spec = shell(counting(8 * MIB / LINE));
    spec->message.stdout_retention = RETENTION_POLICY_ACKNOWLEDGED;
    const char *blocked = start(&s, spec);
    program_wait_for(&s.program, "cannot be written: No space left on device");
    assert_int_equal(get(&s, blocked)->state, PROCESS_STATE_RUNNING);
    assert_in_range(get(&s, blocked)->stdout_end, MIB, 2 * MIB);
    /* Nothing can be started meanwhile, and that is said. */
    assert_string_equal(start_error(&s, shell("true"), ""), "NO_SPACE");
    drain_exactly(&s, blocked, 8 * MIB);
    program_wait_for(&s.program, "service.recovered");
    delete_it(&s, blocked, false);
    /* A ring gives up what is oldest. */
    spec = shell(counting(8 * MIB / LINE));
    const char *ring = start(&s, spec);
    assert_int_equal(wait_for(&s, ring)->exit_code, 0);
    Process *p = get(&s, ring);
    assert_int_equal(p->stdout_end, 8 * MIB);
    assert_true(p->stdout_first > 6 * MIB);
    char *rest = output_of(&s, ring, OUTPUT_STREAM_STDOUT, 0);
    assert_int_equal(strlen(rest), 8 * MIB - p->stdout_first);
    assert_counts(rest, strlen(rest), p->stdout_first);
    svc_stop(&s);
}

/* Takes all that is left of the disk. */
static char *fill(const char *dir)
{
    char *path = sa_format("%s/ballast", dir), page[4096] = "x";
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (write(fd, page, sizeof page) > 0)
        ;
    assert_int_equal(errno, ENOSPC);
    close(fd);
    return path;
}

static void a_store_that_cannot_be_written_delays_what_it_does_not_refuse(void **state)
{
    (void)state;
    struct svc s = {.dir = harness_dir()};
    cleanup_free char *own = sa_format("%s/process", s.dir), *fifo = sa_format("%s/fifo", s.dir);
    small_disk(own);
    svc_again(&s, NULL);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    cleanup_free char *command = sa_format("read -r x <%s; exit 6", fifo);
    const char *id = start_shell(&s, command);
    /* Enough records that a commit needs new pages. */
    const char *reason = "OK";
    cleanup_free char *ballast = fill(own);
    for (int i = 0; i < 100 && !strcmp(reason, "OK"); i++)
        reason = start_error(&s, shell("true"), "");
    assert_string_equal(reason, "NO_SPACE");
    program_wait_for(&s.program, "service.degraded");
    int fd = open(fifo, O_WRONLY);
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    int pid = (int)get(&s, id)->pid;
    wait_pid_gone(pid);
    assert_int_equal(get(&s, id)->state, PROCESS_STATE_RUNNING); /* nothing is told that is not stored */
    unlink(ballast);
    assert_int_equal(wait_for(&s, id)->exit_code, 6);
    program_wait_for(&s.program, "service.recovered");
    start_shell(&s, "true");
    svc_stop(&s);
}

/* ---- a stranger on the shim's socket ---- */

static int stranger(struct svc *s, const char *id)
{
    cleanup_free char *path = sa_format("%s/process/processes/%s/sock", s->dir, id);
    int fd = sa_unix_connect(path, SOCK_SEQPACKET, NULL);
    assert_true(fd >= 0);
    return fd;
}

static void echoes(struct attached *a, uint64_t *at)
{
    put_input(a, *at, "ping\n", false);
    while (next(a) && a->message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
        ;
    assert_non_null(a->message);
    assert_int_equal(a->message->output->offset, *at);
    *at += 5;
}

static bool hung_up(void *user)
{
    char c[4096];
    ssize_t n = recv(*(int *)user, c, sizeof c, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void nonsense_on_a_shims_socket_costs_only_that_connection(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec cat");
    struct attached a = attach_output(s, id, 0);
    uint64_t at = 0;
    static char large[100000];
    struct shim_request r = {.magic = SHIM_REQUEST_MAGIC, .version = SHIM_VERSION + 1, .type = SHIM_STATUS};
    struct {
        const void *p;
        size_t n;
    } messages[] = {{"x", 1}, {large, sizeof large}, {&r, sizeof r}, {&r, sizeof r - 1}};
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        echoes(&a, &at);
        int fd = stranger(s, id);
        send(fd, messages[i].p, messages[i].n, MSG_NOSIGNAL);
        wait_until(hung_up, &fd, "the shim hangs up");
        close(fd);
    }
    echoes(&a, &at);
    assert_int_equal(get(s, id)->state, PROCESS_STATE_RUNNING);
    put_input(&a, at, "", true);
    while (next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_EXITED)
        ;
    assert_int_equal(a.message->exited->exit_code, 0);
    detach(&a);
}

/* ---- a fork bomb of a bounded kind, and processes that will not go ---- */

static void a_tree_that_defends_itself_is_gone_after_the_kill(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    /* Each dies and leaves two behind in new sessions, deaf to TERM, until 2^7 are there and fork on. */
    cleanup_free char *script = sa_format("%s/bomb", dir);
    FILE *f = fopen(script, "w");
    fprintf(
        f,
        "#!/bin/sh\ntrap '' TERM HUP INT\n[ $1 -eq 0 ] && { echo $$ >%s; while :; do sleep 0.01; done; }\n"
        "setsid %s $(($1-1)) & setsid %s $(($1-1)) &\n",
        file, script, script);
    fclose(f);
    chmod(script, 0755);
    cleanup_free char *command = sa_format("%s 7; echo forked; exec sleep 1000", script);
    const char *id = start_shell(s, command);
    pid_in_file(file);
    send_signal(s, id, SIGTERM, SIGNAL_SCOPE_TREE);
    assert_int_equal(delete_it(s, id, true)->kind_case, EXIT_RECORD__KIND_SIGNAL);
    /* svc_teardown finds that nothing is left */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nonsense_on_a_shims_socket_costs_only_that_connection),
        TEST(a_tree_that_defends_itself_is_gone_after_the_kill),
        cmocka_unit_test(a_store_that_cannot_be_written_delays_what_it_does_not_refuse),
        cmocka_unit_test(a_full_disk_blocks_or_shortens_but_loses_nothing_unsaid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
