/* What runs below a process, what it uses, where it listens. */
#include "services/process-svc/tests/fixture.h"

#include <arpa/inet.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "adapters/os/clock.h"

/* ---- who runs ---- */

static struct {
    struct svc *s;
    const char *id;
    size_t n;
} wanted;

static bool has_so_many(void *user)
{
    (void)user;
    return tree_of(wanted.s, wanted.id)->n_processes == wanted.n;
}

/* Waits until the tree has n processes. */
static GetProcessTreeResponse *tree_with(struct svc *s, const char *id, size_t n)
{
    wanted.s = s;
    wanted.id = id;
    wanted.n = n;
    wait_until(has_so_many, NULL, "the tree has so many processes");
    return tree_of(s, id);
}

static const SystemProcess *find(const GetProcessTreeResponse *tree, const char *command)
{
    for (size_t i = 0; i < tree->n_processes; i++) {
        const ProtobufCBinaryData *c = &tree->processes[i]->command;
        if (c->len == strlen(command) && !memcmp(c->data, command, c->len))
            return tree->processes[i];
    }
    return NULL;
}

static void the_process_comes_first_and_parents_before_children(void **state)
{
    struct svc *s = *state;
    /* A child, a grandchild, and one that was left to the shim in a session of its own. */
    const char *id =
        start_shell(s, "sleep 1001 & (sleep 1002; :) & setsid sh -c 'sleep 1003 & sleep 0' & wait");
    GetProcessTreeResponse *tree = tree_with(s, id, 5);
    assert_int_equal(tree->processes[0]->pid, get(s, id)->pid);
    int shim = parent_of((int)tree->processes[0]->pid);
    for (size_t i = 0; i < tree->n_processes; i++) {
        const SystemProcess *p = tree->processes[i];
        bool known = p->parent_pid == (uint32_t)shim;
        for (size_t k = 0; k < i; k++)
            known |= tree->processes[k]->pid == p->parent_pid;
        assert_true(known);
        assert_true(p->start_ticks > 0 && p->usage->threads == 1 && p->usage->processes == 1);
        assert_true(p->usage->resident_bytes > 0);
        assert_int_equal(p->uid, getuid());
        int64_t age = sa_wall_us() / 1000000 - p->start_time->seconds;
        assert_true(age >= -1 && age < 600);
    }
    assert_non_null(find(tree, "sleep 1001"));
    assert_int_equal(find(tree, "sleep 1003")->parent_pid, shim);
    assert_int_equal(tree->usage->processes, 5);
    assert_int_equal(tree->usage->threads, 5);
    assert_int_equal(tree->n_ports, 0);
    delete_it(s, id, true);
}

static void names_cannot_hide_a_process(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "printf ') R 1 (' >/proc/$$/comm; sleep 1001 & printf x; wait");
    struct attached a = attach_output(s, id, 0);
    assert_true(next(&a));
    detach(&a);
    GetProcessTreeResponse *tree = tree_with(s, id, 2);
    assert_int_equal(tree->processes[1]->parent_pid, tree->processes[0]->pid);
    delete_it(s, id, true);
}

static bool has_exited(const Process *p)
{
    return p->state == PROCESS_STATE_EXITED;
}

static bool has_left_nothing(const Process *p)
{
    return !p->descendants;
}

static void an_ended_process_has_the_tree_it_left_behind(void **state)
{
    struct svc *s = *state;
    const char *id = start_shell(s, "sleep 1001 & exit 3");
    Process *p = wait_until_process(s, id, has_exited, "it has ended");
    assert_true(p->descendants);
    GetProcessTreeResponse *tree = tree_with(s, id, 1);
    assert_non_null(find(tree, "sleep 1001"));
    uint64_t seq = p->state_seq;
    kill((pid_t)tree->processes[0]->pid, SIGKILL);
    p = wait_until_process(s, id, has_left_nothing, "nothing is left");
    assert_int_equal(p->state_seq, seq + 1);
    tree = tree_of(s, id);
    assert_int_equal(tree->n_processes, 0);
    assert_int_equal(tree->usage->processes, 0);
    delete_it(s, id, false);
}

/* ---- what it uses ---- */

#define TMPFS 0x01021994

static void what_has_ended_counts_too(void **state)
{
    struct svc *s = *state;
    char command[512];
    struct statfs fs;
    snprintf(command, sizeof command,
             "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; "
             "dd if=/dev/zero of=%s/file bs=1M count=2 conv=fsync status=none'; echo done; exec sleep 1000",
             s->dir);
    const char *id = start_shell(s, command);
    struct attached a = attach_output(s, id, 0);
    while (next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
        ;
    detach(&a);
    GetProcessTreeResponse *tree = tree_with(s, id, 1);
    assert_true(tree->usage->user_ms + tree->usage->system_ms >= 50);
    assert_true(tree->processes[0]->usage->user_ms < tree->usage->user_ms);
    assert_int_equal(statfs(s->dir, &fs), 0);
    if (fs.f_type != TMPFS) /* which is no storage */
        assert_true(tree->usage->written_bytes >= 2 * MIB);
    delete_it(s, id, true);
}

/* ---- where it listens ---- */

static char self[PATH_MAX];

/* This program as a child: listens on a free port of any address, tells it, waits. */
static int listen_for_ever(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    socklen_t n = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (void *)&in, n) < 0 || listen(fd, 1) < 0 || getsockname(fd, (void *)&in, &n) < 0)
        return 1;
    printf("%d\n", ntohs(in.sin_port));
    fflush(stdout);
    for (;;)
        pause();
}

static const char *start_listener(struct svc *s, const char *format, uint32_t *ret_port)
{
    cleanup_free char *command = sa_format("self=%s; %s", self, format);
    const char *id = start_shell(s, command);
    struct attached a = attach_output(s, id, 0);
    while (next(&a) && a.message->kind_case != ATTACH_PROCESS_RESPONSE__KIND_OUTPUT)
        ;
    assert_non_null(a.message);
    char text[16] = "";
    memcpy(text, a.message->output->data.data, a.message->output->data.len & 15);
    *ret_port = (uint32_t)atoi(text);
    detach(&a);
    return id;
}

static uint32_t awaited_port;

static bool listens_there(const Process *p)
{
    return p->n_ports == 1 && p->ports[0] == awaited_port;
}

static bool listens_nowhere(const Process *p)
{
    return p->n_ports == 0;
}

static void ports_are_told_as_they_come_and_go(void **state)
{
    struct svc *s = *state;
    const char *id = start_listener(s, "$self listen & wait; exec sleep 1000", &awaited_port);
    const char *other = start_shell(s, "exec sleep 1000");
    Process *p = wait_until_process(s, id, listens_there, "it listens");
    assert_int_equal(p->state_seq, 2);
    GetProcessTreeResponse *tree = tree_of(s, id);
    assert_int_equal(tree->n_ports, 1);
    assert_int_equal(tree->ports[0]->port, awaited_port);
    assert_string_equal(tree->ports[0]->address, "0.0.0.0");
    assert_int_equal(tree->ports[0]->pid, tree->processes[1]->pid);
    assert_int_equal(get(s, other)->n_ports, 0);
    kill((pid_t)tree->ports[0]->pid, SIGKILL);
    p = wait_until_process(s, id, listens_nowhere, "it does not listen any more");
    assert_int_equal(p->state_seq, 3);
    delete_it(s, id, true);
    delete_it(s, other, true);
}

static void ports_of_what_is_left_stay_and_end_with_it(void **state)
{
    struct svc *s = *state;
    const char *id = start_listener(s, "$self listen & read x", &awaited_port);
    Process *p = wait_until_process(s, id, listens_there, "it listens");
    kill((pid_t)p->pid, SIGKILL);
    p = wait_until_process(s, id, has_exited, "it has ended");
    assert_true(listens_there(p) && p->descendants);
    kill((pid_t)tree_of(s, id)->ports[0]->pid, SIGKILL);
    p = wait_until_process(s, id, has_left_nothing, "nothing is left");
    assert_int_equal(p->n_ports, 0);
    delete_it(s, id, false);
}

static void ports_are_known_after_a_restart_and_then_are_what_is_true(void **state)
{
    struct svc *s = *state;
    const char *id = start_listener(s, "$self listen & wait; exec sleep 1000", &awaited_port);
    wait_until_process(s, id, listens_there, "it listens");
    pid_t pid = (pid_t)tree_of(s, id)->ports[0]->pid;
    svc_kill(s);
    svc_again(s, NULL);
    assert_true(listens_there(get(s, id)));
    svc_kill(s);
    kill(pid, SIGKILL);
    svc_again(s, NULL);
    wait_until_process(s, id, listens_nowhere, "it does not listen any more");
    delete_it(s, id, true);
}

static void a_listener_in_a_network_of_its_own_is_found(void **state)
{
    struct svc *s = *state;
    RunProcessResponse *can = run(s, shell("unshare -n true"), NULL);
    if (can->exit->kind_case != EXIT_RECORD__KIND_EXIT_CODE || can->exit->exit_code != 0)
        skip(); /* needs root */
    const char *id = start_listener(s, "exec unshare -n $self listen", &awaited_port);
    wait_until_process(s, id, listens_there, "it listens");
    assert_int_equal(tree_of(s, id)->ports[0]->port, awaited_port);
    kill((pid_t)get(s, id)->pid, SIGKILL);
    wait_for(s, id);
    assert_int_equal(get(s, id)->n_ports, 0);
    delete_it(s, id, false);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "listen"))
        return listen_for_ever();
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    (void)argv;
#define TEST(name) cmocka_unit_test_setup_teardown(name, svc_setup, svc_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_process_comes_first_and_parents_before_children),
        TEST(names_cannot_hide_a_process),
        TEST(an_ended_process_has_the_tree_it_left_behind),
        TEST(what_has_ended_counts_too),
        TEST(ports_are_told_as_they_come_and_go),
        TEST(ports_of_what_is_left_stay_and_end_with_it),
        TEST(ports_are_known_after_a_restart_and_then_are_what_is_true),
        TEST(a_listener_in_a_network_of_its_own_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
