/* 20,000 commands: what the service and its runners hold does not grow with them. */
#include "services/process-svc/tests/fixture.h"

#include <dirent.h>

enum { AT_ONCE = 16, GROWTH_KIB = 1024 };

struct many {
    struct svc *s;
    struct spec *spec;
    int left, running;
};

static void begin(struct many *m);

static void on_run(void *user, const RunProcessResponse *res, const sa_error *err)
{
    struct many *m = user;
    if (!res)
        fail_msg("%s", err->message);
    assert_int_equal(res->stdout.len, 20000);
    m->running--;
    begin(m);
}

static void begin(struct many *m)
{
    static uint8_t input[50000];
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.spec = &m->spec->message;
    req.stdin = (ProtobufCBinaryData){m->left % 2 ? sizeof input : 0, input};
    for (; m->left && m->running < AT_ONCE; m->left--, m->running++)
        run_process_call(m->s->channel, &req, NULL, on_run, m);
}

static bool over(void *user)
{
    struct many *m = user;
    sa_loop_lock(m->s->caller.loop);
    bool all = !m->left && !m->running;
    sa_loop_unlock(m->s->caller.loop);
    return all;
}

static void run_many(struct svc *s, int n)
{
    struct many m = {.s = s, .spec = shell("head -c 20000 /dev/zero"), .left = n};
    sa_loop_lock(s->caller.loop);
    begin(&m);
    sa_loop_unlock(s->caller.loop);
    wait_until(over, &m, "all commands have run");
    free(m.spec);
}

static size_t descriptors(int pid)
{
    cleanup_free char *path = sa_format("/proc/%d/fd", pid);
    size_t n = 0;
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    closedir(d);
    return n;
}

static int runner(struct svc *s)
{
    cleanup_free char *text = NULL;
    RunProcessResponse *r = run(s, shell("echo $PPID"), NULL);
    text = sa_strndup((const char *)r->stdout.data, r->stdout.len);
    return atoi(text);
}

static void twenty_thousand_commands_leave_no_trace(void **state)
{
    struct svc *s = *state;
    run_many(s, 2000);
    unsigned before = private_kib(s->program.pid);
    size_t open_before = descriptors(s->program.pid);
    for (int i = 0; i < 20; i++)
        run_many(s, 1000);
    unsigned after = private_kib(s->program.pid);
    size_t open_after = descriptors(s->program.pid);
    printf("service: %u KiB, then %u KiB; %zu descriptors, then %zu; a runner: %u KiB\n", before, after,
           open_before, open_after, private_kib(runner(s)));
    assert_true(after < before + GROWTH_KIB);
    assert_true(open_after <= open_before + 2); /* a runner more, if sixteen were not busy before */
    assert_true(private_kib(runner(s)) <= 192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(twenty_thousand_commands_leave_no_trace, svc_setup, svc_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
