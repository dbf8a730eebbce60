#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "services/process-svc/ports.h"

/* ---- stat ---- */

#define REST " 1 2 3 4 -1 6 7 8 9 10 11 12 13 14 20 0 15 0 99 1000 17 more"

static bool parse(const char *text, struct proc *ret)
{
    return proc_parse_stat(text, strlen(text), ret);
}

static void a_name_may_look_like_the_rest_of_the_line(void **state)
{
    (void)state;
    static const char *const names[] = {"cat", "a b", ") S 1 1 1", "))", "(", "", "x\n) R 7"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[256];
        struct proc p;
        snprintf(text, sizeof text, "42 (%s) S" REST, names[i]);
        assert_true(parse(text, &p));
        assert_string_equal(p.name, names[i]);
        assert_int_equal(p.pid, 42);
        assert_int_equal(p.parent, 1);
        assert_int_equal(p.session, 3);
        assert_int_equal(p.state, 'S');
        assert_int_equal(p.user_ticks, 11);
        assert_int_equal(p.system_ticks, 12);
        assert_int_equal(p.waited_user_ticks, 13);
        assert_int_equal(p.waited_system_ticks, 14);
        assert_int_equal(p.threads, 15);
        assert_int_equal(p.start_ticks, 99);
        assert_int_equal(p.resident_pages, 17);
    }
}

static void what_is_no_such_line_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "42",
        "42 (cat)",
        "42 (cat) S",
        "42 (cat) S 1 2 3",
        "42 cat S" REST,
        "x (cat) S" REST,
        "42 (cat)S" REST,
        "99999999999999999999999 (cat) S" REST,
        "42 (cat) S 1 2 3 4 -1 6 7 8 9 10 11 12 13 14 20 0 15 0 99999999999999999999999 1000 17",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct proc p = {.pid = 7};
        assert_false(parse(texts[i], &p));
        assert_int_equal(p.pid, 7);
    }
}

/* ---- processes ---- */

/* A child of ours that waits for the end of a pipe. */
static pid_t child(int wait_fd, const char *name)
{
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        prctl(PR_SET_NAME, name);
        while (read(wait_fd, &c, 1) > 0)
            ;
        _exit(0);
    }
    return pid;
}

static void a_process_is_seen_as_it_is(void **state)
{
    (void)state;
    struct proc p;
    struct proc_io io;
    cleanup_buf struct sa_buf command = {0};
    assert_int_equal(proc_read(getpid(), &p), 0);
    assert_int_equal(p.pid, getpid());
    assert_int_equal(p.parent, getppid());
    assert_true(p.threads >= 1 && p.resident_pages > 0 && p.start_ticks > 0);
    assert_int_equal(proc_read_uid(getpid()), getuid());
    proc_read_command(&p, &command);
    assert_non_null(strstr(sa_buf_string(&command), "procfs_test"));
    assert_true(proc_read_io(getpid(), &io));
    int64_t started = proc_boot_us() + proc_ticks_us(p.start_ticks);
    int64_t age = (int64_t)time(NULL) * 1000000 - started;
    assert_true(age > -2000000 && age < INT64_C(3600) * 1000000);
    assert_int_equal(proc_read(0, &p), -1);
}

static void a_table_has_all_and_walks_take_each_once(void **state)
{
    (void)state;
    int gate[2];
    cleanup_proc_table struct proc_table t = {0};
    assert_int_equal(pipe(gate), 0);
    pid_t first = fork();
    if (first == 0) { /* with a child of its own */
        close(gate[1]);
        pid_t second = child(gate[0], ") S 1 (x");
        waitpid(second, NULL, 0);
        _exit(0);
    }
    close(gate[0]);
    struct proc_list all = {0}, again = {0};
    do { /* until the child's child is there */
        proc_list_fini(&all);
        proc_table_fini(&t);
        assert_int_equal(proc_table_read(&t, NULL), 0);
        proc_walk(&t, proc_table_find(&t, getpid(), 0), true, &all);
    } while (all.n < 3 || strcmp(all.list[2]->name, ") S 1 (x") != 0);
    assert_int_equal(all.n, 3);
    assert_int_equal(all.list[0]->pid, getpid());
    assert_int_equal(all.list[1]->pid, first);
    assert_int_equal(all.list[2]->parent, first);
    assert_null(proc_table_find(&t, first, all.list[1]->start_ticks + 1));
    proc_walk(&t, proc_table_find(&t, getpid(), 0), true, &again);
    assert_int_equal(again.n, 0);
    proc_list_fini(&all);
    close(gate[1]);
    waitpid(first, NULL, 0);
}

/* ---- ports ---- */

static void lines_of_sockets_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *line, *address; /* NULL: refused */
        uint32_t port;
    } cases[] = {
        {"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 643 1 0",
         "127.0.0.1", 8080},
        {"  10: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A "
         "00000000:00000000 00:00000000 00000000     0        0 99 1",
         "::1", 22},
        {"   0: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 643 1",
         NULL, 0},
        {"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
         NULL, 0},
        {"   0: 0100007F:1F90 00000000:0000 0A", NULL, 0},
        {"", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct listener l;
        bool is_one = ports_parse_line(cases[i].line, strlen(cases[i].line), &l);
        assert_int_equal(is_one, cases[i].address != NULL);
        if (is_one) {
            assert_string_equal(l.address, cases[i].address);
            assert_int_equal(l.port, cases[i].port);
        }
    }
}

static int listen_on(int family, uint32_t *ret_port)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    void *address = family == AF_INET ? (void *)&in : &in6;
    socklen_t n = family == AF_INET ? sizeof in : sizeof in6;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, address, n) < 0 || listen(fd, 1) < 0 || getsockname(fd, address, &n) < 0) {
        sa_close(fd);
        return -1;
    }
    *ret_port = ntohs(family == AF_INET ? in.sin_port : in6.sin6_port);
    return fd;
}

static void a_tree_listens_where_one_of_it_does(void **state)
{
    (void)state;
    static const int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < 2; i++) {
        int gate[2], ready[2];
        uint32_t port;
        char c;
        int fd = listen_on(families[i], &port);
        if (fd < 0)
            continue; /* a machine without IPv6 */
        assert_int_equal(pipe(gate), 0);
        assert_int_equal(pipe(ready), 0);
        pid_t pid = fork(); /* it inherits the socket */
        if (pid == 0) {
            close(gate[1]);
            pid_t below = child(gate[0], "listener");
            close(fd); /* only the child's child has it now */
            if (write(ready[1], "", 1) == 1)
                waitpid(below, NULL, 0);
            _exit(0);
        }
        close(gate[0]);
        close(fd);
        assert_int_equal(read(ready[0], &c, 1), 1);
        close(ready[0]);
        close(ready[1]);
        assert_true(ports_tree_listens(getpid(), port));
        assert_true(ports_tree_listens(pid, port));
        assert_false(ports_tree_listens(pid, port ^ 1));
        close(gate[1]);
        waitpid(pid, NULL, 0);
        assert_false(ports_tree_listens(getpid(), port));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_may_look_like_the_rest_of_the_line),
        cmocka_unit_test(what_is_no_such_line_is_refused),
        cmocka_unit_test(a_process_is_seen_as_it_is),
        cmocka_unit_test(a_table_has_all_and_walks_take_each_once),
        cmocka_unit_test(lines_of_sockets_are_taken_apart),
        cmocka_unit_test(a_tree_listens_where_one_of_it_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
