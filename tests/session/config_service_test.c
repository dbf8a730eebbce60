/* What sessions are set up with: MCP servers, skills, credentials; and that no secret is told anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/sha256.h"
#include "sandboxagent/session/v1/config_service.rpc.h"
#include "sandboxagent/session/v1/credential_service.rpc.h"
#include "tests/session/stack.h"

static struct stack *stack;

static int start(void **state)
{
    (void)state;
    stack = stack_start(NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    stack_free(stack);
    return 0;
}

/* ---- calls ---- */

static struct reason reason_of(sa_error *err)
{
    struct reason r = {0};
    if (err) {
        snprintf(r.text, sizeof r.text, "%s", err->reason);
        snprintf(r.message, sizeof r.message, "%s", err->message);
        sa_error_free(err);
    }
    return r;
}

static char *word(const char *text)
{
    return (char *)(uintptr_t)text;
}

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)word(text)};
}

static struct reason set_credential(const char *name, const char *value)
{
    SetCredentialRequest req = SET_CREDENTIAL_REQUEST__INIT;
    sa_error *err = NULL;
    req.name = word(name);
    req.value = word(value);
    rpc_message_free(set_credential_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static struct reason delete_credential(const char *name)
{
    DeleteCredentialRequest req = DELETE_CREDENTIAL_REQUEST__INIT;
    sa_error *err = NULL;
    req.name = word(name);
    rpc_message_free(delete_credential_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static struct reason set_server(McpServer *m)
{
    SetMcpServerRequest req = SET_MCP_SERVER_REQUEST__INIT;
    sa_error *err = NULL;
    req.server = m;
    rpc_message_free(set_mcp_server_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static struct reason set_skill(Skill *k)
{
    SetSkillRequest req = SET_SKILL_REQUEST__INIT;
    sa_error *err = NULL;
    req.skill = k;
    rpc_message_free(set_skill_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static struct reason delete_skill(const char *directory, const char *name)
{
    DeleteSkillRequest req = DELETE_SKILL_REQUEST__INIT;
    sa_error *err = NULL;
    req.directory = bytes(directory);
    req.name = word(name);
    rpc_message_free(delete_skill_wait(stack->caller.channel, &req, NULL, &err));
    return reason_of(err);
}

static char *create(CreateSessionRequest *req)
{
    char *id = NULL;
    req->agent = word("mock");
    struct reason r = try_create(stack, req, &id);
    if (*r.text)
        fail_msg("%s: %s", r.text, r.message);
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

/* Its agent ends; the next prompt has a new one. */
static void end_agent(const char *session)
{
    struct viewer *v = viewer_open(stack, session);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, session, "EXIT 0"))->seq, SESSION_STATE_SUSPENDED);
    viewer_close(v);
}

static void expect_sum(const char *session, const char *question, const char *of)
{
    char text[SA_SHA256_TEXT + 1];
    struct sa_sha256 sum;
    sa_sha256_init(&sum);
    sa_sha256_add(&sum, of, strlen(of));
    sa_sha256_end_text(&sum, text);
    cleanup_free char *said = ask(session, question);
    assert_string_equal(said, text);
}

static char *make_directory(const char *name)
{
    char *dir = sa_format("%s/%s", stack->home, name);
    assert_int_equal(sa_mkdirs(dir, 0755, NULL), 0);
    return dir;
}

/* ---- MCP servers ---- */

static McpServer command_server(const char *name, McpCommand *c, const char *program)
{
    McpServer m = MCP_SERVER__INIT;
    *c = (McpCommand)MCP_COMMAND__INIT;
    c->command = word(program);
    m.name = word(name);
    m.transport_case = MCP_SERVER__TRANSPORT_COMMAND;
    m.command = c;
    return m;
}

static void an_agent_is_told_of_its_mcp_servers_whenever_it_starts(void **state)
{
    (void)state;
    cleanup_free char *cwd = make_directory("mcp");
    assert_string_equal(set_credential("token", "s3cret\"value").text, "");
    McpCommand command, other_command, hidden_command;
    McpServer own = command_server("own", &command, "/bin/own");
    McpValue value = MCP_VALUE__INIT, *values[] = {&value};
    value.name = word("TOKEN");
    value.source_case = MCP_VALUE__SOURCE_CREDENTIAL;
    value.credential = word("token");
    command.env = values;
    command.n_env = 1;
    char *args[] = {word("--fast")};
    command.args = args;
    command.n_args = 1;
    McpServer *list[] = {&own};

    McpRemote remote = MCP_REMOTE__INIT;
    McpServer web = MCP_SERVER__INIT;
    web.name = word("web");
    web.directory = bytes(cwd);
    web.transport_case = MCP_SERVER__TRANSPORT_HTTP;
    web.http = &remote;
    remote.url = word("https://example.org/mcp");
    remote.bearer_credential = word("token");
    assert_string_equal(set_server(&web).text, "");
    McpServer elsewhere = command_server("elsewhere", &other_command, "/bin/elsewhere");
    elsewhere.directory = bytes("/elsewhere");
    assert_string_equal(set_server(&elsewhere).text, "");
    McpServer hidden =
        command_server("own", &hidden_command, "/bin/hidden"); /* for all; the session has its own */
    assert_string_equal(set_server(&hidden).text, "");

    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.cwd = bytes(cwd);
    req.mcp_servers = list;
    req.n_mcp_servers = 1;
    cleanup_free char *id = create(&req);
    static const char expected[] = "[{\"name\":\"own\",\"command\":\"/bin/"
                                   "own\",\"args\":[\"--fast\"],\"env\":[{\"name\":\"TOKEN\",\"value\":"
                                   "\"s3cret\\\"value\"}]},{\"name\":\"web\",\"type\":\"http\",\"url\":"
                                   "\"https://example.org/mcp\",\"headers\":[{"
                                   "\"name\":\"Authorization\",\"value\":\"Bearer s3cret\\\"value\"}]}]";
    expect_sum(id, "MCPSUM", expected);
    cleanup_free char *said = ask(id, "MCP");
    assert_null(strstr(said, "s3cret"));
    assert_non_null(strstr(said, "\"value\":\"*************\""));

    end_agent(id);
    stack_crash_session(stack);
    expect_sum(id, "MCPSUM", expected); /* it was resumed */

    DeleteMcpServerRequest delete = DELETE_MCP_SERVER_REQUEST__INIT;
    delete.directory = bytes(cwd);
    delete.name = word("web");
    rpc_message_free(delete_mcp_server_wait(stack->caller.channel, &delete, NULL, NULL));
    end_agent(id);
    cleanup_free char *later = ask(id, "MCP");
    assert_null(strstr(later, "web"));
    assert_non_null(strstr(later, "/bin/own"));
}

static void what_an_agent_cannot_use_is_left_out_and_told(void **state)
{
    (void)state;
    McpRemote remote = MCP_REMOTE__INIT;
    McpServer web = MCP_SERVER__INIT, *list[] = {&web};
    web.name = word("far");
    web.transport_case = MCP_SERVER__TRANSPORT_HTTP;
    web.http = &remote;
    remote.url = word("http://127.0.0.1:1/");
    EnvironmentVariable env = ENVIRONMENT_VARIABLE__INIT, *vars[] = {&env};
    env.name = bytes("MOCK_NO_HTTP");
    env.value = bytes("1");
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.mcp_servers = list;
    req.n_mcp_servers = 1;
    req.env = vars;
    req.n_env = 1;
    cleanup_free char *id = create(&req), *said = ask(id, "MCP");
    assert_null(strstr(said, "far"));
    struct viewer *v = viewer_open(stack, id);
    const Event *e = viewer_until(v, 0, EVENT__KIND_ERROR, 0);
    assert_string_equal(e->error->reason, "UNIMPLEMENTED");
    assert_non_null(strstr(e->error->message, "\"far\""));
    viewer_close(v);
}

static void servers_are_listed_page_by_page_and_checked(void **state)
{
    (void)state;
    McpCommand c;
    for (int i = 0; i < 7; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        McpServer m = command_server(name, &c, "/bin/x");
        m.directory = bytes("/paged");
        assert_string_equal(set_server(&m).text, "");
    }
    size_t n = 0;
    cleanup_free char *token = sa_strdup("");
    do {
        ListMcpServersRequest req = LIST_MCP_SERVERS_REQUEST__INIT;
        req.page_size = 3;
        req.page_token = token;
        req._directory_case = LIST_MCP_SERVERS_REQUEST___DIRECTORY_DIRECTORY;
        req.directory = bytes("/paged");
        ListMcpServersResponse *res = list_mcp_servers_wait(stack->caller.channel, &req, NULL, NULL);
        assert_non_null(res);
        for (size_t i = 0; i < res->n_servers; i++, n++)
            assert_int_equal(res->servers[i]->name[1], '0' + (int)n);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    assert_int_equal(n, 7);

    McpServer bad = command_server("../x", &c, "/bin/x");
    assert_string_equal(set_server(&bad).text, "INVALID_REQUEST");
    bad = command_server("x", &c, "");
    assert_string_equal(set_server(&bad).text, "INVALID_REQUEST");
    bad = command_server("x", &c, "/bin/x");
    bad.directory = bytes("relative");
    assert_string_equal(set_server(&bad).text, "INVALID_REQUEST");
    McpRemote remote = MCP_REMOTE__INIT;
    bad.directory = bytes("");
    bad.transport_case = MCP_SERVER__TRANSPORT_SSE;
    bad.sse = &remote;
    remote.url = word("file:///etc/passwd");
    assert_string_equal(set_server(&bad).text, "INVALID_REQUEST");
    remote.url = word("http://x/");
    remote.bearer_credential = word("nobody");
    assert_string_equal(set_server(&bad).text, "NOT_FOUND");
    GetMcpServerRequest get = GET_MCP_SERVER_REQUEST__INIT;
    get.name = word("s0");
    sa_error *err = NULL;
    assert_null(get_mcp_server_wait(stack->caller.channel, &get, NULL, &err));
    assert_string_equal(reason_of(err).text, "NOT_FOUND");
}

/* ---- credentials ---- */

static const char *planted; /* looked for in every file */
static int found_in;

static int look(const char *file, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    cleanup_buf struct sa_buf b = {0};
    if (type != FTW_F || !S_ISREG(st->st_mode) || strstr(file, "/session/credentials"))
        return 0;
    if (sa_read_file(file, 256 << 20, &b, NULL) == 0 && memmem(b.data, b.len, planted, strlen(planted))) {
        print_message("the secret is in %s\n", file);
        found_in++;
    }
    return 0;
}

static CreateSessionRequest with_credential(CredentialUse *use, CredentialUse **list, const char *name,
                                            const char *variable)
{
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    *use = (CredentialUse)CREDENTIAL_USE__INIT;
    use->credential = word(name);
    use->variable = word(variable);
    list[0] = use;
    req.credentials = list;
    req.n_credentials = 1;
    return req;
}

static void a_secret_reaches_the_agent_and_nobody_else(void **state)
{
    (void)state;
    static const char secret[] = "planted-8f3a\\\"quoted";
    planted = "planted-8f3a";
    assert_string_equal(set_credential("key", secret).text, "");
    CredentialUse use, *uses[1];
    CreateSessionRequest req = with_credential(&use, uses, "key", "API_KEY");
    cleanup_free char *id = create(&req);
    expect_sum(id, "ENVSUM API_KEY", secret);
    cleanup_free char *told = ask(id, "ENV API_KEY");              /* it tells; what is told is masked */
    assert_string_equal(told, "API_KEY=**********************\n"); /* as JSON has it */
    char text[256];
    snprintf(text, sizeof text, "STDERR it is %s", secret);
    free(ask(id, text));
    snprintf(text, sizeof text, "STDERR last words %s\nABORT", secret);
    struct viewer *v = viewer_open(stack, id);
    viewer_state(v, viewer_turn_end(v, send_prompt(stack, id, text))->seq, SESSION_STATE_SUSPENDED);
    expect_sum(id, "ENVSUM API_KEY", secret); /* the new process has it, too */
    viewer_close(v);

    v = viewer_open(stack, id);
    viewer_turn_end(v, 5);
    struct sa_buf events = viewer_bytes(v);
    assert_null(memmem(events.data, events.len, planted, strlen(planted)));
    assert_non_null(memmem(events.data, events.len, "it is ****", 10));
    assert_non_null(memmem(events.data, events.len, "last words ****", 15));
    sa_buf_fini(&events);
    viewer_close(v);

    ListCredentialsRequest list = LIST_CREDENTIALS_REQUEST__INIT;
    ListCredentialsResponse *res = list_credentials_wait(stack->caller.channel, &list, NULL, NULL);
    bool listed = false;
    for (size_t i = 0; i < res->n_credentials; i++)
        listed |= !strcmp(res->credentials[i]->name, "key") && res->credentials[i]->set_time->seconds > 0;
    assert_true(listed);
    rpc_message_free(res);

    cleanup_free char *file = sa_format("%s/data/session/credentials", stack->dir);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_null(strstr(program_output(&stack->session), planted));
    stack_crash_session(stack);
    expect_sum(id, "ENVSUM API_KEY", secret);
}

/* Only what no prompt has in it: the text of a prompt is kept as it was asked. */
static void a_secret_is_not_in_the_store(void **state)
{
    (void)state;
    static const char secret[] = "buried-51c7-value";
    planted = "buried-51c7";
    assert_string_equal(set_credential("buried", secret).text, "");
    McpCommand command;
    McpServer own = command_server("own", &command, "/bin/own"), *list[] = {&own};
    McpValue value = MCP_VALUE__INIT, *values[] = {&value};
    value.name = word("TOKEN");
    value.source_case = MCP_VALUE__SOURCE_CREDENTIAL;
    value.credential = word("buried");
    command.env = values;
    command.n_env = 1;
    CredentialUse use, *uses[1];
    CreateSessionRequest req = with_credential(&use, uses, "buried", "");
    req.mcp_servers = list;
    req.n_mcp_servers = 1;
    cleanup_free char *id = create(&req);
    expect_sum(id, "ENVSUM buried", secret);
    cleanup_free char *told = ask(id, "MCP\nENV buried\nWRITE x");
    assert_null(strstr(told, planted));
    cleanup_free char *data = sa_format("%s/data/session", stack->dir);
    found_in = 0;
    assert_int_equal(nftw(data, look, 16, FTW_PHYS), 0);
    assert_int_equal(found_in, 0);
    assert_null(strstr(program_output(&stack->session), planted));
}

static void a_variable_that_is_called_a_secret_is_masked(void **state)
{
    (void)state;
    const char *env[] = {"MY_API_TOKEN=hush-hush-hush", "PLAIN=visible-value", NULL};
    cleanup_free char *id = create_session(stack, "mock", env);
    cleanup_free char *secret = ask(id, "ENV MY_API_TOKEN"), *plain = ask(id, "ENV PLAIN");
    assert_string_equal(secret, "MY_API_TOKEN=**************\n");
    assert_string_equal(plain, "PLAIN=visible-value\n");
    stack_crash_session(stack);
    cleanup_free char *later = ask(id, "ENV MY_API_TOKEN");
    assert_string_equal(later, secret);
}

static void a_credential_that_is_gone_is_missed(void **state)
{
    (void)state;
    assert_string_equal(set_credential("short-lived", "first-value").text, "");
    CredentialUse use, *uses[1];
    CreateSessionRequest req = with_credential(&use, uses, "short-lived", "V");
    cleanup_free char *id = create(&req);
    expect_sum(id, "ENVSUM V", "first-value");
    assert_string_equal(set_credential("short-lived", "second-value").text, "");
    expect_sum(id, "ENVSUM V", "first-value"); /* it runs on with what it has */
    end_agent(id);
    expect_sum(id, "ENVSUM V", "second-value");
    assert_string_equal(delete_credential("short-lived").text, "");
    assert_string_equal(delete_credential("short-lived").text, "");
    end_agent(id);
    struct viewer *v = viewer_open(stack, id);
    uint64_t turn = send_prompt(stack, id, "hello");
    const Event *ended = viewer_turn_end(v, turn);
    assert_string_equal(ended->turn_ended->error_reason, "NOT_FOUND");
    assert_non_null(strstr(ended->turn_ended->message, "short-lived"));
    viewer_close(v);
    req.agent = word("mock");
    assert_string_equal(try_create(stack, &req, NULL).text, "NOT_FOUND");
    assert_string_equal(set_credential("bad name", "x").text, "INVALID_REQUEST");
    assert_string_equal(set_credential("x", "").text, "INVALID_REQUEST");
    assert_string_equal(set_credential("x", "a\nb").text, "INVALID_REQUEST");
}

/* ---- skills ---- */

static void run(const char *command)
{
    if (system(command) != 0)
        fail_msg("failed: %s", command);
}

static void put_file(const char *dir, const char *name, const char *text)
{
    cleanup_free char *file = sa_format("%s/%s", dir, name);
    assert_int_equal(sa_mkdirs(dir, 0755, NULL), 0);
    assert_int_equal(sa_write_file(file, text, strlen(text), 0644, NULL), 0);
}

/* A repository with the skill below skills/greet; commits what is there. */
static char *make_repository(const char *text)
{
    char *dir = make_directory("repository");
    cleanup_free char *skill = sa_format("%s/skills/greet", dir);
    put_file(skill, "SKILL.md", text);
    cleanup_free char *command =
        sa_format("cd %s && export HOME=%s && git init -q -b main . && git add -A && git -c user.name=t -c "
                  "user.email=t@example.org commit -qm %s",
                  dir, stack->home, text);
    run(command);
    return dir;
}

static const Event *prepared(struct viewer *v, size_t from)
{
    return viewer_until(v, from, EVENT__KIND_PREPARED, 0);
}

static void a_skill_of_a_repository_is_where_the_agent_looks(void **state)
{
    (void)state;
    cleanup_free char *cwd = make_directory("skilled"), *repository = make_repository("first");
    cleanup_free char *url = sa_format("file://%s", repository);
    GitSource git = GIT_SOURCE__INIT;
    Skill k = SKILL__INIT;
    git.url = url;
    git.ref = word("main");
    k.name = word("greet");
    k.directory = bytes(cwd);
    k.source_case = SKILL__SOURCE_GIT;
    k.git = &git;
    k.subpath = word("skills/greet");
    assert_string_equal(set_skill(&k).text, "");

    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.cwd = bytes(cwd);
    cleanup_free char *id = create(&req), *first = ask(id, "CAT .agents/skills/greet/SKILL.md");
    assert_string_equal(first, "first");
    struct viewer *v = viewer_open(stack, id);
    const Event *e = prepared(v, 0);
    assert_int_equal(e->prepared->n_skills, 1);
    assert_string_equal(e->prepared->skills[0]->error, "");
    assert_int_equal(strlen(e->prepared->skills[0]->commit), 40);
    GetSkillRequest get = GET_SKILL_REQUEST__INIT;
    get.directory = bytes(cwd);
    get.name = word("greet");
    GetSkillResponse *res = get_skill_wait(stack->caller.channel, &get, NULL, NULL);
    assert_string_equal(res->skill->commit, e->prepared->skills[0]->commit);
    assert_true(res->skill->fetch_time->seconds > 0);
    rpc_message_free(res);

    /* The agent changes it: the next process has what the commit says. The branch moves: it has the new
     * commit. */
    cleanup_free char *tamper = sa_format("echo evil > %s/.agents/skills/greet/SKILL.md", cwd);
    run(tamper);
    end_agent(id);
    cleanup_free char *again = ask(id, "CAT .agents/skills/greet/SKILL.md");
    assert_string_equal(again, "first");
    free(make_repository("second"));
    end_agent(id);
    cleanup_free char *moved = ask(id, "CAT .agents/skills/greet/SKILL.md");
    assert_string_equal(moved, "second");

    /* The repository is away: what was fetched stays in use. */
    cleanup_free char *away = sa_format("mv %s %s.away", repository, repository);
    run(away);
    end_agent(id);
    cleanup_free char *offline = ask(id, "CAT .agents/skills/greet/SKILL.md");
    assert_string_equal(offline, "second");

    assert_string_equal(delete_skill(cwd, "greet").text, "");
    end_agent(id);
    cleanup_free char *gone = ask(id, "CAT .agents/skills/greet/SKILL.md");
    assert_string_equal(gone, "it cannot be read");
    viewer_close(v);
}

static void a_directory_of_skills_gives_each_and_nothing_is_overwritten(void **state)
{
    (void)state;
    cleanup_free char *cwd = make_directory("many"), *source = make_directory("collection");
    cleanup_free char *one = sa_format("%s/one", source), *two = sa_format("%s/two", source);
    cleanup_free char *own = sa_format("%s/.agents/skills/mine", cwd);
    put_file(one, "SKILL.md", "1");
    put_file(two, "SKILL.md", "2");
    put_file(own, "SKILL.md", "the user's own");
    Skill all = SKILL__INIT, clash = SKILL__INIT, missing = SKILL__INIT, *list[] = {&all, &clash, &missing};
    GitSource nowhere = GIT_SOURCE__INIT;
    nowhere.url = word("file:///nowhere/at/all");
    all.name = word("all");
    all.source_case = SKILL__SOURCE_PATH;
    all.path = source;
    clash.name = word("mine");
    clash.source_case = SKILL__SOURCE_PATH;
    clash.path = one;
    missing.name = word("missing");
    missing.source_case = SKILL__SOURCE_GIT;
    missing.git = &nowhere;
    CreateSessionRequest req = CREATE_SESSION_REQUEST__INIT;
    req.cwd = bytes(cwd);
    req.skills = list;
    req.n_skills = 3;
    cleanup_free char *id = create(&req);
    cleanup_free char *said = ask(id, "CAT .agents/skills/one/SKILL.md\nCAT .agents/skills/two/SKILL.md\n"
                                      "CAT .agents/skills/mine/SKILL.md");
    assert_string_equal(said, "12the user's own");
    struct viewer *v = viewer_open(stack, id);
    const Event *e = prepared(v, 0);
    assert_int_equal(e->prepared->n_skills, 3);
    assert_string_equal(e->prepared->skills[0]->error, "");
    assert_non_null(strstr(e->prepared->skills[1]->error, "is there already"));
    assert_non_null(strstr(e->prepared->skills[2]->error, "nowhere"));
    viewer_close(v);
}

static void a_skill_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    GitSource git = GIT_SOURCE__INIT;
    GithubSource github = GITHUB_SOURCE__INIT;
    Skill k = SKILL__INIT;
    k.name = word("x");
    assert_string_equal(set_skill(&k).text, "INVALID_REQUEST");
    k.source_case = SKILL__SOURCE_GIT;
    k.git = &git;
    const char *urls[] = {"", "ext::sh -c id", "--upload-pack=id", "/etc", "https://"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        git.url = word(urls[i]);
        assert_string_equal(set_skill(&k).text, "INVALID_REQUEST");
    }
    git.url = word("https://example.org/x.git");
    git.ref = word("--upload-pack=id");
    assert_string_equal(set_skill(&k).text, "INVALID_REQUEST");
    git.ref = word("main");
    k.subpath = word("../../etc");
    assert_string_equal(set_skill(&k).text, "INVALID_REQUEST");
    k.subpath = word("");
    k.source_case = SKILL__SOURCE_GITHUB;
    k.github = &github;
    github.repository = word("owner/name/more");
    assert_string_equal(set_skill(&k).text, "INVALID_REQUEST");
    github.repository = word("owner/name");
    assert_string_equal(set_skill(&k).text, "");
    assert_string_equal(delete_skill("", "x").text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_told_of_its_mcp_servers_whenever_it_starts),
        cmocka_unit_test(what_an_agent_cannot_use_is_left_out_and_told),
        cmocka_unit_test(servers_are_listed_page_by_page_and_checked),
        cmocka_unit_test(a_secret_reaches_the_agent_and_nobody_else),
        cmocka_unit_test(a_secret_is_not_in_the_store),
        cmocka_unit_test(a_variable_that_is_called_a_secret_is_masked),
        cmocka_unit_test(a_credential_that_is_gone_is_missed),
        cmocka_unit_test(a_skill_of_a_repository_is_where_the_agent_looks),
        cmocka_unit_test(a_directory_of_skills_gives_each_and_nothing_is_overwritten),
        cmocka_unit_test(a_skill_that_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
