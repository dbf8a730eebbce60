/* The service dies, is stopped, comes back: nothing that was started is lost from sight. */
#include "services/process-svc/tests/follow.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "adapters/os/file.h"

enum { CHILDREN = 50 };

/* A follower of one child, which goes on where it was. */
struct reading {
    const char *id;
    OutputOffsets at;
};

static void take(struct reading *r, const FollowedOutput *o)
{
    uint64_t *at = o->stream == OUTPUT_STREAM_STDOUT ? &r->at.stdout_offset : &r->at.stderr_offset;
    assert_int_equal(o->offset, *at); /* neither hole nor repetition */
    assert_counts(o->data.data, o->data.len, o->offset);
    *at += o->data.len;
}

/* Reads on to at least `until` bytes of standard output, or to the exit. */
static void read_on(struct svc *s, struct reading *r, uint64_t until)
{
    FollowOutputRequest req = following(r->id);
    req.start_case = FOLLOW_OUTPUT_REQUEST__START_OFFSETS;
    req.offsets = &r->at;
    struct followed f = follow(s, &req);
    while (r->at.stdout_offset < until && follow_next(&f) &&
           f.message->kind_case == FOLLOW_OUTPUT_RESPONSE__KIND_OUTPUT)
        take(r, f.message->output);
    if (r->at.stdout_offset < until &&
        (!f.message || f.message->kind_case != FOLLOW_OUTPUT_RESPONSE__KIND_EXITED))
        fail_msg("the follower ended before the child: %s", f.err ? f.err->message : "OK");
    unfollow(&f);
}

/* What must hold: process-svc is killed while 50 children run and write. All are listed afterwards, every
 * byte can be read from offset 0, what ended meanwhile is told, and followers go on where they were. Two
 * thirds of the children are in the middle of writing; every third one waits, writes on and ends while nobody
 * looks. */
static void all_children_live_through_a_kill_of_the_service(void **state)
{
    enum { LINES = 40000, FEW = 600 };
    struct svc *s = *state;
    struct reading all[CHILDREN] = {0};
    const char *dir = harness_dir();
    char *go = sa_format("%s/go", dir);
    cleanup_free char *waiter =
        sa_format("i=100000000000000; while [ $i -lt 100000000000300 ]; do echo $i; i=$((i+1)); done;"
                  "while ! test -e %s; do sleep 0.02; done;"
                  "while [ $i -lt 100000000000600 ]; do echo $i; i=$((i+1)); done; exit 3",
                  go);
    cleanup_free char *writer = sa_format("seq %llu %llu >&2 & seq %llu %llu; wait; exit 4", COUNT_FROM,
                                          COUNT_FROM + LINES - 1, COUNT_FROM, COUNT_FROM + LINES - 1);
    for (int i = 0; i < CHILDREN; i++) {
        output_offsets__init(&all[i].at);
        all[i].id = start_shell(s, i % 3 ? writer : waiter);
    }
    for (int i = 0; i < CHILDREN; i++)
        read_on(s, &all[i], 100 * LINE + (uint64_t)i);
    svc_kill(s);
    fclose(fopen(go, "w"));
    free(go);
    svc_again(s, NULL);
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.page_size = 100;
    ListProcessesResponse *list = list_processes_wait(s->channel, &req, NULL, NULL);
    assert_int_equal(list->n_processes, CHILDREN);
    rpc_message_free(list);
    for (int i = 0; i < CHILDREN; i++) {
        size_t size = (size_t)(i % 3 ? LINES : FEW) * LINE;
        read_on(s, &all[i], UINT64_MAX);
        assert_int_equal(all[i].at.stdout_offset, size);
        assert_int_equal(all[i].at.stderr_offset, i % 3 ? size : 0);
        assert_int_equal(wait_for(s, all[i].id)->exit_code, i % 3 ? 4 : 3);
        const char *out = output_of(s, all[i].id, OUTPUT_STREAM_STDOUT, 0);
        assert_int_equal(strlen(out), size);
        assert_counts(out, size, 0);
    }
}

static bool shims_gone(void *user)
{
    (void)user;
    return waitpid(-1, NULL, WNOHANG) < 0;
}

static void ends_that_nobody_saw_are_told_later(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *fifo = sa_format("%s/fifo", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    cleanup_free char *command = sa_format("read -r x <%s; echo end; kill -9 $$", fifo);
    const char *id = start_shell(s, command);
    int pid = (int)get(s, id)->pid;
    svc_kill(s);
    int fd = open(fifo, O_WRONLY);
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    wait_pid_gone(pid);
    svc_again(s, NULL);
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "end\n");
    delete_it(s, id, false);
    /* and once more, the record being all there is */
    id = start_shell(s, "exit 5");
    wait_for(s, id);
    svc_kill(s);
    wait_until(shims_gone, NULL, "shims and helper are gone");
    svc_again(s, NULL);
    assert_int_equal(wait_for(s, id)->exit_code, 5);
    assert_int_equal(get(s, id)->state, PROCESS_STATE_EXITED);
}

static void a_shim_that_dies_with_the_service_is_lost_and_its_session_ended(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command =
        sa_format("echo before; sh -c 'echo $$ >%s; exec sleep 1000' & wait; exec sleep 1000", file);
    const char *id = start_shell(s, command);
    int child = (int)get(s, id)->pid, other = pid_in_file(file), shim = parent_of(child);
    svc_kill(s);
    kill(shim, SIGKILL);
    wait_pid_gone(child); /* it dies with its shim */
    assert_true(pid_alive(other));
    svc_again(s, NULL);
    ExitRecord *e = wait_for(s, id);
    assert_int_equal(e->kind_case, EXIT_RECORD__KIND_LOST);
    assert_false(pid_alive(other));
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "before\n");
}

/* The state record says another boot: pids in it mean nothing any more. */
static void after_a_restart_of_the_machine_processes_are_lost(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "echo before; exec sleep 1000");
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a));
    detach(&a);
    int child = (int)get(s, id)->pid, shim = parent_of(child);
    cleanup_free char *path = sa_format("%s/process/processes/%s/state", s->dir, id);
    cleanup_buf struct sa_buf record = {0};
    assert_int_equal(sa_read_file(path, 4096, &record, NULL), 0);
    svc_kill(s);
    kill(shim, SIGKILL);
    wait_pid_gone(child);
    /* Its pid now belongs to somebody else. */
    int innocent = fork();
    if (innocent == 0) {
        execlp("sleep", "sleep", "1000", NULL);
        _exit(127);
    }
    int boot = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
    char id_text[64] = "";
    assert_true(read(boot, id_text, 36) == 36);
    close(boot);
    char *found = memmem(record.data, record.len, id_text, 36);
    assert_non_null(found);
    found[0] = found[0] == '0' ? '1' : '0';
    assert_int_equal(sa_write_file(path, record.data, record.len, 0600, NULL), 0);
    svc_again(s, NULL);
    assert_string_equal(wait_for(s, id)->lost, "the machine was restarted");
    assert_true(pid_alive(innocent));
    kill(innocent, SIGKILL);
    assert_string_equal(output_of(s, id, OUTPUT_STREAM_STDOUT, 0), "before\n");
}

static void damaged_directories_do_not_stop_the_start(void **state)
{
    struct svc *s = *state;
    const char *names[] = {"state", "out", "exit", NULL};
    const char *ids[4];
    for (int i = 0; i < 4; i++) {
        ids[i] = start_shell(s, "echo hello; exec sleep 1000");
        struct attached a = attach_output(s, ids[i], 0);
        assert_true(next(&a));
        detach(&a);
    }
    int shims[4];
    for (int i = 0; i < 4; i++)
        shims[i] = parent_of((int)get(s, ids[i])->pid);
    svc_kill(s);
    for (int i = 0; i < 4; i++) {
        kill(shims[i], SIGKILL);
        wait_pid_gone(shims[i]);
        cleanup_free char *dir = sa_format("%s/process/processes/%s", s->dir, ids[i]);
        if (!names[i]) {
            assert_int_equal(sa_remove_tree(dir, NULL), 0);
            continue;
        }
        cleanup_free char *path = sa_format("%s/%s", dir, names[i]);
        assert_int_equal(sa_write_file(path, "garbage", i == 1 ? 0 : 7, 0600, NULL), 0);
    }
    cleanup_free char *stray = sa_format("%s/process/processes/01h00000000000000000000000", s->dir);
    assert_int_equal(mkdir(stray, 0700), 0);
    svc_again(s, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_for(s, ids[i])->kind_case, EXIT_RECORD__KIND_LOST);
    assert_string_equal(read_error(s, ids[0], OUTPUT_STREAM_STDOUT, 0), "JOURNAL_TRUNCATED");
    assert_string_equal(read_error(s, ids[1], OUTPUT_STREAM_STDOUT, 1), "OFFSET_AHEAD");
    assert_string_equal(output_of(s, ids[2], OUTPUT_STREAM_STDOUT, 0), "hello\n");
    for (int i = 0; i < 4; i++) {
        struct attached a = attach_output(s, ids[i], 0);
        while (next(&a))
            ;
        detach(&a);
        delete_it(s, ids[i], false);
    }
    struct stat st;
    while (stat(stray, &st) == 0)
        get(s, start_shell(s, "true")); /* it is removed beside the calls */
}

static void a_stop_ends_everything_and_keep_children_does_not(void **state)
{
    struct svc *s = *state;
    const char *dir = harness_dir();
    cleanup_free char *file = sa_format("%s/pid", dir);
    cleanup_free char *command = sa_format("trap '' TERM; setsid sh -c 'echo $$ >%s; exec sleep 1000' &"
                                           "while :; do sleep 1; done",
                                           file);
    cleanup_free char *id = sa_strdup(start_shell(s, command)), *keep_id = NULL;
    int stubborn = pid_in_file(file);
    svc_stop(s);
    assert_false(pid_alive(stubborn));
    svc_again(s, WORDS("--keep-children"));
    assert_int_equal(wait_for(s, id)->signal, SIGKILL);
    keep_id = sa_strdup(start_shell(s, "exec sleep 1000"));
    int kept = (int)get(s, keep_id)->pid;
    svc_stop(s);
    assert_true(pid_alive(kept));
    svc_again(s, NULL);
    assert_int_equal(get(s, keep_id)->pid, kept);
    assert_int_equal(get(s, keep_id)->state, PROCESS_STATE_RUNNING);
}

static size_t directories(const struct svc *s)
{
    cleanup_free char *path = sa_format("%s/process/processes", s->dir);
    DIR *d = opendir(path);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A helper was so slow that the service had been restarted, and had looked at the directories, before the
 * shim made its own: that one stayed behind. */
static void a_start_that_comes_too_late_leaves_nothing(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    int helper = parent_of(parent_of((int)get(s, id)->pid));
    const struct rpc_call_options soon = {.deadline_ms = 300};
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    struct spec *spec = shell("exec sleep 1000");
    req.spec = &spec->message;
    kill(helper, SIGSTOP);
    assert_null(start_process_wait(s->channel, &req, &soon, NULL));
    free(spec);
    svc_kill(s);
    svc_again(s, NULL);
    kill(helper, SIGCONT);
    wait_pid_gone(helper);
    delete_it(s, id, true);
    svc_stop(s);
    wait_until(shims_gone, NULL, "shims and helper are gone");
    assert_int_equal(directories(s), 0);
    svc_again(s, NULL);
}

static void without_its_helper_the_service_starts_again(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "exec sleep 1000");
    int child = (int)get(s, id)->pid, helper = parent_of(parent_of(child));
    assert_int_equal(parent_of(helper), s->program.pid);
    kill(helper, SIGKILL);
    assert_int_equal(program_wait(&s->program), 1);
    assert_true(pid_alive(child));
    caller_close(&s->caller);
    program_free(&s->program);
    svc_again(s, NULL);
    assert_int_equal(get(s, id)->pid, child);
    start_shell(s, "true");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_children_live_through_a_kill_of_the_service),
        TEST(ends_that_nobody_saw_are_told_later),
        TEST(a_shim_that_dies_with_the_service_is_lost_and_its_session_ended),
        TEST(after_a_restart_of_the_machine_processes_are_lost),
        TEST(damaged_directories_do_not_stop_the_start),
        TEST(a_stop_ends_everything_and_keep_children_does_not),
        TEST(a_start_that_comes_too_late_leaves_nothing),
        TEST(without_its_helper_the_service_starts_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
