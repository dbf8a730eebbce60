#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/loop.h"
#include "adapters/os/mem.h"

struct fixture {
    struct sa_loop *loop;
    pthread_t thread;
    int hits;
    int order[8];
    pthread_cond_t changed;
    pthread_mutex_t mutex;
};

static void *run(void *arg)
{
    sa_loop_run(arg);
    return NULL;
}

static int setup(void **state)
{
    struct fixture *f = sa_calloc(1, sizeof *f);
    f->loop = sa_loop_new(NULL);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    pthread_create(&f->thread, NULL, run, f->loop);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    sa_loop_stop(f->loop);
    sa_loop_unlock(f->loop);
    pthread_join(f->thread, NULL);
    sa_loop_free(f->loop);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->changed);
    free(f);
    return 0;
}

static void hit(void *user)
{
    struct fixture *f = user;
    assert_true(sa_loop_held(f->loop));
    pthread_mutex_lock(&f->mutex);
    f->hits++;
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void wait_hits(struct fixture *f, int n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&f->mutex);
    while (f->hits < n)
        assert_int_equal(pthread_cond_timedwait(&f->changed, &f->mutex, &until), 0);
    pthread_mutex_unlock(&f->mutex);
}

/* libev's clock stands still while it polls: without ev_now_update a timer started by another thread after an
 * idle second was overdue at its start and fired at once. */
static void a_timer_started_by_another_thread_after_idling_waits_its_time(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    struct sa_timer *idle = sa_timer_new(f->loop, hit, f), *t = sa_timer_new(f->loop, hit, f);
    sa_timer_start(idle, 300);
    sa_loop_unlock(f->loop);
    wait_hits(f, 1);
    uint64_t start = sa_now_ms();
    sa_loop_lock(f->loop);
    sa_timer_start(t, 200);
    assert_true(sa_timer_active(t));
    sa_loop_unlock(f->loop);
    wait_hits(f, 2);
    assert_true(sa_now_ms() - start >= 199);
    sa_loop_lock(f->loop);
    assert_false(sa_timer_active(t));
    sa_timer_free(idle);
    sa_timer_free(t);
    sa_loop_unlock(f->loop);
}

static void on_readable(void *user, int fd, int events)
{
    char c;
    assert_int_equal(events, SA_IO_READ);
    assert_int_equal(read(fd, &c, 1), 1);
    hit(user);
}

static void a_watcher_set_by_another_thread_while_polling_is_noticed(void **state)
{
    struct fixture *f = *state;
    int p[2];
    assert_int_equal(pipe(p), 0);
    assert_int_equal(write(p[1], "x", 1), 1);
    sa_loop_lock(f->loop);
    struct sa_io *io = sa_io_new(f->loop, p[0], on_readable, f);
    sa_io_set(io, SA_IO_READ);
    sa_loop_unlock(f->loop);
    wait_hits(f, 1);
    sa_loop_lock(f->loop);
    sa_io_set(io, 0);
    sa_io_free(io);
    sa_loop_unlock(f->loop);
    close(p[0]);
    close(p[1]);
}

struct step {
    struct fixture *f;
    int number;
    bool again;
};

static void take_step(void *user)
{
    struct step *s = user;
    s->f->order[s->f->hits] = s->number;
    if (s->again) {
        s->again = false;
        s->number += 10;
        sa_defer(s->f->loop, take_step, s);
    }
    hit(s->f);
}

static void deferred_calls_run_in_order_and_one_deferred_meanwhile_runs_after(void **state)
{
    struct fixture *f = *state;
    struct step steps[] = {{f, 1, true}, {f, 2, false}, {f, 3, false}};
    sa_loop_lock(f->loop);
    for (int i = 0; i < 3; i++)
        sa_defer(f->loop, take_step, &steps[i]);
    assert_int_equal(f->hits, 0);
    sa_loop_unlock(f->loop);
    wait_hits(f, 4);
    const int want[] = {1, 2, 3, 11};
    assert_memory_equal(f->order, want, sizeof want);
}

/* A deferred call that was left to sa_loop_free used what the service had freed at its stop. */
static void settling_runs_what_is_deferred_and_what_that_defers(void **state)
{
    (void)state;
    struct fixture f = {.loop = sa_loop_new(NULL)};
    pthread_mutex_init(&f.mutex, NULL);
    pthread_cond_init(&f.changed, NULL);
    struct step first = {&f, 1, true}, second = {&f, 2, false};
    sa_loop_lock(f.loop);
    sa_defer(f.loop, take_step, &first);
    sa_defer(f.loop, take_step, &second);
    sa_loop_settle(f.loop);
    assert_int_equal(f.hits, 3);
    assert_int_equal(f.order[2], 11);
    sa_loop_unlock(f.loop);
    sa_loop_free(f.loop);
    pthread_mutex_destroy(&f.mutex);
    pthread_cond_destroy(&f.changed);
}

static void work(void *user)
{
    struct fixture *f = user;
    assert_false(sa_loop_held(f->loop));
}

static void work_runs_without_the_lock_and_its_completion_with_it(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    for (int i = 0; i < 100; i++)
        sa_work(f->loop, work, hit, f);
    sa_loop_unlock(f->loop);
    wait_hits(f, 100);
}

static void on_exit_status(void *user, int wstatus)
{
    assert_true(WIFEXITED(wstatus));
    assert_int_equal(WEXITSTATUS(wstatus), 7);
    hit(user);
}

/* libev's default loop reaps every child of the process; ours must leave those it does not watch alone. */
static void a_watched_child_is_reaped_and_others_are_left_alone(void **state)
{
    struct fixture *f = *state;
    pid_t other = fork();
    if (!other)
        _exit(3);
    pid_t pid = fork();
    if (!pid)
        _exit(7);
    sa_loop_lock(f->loop);
    struct sa_child *c = sa_child_new(f->loop, pid, on_exit_status, f, NULL);
    assert_non_null(c);
    sa_loop_unlock(f->loop);
    wait_hits(f, 1);
    int wstatus;
    assert_int_equal(waitpid(other, &wstatus, 0), other);
    assert_int_equal(WEXITSTATUS(wstatus), 3);
    sa_loop_lock(f->loop);
    sa_child_free(c);
    sa_loop_unlock(f->loop);
}

static void on_signal(void *user, int signum)
{
    assert_int_equal(signum, SIGUSR1);
    hit(user);
}

static void a_signal_is_told_under_the_lock(void **state)
{
    struct fixture *f = *state;
    sa_loop_lock(f->loop);
    struct sa_signal *s = sa_signal_new(f->loop, SIGUSR1, on_signal, f);
    sa_loop_unlock(f->loop);
    pthread_kill(pthread_self(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    wait_hits(f, 1);
    sa_loop_lock(f->loop);
    sa_signal_free(s);
    sa_loop_unlock(f->loop);
}

int main(void)
{
    /* Blocked before any thread exists, as service_main does: else one with the signal open would die of it.
     */
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_timer_started_by_another_thread_after_idling_waits_its_time, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_watcher_set_by_another_thread_while_polling_is_noticed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(deferred_calls_run_in_order_and_one_deferred_meanwhile_runs_after,
                                        setup, teardown),
        cmocka_unit_test(settling_runs_what_is_deferred_and_what_that_defers),
        cmocka_unit_test_setup_teardown(work_runs_without_the_lock_and_its_completion_with_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_watched_child_is_reaped_and_others_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_signal_is_told_under_the_lock, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
