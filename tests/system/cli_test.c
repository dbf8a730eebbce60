/* The verbs of sandbox-agent that call a server, against a real one with the mock agent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* Runs a verb that must end with `code`; its output. */
static char *run(int code, const char *const *words)
{
    int got;
    char *output = system_cli(&sys, words, &got);
    if (got != code)
        fail_msg("exit code %d instead of %d:\n%s", got, code, output);
    return output;
}

static void assert_has(const char *output, const char *part)
{
    if (!strstr(output, part))
        fail_msg("`%s` is not in:\n%s", part, output);
}

/* The id in "session <id> (agent)". free() it. */
static char *id_in(const char *output)
{
    const char *at = strstr(output, "session ");
    assert_non_null(at);
    return sa_strndup(at + 8, strcspn(at + 8, " "));
}

static void a_prompt_shows_the_turn_to_its_end(void **state)
{
    (void)state;
    cleanup_free char *output =
        run(0, WORDS("prompt", "--cwd", sys.home, "THINK hm\nWRITE a.txt hello\nthe answer"));
    assert_has(output, "(thinks) hm");
    assert_has(output, "the answer");
    assert_has(output, "turn ended: end_turn");
    cleanup_free char *file = sa_format("%s/a.txt", sys.home);
    assert_int_equal(access(file, F_OK), 0);
}

static void a_session_goes_into_a_file_and_back(void **state)
{
    (void)state;
    free(run(0, WORDS("prompt", "the answer is here")));
    cleanup_free char *file = sa_format("%s/log.jsonl", sys.home), *bad = sa_format("%s/bad.jsonl", sys.home);
    free(run(0, WORDS("sessions", "export", "--output", file, "last")));
    cleanup_free char *good = run(0, WORDS("sessions", "verify", file));
    cleanup_free char *stored = run(0, WORDS("sessions", "verify", "--stored", "last"));
    assert_has(stored, strstr(good, "head "));
    cleanup_buf struct sa_buf text = {0};
    assert_int_equal(sa_read_file(file, 1 << 20, &text, NULL), 0);
    cleanup_free char *exported = run(0, WORDS("sessions", "export", "last"));
    assert_string_equal(exported, sa_buf_string(&text));
    cleanup_free char *imported = run(0, WORDS("sessions", "import", file));
    cleanup_free char *id = sa_strndup(imported, strcspn(imported, " "));
    cleanup_free char *events = run(0, WORDS("events", id)),
                      *found = run(0, WORDS("sessions", "search", "ANSWER is", id));
    assert_has(found, id);
    assert_has(found, "the answer is here");
    assert_has(events, "here");
    assert_has(events, "IMPORTED");
    /* Somebody edits the second line. */
    char *second = strchr(sa_buf_string(&text), '\n') + 100;
    *second = *second == 'x' ? 'y' : 'x';
    assert_int_equal(sa_write_file(bad, text.data, text.len, 0600, NULL), 0);
    cleanup_free char *broken = run(1, WORDS("sessions", "verify", bad));
    assert_has(broken, "line 2 is broken");
    cleanup_free char *refused = run(1, WORDS("sessions", "import", bad));
    assert_has(refused, "line 2 is broken");
}

static void a_prompt_may_go_on_in_a_session(void **state)
{
    (void)state;
    cleanup_free char *first = run(0, WORDS("prompt", "one")), *id = id_in(first);
    cleanup_free char *second = run(0, WORDS("prompt", "--session", id, "two"));
    assert_has(second, "> two");
    cleanup_free char *third = run(0, WORDS("prompt", "--session", "last", "three"));
    assert_has(third, "> three");
}

static void a_prompt_comes_from_standard_input(void **state)
{
    (void)state;
    int code;
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data), .input = "from a pipe"};
    cleanup_free char *output = program_run(WORDS("sandbox-agent", "prompt", "-"), &opt, &code);
    assert_int_equal(code, 0);
    assert_has(output, "> from a pipe");
}

static void the_exit_code_tells_how_the_turn_ended(void **state)
{
    (void)state;
    cleanup_free char *failed = run(1, WORDS("prompt", "FAIL no way"));
    assert_has(failed, "no way");
    cleanup_free char *refused = run(1, WORDS("prompt", "STOP refusal"));
    assert_has(refused, "turn ended: refusal");
    cleanup_free char *gone = run(1, WORDS("prompt", "EXIT 3"));
    assert_has(gone, "turn ended: agent_exited");
}

static void yes_answers_what_the_agent_asks(void **state)
{
    (void)state;
    cleanup_free char *output = run(0, WORDS("prompt", "--yes", "--cwd", sys.home, "PERMISSION yes.txt"));
    assert_has(output, "MAY IT?");
    assert_has(output, "by owner");
    cleanup_free char *file = sa_format("%s/yes.txt", sys.home);
    assert_int_equal(access(file, F_OK), 0);
}

static void a_permission_is_listed_and_answered_from_elsewhere(void **state)
{
    (void)state;
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    struct program p = program_start(WORDS("sandbox-agent", "prompt", "PERMISSION no.txt"), &opt);
    program_wait_for(&p, "answer with: sandbox-agent permissions answer ");
    program_wait_for(&p, "OPTION\n");
    cleanup_free char *id = id_in(program_output(&p));
    const char *at = strstr(program_output(&p), "(permission ");
    assert_non_null(at);
    cleanup_free char *permission = sa_strndup(at + 12, strcspn(at + 12, ")"));
    cleanup_free char *list = run(0, WORDS("permissions", "list", id));
    assert_has(list, permission);
    /* The last option that is offered is a refusal. */
    cleanup_free char *wrong = run(1, WORDS("permissions", "answer", id, permission, "no-such-option"));
    assert_has(wrong, "no-such-option");
    const char *option = strrchr(program_output(&p), '[');
    assert_non_null(option);
    cleanup_free char *chosen = sa_strndup(option + 1, strcspn(option + 1, "]"));
    cleanup_free char *answered = run(0, WORDS("permissions", "answer", id, permission, chosen));
    assert_has(answered, "answered, event ");
    cleanup_free char *again = run(1, WORDS("permissions", "answer", id, permission, chosen));
    assert_has(again, "owner");
    program_wait_for(&p, "turn ended");
    program_wait(&p);
    program_free(&p);
}

static void events_are_shown_from_anywhere_in_the_log(void **state)
{
    (void)state;
    cleanup_free char *prompt = run(0, WORDS("prompt", "TICK 5 1")), *id = id_in(prompt);
    cleanup_free char *all = run(0, WORDS("events", id)), *json = run(0, WORDS("events", "--json", id));
    assert_has(all, "     1  ");
    assert_has(all, "tick 5");
    assert_has(json, "\"seq\":\"1\"");
    cleanup_free char *rest = run(0, WORDS("events", "--after", "3", id));
    assert_null(strstr(rest, "     3  "));
    assert_has(rest, "     4  ");
    cleanup_free char *list = run(0, WORDS("sessions"));
    assert_has(list, id);
}

static void a_follower_sees_what_happens_later(void **state)
{
    (void)state;
    cleanup_free char *prompt = run(0, WORDS("prompt", "one")), *id = id_in(prompt);
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data)};
    struct program p = program_start(WORDS("sandbox-agent", "events", "--follow", id), &opt);
    program_wait_for(&p, "turn ended: end_turn");
    free(run(0, WORDS("prompt", "--session", id, "and two")));
    program_wait_for(&p, "> and two");
    program_wait_for(&p, "turn ended: end_turn");
    program_signal(&p, SIGTERM);
    program_wait(&p);
    program_free(&p);
}

static void attached_one_prompts_and_answers(void **state)
{
    (void)state;
    int code;
    cleanup_free char *prompt = run(0, WORDS("prompt", "one")), *id = id_in(prompt);
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {
        .home = sys.home, .env = WORDS(data), .input = "said by attach\nTICK 3 1\n"};
    cleanup_free char *output = program_run(WORDS("sandbox-agent", "attach", id), &opt, &code);
    assert_int_equal(code, 0);
    assert_has(output, "> said by attach");
    assert_has(output, "tick 3");
}

static void attached_one_answers_what_is_asked(void **state)
{
    (void)state;
    cleanup_free char *prompt = run(0, WORDS("prompt", "--cwd", sys.home, "one")), *id = id_in(prompt);
    cleanup_free char *data = sa_format("SANDBOX_AGENT_DATA_DIR=%s", sys.data);
    struct program_options opt = {.home = sys.home, .env = WORDS(data), .interactive = true};
    struct program p = program_start(WORDS("sandbox-agent", "attach", id), &opt);
    program_wait_for(&p, "turn ended");
    program_type(&p, "/1\n");
    program_wait_for(&p, "nothing was asked");
    program_type(&p, "PERMISSION attached.txt\n");
    program_wait_for(&p, "MAY IT?");
    program_type(&p, "/9\n");
    program_wait_for(&p, "there is no such answer");
    program_type(&p, "/1\n");
    program_wait_for(&p, "selected allow by owner");
    program_wait_for(&p, "turn ended: end_turn");
    program_type(&p, "HANG\n");
    program_wait_for(&p, "> HANG");
    program_type(&p, "/cancel\n");
    program_wait_for(&p, "turn ended: cancelled");
    program_type(&p, "/help\n");
    program_wait_for(&p, "/cancel     stop the running turn");
    program_type(&p, "/quit\n");
    assert_int_equal(program_wait(&p), 0);
    program_free(&p);
    cleanup_free char *file = sa_format("%s/attached.txt", sys.home);
    assert_int_equal(access(file, F_OK), 0);
}

static void mistakes_are_explained(void **state)
{
    (void)state;
    cleanup_free char *agent = run(1, WORDS("prompt", "--agent", "nonesuch", "hello"));
    assert_has(agent, "nonesuch");
    cleanup_free char *session = run(1, WORDS("events", "01hzzzzzzzzzzzzzzzzzzzzzzz"));
    assert_has(session, "01hzzzzzzzzzzzzzzzzzzzzzzz");
    cleanup_free char *token = run(1, WORDS("sessions", "--token", "wrong"));
    assert_has(token, "the token is wrong");
    cleanup_free char *target = sa_format("127.0.0.1:%u", harness_ports(1));
    cleanup_free char *nobody = run(1, WORDS("sessions", "--target", target));
    assert_has(nobody, target);
    assert_has(nobody, "`sandbox-agent server` starts one");
    cleanup_free char *verb = run(2, WORDS("dance"));
    assert_has(verb, "there is no verb `dance`");
    cleanup_free char *option = run(2, WORDS("prompt", "--loud", "hello"));
    assert_has(option, "unknown option `--loud`");
    cleanup_free char *directory = run(1, WORDS("prompt", "--cwd", "/nonexistent", "hello"));
    assert_has(directory, "/nonexistent");
}

static void the_token_of_this_machine_is_not_sent_elsewhere(void **state)
{
    (void)state;
    cleanup_free char *output = run(1, WORDS("sessions", "--target", sys.target));
    assert_has(output, "--token or $SANDBOX_AGENT_TOKEN");
    free(run(0, WORDS("sessions", "--target", sys.target, "--token", sys.token)));
}

static void sessions_are_shown_named_and_put_away(void **state)
{
    (void)state;
    cleanup_free char *first = run(0, WORDS("prompt", "--title", "a name", "TOKENS 10 5")),
                      *id = id_in(first);
    free(run(0, WORDS("prompt", "--session", id, "--mode", "auto", "two")));
    cleanup_free char *events = run(0, WORDS("events", id));
    assert_has(events, "configuration asked: mode=auto by owner");
    cleanup_free char *wrong = run(1, WORDS("prompt", "--session", id, "--model", "none", "three"));
    assert_has(wrong, "no option \"model\"");
    cleanup_free char *shown = run(0, WORDS("sessions", "show", id));
    assert_has(shown, "a name");
    assert_has(shown, "2 turns, 15 tokens measured, unknown in 1 turns");
    assert_has(shown, "* auto");
    cleanup_free char *turns = run(0, WORDS("turns", "ls", id));
    assert_has(turns, "   1  ended    end_turn             15 tokens");
    cleanup_free char *queue = run(1, WORDS("queue", "move", id, "2", "1"));
    assert_has(queue, "has run");
    cleanup_free char *none = run(0, WORDS("queue", "ls", id));
    assert_string_equal(none, "");
    free(run(0, WORDS("sessions", "rename", id, "another name")));
    cleanup_free char *found = run(0, WORDS("sessions", "--title", "ANOTHER"));
    assert_has(found, id);
    cleanup_free char *suspended = run(0, WORDS("sessions", "suspend", id));
    assert_has(suspended, "suspended by owner");
    cleanup_free char *forked = run(0, WORDS("sessions", "fork", id));
    assert_has(forked, "another name");
    free(run(0, WORDS("sessions", "archive", id)));
    cleanup_free char *list = run(0, WORDS("sessions")), *all = run(0, WORDS("sessions", "--all"));
    assert_null(strstr(list, id));
    assert_has(all, "(archived)");
    free(run(0, WORDS("sessions", "unarchive", id)));
    free(run(2, WORDS("sessions", "burn", id)));
    free(run(2, WORDS("queue", "move", id)));
}

static void agents_are_listed(void **state)
{
    (void)state;
    cleanup_free char *output = run(0, WORDS("agents"));
    assert_has(output, "mock");
    assert_has(output, "claude");
    assert_has(output, "not installed");
    cleanup_free char *json = run(0, WORDS("agents", "--json"));
    assert_has(json, "{\"agent\":\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_shows_the_turn_to_its_end),
        cmocka_unit_test(a_session_goes_into_a_file_and_back),
        cmocka_unit_test(a_prompt_may_go_on_in_a_session),
        cmocka_unit_test(a_prompt_comes_from_standard_input),
        cmocka_unit_test(the_exit_code_tells_how_the_turn_ended),
        cmocka_unit_test(yes_answers_what_the_agent_asks),
        cmocka_unit_test(a_permission_is_listed_and_answered_from_elsewhere),
        cmocka_unit_test(events_are_shown_from_anywhere_in_the_log),
        cmocka_unit_test(a_follower_sees_what_happens_later),
        cmocka_unit_test(attached_one_prompts_and_answers),
        cmocka_unit_test(attached_one_answers_what_is_asked),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(the_token_of_this_machine_is_not_sent_elsewhere),
        cmocka_unit_test(sessions_are_shown_named_and_put_away),
        cmocka_unit_test(agents_are_listed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
