/* Dies at every fault point of what is done before an agent runs: credentials, an installation, skills, the
 * first messages to the agent. What was asked for is asked again; then all is as if nothing had happened, npm
 * has run once, and no process of ours is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adapters/os/sha256.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/session/v1/credential_service.rpc.h"
#include "tests/session/npm_fixture.h"

#define POINTS "services/session-svc/fault_points"

enum { HITS = 4 };

static const char secret[] = "fault-7731-\"secret\"";

/* Should the call be made again? Takes err. */
static bool again(struct stack *t, sa_error *err)
{
    bool broken = err && (err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_CANCELLED);
    if (err && !broken)
        fail_msg("%s: %s", err->reason, err->message);
    sa_error_free(err);
    if (broken)
        stack_revive(t);
    return broken;
}

static void set_secret(struct stack *t)
{
    SetCredentialRequest req = SET_CREDENTIAL_REQUEST__INIT;
    sa_error *err;
    req.name = (char[]){"key"};
    req.value = (char *)(uintptr_t)secret;
    do {
        err = NULL;
        rpc_message_free(set_credential_wait(t->caller.channel, &req, NULL, &err));
    } while (again(t, err));
}

static void install_codex(struct stack *t)
{
    InstallAgentRequest req = INSTALL_AGENT_REQUEST__INIT;
    struct rpc_call_options opt = {.deadline_ms = PATIENCE_MS};
    req.agent = (char[]){"codex"};
    sa_error *err;
    do {
        InstallAgentResponse *m;
        err = NULL;
        struct rpc_stream *s = install_agent_begin(t->caller.channel, &req, &opt);
        while (install_agent_next(s, &m, &err) == 1)
            rpc_message_free(m);
        rpc_stream_free(s);
    } while (again(t, err));
}

static char *create(struct stack *t, const char *cwd, const char *skill_dir)
{
    McpValue value = MCP_VALUE__INIT, *values[] = {&value};
    value.name = (char[]){"TOKEN"};
    value.source_case = MCP_VALUE__SOURCE_CREDENTIAL;
    value.credential = (char[]){"key"};
    McpCommand command = MCP_COMMAND__INIT;
    command.command = (char[]){"/bin/tool"};
    command.env = values;
    command.n_env = 1;
    McpServer server = MCP_SERVER__INIT, *servers[] = {&server};
    server.name = (char[]){"tool"};
    server.transport_case = MCP_SERVER__TRANSPORT_COMMAND;
    server.command = &command;
    Skill skill = SKILL__INIT, *skills[] = {&skill};
    skill.name = (char[]){"greet"};
    skill.source_case = SKILL__SOURCE_PATH;
    skill.path = (char *)(uintptr_t)skill_dir;
    CredentialUse use = CREDENTIAL_USE__INIT, *uses[] = {&use};
    use.credential = (char[]){"key"};
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.agent = (char[]){"codex"};
    req.request_id = (char[]){"the session"};
    req.cwd = (ProtobufCBinaryData){strlen(cwd), (uint8_t *)(uintptr_t)cwd};
    req.mcp_servers = servers;
    req.skills = skills;
    req.credentials = uses;
    req.n_mcp_servers = req.n_skills = req.n_credentials = 1;
    for (;;) {
        sa_error *err = NULL;
        CreateSessionResponse *res = create_session_wait(t->caller.channel, &req, NULL, &err);
        char *id = res ? sa_strdup(res->session->session_id) : NULL;
        rpc_message_free(res);
        if (!again(t, err))
            return id;
    }
}

static void prompt(struct stack *t, const char *id)
{
    for (;;) {
        struct reason r =
            try_prompt(t, id, "ENVSUM key\nMCPSUM\nCAT .agents/skills/greet/SKILL.md", "once", NULL);
        if (strcmp(r.text, "UNAVAILABLE") && strcmp(r.text, "CANCELLED")) {
            assert_string_equal(r.text, "");
            return;
        }
        stack_revive(t);
    }
}

static void add_sum(struct sa_buf *out, const char *text)
{
    char hex[SA_SHA256_TEXT + 1];
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, text, strlen(text));
    sa_sha256_end_text(&sum, hex);
    sa_buf_addf(out, "%s", hex);
}

static bool no_job_is_left(void *user)
{
    struct stack *t = user;
    cleanup_free char *target = sa_format("unix:%s/run/process.sock", t->dir);
    const char *metadata[] = {"x-service-secret", t->secret, NULL};
    struct caller c = caller_open(target, NULL, metadata);
    ListProcessesRequest req = LIST_PROCESSES_REQUEST__INIT;
    req.label_key = (char[]){"job"};
    ListProcessesResponse *res = list_processes_wait(c.channel, &req, NULL, NULL);
    bool none = res && !res->n_processes;
    rpc_message_free(res);
    caller_close(&c);
    return none;
}

/* The deaths. */
static int live(const char *fault)
{
    const char *const *words = npm_begin(NULL);
    struct stack *t = stack_start_faulty(words, fault);
    cleanup_free char *cwd = sa_format("%s/work", t->home), *skill = sa_format("%s/skill", t->home);
    cleanup_free char *file = sa_format("%s/SKILL.md", skill);
    assert_int_equal(sa_mkdirs(cwd, 0755, NULL) | sa_mkdirs(skill, 0755, NULL), 0);
    assert_int_equal(sa_write_file(file, "skilled", 7, 0644, NULL), 0);
    set_secret(t);
    install_codex(t);
    cleanup_free char *id = create(t, cwd, skill);
    struct viewer *v = viewer_open(t, id);
    prompt(t, id);
    viewer_turn_end(v, 1);
    cleanup_free char *said = viewer_text(v, 1);
    cleanup_buf struct sa_buf expected = {0};
    add_sum(&expected, secret);
    add_sum(
        &expected,
        "[{\"name\":\"tool\",\"command\":\"/bin/tool\",\"args\":[],\"env\":[{\"name\":\"TOKEN\",\"value\":"
        "\"fault-7731-\\\"secret\\\"\"}]}]");
    sa_buf_addf(&expected, "skilled");
    if (strcmp(said, sa_buf_string(&expected)) != 0)
        fail_msg("after %s it said %s", fault, said);
    viewer_close(v);
    if (runs_of_npm() != 1)
        fail_msg("after %s npm had run %zu times", fault, runs_of_npm());
    wait_until(no_job_is_left, t, "no process of ours is left");
    int deaths = t->deaths;
    t->fault = NULL; /* it was not reached */
    stack_free(t);
    return deaths;
}

static bool is_ours(const char *point)
{
    static const char *const prefixes[] = {"install.",   "job.",       "secrets.",
                                           "link.spawn", "link.input", "link.opened"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (!strncmp(point, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

static void a_death_before_the_agent_runs_changes_nothing(void **state)
{
    (void)state;
    int points = 0, died = 0;
    cleanup_buf struct sa_buf list = {0};
    assert_int_equal(live(NULL), 0);
    assert_int_equal(sa_read_file(POINTS, 65536, &list, NULL), 0);
    for (char *rest, *point = strtok_r(sa_buf_string(&list), "\n", &rest); point;
         point = strtok_r(NULL, "\n", &rest)) {
        if (!is_ours(point))
            continue;
        points++;
        for (int hit = 1; hit <= HITS; hit++) {
            cleanup_free char *fault = sa_format("%s:%d", point, hit);
            int deaths = live(fault);
            if (hit == 1 && deaths != 1)
                fail_msg("it did not come to %s", fault);
            died += deaths;
            if (!deaths)
                break;
        }
    }
    print_message("%d deaths at %d points\n", died, points);
    assert_true(points >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_death_before_the_agent_runs_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
