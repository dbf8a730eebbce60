/* Starting, looking, signalling, waiting, deleting. */
#include "services/process-svc/tests/fixture.h"

static void a_command_runs_and_its_output_and_exit_code_are_kept(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo out; echo err >&2; exit 7");
    ExitRecord *e = wait_for(s, id);
    assert_int_equal(e->kind_case, EXIT_RECORD__KIND_EXIT_CODE);
    assert_int_equal(e->exit_code, 7);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "out\n");
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDERR, 0), "err\n");
    Process *p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_EXITED);
    assert_int_equal(p->stdout_end, 4);
    assert_int_equal(p->pid, 0);
    assert_int_equal(p->exit->exit_code, 7);
}

static void a_command_gets_the_given_environment_and_nothing_else(void **state)
{
    struct svc *s = *state;
    struct spec *spec = spec_new();
    spec_word(spec, "env");
    spec_env(spec, "GREETING=hello world");
    const char *id = start(s, spec);
    wait_for(s, id);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0),
                        "PATH=/usr/bin:/bin\nGREETING=hello world\n");
}

static void a_command_runs_in_its_own_session_without_our_descriptors(void **state)
{
    struct svc *s = *state;
    struct spec *spec = shell("pwd; ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f1,5,6 /proc/$$/stat; umask;"
                              "exec grep -E 'SigBlk|SigIgn' /proc/self/status");
    spec->message.cwd = bytes_of("/usr");
    const char *id = start(s, spec);
    wait_for(s, id);
    char expected[512];
    char *out = output_of(s, id, OUTPUT_STREAM_STDOUT, 0);
    int pid = atoi(strstr(out, "3 ") + 2);
    snprintf(expected, sizeof expected,
             "/usr\n0 1 2 3 %d %d %d\n0022\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", pid, pid,
             pid);
    assert_string_equal(out, expected); /* 3 is what ls itself reads */
}

static void starting_answers_after_exec(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    Process *p = get(s, id);
    assert_int_equal(p->state, PROCESS_STATE_RUNNING);
    assert_true(pid_alive((int)p->pid));
    assert_string_equal(delete_error(s, id, false), "PROCESS_RUNNING");
    ExitRecord *e = delete_it(s, id, true);
    assert_int_equal(e->kind_case, EXIT_RECORD__KIND_SIGNAL);
    assert_int_equal(e->signal, SIGKILL);
    assert_false(pid_alive((int)p->pid));
    assert_string_equal(delete_error(s, id, true), "PROCESS_NOT_FOUND");
    assert_string_equal(read_error(s, id, OUTPUT_STREAM_STDOUT, 0), "PROCESS_NOT_FOUND");
}

static struct spec *words(const char *program, const char *argument)
{
    struct spec *spec = spec_new();
    spec_word(spec, program);
    if (argument)
        spec_word(spec, argument);
    return spec;
}

static void what_cannot_be_run_is_named(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *text = sa_format("%s/text", dir), *broken = sa_format("%s/broken", dir);
    FILE *f = fopen(text, "w");
    fputs("not a program\n", f);
    fclose(f);
    assert_string_equal(start_error(s, words("no-such-program", NULL), ""), "EXEC_FAILED");
    assert_string_equal(error_message,
                        "cannot run `no-such-program`: it is not in the PATH of the given environment");
    assert_string_equal(start_error(s, words("/no/such/program", NULL), ""), "EXEC_FAILED");
    assert_string_equal(error_message, "cannot run `/no/such/program`: it or its interpreter does not exist");
    assert_string_equal(start_error(s, words(text, NULL), ""), "EXEC_FAILED");
    assert_non_null(strstr(error_message, "Permission denied"));
    chmod(text, 0755);
    assert_string_equal(start_error(s, words(text, NULL), ""), "EXEC_FAILED");
    assert_non_null(strstr(error_message, "neither a program nor a script"));
    f = fopen(broken, "w");
    fputs("#!/no/interpreter\n", f);
    fclose(f);
    chmod(broken, 0755);
    assert_string_equal(start_error(s, words(broken, NULL), ""), "EXEC_FAILED");
    assert_non_null(strstr(error_message, "or its interpreter does not exist"));
    assert_string_equal(start_error(s, words("/usr", NULL), ""), "EXEC_FAILED");
    assert_string_equal(error_message, "cannot run `/usr`: Is a directory");
    struct spec *spec = words("true", NULL);
    spec->message.cwd = bytes_of("/no/such/directory");
    assert_string_equal(start_error(s, spec, ""), "EXEC_FAILED");
    assert_string_equal(error_message,
                        "cannot run `true`: working directory `/no/such/directory`: No such file or "
                        "directory");
}

static void bad_requests_are_refused_before_anything_runs(void **state)
{
    struct svc *s = *state;
    assert_string_equal(start_error(s, spec_new(), ""), "INVALID_REQUEST");
    assert_string_equal(error_message, "spec.argv names no program");
    assert_string_equal(start_error(s, words("", NULL), ""), "INVALID_REQUEST");
    struct spec *spec = words("echo", "a");
    spec->argv[1] = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "a\0b"};
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    assert_string_equal(error_message, "spec.argv[1] contains a NUL byte");
    spec = words("true", NULL);
    spec_env(spec, "SECRET");
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    assert_string_equal(error_message, "spec.env[1] is not NAME=value");
    spec = words("true", NULL);
    spec->message.cwd = bytes_of("relative");
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    spec = words("true", NULL);
    spec->message.journal_bytes = 65535;
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    spec = words("true", NULL);
    spec->message.user = (char *)(uintptr_t) "no-such-user";
    assert_string_equal(start_error(s, spec, ""), "INVALID_REQUEST");
    assert_string_equal(error_message, "user `no-such-user` does not exist");
    assert_string_equal(signal_error(s, "no-such-process", 9, 0), "PROCESS_NOT_FOUND");
}

static void arguments_may_be_a_mebibyte_and_not_more(void **state)
{
    struct svc *s = *state;
    enum { PIECE = 100000, PIECES = 10 };
    char *piece = malloc(PIECE + 1);
    memset(piece, 'x', PIECE);
    piece[PIECE] = 0;
    struct spec *spec = words("sh", "-c");
    spec_word(spec, "echo $#; printf %s \"$@\" | wc -c");
    spec_word(spec, "name");
    for (int i = 0; i < PIECES; i++)
        spec_word(spec, piece);
    const char *id = start(s, spec);
    assert_int_equal(wait_for(s, id)->exit_code, 0);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "10\n1000000\n");

    char *large = malloc(MIB + 1);
    memset(large, 'x', MIB);
    large[MIB] = 0;
    assert_string_equal(start_error(s, words("true", large), ""), "INVALID_REQUEST");
    assert_non_null(strstr(error_message, "at most 1048576"));
    large[MIB / 2] = 0; /* allowed here, but more than the kernel takes in one argument */
    assert_string_equal(start_error(s, words("true", large), ""), "EXEC_FAILED");
    assert_non_null(strstr(error_message, "one string has at most 128 KiB"));
    free(piece);
    free(large);
}

static const char *start_with_id(struct svc *s, const char *request_id, const char *command)
{
    sa_error *err = NULL;
    struct spec *spec = shell(command);
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    req.spec = &spec->message;
    req.request_id = (char *)(uintptr_t)request_id;
    StartProcessResponse *res = start_process_wait(s->channel, &req, NULL, &err);
    free(spec);
    if (!res)
        fail_msg("%s: %s", err->reason, err->message);
    static char id[64];
    snprintf(id, sizeof id, "%s", res->process->process_id);
    rpc_message_free(res);
    return id;
}

static void a_repeated_request_starts_nothing_new(void **state)
{
    struct svc *s = *state;
    char first[64];
    snprintf(first, sizeof first, "%s", start_with_id(s, "r1", "exec sleep 1000"));
    assert_string_equal(start_with_id(s, "r1", "exec sleep 1000"), first);
    assert_string_equal(start_error(s, shell("exec sleep 1001"), "r1"), "REQUEST_ID_REUSED");
    svc_kill(s);
    svc_again(s, NULL);
    assert_string_equal(start_with_id(s, "r1", "exec sleep 1000"), first);
    delete_it(s, first, true);
    assert_string_equal(start_error(s, shell("exec sleep 1000"), "r1"), "PROCESS_NOT_FOUND");
    assert_non_null(strstr(error_message, "was deleted"));
    /* One that failed was not started: it may be tried again. */
    assert_string_equal(start_error(s, words("no-such-program", NULL), "r2"), "EXEC_FAILED");
    start_with_id(s, "r2", "true");
}

struct signalled {
    struct svc *s;
    const char *id;
};

static bool nothing_to_signal(void *user)
{
    struct signalled *g = user;
    return !strcmp(signal_error(g->s, g->id, SIGTERM, SIGNAL_SCOPE_TREE), "PROCESS_EXITED");
}

static void signals_reach_the_process_its_group_or_its_tree(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *command = sa_format(
        "cd %s; trap 'echo term' TERM;"
        "setsid sh -c 'setsid sh -c \"echo \\$\\$ >stray; exec sleep 1000\" & exec sleep 1000' &"
        "(trap 'echo child' TERM; echo $(exec sh -c 'echo $PPID') >child; while :; do sleep 0.01; done) &"
        "while :; do sleep 0.01; done",
        dir);
    cleanup_free char *stray = sa_format("%s/stray", dir), *child = sa_format("%s/child", dir);
    const char *id = start_shell(s, command);
    int stray_pid = pid_in_file(stray), child_pid = pid_in_file(child);
    struct attached a = attach_output(s, id, 0);
    send_signal(s, id, SIGTERM, SIGNAL_SCOPE_PROCESS);
    assert_true(next(&a));
    assert_memory_equal(a.message->output->data.data, "term\n", 5);
    send_signal(s, id, SIGTERM, SIGNAL_SCOPE_GROUP);
    size_t seen = 0;
    while (seen < 11) {
        assert_true(next(&a));
        seen += a.message->output->data.len;
    }
    assert_true(pid_alive(stray_pid));
    send_signal(s, id, SIGKILL, SIGNAL_SCOPE_TREE);
    ExitRecord *e = wait_for(s, id);
    assert_int_equal(e->signal, SIGKILL);
    wait_pid_gone(stray_pid);
    wait_pid_gone(child_pid);
    struct signalled gone = {s, id};
    wait_until(nothing_to_signal, &gone, "nothing of the tree is left");
    assert_string_equal(signal_error(s, id, 65, SIGNAL_SCOPE_TREE), "INVALID_REQUEST");
    detach(&a);
}

static void what_a_process_leaves_behind_stays_in_reach(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command = sa_format("setsid sh -c 'echo $$ >%s; exec sleep 1000' & while ! test -s %s;"
                                           "do sleep 0.01; done; echo done",
                                           file, file);
    const char *id = start_shell(s, command);
    assert_int_equal(wait_for(s, id)->exit_code, 0); /* not held up by whoever holds its pipes */
    int pid = pid_in_file(file);
    assert_true(pid_alive(pid));
    assert_string_equal(delete_error(s, id, false), "PROCESS_RUNNING");
    svc_kill(s);
    svc_again(s, NULL);
    assert_string_equal(delete_error(s, id, false), "PROCESS_RUNNING");
    assert_true(pid_alive(pid));
    assert_int_equal(delete_it(s, id, true)->exit_code, 0);
    assert_false(pid_alive(pid));
}

static void a_killed_shim_is_told_as_lost_and_leaves_nothing(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command = sa_format(
        "echo before; sh -c 'setsid sh -c \"setsid sh -c \\\"echo \\\\\\$\\\\\\$ >%s; exec sleep 1000\\\" & "
        "exec sleep 1000\" & exec sleep 1000' & exec sleep 1000",
        file);
    const char *id = start_shell(s, command);
    int stray = pid_in_file(file), child = (int)get(s, id)->pid, shim = parent_of(child);
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a));
    kill(shim, SIGKILL);
    assert_true(next(&a));
    assert_int_equal(a.message->kind_case, ATTACH_PROCESS_RESPONSE__KIND_EXITED);
    assert_int_equal(a.message->exited->kind_case, EXIT_RECORD__KIND_LOST);
    assert_string_equal(a.message->exited->lost, "its shim was killed");
    assert_false(pid_alive(child));
    assert_false(pid_alive(stray));
    assert_false(next(&a));
    assert_null(a.err);
    detach(&a);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "before\n");
    assert_string_equal(signal_error(s, id, SIGTERM, SIGNAL_SCOPE_TREE), "PROCESS_EXITED");
    delete_it(s, id, false);
}

static ListProcessesResponse *list(struct svc *s, int size, const char *token, const char *key,
                                   const char *value, sa_error **err)
{
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = size;
    req.page_token = (char *)(uintptr_t)token;
    req.label_key = (char *)(uintptr_t)key;
    req.label_value = (char *)(uintptr_t)value;
    return list_processes_wait(s->channel, &req, NULL, err);
}

static void lists_come_in_pages_newest_first_and_by_label(void **state)
{
    struct svc *s = *state;
    const char *ids[5];
    for (int i = 0; i < 5; i++) {
        struct spec *spec = words("true", NULL);
        spec->label.key = (char *)(uintptr_t) "parity";
        spec->label.value = (char *)(uintptr_t)(i % 2 ? "odd" : "even");
        spec->message.n_labels = 1;
        ids[i] = start(s, spec);
    }
    const char *plain = start_shell(s, "true");
    sa_error *err = NULL;
    ListProcessesResponse *a = list(s, 2, "", "parity", "", &err);
    assert_int_equal(a->n_processes, 2);
    assert_string_equal(a->processes[0]->process_id, ids[4]);
    assert_string_equal(a->processes[1]->process_id, ids[3]);
    assert_string_equal(a->processes[0]->spec->labels[0]->value, "even");
    assert_null(list(s, 2, a->next_page_token, "parity", "odd", &err)); /* not of this filter */
    assert_string_equal(err->reason, "INVALID_PAGE_TOKEN");
    sa_error_free(err);
    err = NULL;
    ListProcessesResponse *b = list(s, 2, a->next_page_token, "parity", "", &err);
    assert_string_equal(b->processes[1]->process_id, ids[1]);
    ListProcessesResponse *c = list(s, 2, b->next_page_token, "parity", "", &err);
    assert_int_equal(c->n_processes, 1);
    assert_string_equal(c->next_page_token, "");
    ListProcessesResponse *odd = list(s, 0, "", "parity", "odd", &err);
    assert_int_equal(odd->n_processes, 2);
    ListProcessesResponse *all = list(s, 5000, "", "", "", &err);
    assert_int_equal(all->n_processes, 6);
    assert_string_equal(all->processes[0]->process_id, plain);
    assert_null(list(s, -1, "", "", "", &err));
    sa_error_free(err);
    ListProcessesResponse *lists[] = {a, b, c, odd, all};
    for (int i = 0; i < 5; i++)
        rpc_message_free(lists[i]);
}

static void a_wait_ends_at_its_deadline(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    WaitProcessRequest req = WAIT_PROCESS_REQUEST__INIT;
    struct rpc_call_options soon = {.deadline_ms = 100};
    sa_error *err = NULL;
    req.process_id = (char *)(uintptr_t)id;
    assert_null(wait_process_wait(s->channel, &req, &soon, &err));
    assert_int_equal(err->code, SA_CODE_DEADLINE_EXCEEDED);
    sa_error_free(err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command_runs_and_its_output_and_exit_code_are_kept),
        TEST(a_command_gets_the_given_environment_and_nothing_else),
        TEST(a_command_runs_in_its_own_session_without_our_descriptors),
        TEST(starting_answers_after_exec),
        TEST(what_cannot_be_run_is_named),
        TEST(bad_requests_are_refused_before_anything_runs),
        TEST(arguments_may_be_a_mebibyte_and_not_more),
        TEST(a_repeated_request_starts_nothing_new),
        TEST(signals_reach_the_process_its_group_or_its_tree),
        TEST(what_a_process_leaves_behind_stays_in_reach),
        TEST(a_killed_shim_is_told_as_lost_and_leaves_nothing),
        TEST(lists_come_in_pages_newest_first_and_by_label),
        TEST(a_wait_ends_at_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
