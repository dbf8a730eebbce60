/* provider-svc and real local sandboxes, as their callers see them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "sandboxagent/process/v1/process_service.rpc.h"
#include "sandboxagent/provider/v1/sandbox_service.rpc.h"
#include "tests/harness/harness.h"

struct world {
    struct program program;
    struct caller caller;
    char *data, *home;
    const char *server_program; /* NULL: the real one */
};

static const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};

static void up(struct world *w)
{
    const char *argv[] = {"provider-svc", "--data-dir",       w->data,           "--no-token", "--durability",
                          "nosync",       "--server-program", w->server_program, NULL};
    if (!w->server_program)
        argv[6] = NULL;
    struct program_options opt = {.home = w->home};
    w->program = program_start(argv, &opt);
    cleanup_free char *target = sa_format("unix:%s/run/provider.sock", w->data);
    w->caller = caller_open(target, NULL, NULL);
    program_wait_for(&w->program, "service.ready");
}

static struct world world_new(const char *server_program)
{
    const char *dir = harness_dir();
    struct world w = {.data = sa_format("%s/data", dir), .home = sa_format("%s/home", dir)};
    assert_int_equal(mkdir(w.home, 0755), 0);
    w.server_program = server_program;
    up(&w);
    return w;
}

static void down(struct world *w, int signum)
{
    caller_close(&w->caller);
    program_signal(&w->program, signum);
    int code = program_wait(&w->program);
    if (signum == SIGTERM && code)
        print_message("%s\n", program_output(&w->program));
    assert_int_equal(code, signum == SIGTERM ? 0 : 128 + signum);
    program_free(&w->program);
}

static void world_free(struct world *w)
{
    down(w, SIGTERM);
    free(w->data);
    free(w->home);
}

/* ---- calls ---- */

/* The id (free() it), or NULL and the reason in `reason`. */
static char reason[64];

static void note_reason(const sa_error *err)
{
    snprintf(reason, sizeof reason, "%s", err ? err->reason : "");
}

static char *create(struct world *w, const char *provider, const char *request_id)
{
    CreateSandboxRequest req = CREATE_SANDBOX_REQUEST__INIT;
    CreateSandboxRequest__LabelsEntry label = CREATE_SANDBOX_REQUEST__LABELS_ENTRY__INIT, *labels = &label;
    label.key = (char *)(uintptr_t) "team";
    label.value = (char *)(uintptr_t) "blue";
    req.n_labels = 1;
    req.labels = &labels;
    req.provider = (char *)(uintptr_t)provider;
    req.request_id = (char *)(uintptr_t)request_id;
    cleanup_error sa_error *err = NULL;
    CreateSandboxResponse *res = create_sandbox_wait(w->caller.channel, &req, &patient, &err);
    note_reason(err);
    char *id = res ? sa_strdup(res->sandbox->sandbox_id) : NULL;
    rpc_message_free(res);
    return id;
}

static SandboxState state_of(struct world *w, const char *id, char **ret_message)
{
    GetSandboxRequest req = GET_SANDBOX_REQUEST__INIT;
    req.sandbox_id = (char *)(uintptr_t)id;
    cleanup_error sa_error *err = NULL;
    GetSandboxResponse *res = get_sandbox_wait(w->caller.channel, &req, &patient, &err);
    note_reason(err);
    SandboxState state = res ? res->sandbox->state : SANDBOX_STATE_UNSPECIFIED;
    if (ret_message)
        *ret_message = sa_strdup(res ? res->sandbox->message : "");
    if (res) {
        assert_int_equal(res->sandbox->n_labels, 1);
        assert_string_equal(res->sandbox->labels[0]->value, "blue");
    }
    rpc_message_free(res);
    return state;
}

struct wanted {
    struct world *w;
    const char *id;
    SandboxState state;
};

static bool is_in_state(void *user)
{
    struct wanted *x = user;
    char *message;
    SandboxState now = state_of(x->w, x->id, &message);
    if (now == SANDBOX_STATE_FAILED && x->state != SANDBOX_STATE_FAILED)
        fail_msg("sandbox failed: %s", message);
    free(message);
    return now == x->state;
}

static void await(struct world *w, const char *id, SandboxState state)
{
    struct wanted x = {w, id, state};
    wait_until(is_in_state, &x, "the sandbox is in the wanted state");
}

/* NULL: none now, and why in `reason`. */
static GetSandboxEndpointResponse *endpoint(struct world *w, const char *id)
{
    GetSandboxEndpointRequest req = GET_SANDBOX_ENDPOINT_REQUEST__INIT;
    req.sandbox_id = (char *)(uintptr_t)id;
    cleanup_error sa_error *err = NULL;
    GetSandboxEndpointResponse *res = get_sandbox_endpoint_wait(w->caller.channel, &req, &patient, &err);
    note_reason(err);
    return res;
}

static bool healthy(struct world *w, const char *id)
{
    CheckSandboxRequest req = CHECK_SANDBOX_REQUEST__INIT;
    req.sandbox_id = (char *)(uintptr_t)id;
    CheckSandboxResponse *res = check_sandbox_wait(w->caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    bool well = res->healthy;
    assert_int_equal(well, !*res->message);
    rpc_message_free(res);
    return well;
}

static void destroy(struct world *w, const char *id)
{
    DestroySandboxRequest req = DESTROY_SANDBOX_REQUEST__INIT;
    req.sandbox_id = (char *)(uintptr_t)id;
    cleanup_error sa_error *err = NULL;
    DestroySandboxResponse *res = destroy_sandbox_wait(w->caller.channel, &req, &patient, &err);
    note_reason(err);
    rpc_message_free(res);
}

/* ---- what can be seen from outside ---- */

/* Processes of a sandbox; *ret_server: the one that all others descend from. */
static int processes_of(const char *id, pid_t *ret_server)
{
    DIR *d = opendir("/proc");
    int n = 0;
    pid_t lowest = 0;
    for (struct dirent *e; (e = readdir(d));) {
        cleanup_buf struct sa_buf env = {0}, cmd = {0};
        cleanup_free char *path = sa_format("/proc/%s/environ", e->d_name);
        cleanup_free char *cmdline = sa_format("/proc/%s/cmdline", e->d_name);
        if (atoi(e->d_name) <= 0 || sa_read_file(path, 1 << 20, &env, NULL) < 0)
            continue;
        if (!memmem(env.data, env.len, id, strlen(id)))
            continue;
        n++;
        sa_read_file(cmdline, 1 << 16, &cmd, NULL);
        size_t first = strlen(sa_buf_string(&cmd));
        if (first + 1 < cmd.len && !strcmp((char *)cmd.data + first + 1, "server"))
            lowest = (pid_t)atoi(e->d_name);
    }
    closedir(d);
    if (ret_server)
        *ret_server = lowest;
    return n;
}

/* What the sandbox's file service says to a token. */
static const char *says(const char *grpc_target, const char *token)
{
    unsigned port = (unsigned)atoi(strrchr(grpc_target, ':') + 1);
    cleanup_free char *target = sa_format("127.0.0.1:%u", port + 2);
    struct caller c = caller_open(target, token, NULL);
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.path = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "/"};
    cleanup_error sa_error *err = NULL;
    StatFileResponse *res = stat_file_wait(c.channel, &req, &patient, &err);
    note_reason(err);
    rpc_message_free(res);
    caller_close(&c);
    return reason;
}

static void assert_reachable(struct world *w, const char *id)
{
    GetSandboxEndpointResponse *e = endpoint(w, id);
    assert_non_null(e);
    assert_string_equal(says(e->grpc_target, e->token), "");
    rpc_message_free(e);
}

/* ---- the tests ---- */

static void a_sandbox_is_made_used_and_ended(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", "");
    assert_non_null(id);
    assert_null(endpoint(&w, id));
    assert_string_equal(reason, "SANDBOX_NOT_READY");
    assert_false(healthy(&w, id));
    await(&w, id, SANDBOX_STATE_RUNNING);
    GetSandboxEndpointResponse *e = endpoint(&w, id);
    assert_non_null(e);
    assert_int_equal(strlen(e->token), 48);
    assert_string_equal(says(e->grpc_target, e->token), "");
    assert_string_equal(says(e->grpc_target, "wrong"), "UNAUTHENTICATED");
    assert_string_equal(says(e->grpc_target, NULL), "UNAUTHENTICATED");
    assert_memory_equal(e->http_url, "http://127.0.0.1:", 17);
    assert_true(healthy(&w, id));
    assert_true(processes_of(id, NULL) >= 6);
    /* The token is in no argument and no environment. */
    cleanup_free char *grep =
        sa_format("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | "
                  "grep -c '^%s$'",
                  e->token);
    FILE *found = popen(grep, "r");
    char count[16] = "";
    assert_non_null(fgets(count, sizeof count, found));
    pclose(found);
    assert_int_equal(atoi(count), 0);

    destroy(&w, id);
    assert_string_equal(reason, "");
    assert_int_equal(state_of(&w, id, NULL), SANDBOX_STATE_DESTROYED);
    assert_int_equal(processes_of(id, NULL), 0);
    cleanup_free char *dir = sa_format("%s/provider/local/%s", w.data, id);
    assert_int_equal(access(dir, F_OK), -1);
    assert_false(healthy(&w, id));
    rpc_message_free(e);
    destroy(&w, id);
    assert_string_equal(reason, "");
    world_free(&w);
}

static void requests_are_checked_and_not_done_twice(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    assert_null(create(&w, "nowhere", ""));
    assert_string_equal(reason, "UNKNOWN_PROVIDER");
    assert_int_equal(state_of(&w, "01h00000000000000000000000", NULL), SANDBOX_STATE_UNSPECIFIED);
    assert_string_equal(reason, "SANDBOX_NOT_FOUND");
    cleanup_free char *first = create(&w, "local", "key-1"), *second = create(&w, "local", "key-1");
    cleanup_free char *other = create(&w, "local", "key-2");
    assert_string_equal(first, second);
    assert_string_not_equal(first, other);
    down(&w, SIGKILL);
    up(&w);
    cleanup_free char *third = create(&w, "local", "key-1");
    assert_string_equal(first, third);

    ListSandboxesRequest req = LIST_SANDBOXES_REQUEST__INIT;
    req.page_size = 1;
    ListSandboxesResponse *page = list_sandboxes_wait(w.caller.channel, &req, &patient, NULL);
    assert_int_equal(page->n_sandboxes, 1);
    assert_string_equal(page->sandboxes[0]->sandbox_id, other);
    cleanup_free char *token = sa_strdup(page->next_page_token);
    rpc_message_free(page);
    req.page_token = token;
    page = list_sandboxes_wait(w.caller.channel, &req, &patient, NULL);
    assert_int_equal(page->n_sandboxes, 1);
    assert_string_equal(page->sandboxes[0]->sandbox_id, first);
    assert_string_equal(page->next_page_token, "");
    rpc_message_free(page);
    /* Not ready yet, and not wanted any more. */
    destroy(&w, first);
    assert_string_equal(reason, "");
    destroy(&w, other);
    assert_string_equal(reason, "");
    assert_int_equal(processes_of(first, NULL) + processes_of(other, NULL), 0);
    world_free(&w);
}

static void a_sandbox_outlives_who_made_it(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", "");
    await(&w, id, SANDBOX_STATE_RUNNING);
    pid_t before, after;
    processes_of(id, &before);
    assert_true(before > 0);
    for (int i = 0; i < 2; i++) {
        down(&w, i ? SIGTERM : SIGKILL);
        up(&w);
        await(&w, id, SANDBOX_STATE_RUNNING);
        processes_of(id, &after);
        assert_int_equal(before, after);
        assert_reachable(&w, id);
        assert_true(healthy(&w, id));
    }
    destroy(&w, id);
    assert_string_equal(reason, "");
    assert_int_equal(processes_of(id, NULL), 0);
    world_free(&w);
}

static void a_half_made_sandbox_is_finished(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", "");
    down(&w, SIGKILL);
    up(&w);
    await(&w, id, SANDBOX_STATE_RUNNING);
    assert_reachable(&w, id);
    assert_true(healthy(&w, id));
    destroy(&w, id);
    assert_int_equal(processes_of(id, NULL), 0);
    world_free(&w);
}

static void begin_destroy(struct world *w, const char *id)
{
    DestroySandboxRequest req = DESTROY_SANDBOX_REQUEST__INIT;
    struct rpc_call_options hurry = {.deadline_ms = 1};
    req.sandbox_id = (char *)(uintptr_t)id;
    rpc_message_free(destroy_sandbox_wait(w->caller.channel, &req, &hurry, NULL));
}

static void a_half_ended_sandbox_is_ended(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", "");
    await(&w, id, SANDBOX_STATE_RUNNING);
    do
        begin_destroy(&w, id);
    while (state_of(&w, id, NULL) == SANDBOX_STATE_RUNNING);
    down(&w, SIGKILL);
    up(&w);
    await(&w, id, SANDBOX_STATE_DESTROYED);
    assert_int_equal(processes_of(id, NULL), 0);
    world_free(&w);
}

/* Starts `sleep <seconds>` in the sandbox, with an environment of its own. */
static void start_sleep(struct world *w, const char *id, const char *seconds)
{
    GetSandboxEndpointResponse *e = endpoint(w, id);
    unsigned port = (unsigned)atoi(strrchr(e->grpc_target, ':') + 1);
    cleanup_free char *target = sa_format("127.0.0.1:%u", port + 1);
    struct caller c = caller_open(target, e->token, NULL);
    StartProcessRequest req = START_PROCESS_REQUEST__INIT;
    ProcessSpec spec = PROCESS_SPEC__INIT;
    ProtobufCBinaryData argv[] = {{5, (uint8_t *)(uintptr_t) "sleep"},
                                  {strlen(seconds), (uint8_t *)(uintptr_t)seconds}};
    spec.argv = argv;
    spec.n_argv = 2;
    req.spec = &spec;
    cleanup_error sa_error *err = NULL;
    StartProcessResponse *res = start_process_wait(c.channel, &req, &patient, &err);
    if (!res)
        fail_msg("%s", err->message);
    rpc_message_free(res);
    caller_close(&c);
    rpc_message_free(e);
}

static int processes_with_argument(const char *text)
{
    DIR *d = opendir("/proc");
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        cleanup_free char *path = sa_format("/proc/%s/cmdline", e->d_name), *last = sa_format("/%s", text);
        cleanup_buf struct sa_buf line = {0};
        if (atoi(e->d_name) <= 0 || sa_read_file(path, 1 << 16, &line, NULL) < 0)
            continue;
        last[0] = 0; /* the argument between two NULs */
        n += memmem(line.data, line.len, last, strlen(text) + 2) != NULL;
    }
    closedir(d);
    return n;
}

/* Not at once: exec has succeeded a moment before the kernel shows the new arguments. */
static bool sleep_shows(void *user)
{
    (void)user;
    return processes_with_argument("97531") == 1;
}

static void a_server_that_is_killed_is_noticed_and_leaves_nothing(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", ""), *message = NULL;
    await(&w, id, SANDBOX_STATE_RUNNING);
    pid_t server;
    start_sleep(&w, id, "97531");
    wait_until(sleep_shows, NULL, "the process of the sandbox shows");
    processes_of(id, &server);
    kill(server, SIGKILL);
    await(&w, id, SANDBOX_STATE_FAILED);
    state_of(&w, id, &message);
    assert_non_null(strstr(message, "signal 9"));
    assert_false(healthy(&w, id));
    assert_null(endpoint(&w, id));
    assert_string_equal(reason, "SANDBOX_NOT_READY");
    destroy(&w, id);
    assert_string_equal(reason, "");
    assert_int_equal(processes_of(id, NULL), 0);
    assert_int_equal(processes_with_argument("97531"), 0);
    world_free(&w);
}

static bool is_gone(void *id)
{
    return processes_of(id, NULL) == 0;
}

static void a_server_that_ended_unseen_is_started_again_on_its_data(void **state)
{
    (void)state;
    struct world w = world_new(NULL);
    cleanup_free char *id = create(&w, "local", "");
    await(&w, id, SANDBOX_STATE_RUNNING);
    GetSandboxEndpointResponse *before = endpoint(&w, id);
    pid_t server;
    processes_of(id, &server);
    down(&w, SIGKILL);
    kill(server, SIGTERM);
    wait_until(is_gone, id, "the sandbox ends");
    up(&w);
    await(&w, id, SANDBOX_STATE_RUNNING);
    GetSandboxEndpointResponse *after = endpoint(&w, id);
    assert_string_equal(before->token, after->token);
    assert_string_equal(before->grpc_target, after->grpc_target);
    assert_string_equal(says(after->grpc_target, before->token), "");
    rpc_message_free(before);
    rpc_message_free(after);
    destroy(&w, id);
    world_free(&w);
}

static void a_server_that_does_not_start_is_told(void **state)
{
    (void)state;
    struct world w = world_new("/bin/false");
    cleanup_free char *id = create(&w, "local", ""), *message = NULL;
    await(&w, id, SANDBOX_STATE_FAILED);
    state_of(&w, id, &message);
    assert_non_null(strstr(message, "did not start"));
    destroy(&w, id);
    assert_string_equal(reason, "");
    world_free(&w);

    w = world_new("/nonexistent/sandbox-agent");
    assert_null(create(&w, "local", ""));
    assert_string_equal(reason, "PROVIDER_ERROR");
    ListProvidersRequest req = LIST_PROVIDERS_REQUEST__INIT;
    ListProvidersResponse *res = list_providers_wait(w.caller.channel, &req, &patient, NULL);
    assert_int_equal(res->n_providers, 1);
    assert_string_equal(res->providers[0]->provider, "local");
    assert_false(res->providers[0]->available);
    assert_non_null(strstr(res->providers[0]->message, "/nonexistent/sandbox-agent"));
    rpc_message_free(res);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sandbox_is_made_used_and_ended),
        cmocka_unit_test(requests_are_checked_and_not_done_twice),
        cmocka_unit_test(a_sandbox_outlives_who_made_it),
        cmocka_unit_test(a_half_made_sandbox_is_finished),
        cmocka_unit_test(a_half_ended_sandbox_is_ended),
        cmocka_unit_test(a_server_that_is_killed_is_noticed_and_leaves_nothing),
        cmocka_unit_test(a_server_that_ended_unseen_is_started_again_on_its_data),
        cmocka_unit_test(a_server_that_does_not_start_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
