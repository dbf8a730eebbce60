/* Measures terminals beside a bare pseudo terminal, in one run. */
#include "services/process-svc/tests/terminals.h"

#include <pty.h>
#include <sys/wait.h>
#include <termios.h>

#include "adapters/os/clock.h"

enum { BULK = 256 * MIB, ROUNDS = 300 };
#define WRITER "stty -opost; yes 0123456789abcde | head -c 268435456"

static double rate(uint64_t bytes, uint64_t start_ns)
{
    return (double)bytes / MIB / ((double)(sa_now_ns() - start_ns) / 1e9);
}

static double bare_bulk(void)
{
    static char buf[65536];
    int master;
    uint64_t start_ns = sa_now_ns(), got = 0;
    int pid = forkpty(&master, NULL, NULL, NULL);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", WRITER, NULL);
        _exit(127);
    }
    for (ssize_t n; (n = read(master, buf, sizeof buf)) > 0;)
        got += (uint64_t)n;
    close(master);
    waitpid(pid, NULL, 0);
    assert_int_equal(got, BULK);
    return rate(BULK, start_ns);
}

static double captured(struct svc *s)
{
    uint64_t start_ns = sa_now_ns();
    const char *id = start_terminal(s, WRITER);
    wait_for(s, id);
    double r = rate(BULK, start_ns);
    assert_int_equal(get(s, id)->stdout_end, BULK);
    delete_it(s, id, true);
    return r;
}

/* One who looks: what it got as output, and how often it got a screen. */
static double looked_at(struct svc *s, uint64_t *ret_got, size_t *ret_screens)
{
    uint64_t start_ns = sa_now_ns();
    const char *id = start_terminal(s, WRITER);
    const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS};
    struct rpc_stream *stream = attach_terminal_begin(s->channel, &patient);
    AttachTerminalRequest req = ATTACH_TERMINAL_REQUEST__INIT;
    TerminalOpen open = TERMINAL_OPEN__INIT;
    AttachTerminalResponse *m;
    open.process_id = (char *)(uintptr_t)id;
    req.kind_case = ATTACH_TERMINAL_REQUEST__KIND_OPEN;
    req.open = &open;
    attach_terminal_put(stream, &req, NULL);
    *ret_got = *ret_screens = 0;
    for (bool on = true; on && attach_terminal_next(stream, &m, NULL) == 1; rpc_message_free(m)) {
        on = m->kind_case != ATTACH_TERMINAL_RESPONSE__KIND_EXITED;
        *ret_screens += m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_SCREEN;
        if (m->kind_case == ATTACH_TERMINAL_RESPONSE__KIND_OUTPUT)
            *ret_got += m->output->data.len;
    }
    rpc_stream_free(stream);
    double r = rate(BULK, start_ns);
    delete_it(s, id, true);
    return r;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_times(const char *what, uint64_t *ns, size_t n)
{
    qsort(ns, n, sizeof *ns, compare);
    printf("%-44s p50 %7.0f us   p99 %7.0f us\n", what, (double)ns[n / 2] / 1000,
           (double)ns[n * 99 / 100] / 1000);
}

static void keys(struct svc *s)
{
    static uint64_t echoed[ROUNDS], opened[ROUNDS];
    const char *id = start_terminal(s, "echo ready; exec cat");
    struct looker l = look_in_control(s, id);
    look_for(&l, "ready");
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start_ns = sa_now_ns(), before = l.offset;
        type(&l, "x");
        while (l.offset == before)
            assert_true(look_on(&l));
        echoed[i] = sa_now_ns() - start_ns;
    }
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start_ns = sa_now_ns();
        struct looker late = look(s, id, NULL);
        look_until(&late, ATTACH_TERMINAL_RESPONSE__KIND_SCREEN);
        opened[i] = sa_now_ns() - start_ns;
        stop_looking(&late);
    }
    print_times("a key and its echo", echoed, ROUNDS);
    print_times("AttachTerminal to the screen", opened, ROUNDS);
    stop_looking(&l);
    delete_it(s, id, true);
}

/* The whole ring is read before a first viewer sees anything. */
static void first_look(struct svc *s)
{
    const char *id = start_terminal(s, "seq 1 4000000; exec sleep 1000");
    struct attached a = attach_output(s, id, 0);
    while (get(s, id)->stdout_end < 34888896)
        assert_true(next(&a));
    detach(&a);
    uint64_t start_ns = sa_now_ns();
    struct looker l = look(s, id, NULL);
    look_until(&l, ATTACH_TERMINAL_RESPONSE__KIND_SCREEN);
    printf("%-44s %.0f ms\n", "first look at 16 MiB of kept output", (double)(sa_now_ns() - start_ns) / 1e6);
    stop_looking(&l);
    delete_it(s, id, true);
}

static void measure(void **state)
{
    (void)state;
    struct svc s = svc_start(NULL);
    uint64_t got;
    size_t screens;
    double bare = bare_bulk(), kept = captured(&s), looked = looked_at(&s, &got, &screens);
    printf("%-44s %.0f MiB/s\n", "bare: terminal to a reader", bare);
    printf("%-44s %.0f MiB/s (%.2f of bare)\n", "into the journal, nobody looks", kept, kept / bare);
    printf("%-44s %.0f MiB/s (%.2f of bare), %.1f %% as bytes, %zu screens\n", "with one viewer", looked,
           looked / bare, 100.0 * (double)got / BULK, screens);
    keys(&s);
    first_look(&s);
    svc_stop(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(measure)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
