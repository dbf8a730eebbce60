/* Every child is accounted for: what is alive and belongs to somebody, and what does not. */
#include "services/process-svc/tests/fixture.h"

#include "adapters/os/file.h"

static void assert_no_strays(struct svc *s)
{
    TakeCensusResponse *c = census(s);
    if (c->stray_count)
        fail_msg("%u strays, the first is %u: %.*s", c->stray_count, c->strays[0]->pid,
                 (int)c->strays[0]->command.len, (char *)c->strays[0]->command.data);
    assert_int_equal(c->n_strays, 0);
}

/* ---- known trees ---- */

static void a_census_shows_the_trees_of_known_processes(void **state)
{
    struct svc *s = *state;
    TakeCensusResponse *c = census(s);
    assert_int_equal(c->tree_count, 0);
    assert_int_equal(c->usage->processes, 0);
    const char *first = start_shell(s, "sleep 1000 & echo; wait");
    struct attached a = attach_output(s, first, 0);
    assert_true(next(&a));
    detach(&a);
    const char *left = start_shell(s, "sleep 1000 & exit 0");
    wait_for(s, left);
    const char *over = start_shell(s, "exit 0");
    wait_for(s, over);
    c = census(s);
    assert_int_equal(c->tree_count, 2);
    assert_int_equal(c->n_trees, 2);
    assert_string_equal(c->trees[0]->process_id, left); /* newest first */
    assert_true(c->trees[0]->ended);
    assert_int_equal(c->trees[0]->usage->processes, 1);
    assert_string_equal(c->trees[1]->process_id, first);
    assert_false(c->trees[1]->ended);
    assert_int_equal(c->trees[1]->usage->processes, 2);
    assert_int_equal(c->usage->processes, 3);
    assert_true(c->usage->resident_bytes > 0);
    assert_int_equal(c->stray_count, 0);
    ClearStraysResponse *cleared = clear_strays(s, NULL, 0);
    assert_int_equal(cleared->cleared, 0);
    assert_int_equal(cleared->n_left, 0);
    assert_int_equal(census(s)->tree_count, 2); /* clearing takes nothing that is known */
    delete_it(s, first, true);
    delete_it(s, left, true);
    delete_it(s, over, false);
    assert_int_equal(census(s)->tree_count, 0);
}

/* ---- nothing that is being started may ever look like a stray ---- */

struct storm {
    struct svc *s;
    int left;
};

static void on_ran(void *user, const RunProcessResponse *res, const sa_error *err)
{
    struct storm *storm = user;
    storm->left--;
    if (err)
        fprintf(stderr, "%s\n", err->message);
    if (!res || res->exit->kind_case != EXIT_RECORD__KIND_EXIT_CODE || res->exit->exit_code != 7)
        storm->left = -1000000;
}

static void on_started(void *user, const StartProcessResponse *res, const sa_error *err)
{
    (void)err;
    struct storm *storm = user;
    storm->left -= res ? 1 : 1000000;
}

static int left_of(struct storm *storm)
{
    sa_loop_lock(storm->s->caller.loop);
    int left = storm->left;
    sa_loop_unlock(storm->s->caller.loop);
    return left;
}

static void what_is_being_started_is_never_cleared(void **state)
{
    enum { RUNS = 48, STARTS = 12 };
    struct svc *s = *state;
    struct storm storm = {s, RUNS + STARTS};
    const struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    sa_loop_lock(s->caller.loop);
    for (int i = 0; i < RUNS + STARTS; i++) {
        struct spec *spec = shell(i % 5 == 4 ? "sleep 0.01 & exec sleep 1000" : "sleep 0.01; exit 7");
        RunProcessRequest run = RUN_PROCESS_REQUEST__INIT;
        StartProcessRequest start = START_PROCESS_REQUEST__INIT;
        run.spec = start.spec = &spec->message;
        if (i % 5 == 4)
            start_process_call(s->channel, &start, &opt, on_started, &storm);
        else
            run_process_call(s->channel, &run, &opt, on_ran, &storm);
        free(spec);
    }
    sa_loop_unlock(s->caller.loop);
    while (left_of(&storm) > 0) {
        assert_no_strays(s);
        assert_int_equal(clear_strays(s, NULL, 0)->cleared, 0);
    }
    assert_int_equal(left_of(&storm), 0);
    assert_int_equal(census(s)->tree_count, STARTS);
}

/* ---- strays ---- */

/* A tree whose process is not known any more: somebody has removed its directory while the service was away.
 */
static void abandon(struct svc *s, const char *const *commands, size_t n)
{
    const char *ids[8];
    for (size_t i = 0; i < n; i++)
        ids[i] = start_shell(s, commands[i]);
    svc_kill(s);
    for (size_t i = 0; i < n; i++) {
        cleanup_free char *directory = sa_format("%s/process/processes/%s", s->dir, ids[i]);
        assert_int_equal(sa_remove_tree(directory, NULL), 0);
    }
    svc_again(s, NULL);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(wait_for(s, ids[i])->kind_case, EXIT_RECORD__KIND_LOST);
}

static const SystemProcess *stray_named(const TakeCensusResponse *c, const char *command)
{
    for (size_t i = 0; i < c->n_strays; i++)
        if (c->strays[i]->command.len == strlen(command) &&
            !memcmp(c->strays[i]->command.data, command, strlen(command)))
            return c->strays[i];
    return NULL;
}

static void what_belongs_to_nobody_is_shown_and_cleared(void **state)
{
    struct svc *s = *state;
    const char *known = start_shell(s, "sleep 1000 & wait");
    abandon(s, (const char *const[]){"sleep 1001 & sleep 1002 & wait"}, 1);
    TakeCensusResponse *c = census(s);
    assert_int_equal(c->tree_count, 1);
    assert_string_equal(c->trees[0]->process_id, known);
    assert_int_equal(c->stray_count, 3);
    assert_non_null(stray_named(c, "sleep 1001"));
    ClearStraysResponse *r = clear_strays(s, NULL, 0);
    assert_int_equal(r->cleared, 3);
    assert_int_equal(r->n_left, 0);
    for (size_t i = 0; i < c->n_strays; i++)
        assert_false(pid_alive((int)c->strays[i]->pid));
    assert_no_strays(s);
    assert_int_equal(census(s)->tree_count, 1);
    delete_it(s, known, true);
}

static void only_the_named_ones_and_what_is_below_them_are_cleared(void **state)
{
    struct svc *s = *state;
    abandon(s, (const char *const[]){"sleep 1001 & wait; :", "sleep 1002 & wait; :"}, 2);
    TakeCensusResponse *c = census(s);
    assert_int_equal(c->stray_count, 4);
    const SystemProcess *child = stray_named(c, "sleep 1001");
    SystemProcess parent = SYSTEM_PROCESS__INIT, *one = &parent;
    parent.pid = child->parent_pid;
    for (size_t i = 0; i < c->n_strays; i++)
        if (c->strays[i]->pid == parent.pid)
            parent.start_ticks = c->strays[i]->start_ticks + 1;
    assert_int_equal(clear_strays(s, &one, 1)->cleared, 0); /* the number was used again, as far as we know */
    parent.start_ticks--;
    assert_int_equal(clear_strays(s, &one, 1)->cleared, 2);
    assert_false(pid_alive((int)child->pid));
    c = census(s);
    assert_int_equal(c->stray_count, 2);
    assert_non_null(stray_named(c, "sleep 1002"));
    assert_int_equal(clear_strays(s, NULL, 0)->cleared, 2);
    parent.pid = (uint32_t)s->program.pid; /* no stray */
    assert_int_equal(clear_strays(s, &one, 1)->cleared, 0);
    assert_no_strays(s);
}

static void what_a_command_leaves_is_a_stray_also_after_a_restart(void **state)
{
    struct svc *s = *state;
    RunProcessRequest req = RUN_PROCESS_REQUEST__INIT;
    req.keep_descendants = true;
    run(s, shell("setsid sleep 1001 & sleep 1002 & exit 0"), &req);
    TakeCensusResponse *c = census(s);
    assert_int_equal(c->stray_count, 2);
    svc_kill(s);
    svc_again(s, NULL);
    c = census(s);
    assert_int_equal(c->stray_count, 2);
    assert_int_equal(c->tree_count, 0);
    const SystemProcess *one = stray_named(c, "sleep 1001");
    SystemProcess name = *one, *list = &name;
    assert_int_equal(clear_strays(s, &list, 1)->cleared, 1);
    assert_int_equal(census(s)->stray_count, 1);
    assert_int_equal(clear_strays(s, NULL, 0)->cleared, 1);
    assert_no_strays(s);
}

/* Shim killed while the service was away, and the descendant in a session of its own: below nobody of ours,
 * but still in the cgroup. Other cgroups beside it are nobody's business. */
static void what_only_its_cgroup_tells_of_is_a_stray(void **state)
{
    struct svc *s = *state;
    cleanup_free char *file = sa_format("%s/pid", s->dir),
                      *command =
                          sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1001' & exec sleep 1002", file);
    ProcessLimits limits = PROCESS_LIMITS__INIT;
    limits.pids = 20;
    struct spec *spec = shell(command);
    spec->message.limits = &limits;
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    sa_error *err = NULL;
    StartProcessResponse *res = start_process_wait(s->channel, &req, NULL, &err);
    free(spec);
    if (!res) {
        assert_string_equal(err->reason, "LIMIT_UNAVAILABLE");
        sa_error_free(err);
        skip();
    }
    cleanup_free char *id = sa_strdup(res->process->process_id);
    int shim = parent_of((int)res->process->pid), left = pid_in_file(file);
    rpc_message_free(res);
    svc_kill(s);
    kill(shim, SIGKILL);
    wait_pid_gone(shim);
    svc_again(s, NULL);
    assert_int_equal(wait_for(s, id)->kind_case, EXIT_RECORD__KIND_LOST);
    TakeCensusResponse *c = census(s);
    assert_int_equal(c->stray_count, 1);
    assert_int_equal(c->strays[0]->pid, left);
    assert_int_equal(clear_strays(s, NULL, 0)->cleared, 1);
    assert_no_strays(s);
    delete_it(s, id, false);
}

static void strays_that_hide_and_multiply_are_cleared(void **state)
{
    struct svc *s = *state;
    cleanup_free char *script = sa_format("%s/hop", s->dir);
    assert_int_equal(sa_write_file(script, "sleep 0.05; setsid sh $0 & exit", 31, 0600, NULL), 0);
    cleanup_free char *hop = sa_format("trap '' TERM INT HUP; sh %s & exec sleep 1001", script);
    abandon(s,
            (const char *const[]){
                hop,
                "trap '' TERM; b() { [ $1 = 0 ] || { b $(($1-1)) & b $(($1-1)) & }; exec sleep 1002; }; b 5",
                "kill -STOP $$",
            },
            3);
    assert_true(census(s)->stray_count > 30);
    ClearStraysResponse *r = clear_strays(s, NULL, 0);
    assert_true(r->cleared > 30);
    assert_int_equal(r->n_left, 0);
    assert_no_strays(s);
}

/* ---- what must be gone after a deletion ---- */

static void hostile_trees_are_gone_after_delete(void **state)
{
    static const char *const commands[] = {
        "(setsid sh -c 'sleep 1001 & sleep 1002' &) ; (sleep 1003 &) ; exec sleep 1004",
        "trap '' TERM INT HUP QUIT; (trap '' TERM; setsid sleep 1001 &); while :; do sleep 1000; done",
        "kill -STOP $$",
        "b() { [ $1 = 0 ] || { b $(($1-1)) & b $(($1-1)) & }; sleep 1000; }; b 6",
        "while :; do (sleep 0.01 &); done",
    };
    struct svc *s = *state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const char *id = start_shell(s, commands[i]);
        TakeCensusResponse *c = census(s);
        assert_int_equal(c->tree_count, 1);
        assert_int_equal(c->stray_count, 0);
        delete_it(s, id, true);
        c = census(s);
        assert_int_equal(c->tree_count, 0);
        assert_no_strays(s);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_census_shows_the_trees_of_known_processes),
        TEST(what_is_being_started_is_never_cleared),
        TEST(what_belongs_to_nobody_is_shown_and_cleared),
        TEST(only_the_named_ones_and_what_is_below_them_are_cleared),
        TEST(what_a_command_leaves_is_a_stray_also_after_a_restart),
        TEST(what_only_its_cgroup_tells_of_is_a_stray),
        TEST(strays_that_hide_and_multiply_are_cleared),
        TEST(hostile_trees_are_gone_after_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
