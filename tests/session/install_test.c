/* Agents that are installed, registered, found: with an npm of our own that does what it is told, and the
 * mock agent as what it installs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "tests/session/npm_fixture.h"
#include "tests/session/stack.h"

static struct stack *stack;

static void begin_with(const char *const *more, const char *const *env)
{
    stack = stack_start_env(npm_begin(more), env);
}

static int begin(void **state)
{
    (void)state;
    begin_with(NULL, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* ---- calls ---- */

static GetAgentResponse *get_agent(const char *name)
{
    GetAgentRequest req = GET_AGENT_REQUEST__INIT;
    req.agent = (char *)(uintptr_t)name;
    sa_error *err = NULL;
    GetAgentResponse *res = get_agent_wait(stack->caller.channel, &req, NULL, &err);
    if (!res)
        fail_msg("GetAgent: %s", err->message);
    return res;
}

struct story {
    char states[128]; /* numbers of the states */
    char lines[4096];
    sa_error *err;
};

static struct rpc_stream *install_begin(const char *name, bool reinstall)
{
    InstallAgentRequest req = INSTALL_AGENT_REQUEST__INIT;
    struct rpc_call_options opt = {.wait_for_ready = true, .deadline_ms = PATIENCE_MS};
    req.agent = (char *)(uintptr_t)name;
    req.reinstall = reinstall;
    return install_agent_begin(stack->caller.channel, &req, &opt);
}

/* Reads up to the end, or until a line has `until` in it. */
static void install_read(struct rpc_stream *s, struct story *ret, const char *until)
{
    InstallAgentResponse *m;
    for (bool found = false; !found && install_agent_next(s, &m, &ret->err) == 1; rpc_message_free(m)) {
        size_t states = strlen(ret->states), lines = strlen(ret->lines);
        if (m->kind_case == INSTALL_AGENT_RESPONSE__KIND_INSTALLATION)
            snprintf(ret->states + states, sizeof ret->states - states, "%d ", (int)m->installation->state);
        else
            snprintf(ret->lines + lines, sizeof ret->lines - lines, "%s\n", m->line);
        found = until && strstr(ret->lines, until);
    }
}

static struct story install(const char *name, bool reinstall)
{
    struct story story = {0};
    struct rpc_stream *s = install_begin(name, reinstall);
    install_read(s, &story, NULL);
    rpc_stream_free(s);
    return story;
}

static struct reason uninstall(const char *name)
{
    struct reason r = {0};
    UninstallAgentRequest req = UNINSTALL_AGENT_REQUEST__INIT;
    req.agent = (char *)(uintptr_t)name;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(uninstall_agent_wait(stack->caller.channel, &req, NULL, &err));
    if (err) {
        snprintf(r.text, sizeof r.text, "%s", err->reason);
        snprintf(r.message, sizeof r.message, "%s", err->message);
    }
    return r;
}

static void failed_with(struct story story, const char *text)
{
    assert_non_null(story.err);
    if (strcmp(story.err->reason, "AGENT_INSTALL_FAILED") != 0 || !strstr(story.err->message, text))
        fail_msg("not \"%s\" but %s: %s", text, story.err->reason, story.err->message);
    sa_error_free(story.err);
}

static char *open_session(const char *agent, bool install_agent)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char *)(uintptr_t)agent;
    req.install_agent = install_agent;
    char *id = NULL;
    struct reason r = try_create(stack, &req, &id);
    assert_string_equal(r.text, "");
    return id;
}

static char *ask(const char *session, const char *text)
{
    struct viewer *v = viewer_open(stack, session);
    uint64_t turn = send_prompt(stack, session, text);
    viewer_turn_end(v, turn);
    char *answer = viewer_text(v, turn);
    viewer_close(v);
    return answer;
}

/* ---- tests ---- */

static void an_agent_is_installed_tried_used_and_removed(void **state)
{
    (void)state;
    GetAgentResponse *before = get_agent("codex");
    assert_false(before->agent->installed || before->agent->capabilities->reported);
    assert_true(before->agent->capabilities->resume && before->agent->capabilities->n_modes == 4);
    assert_null(before->agent->installation);
    struct story story = install("codex", false);
    if (story.err)
        fail_msg("%s", story.err->message);
    assert_string_equal(story.states, "1 2 3 4 5 ");
    assert_non_null(strstr(story.lines, "npm has begun"));
    cleanup_free char *log = read_log();
    assert_non_null(strstr(log, before->agent->npm_package));
    assert_non_null(strstr(log, "--save-exact"));

    stack_crash_session(stack); /* what the agent told is kept */
    GetAgentResponse *after = get_agent("codex");
    assert_true(after->agent->installed && after->agent->capabilities->reported);
    assert_string_equal(after->agent->capabilities->program_name, "mock-agent");
    assert_string_equal(after->agent->installed_version, strrchr(before->agent->npm_package, '@') + 1);
    assert_int_equal(after->agent->source, AGENT_SOURCE_AGENTS_DIR);
    assert_int_equal(after->agent->installation->state, INSTALL_STATE_DONE);
    assert_null(install("codex", false).err);
    assert_int_equal(runs_of_npm(), 1);
    rpc_message_free(before);
    rpc_message_free(after);

    cleanup_free char *id = open_session("codex", false), *answer = ask(id, "hello");
    assert_string_equal(answer, "You said: hello\n");
    after = get_agent("codex");
    assert_int_equal(after->agent->capabilities->n_modes, 2);
    assert_string_equal(after->agent->capabilities->modes[0]->name, "Ask");
    assert_true(after->agent->capabilities->modes[0]->current);
    rpc_message_free(after);
    struct reason r = uninstall("codex");
    assert_string_equal(r.text, "PROCESS_RUNNING");
    destroy_session(stack, id);
    assert_string_equal(uninstall("codex").text, "");
    after = get_agent("codex");
    assert_false(after->agent->installed);
    assert_true(after->agent->installation->removal);
    rpc_message_free(after);
    assert_string_equal(uninstall("mock").text, "AGENT_NOT_INSTALLED");
}

static void what_goes_wrong_is_said(void **state)
{
    (void)state;
    put("fail", "", 0644);
    failed_with(install("codex", false),
                "npm exited with code 1; it said: npm has begun\nnpm ERR! there is no such registry");
    GetAgentResponse *agent = get_agent("codex");
    assert_int_equal(agent->agent->installation->state, INSTALL_STATE_FAILED);
    assert_non_null(strstr(agent->agent->installation->message, "no such registry"));
    rpc_message_free(agent);
    take("fail");
    put("wrong", "", 0644);
    failed_with(install("codex", false), "version 0.0.1 is there instead of");
    take("wrong");
    put("broken", "", 0644);
    failed_with(install("codex", false), "did not answer initialize: it exited with code 1");
    take("broken");
    assert_null(install("codex", true).err);
}

static void open_gate(void)
{
    cleanup_free char *gate = path_of("gate");
    int fd = open(gate, O_WRONLY); /* waits for npm */
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "\n", 1), 1);
    close(fd);
    unlink(gate);
}

static void make_gate(void)
{
    cleanup_free char *gate = path_of("gate");
    assert_int_equal(mkfifo(gate, 0600), 0);
}

static void two_callers_share_one_installation(void **state)
{
    (void)state;
    make_gate();
    struct story first = {0}, second = {0};
    struct rpc_stream *a = install_begin("codex", false), *b = install_begin("codex", false);
    install_read(a, &first, "npm has begun");
    install_read(b, &second, "npm has begun");
    open_gate();
    install_read(a, &first, NULL);
    install_read(b, &second, NULL);
    assert_true(!first.err && !second.err);
    rpc_stream_free(a);
    rpc_stream_free(b);
    assert_int_equal(runs_of_npm(), 1);
}

static bool is_installed(void *user)
{
    GetAgentResponse *res = get_agent(user);
    bool done = res->agent->installation && res->agent->installation->state == INSTALL_STATE_DONE;
    rpc_message_free(res);
    return done;
}

static void an_installation_goes_on_after_a_crash(void **state)
{
    (void)state;
    make_gate();
    struct story story = {0};
    struct rpc_stream *s = install_begin("codex", false);
    install_read(s, &story, "npm has begun");
    rpc_stream_free(s);
    stack_crash_session(stack);
    stack_crash_process(stack);
    open_gate();
    wait_until(is_installed, (char[]){"codex"}, "the installation is done");
    assert_int_equal(runs_of_npm(), 1);
}

static void an_agent_that_needs_a_newer_node_gets_its_own(void **state)
{
    (void)state;
    put_node("20.11.0");
    assert_null(install("pi", false).err);
    cleanup_free char *log = read_log();
    assert_non_null(strstr(log, " node@22."));
    put_node("22.11.0");
    assert_null(install("pi", true).err);
    cleanup_free char *second = read_log();
    assert_null(strstr(second + strlen(log), " node@"));
}

static void a_session_installs_its_agent_on_first_use(void **state)
{
    (void)state;
    cleanup_free char *without = open_session("codex", false);
    struct viewer *v = viewer_open(stack, without);
    viewer_state(v, 0, SESSION_STATE_FAILED);
    viewer_close(v);
    make_gate();
    cleanup_free char *id = open_session("codex", true), *second = open_session("codex", true);
    v = viewer_open(stack, id);
    const Event *preparing = viewer_until(v, 0, EVENT__KIND_PREPARING, 0);
    assert_non_null(strstr(preparing->preparing->npm_package, "codex-acp@"));
    uint64_t turn = send_prompt(stack, id, "hello");
    open_gate();
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn), *other = ask(second, "there");
    assert_string_equal(text, "You said: hello\n");
    assert_string_equal(other, "You said: there\n");
    assert_int_equal(runs_of_npm(), 1);
    viewer_close(v);
}

static void a_session_whose_agent_cannot_be_installed_fails(void **state)
{
    (void)state;
    put("fail", "", 0644);
    cleanup_free char *id = open_session("codex", true);
    struct viewer *v = viewer_open(stack, id);
    const Event *failed = viewer_state(v, 0, SESSION_STATE_FAILED);
    assert_string_equal(failed->state_changed->reason, "AGENT_INSTALL_FAILED");
    assert_non_null(strstr(failed->state_changed->message, "no such registry"));
    take("fail");
    uint64_t turn = send_prompt(stack, id, "hello"); /* tries again */
    viewer_turn_end(v, turn);
    cleanup_free char *text = viewer_text(v, turn);
    assert_string_equal(text, "You said: hello\n");
    viewer_close(v);
}

static int begin_with_registry(void **state)
{
    (void)state;
    static const char *const env[] = {"SANDBOX_AGENT_ACP_REGISTRY_URL=http://127.0.0.1:1/registry.json",
                                      NULL};
    begin_with(NULL, env);
    return 0;
}

/* Our node answers for the registry: what it prints is what the script of the service prints. */
static void the_registry_says_which_package(void **state)
{
    (void)state;
    put("package", "package codex-acp@latest\n", 0644);
    failed_with(install("codex", false), "no package with an exact version");
    put("package", "package @other/codex-acp@3.1.4\n", 0644);
    assert_null(install("codex", false).err);
    cleanup_free char *log = read_log();
    assert_non_null(strstr(log, "@other/codex-acp@3.1.4"));
    GetAgentResponse *agent = get_agent("codex");
    assert_string_equal(agent->agent->installation->npm_packages[0], "@other/codex-acp@3.1.4");
    rpc_message_free(agent);
}

static int begin_with_what_is_there(void **state)
{
    (void)state;
    static const char *const env[] = {"SANDBOX_AGENT_REQUIRE_PREINSTALL=1", NULL};
    begin_with(NULL, env);
    return 0;
}

static void a_server_that_may_not_install_says_so(void **state)
{
    (void)state;
    struct story story = install("codex", false);
    assert_string_equal(story.err->reason, "AGENT_NOT_INSTALLED");
    sa_error_free(story.err);
    cleanup_free char *id = open_session("codex", true);
    struct viewer *v = viewer_open(stack, id);
    assert_string_equal(viewer_state(v, 0, SESSION_STATE_FAILED)->state_changed->reason,
                        "AGENT_NOT_INSTALLED");
    viewer_close(v);
    assert_int_equal(runs_of_npm(), 0);
}

/* ---- agents of callers' own ---- */

static struct reason try_register(const char *name, const char *program, const char *variable, bool no_resume)
{
    struct reason r = {0};
    char *command[] = {(char *)(uintptr_t)program};
    CustomAgent__EnvEntry entry = CUSTOM_AGENT__ENV_ENTRY__INIT, *entries[] = {&entry};
    entry.key = (char[]){"FLAVOUR"};
    entry.value = (char *)(uintptr_t)variable;
    CustomAgent agent = CUSTOM_AGENT__INIT;
    agent.agent = (char *)(uintptr_t)name;
    agent.command = command;
    agent.n_command = 1;
    agent.env = entries;
    agent.n_env = 1;
    agent.no_resume = no_resume;
    RegisterAgentRequest req = REGISTER_AGENT_REQUEST__INIT;
    req.agent = &agent;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(register_agent_wait(stack->caller.channel, &req, NULL, &err));
    if (err)
        snprintf(r.text, sizeof r.text, "%s", err->reason);
    return r;
}

static struct reason unregister(const char *name)
{
    struct reason r = {0};
    UnregisterAgentRequest req = UNREGISTER_AGENT_REQUEST__INIT;
    req.agent = (char *)(uintptr_t)name;
    cleanup_error sa_error *err = NULL;
    rpc_message_free(unregister_agent_wait(stack->caller.channel, &req, NULL, &err));
    if (err)
        snprintf(r.text, sizeof r.text, "%s", err->reason);
    return r;
}

static void a_registered_agent_is_like_a_built_in_one(void **state)
{
    (void)state;
    cleanup_free char *mock = realpath(harness_binary("mock-agent"), NULL);
    assert_string_equal(try_register("house", mock, "vanilla", true).text, "");
    stack_crash_session(stack);
    cleanup_free char *id = open_session("house", false), *flavour = ask(id, "ENV FLAVOUR");
    assert_string_equal(flavour, "FLAVOUR=vanilla\n");
    /* Replaced: from the next process on; its resume is not to be used. */
    assert_string_equal(try_register("house", mock, "lemon", true).text, "");
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, "EXIT 0"))->seq, SESSION_STATE_SUSPENDED);
    cleanup_free char *other = ask(id, "ENV FLAVOUR");
    assert_string_equal(other, "FLAVOUR=lemon\n");
    assert_int_equal(viewer_until(v, 0, EVENT__KIND_RESTORED, 0)->restored->method, RESTORE_METHOD_LOAD);
    viewer_close(v);
    ListAgentsRequest list = LIST_AGENTS_REQUEST__INIT;
    ListAgentsResponse *res = list_agents_wait(stack->caller.channel, &list, NULL, NULL);
    const Agent *last = res->agents[res->n_agents - 1];
    assert_string_equal(last->agent, "house");
    assert_true(last->custom && last->installed && last->capabilities->reported &&
                !last->capabilities->resume);
    rpc_message_free(res);
    assert_string_equal(unregister("house").text, "");
    assert_string_equal(unregister("house").text, "");
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"house"};
    assert_string_equal(try_create(stack, &req, NULL).text, "UNKNOWN_AGENT");
}

static void a_registration_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    assert_string_equal(try_register("claude", "/bin/true", "", false).text, "ALREADY_EXISTS");
    assert_string_equal(try_register("Big", "/bin/true", "", false).text, "INVALID_REQUEST");
    assert_string_equal(try_register("", "/bin/true", "", false).text, "INVALID_REQUEST");
    assert_string_equal(try_register("../x", "/bin/true", "", false).text, "INVALID_REQUEST");
    assert_string_equal(try_register("house", "", "", false).text, "INVALID_REQUEST");
    assert_string_equal(try_register("house", "./x", "", false).text, "INVALID_REQUEST");
    assert_string_equal(unregister("claude").text, "INVALID_REQUEST");
}

static void a_launcher_of_the_user_wins(void **state)
{
    (void)state;
    cleanup_free char *dir = sa_format("%s/.local/share/sandbox-agent/bin/agent_processes", stack->home);
    cleanup_free char *file = sa_format("%s/opencode-acp", dir);
    cleanup_free char *mock = realpath(harness_binary("mock-agent"), NULL);
    assert_int_equal(sa_mkdirs(dir, 0755, NULL), 0);
    assert_int_equal(symlink(mock, file), 0);
    GetAgentResponse *agent = get_agent("opencode");
    assert_int_equal(agent->agent->source, AGENT_SOURCE_LAUNCHER);
    assert_string_equal(agent->agent->program, file);
    rpc_message_free(agent);
    cleanup_free char *id = open_session("opencode", true), *answer = ask(id, "hello");
    assert_string_equal(answer, "You said: hello\n");
    assert_int_equal(runs_of_npm(), 0);
}

static char *agents_file(const char *text)
{
    char *file = sa_format("%s/agents.json", harness_dir());
    assert_int_equal(sa_write_file(file, text, strlen(text), 0644, NULL), 0);
    return file;
}

static int begin_with_file(void **state)
{
    (void)state;
    cleanup_free char *mock = realpath(harness_binary("mock-agent"), NULL);
    cleanup_free char *text =
        sa_format("{\"agents\":[{\"agent\":\"filed\",\"command\":[\"%s\"],\"env\":{\"A\":\"b\"}}]}", mock);
    cleanup_free char *file = agents_file(text);
    const char *more[] = {"--agents-file", strdup(file), NULL};
    begin_with(more, NULL);
    return 0;
}

static void agents_of_a_file_are_there_from_the_start(void **state)
{
    (void)state;
    cleanup_free char *id = open_session("filed", false), *answer = ask(id, "ENV A");
    assert_string_equal(answer, "A=b\n");
    assert_string_equal(try_register("filed", "/bin/true", "", false).text, "ALREADY_EXISTS");
    assert_string_equal(unregister("filed").text, "INVALID_REQUEST");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(an_agent_is_installed_tried_used_and_removed),
        WITH(what_goes_wrong_is_said),
        WITH(two_callers_share_one_installation),
        WITH(an_installation_goes_on_after_a_crash),
        WITH(an_agent_that_needs_a_newer_node_gets_its_own),
        WITH(a_session_installs_its_agent_on_first_use),
        WITH(a_session_whose_agent_cannot_be_installed_fails),
        cmocka_unit_test_setup_teardown(the_registry_says_which_package, begin_with_registry, end),
        cmocka_unit_test_setup_teardown(a_server_that_may_not_install_says_so, begin_with_what_is_there, end),
        WITH(a_registered_agent_is_like_a_built_in_one),
        WITH(a_registration_that_makes_no_sense_is_refused),
        WITH(a_launcher_of_the_user_wins),
        cmocka_unit_test_setup_teardown(agents_of_a_file_are_there_from_the_start, begin_with_file, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
