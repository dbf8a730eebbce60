/* `sandbox-agent exec`, with and without a terminal, against a real server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "tests/harness/harness.h"

static struct system sys;

static int start(void **state)
{
    (void)state;
    sys = system_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    system_stop(&sys);
    system_free(&sys);
    return 0;
}

/* The command through a shell, in which `sandbox-agent` is `a`; its standard output. */
static char *shell(int code, const char *script)
{
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    cleanup_free char *whole =
        sa_format("A='%s'; a() { \"$A\" \"$@\"; }; %s", harness_binary("sandbox-agent"), script);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    int got;
    char *output = program_run(WORDS("/bin/sh", "-c", whole), &opt, &got);
    if (got != code)
        fail_msg("exit code %d instead of %d:\n%s", got, code, output);
    return output;
}

static void expect(const char *output, const char *text)
{
    if (!strstr(output, text))
        fail_msg("`%s` is not in:\n%s", text, output);
}

static void nothing_is_left(void)
{
    cleanup_free char *list = shell(0, "a ps -a --json");
    assert_string_equal(list, "");
}

/* ---- somebody at a terminal ---- */

struct person {
    int pid, fd;
    struct termios before;
    struct sa_buf seen;
    size_t looked;
};

static struct person sit_down(unsigned rows, unsigned columns, const char *const *words)
{
    struct person p = {0};
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    const char *program = harness_binary("sandbox-agent");
    p.pid = forkpty(&p.fd, NULL, NULL, &size);
    assert_true(p.pid >= 0);
    if (p.pid == 0) {
        const char *argv[16] = {program};
        for (int i = 0; words[i]; i++)
            argv[i + 1] = words[i];
        setenv("SANDBOX_AGENT_DATA_DIR", sys.data, 1);
        setenv("TERM", "xterm", 1);
        execv(program, (char **)(uintptr_t)argv);
        _exit(126);
    }
    tcgetattr(p.fd, &p.before);
    return p;
}

/* Reads until the text is there, behind what was found last; with NULL to the end. */
static void see(struct person *p, const char *text)
{
    uint64_t until = sa_now_ms() + PATIENCE_MS;
    for (;;) {
        const char *found = text ? strstr(sa_buf_string(&p->seen) + p->looked, text) : NULL;
        if (found) {
            p->looked = (size_t)(found - (char *)p->seen.data) + strlen(text);
            return;
        }
        struct pollfd poll_fd = {.fd = p->fd, .events = POLLIN};
        poll(&poll_fd, 1, 1000);
        ssize_t n = poll_fd.revents ? read(p->fd, sa_buf_reserve(&p->seen, 65536), 65536) : 0;
        p->seen.len += n > 0 ? (size_t)n : 0;
        if (n < 0 && !text)
            return;
        if (n < 0 || sa_now_ms() > until)
            fail_msg("`%s` was not seen in:\n%s", text ? text : "the end", sa_buf_string(&p->seen));
    }
}

static void type(struct person *p, const char *text)
{
    assert_int_equal(write(p->fd, text, strlen(text)), strlen(text));
}

/* Its exit code; the terminal must be as it was. */
static int get_up(struct person *p)
{
    struct termios after;
    int wstatus;
    while (waitpid(p->pid, &wstatus, WNOHANG) == 0) {
        struct pollfd poll_fd = {.fd = p->fd, .events = POLLIN};
        poll(&poll_fd, 1, 10);
        ssize_t n = poll_fd.revents & POLLIN ? read(p->fd, sa_buf_reserve(&p->seen, 65536), 65536) : 0;
        p->seen.len += n > 0 ? (size_t)n : 0;
    }
    assert_int_equal(tcgetattr(p->fd, &after), 0);
    assert_int_equal(after.c_lflag, p->before.c_lflag);
    assert_int_equal(after.c_iflag, p->before.c_iflag);
    assert_int_equal(after.c_oflag, p->before.c_oflag);
    close(p->fd);
    sa_buf_fini(&p->seen);
    return WIFEXITED(wstatus) ? WEXITSTATUS(wstatus) : 128 + WTERMSIG(wstatus);
}

static void a_shell_on_a_terminal(void **state)
{
    (void)state;
    struct person p =
        sit_down(33, 99, WORDS("exec", "-it", "--env", "PS1=> ", "--", "bash", "--norc", "--noprofile"));
    see(&p, "> ");
    type(&p, "stty size; echo $TERM; tty\r");
    see(&p, "33 99\r\nxterm\r\n/dev/pts/");
    type(&p, "sh -c 'echo o\"n\"e; exec cat'\r");
    see(&p, "one\r\n");
    type(&p, "\x03");
    see(&p, "> ");
    type(&p, "echo code=$?\r");
    see(&p, "code=130");
    struct winsize size = {.ws_row = 20, .ws_col = 70};
    ioctl(p.fd, TIOCSWINSZ, &size);
    type(&p, "until stty size | grep '^20 70'; do sleep 0.05; done\r");
    see(&p, "\r20 70\r\n");
    type(&p, "exit 42\r");
    assert_int_equal(get_up(&p), 42);
    nothing_is_left();
}

static void it_ends_as_the_command_does(void **state)
{
    (void)state;
    struct person p = sit_down(24, 80, WORDS("exec", "-it", "--", "sh", "-c", "kill -9 $$"));
    assert_int_equal(get_up(&p), 137);
    p = sit_down(24, 80, WORDS("exec", "-it", "--", "no-such-command"));
    assert_int_equal(get_up(&p), 127);
    /* Signals to exec itself: the terminal is put right, nothing is left. */
    static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    for (size_t i = 0; i < 4; i++) {
        p = sit_down(24, 80, WORDS("exec", "-it", "--", "sh", "-c", "echo ready; exec sleep 1000"));
        see(&p, "ready");
        kill(p.pid, signals[i]);
        assert_int_equal(get_up(&p), 128 + signals[i]);
    }
    nothing_is_left();
}

static void output_and_input_pass_through(void **state)
{
    (void)state;
    cleanup_free char *out =
        shell(3, "printf 'a\\nb' | a exec -i -- sh -c 'cat; echo err >&2; exit 3' 2>/dev/null");
    assert_string_equal(out, "a\nb");
    cleanup_free char *err = shell(0, "a exec -- sh -c 'cat; echo out; echo err >&2' 2>&1 >/dev/null");
    assert_string_equal(err, "err\n");
    cleanup_free char *sums = shell(0, "head -c 40000000 /dev/urandom >\"$HOME/big\"; cksum <\"$HOME/big\";"
                                       "a exec -i -- cat <\"$HOME/big\" | cksum");
    char *second = strchr(sums, '\n');
    assert_non_null(second);
    assert_int_equal(strncmp(sums, second + 1, (size_t)(second - sums)), 0);
    /* Input that nobody reads, and a reader that leaves. */
    cleanup_free char *unread = shell(5, "yes | a exec -i -- sh -c 'exec <&-; exit 5'");
    assert_string_equal(unread, "");
    cleanup_free char *head = shell(0, "a exec -- yes | head -n 1");
    assert_string_equal(head, "y\n");
    cleanup_free char *term =
        shell(143, "\"$A\" exec -- sh -c 'echo ready; exec sleep 1000' >\"$HOME/out\" & p=$!;"
                   "until grep -q ready \"$HOME/out\"; do sleep 0.05; done; kill $p; wait $p");
    assert_string_equal(term, "");
    nothing_is_left();
}

static void a_second_person_joins(void **state)
{
    (void)state;
    free(shell(0, "a start --tty --name shared --env 'PS1=> ' -- bash --norc --noprofile -i"));
    struct person a = sit_down(24, 80, WORDS("exec", "--attach", "shared"));
    see(&a, "> ");
    type(&a, "echo fir''st\r");
    see(&a, "first\r\n");
    struct person b = sit_down(24, 80, WORDS("exec", "--attach", "shared"));
    see(&b, "is in control");
    see(&b, "first");
    struct person c = sit_down(24, 80, WORDS("exec", "--attach", "shared", "--take-over"));
    see(&c, "first");
    type(&c, "echo sec''ond\r");
    see(&a, "second\r\n");
    see(&b, "second\r\n");
    see(&c, "second\r\n");
    type(&a, "\x1d");
    assert_int_equal(get_up(&a), 0);
    struct person d = sit_down(24, 80, WORDS("exec", "--attach", "shared", "--read-only"));
    see(&d, "second");
    type(&d, "\x03"); /* only looks: Ctrl-C is its own */
    assert_int_equal(get_up(&d), 0);
    type(&c, "exit 6\r");
    assert_int_equal(get_up(&c), 6);
    assert_int_equal(get_up(&b), 6);
    free(shell(0, "a rm shared"));
}

/* The process service dies in the middle: its terminals go on, and so do those who sit there. */
static void a_terminal_lives_through_a_kill_of_the_service(void **state)
{
    (void)state;
    struct person p =
        sit_down(24, 80, WORDS("exec", "-it", "--env", "PS1=> ", "--", "bash", "--norc", "--noprofile"));
    see(&p, "> ");
    type(&p, "echo be''fore\r");
    see(&p, "before\r\n");
    kill(system_service_pid(&sys, "process"), SIGKILL);
    type(&p, "echo af''ter\r");
    see(&p, "after\r\n");
    type(&p, "exit 9\r");
    assert_int_equal(get_up(&p), 9);
    nothing_is_left();
}

static void wrong_words_are_told(void **state)
{
    (void)state;
    cleanup_free char *a = shell(2, "a exec 2>&1");
    expect(a, "exec what?");
    cleanup_free char *b = shell(2, "a exec --attach last true 2>&1");
    expect(b, "starts no command");
    cleanup_free char *c = shell(2, "a exec --read-only true 2>&1");
    expect(c, "are for --attach");
    cleanup_free char *d = shell(125, "a exec --attach nobody 2>&1");
    expect(d, "nobody");
    free(shell(0, "a start --name pipes -- sleep 1000"));
    cleanup_free char *e = shell(125, "a exec --attach pipes 2>&1");
    expect(e, "does not run on a terminal");
    free(shell(0, "a stop pipes; a rm pipes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shell_on_a_terminal),
        cmocka_unit_test(it_ends_as_the_command_does),
        cmocka_unit_test(output_and_input_pass_through),
        cmocka_unit_test(a_second_person_joins),
        cmocka_unit_test(a_terminal_lives_through_a_kill_of_the_service),
        cmocka_unit_test(wrong_words_are_told),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
