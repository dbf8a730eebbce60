/* StopProcess: whatever a tree does, nothing of it is left. */
#include "services/process-svc/tests/fixture.h"

#include <pthread.h>
#include <sys/socket.h>

#include "adapters/nng/bus.h"
#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/loop.h"

enum { LONG_MS = 600000, SOON_MS = 50 };

static bool has_term(const Process *p)
{
    return p->stop_signal == SIGTERM;
}

static bool has_descendants(const Process *p)
{
    return p->state == PROCESS_STATE_EXITED && p->descendants;
}

static bool has_none(const Process *p)
{
    return p->state == PROCESS_STATE_EXITED && !p->descendants;
}

static bool is_over(const Process *p)
{
    return p->state == PROCESS_STATE_EXITED && !p->stop_signal;
}

static bool backs_off(const Process *p)
{
    return p->state == PROCESS_STATE_BACKING_OFF;
}

static bool is_hung_up(void *user)
{
    char buf[4096];
    ssize_t n = recv(*(int *)user, buf, sizeof buf, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

/* Shell command that writes its pid to a file and, whatever it is sent, sleeps. */
#define STUBBORN "trap \"\" TERM INT HUP; echo $$ >%s; while :; do sleep 1; done"

static void the_signal_is_enough_for_who_listens(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->signal, SIGTERM);
    Process *p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_EXITED);
    assert_int_equal(p->stop_signal, 0);
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->signal, SIGTERM); /* again: it has ended */
    id = start_shell(s, "trap 'exit 9' INT; echo; while :; do sleep 0.01; done");
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a));
    detach(&a);
    assert_int_equal(stop_it(s, id, SIGINT, LONG_MS)->exit_code, 9);
    id = start_shell(s, "exec sleep 1000");
    assert_int_equal(stop_it(s, id, SIGKILL, LONG_MS)->signal, SIGKILL);
}

/* It would sleep on under TERM, which waits until it goes on. */
static void what_was_stopped_dies_of_the_signal(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "kill -STOP $$; exec sleep 1000");
    uint64_t before = sa_now_ms();
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->signal, SIGTERM);
    assert_true(sa_now_ms() - before < PATIENCE_MS);
}

static void a_tree_that_will_not_go_is_killed(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *deaf = sa_format("%s/deaf", dir), *away = sa_format("%s/away", dir);
    cleanup_free char *asleep = sa_format("%s/asleep", dir);
    cleanup_free char *command =
        sa_format("(setsid sh -c '" STUBBORN "' &)\n"             /* forked twice, in a session of its own */
                  "setsid sh -c 'echo $$ >%s; kill -STOP $$' &\n" /* sleeps, and is stopped */
                  "trap '' TERM; echo $$ >%s; while :; do sleep 1; done",
                  away, asleep, deaf);
    const char *id = start_shell(s, command);
    int pids[] = {pid_in_file(away), pid_in_file(asleep), pid_in_file(deaf)};
    assert_int_equal(stop_it(s, id, 0, SOON_MS)->signal, SIGKILL);
    for (int i = 0; i < 3; i++)
        assert_false(pid_alive(pids[i]));
}

static void an_ended_process_is_stopped_with_what_it_left(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("setsid sh -c '" STUBBORN "' &\nwhile ! [ -s %s ]; do :; done; exit 5", file, file);
    const char *id = start_shell(s, command);
    int left = pid_in_file(file);
    assert_int_equal(wait_for(s, id)->exit_code, 5);
    uint64_t seq = wait_until_process(s, id, has_descendants, "something is left")->state_seq;
    assert_string_equal(delete_error(s, id, false), "PROCESS_RUNNING");
    /* Who has it in view also after a restart of the service. */
    svc_kill(s);
    svc_again(s, NULL);
    assert_true(get(s, id)->descendants);
    assert_int_equal(stop_it(s, id, 0, SOON_MS)->exit_code, 5);
    assert_false(pid_alive(left));
    Process *p = get(s, id);
    assert_false(p->descendants);
    assert_int_equal(p->stop_signal, 0);
    assert_true(p->state_seq > seq);
}

static void the_end_of_what_it_left_is_told(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' &\nwhile ! [ -s %s ]; do :; done", file, file);
    const char *id = start_shell(s, command);
    wait_until_process(s, id, has_descendants, "something is left");
    kill(pid_in_file(file), SIGKILL);
    wait_until_process(s, id, has_none, "nothing is left");
    delete_it(s, id, false);
}

/* Its connection to the shim breaks, as any may: what was left counted as gone then. */
static void what_it_left_is_not_forgotten_when_a_connection_breaks(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' &\nwhile ! [ -s %s ]; do :; done", file, file);
    const char *id = start_shell(s, command);
    int left = pid_in_file(file);
    wait_until_process(s, id, has_descendants, "something is left");
    cleanup_free char *path = sa_format("%s/process/processes/%s/sock", s->dir, id);
    int fd = sa_unix_connect(path, SOCK_SEQPACKET, NULL);
    assert_true(fd >= 0);
    wait_until(is_hung_up, &fd, "the service has connected again");
    close(fd);
    assert_true(get(s, id)->descendants);
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->exit_code, 0);
    assert_false(pid_alive(left));
}

static void a_stop_goes_on_when_its_caller_leaves(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir), *command = sa_format(STUBBORN, file);
    const char *id = start_shell(s, command);
    pid_in_file(file);
    assert_string_equal(stop_error(s, id, 0, 300, 50), "DEADLINE_EXCEEDED");
    assert_int_equal(get(s, id)->stop_signal, SIGTERM);
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
}

static void a_stop_goes_on_after_a_restart_of_the_service(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir), *command = sa_format(STUBBORN, file);
    struct spec *spec = shell(command);
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 1, 1000);
    const char *id = start(s, spec);
    pid_in_file(file);
    assert_string_equal(stop_error(s, id, 0, 500, 50), "DEADLINE_EXCEEDED");
    wait_until_process(s, id, has_term, "the stop is under way");
    svc_kill(s);
    svc_again(s, NULL);
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
    assert_int_equal(wait_until_process(s, id, is_over, "nothing is left")->restarts, 0);
    /* Once more, with nothing to come after the restart but the rest. */
    unlink(file);
    id = start_shell(s, command);
    pid_in_file(file);
    assert_string_equal(stop_error(s, id, 0, LONG_MS, 50), "DEADLINE_EXCEEDED");
    svc_kill(s);
    svc_again(s, NULL);
    assert_int_equal(get(s, id)->stop_signal, SIGTERM);
    assert_int_equal(stop_it(s, id, SIGKILL, 0)->signal, SIGKILL);
}

struct stopping {
    struct svc *s;
    const char *id;
    int signal;
};

static void *stop_patiently(void *user)
{
    struct stopping *st = user;
    StopProcessRequest req = STOP_PROCESS_REQUEST__INIT;
    req.process_id = (char *)(uintptr_t)st->id;
    req._grace_ms_case = STOP_PROCESS_REQUEST___GRACE_MS_GRACE_MS;
    req.grace_ms = LONG_MS;
    StopProcessResponse *res = stop_process_wait(st->s->channel, &req, NULL, NULL);
    st->signal = res ? (int)res->exit->signal : -1;
    rpc_message_free(res);
    return NULL;
}

static void a_second_stop_can_only_hasten_the_first(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir), *command = sa_format(STUBBORN, file);
    const char *id = start_shell(s, command);
    pid_in_file(file);
    struct stopping first = {s, id, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_patiently, &first), 0);
    wait_until_process(s, id, has_term, "the first stop is under way");
    assert_int_equal(stop_it(s, id, 0, SOON_MS)->signal, SIGKILL);
    pthread_join(thread, NULL);
    assert_int_equal(first.signal, SIGKILL); /* one answer for both */
}

static void a_stop_ends_the_restarts(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("exit 7");
    spec_restart(spec, RESTART_MODE_ALWAYS, LONG_MS, LONG_MS, 9);
    const char *id = start(s, spec);
    wait_until_process(s, id, backs_off, "it backs off");
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->exit_code, 7);
    spec = shell("exec sleep 1000");
    spec_restart(spec, RESTART_MODE_ALWAYS, 1, 1, 1000);
    id = start(s, spec);
    assert_int_equal(stop_it(s, id, 0, LONG_MS)->signal, SIGTERM);
    assert_int_equal(get(s, id)->state, PROCESS_STATE_EXITED);
    assert_int_equal(get(s, id)->restarts, 0);
}

static void stops_out_of_range_are_refused(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    assert_string_equal(stop_error(s, id, 65, 0, PATIENCE_MS), "INVALID_REQUEST");
    assert_string_equal(stop_error(s, id, 0, 600001, PATIENCE_MS), "INVALID_REQUEST");
    assert_string_equal(stop_error(s, "01h00000000000000000000000", 0, 0, PATIENCE_MS), "PROCESS_NOT_FOUND");
    assert_int_equal(get(s, id)->stop_signal, 0);
}

/* ---- what the bus tells ---- */

enum { HEARD_MAX = 64 };

struct listener {
    struct sa_loop *loop;
    struct bus_subscriber *bus;
    struct heard {
        uint64_t seq;
        ProcessState state;
        uint32_t stop_signal;
    } heard[HEARD_MAX];
    size_t n;
};

static void on_message(void *user, const struct bus_message *m)
{
    struct listener *l = user;
    Process *p = rpc_unpack(&process__descriptor, m->payload, m->payload_len, NULL);
    assert_non_null(p);
    assert_int_equal(p->state_seq, m->seq);
    if (l->n < HEARD_MAX)
        l->heard[l->n++] = (struct heard){m->seq, p->state, p->stop_signal};
    process__free_unpacked(p, NULL);
}

static void on_read(void *user, struct bus_read *read, const char *stream, uint64_t after, uint64_t until)
{
    (void)user, (void)stream, (void)after;
    bus_read_gap(read, until + 1);
}

static void on_gap(void *user, const char *stream, uint64_t first_available)
{
    (void)user, (void)stream, (void)first_available;
}

static void on_heads(void *user, struct bus_list *list)
{
    (void)user;
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_UNAVAILABLE, "not listed");
    bus_list_done(list, 0, err);
}

static void *run_loop(void *loop)
{
    sa_loop_run(loop);
    return NULL;
}

static bool has_heard(void *user)
{
    struct listener *l = user;
    sa_loop_lock(l->loop);
    bool done = l->n > 0;
    sa_loop_unlock(l->loop);
    return done;
}

static bool has_heard_the_end(void *user)
{
    struct listener *l = user;
    sa_loop_lock(l->loop);
    const struct heard *last = &l->heard[l->n - 1];
    bool done = last->state == PROCESS_STATE_EXITED && !last->stop_signal;
    sa_loop_unlock(l->loop);
    return done;
}

static void every_step_is_told(void **state)
{
    struct svc *s = *state;
    static const struct bus_subscriber_events events = {
        .message = on_message, .read = on_read, .list_heads = on_heads, .gap = on_gap};
    /* Its restarts show when the subscription has come; then a run that ignores the signal begins. */
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir), *go = sa_format("%s/go", dir);
    cleanup_free char *command = sa_format("[ -e %s ] || exit 1; " STUBBORN, go, file);
    struct spec *spec = shell(command);
    spec_restart(spec, RESTART_MODE_ALWAYS, 20, 20, 100000);
    const char *id = start(s, spec);
    static struct listener l;
    l.loop = sa_loop_new(NULL);
    cleanup_free char *url = sa_format("ipc://%s/run/process.bus", s->dir);
    cleanup_free char *stream = sa_format("process/%s", id);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, l.loop), 0);
    struct bus_subscriber_options opt = {.url = url, .events = &events, .user = &l};
    sa_loop_lock(l.loop);
    assert_non_null(l.bus = bus_subscriber_new(l.loop, &opt, NULL));
    assert_int_equal(bus_follow(l.bus, stream, 0, 0, NULL), 0);
    sa_loop_unlock(l.loop);
    wait_until(has_heard, &l, "a restart is told");
    fclose(fopen(go, "w"));
    pid_in_file(file);
    stop_it(s, id, 0, SOON_MS);
    wait_until(has_heard_the_end, &l, "the end is told");
    uint32_t signals[HEARD_MAX], n = 0; /* each that differs from the one before */
    for (size_t i = 0; i < l.n; i++) {
        assert_true(i == 0 || l.heard[i].seq == l.heard[i - 1].seq + 1);
        if (!n || signals[n - 1] != l.heard[i].stop_signal)
            signals[n++] = l.heard[i].stop_signal;
    }
    assert_int_equal(n, 4);
    assert_int_equal(signals[0], 0);
    assert_int_equal(signals[1], SIGTERM);
    assert_int_equal(signals[2], SIGKILL);
    assert_int_equal(signals[3], 0);
    sa_loop_lock(l.loop);
    bus_subscriber_free(l.bus);
    sa_loop_stop(l.loop);
    sa_loop_unlock(l.loop);
    pthread_join(thread, NULL);
    sa_loop_free(l.loop);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_signal_is_enough_for_who_listens),
        TEST(what_was_stopped_dies_of_the_signal),
        TEST(a_tree_that_will_not_go_is_killed),
        TEST(an_ended_process_is_stopped_with_what_it_left),
        TEST(the_end_of_what_it_left_is_told),
        TEST(what_it_left_is_not_forgotten_when_a_connection_breaks),
        TEST(a_stop_goes_on_when_its_caller_leaves),
        TEST(a_stop_goes_on_after_a_restart_of_the_service),
        TEST(a_second_stop_can_only_hasten_the_first),
        TEST(a_stop_ends_the_restarts),
        TEST(stops_out_of_range_are_refused),
        TEST(every_step_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
