#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "adapters/redis/redis_fixture.h"

/* ---- commands ---- */

static void commands_are_answered_in_order(void **state)
{
    struct fixture *f = *state;
    command(f, "SET k v");
    command(f, "GET k");
    command(f, "GET nothing");
    command(f, "INCR n");
    command(f, "LPUSH l a b c");
    command(f, "LRANGE l 0 -1");
    command(f, "INCR k");
    assert_int_equal(f->n, 0); /* nothing comes from inside a call */
    assert_string_equal(answer(f), "OK");
    assert_string_equal(answer(f), "v");
    assert_string_equal(answer(f), "nil");
    assert_string_equal(answer(f), "1");
    assert_string_equal(answer(f), "3");
    assert_string_equal(answer(f), "[3]");
    assert_string_equal(answer(f), "REDIS_ERROR");
}

static void on_binary(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct fixture *f = user;
    size_t n;
    const char *p = redis_str(reply, &n);
    assert_null(err);
    say(f, "%d", n == 300000 && !memcmp(p, "a\0b\r\n", 5) && p[n - 1] == 'z');
}

static void values_are_bytes(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *big = sa_calloc(1, 300000);
    memcpy(big, "a\0b\r\n", 5);
    big[299999] = 'z';
    struct redis_arg set[] = {redis_arg("SET"), redis_arg("k"), {big, 300000}};
    struct redis_arg get[] = {redis_arg("GET"), redis_arg("k")};
    redis_command(f->client, set, 3, on_answer, f);
    redis_command(f->client, get, 2, on_binary, f);
    assert_string_equal(answer(f), "OK");
    assert_string_equal(answer(f), "1");
}

static const struct redis_script sum = {
    "sum", "redis.call('SET', KEYS[1], ARGV[1] + ARGV[2]) return {KEYS[1], ARGV[1] + ARGV[2]}"};

static void on_sum(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct fixture *f = user;
    say(f, "%s %lld", err ? err->reason : redis_str(redis_at(reply, 0), NULL),
        (long long)redis_int(redis_at(reply, 1)));
}

static void eval_sum(struct fixture *f, int a, int b)
{
    char x[24], y[24];
    struct redis_arg key = redis_arg("k"), args[] = {redis_arg_int(a, x), redis_arg_int(b, y)};
    redis_eval(f->client, &sum, &key, 1, args, 2, on_sum, f);
}

static void scripts_run_also_when_the_server_has_forgotten_them(void **state)
{
    struct fixture *f = *state;
    eval_sum(f, 1, 2);
    assert_string_equal(answer(f), "k 3");
    eval_sum(f, 3, 4);
    assert_string_equal(answer(f), "k 7");
    command(f, "SCRIPT FLUSH");
    eval_sum(f, 5, 6); /* by its digest: unknown now */
    eval_sum(f, 7, 8);
    assert_string_equal(answer(f), "OK");
    assert_string_equal(answer(f), "k 11");
    assert_string_equal(answer(f), "k 15");
    command(f, "SCRIPT EXISTS x");
    assert_string_equal(answer(f), "[1]");
}

/* ---- a server that is away ---- */

static void a_server_that_is_down_is_told_at_once_and_found_when_it_comes(void **state)
{
    struct fixture *f = *state;
    stop_server(f);
    run_until(f, is_offline);
    assert_int_equal(f->downs, 1);
    uint64_t before = sa_now_ms();
    command(f, "PING");
    assert_int_equal(f->n, 0);
    assert_string_equal(answer(f), "REDIS_UNAVAILABLE");
    assert_true(sa_now_ms() - before < 1000);
    assert_non_null(strstr(redis_last_error(f->client), "/sock"));
    start_server(f, NULL);
    run_until(f, is_online);
    assert_int_equal(f->ups, 2);
    assert_string_equal(redis_last_error(f->client), "");
    command(f, "GET k");
    assert_string_equal(answer(f), "nil");
}

static bool three_answers(struct fixture *f)
{
    return f->n == 3;
}

static void a_server_killed_in_the_middle_fails_what_is_under_way(void **state)
{
    struct fixture *f = *state;
    kill(f->server, SIGSTOP);
    command(f, "SET k v");
    command(f, "GET k");
    command(f, "GET k");
    stop_server(f);
    run_until(f, three_answers);
    for (int i = 0; i < 3; i++)
        assert_string_equal(answer(f), "REDIS_UNAVAILABLE");
    start_server(f, NULL);
    run_until(f, is_online);
}

static void a_slow_server_is_a_deadline_and_then_offline(void **state)
{
    struct fixture *f = *state;
    kill(f->server, SIGSTOP);
    uint64_t before = sa_now_ms();
    command(f, "PING");
    command(f, "PING");
    assert_string_equal(answer(f), "DEADLINE_EXCEEDED");
    assert_string_equal(answer(f), "REDIS_UNAVAILABLE");
    assert_in_range(sa_now_ms() - before, 450, 5000);
    run_until(f, is_offline);
    command(f, "PING");
    assert_string_equal(answer(f), "REDIS_UNAVAILABLE");
    kill(f->server, SIGCONT);
    run_until(f, is_online);
    command(f, "PING");
    assert_string_equal(answer(f), "PONG");
}

static void too_many_commands_are_refused(void **state)
{
    struct fixture *f = *state;
    struct redis_options opt = {.url = f->url, .max_pending = 2};
    redis_client_free(f->client);
    f->client = redis_client_new(f->loop, &opt, NULL);
    run_until(f, is_online);
    for (int i = 0; i < 3; i++)
        command(f, "PING");
    run_until(f, three_answers);
    int refused = 0;
    for (int i = 0; i < 3; i++)
        refused += strcmp(answer(f), "TOO_MANY") == 0;
    assert_int_equal(refused, 1);
}

static void freeing_the_client_answers_everything(void **state)
{
    struct fixture *f = *state;
    command(f, "PING");
    eval_sum(f, 1, 2);
    redis_client_free(f->client);
    f->client = new_client(f, false);
    command(f, "PING"); /* not connected yet: refused, to be told later */
    redis_client_free(f->client);
    f->client = NULL;
    assert_int_equal(f->n, 3);
    assert_string_equal(f->log[0], "CANCELLED");
    assert_string_equal(f->log[1], "CANCELLED 0");
    assert_string_equal(f->log[2], "CANCELLED");
}

static void free_client(void *user, const struct redis_reply *reply, const sa_error *err)
{
    struct fixture *f = user;
    (void)reply;
    if (!f->client)
        return;
    struct redis_client *c = f->client;
    f->client = NULL;
    redis_client_free(c);
    say(f, "%s", err ? err->reason : "freed");
}

static void a_callback_may_free_the_client(void **state)
{
    struct fixture *f = *state;
    struct redis_arg ping = redis_arg("PING");
    for (int i = 0; i < 3; i++)
        redis_command(f->client, &ping, 1, free_client, f);
    assert_string_equal(answer(f), "freed");
    f->client = new_client(f, false);
    run_until(f, is_online);
    kill(f->server, SIGSTOP);
    redis_command(f->client, &ping, 1, free_client, f);
    assert_string_equal(answer(f), "DEADLINE_EXCEEDED");
    kill(f->server, SIGCONT);
}

/* ---- addresses ---- */

static void passwords_databases_and_bad_urls(void **state)
{
    struct fixture *f = *state;
    stop_server(f);
    start_server(f, "p@ss:w/d");
    redis_client_free(f->client);
    f->client = new_client(f, false); /* without the password */
    while (!strstr(redis_last_error(f->client), "NOAUTH"))
        run_until(f, is_offline);
    static const char *const bad[] = {"",
                                      "localhost",
                                      "unix:",
                                      "unix:relative",
                                      "redis://",
                                      "redis://:80",
                                      "redis://h:0",
                                      "redis://h:70000",
                                      "redis://h:x",
                                      "redis://h/x",
                                      "redis://secret@h",
                                      "redis://u:%zz@h",
                                      "redis://[::1",
                                      "unix:/s?x=1",
                                      "http://h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cleanup_error sa_error *err = NULL;
        struct redis_options opt = {.url = bad[i]};
        if (redis_client_new(f->loop, &opt, &err))
            fail_msg("accepted: %s", bad[i]);
        assert_true(sa_error_is(err, SA_INVALID_CONFIG));
        assert_null(strstr(err->message, "secret"));
    }
}

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void tcp_with_user_password_and_database(void **state)
{
    struct fixture *f = *state;
    char text[100];
    int port = free_port();
    command(f, "CONFIG SET requirepass p@ss");
    assert_string_equal(answer(f), "OK");
    snprintf(text, sizeof text, "CONFIG SET port %d", port);
    command(f, text);
    assert_string_equal(answer(f), "OK");
    command(f, "SET where zero");
    assert_string_equal(answer(f), "OK");
    redis_client_free(f->client);
    snprintf(f->url, sizeof f->url, "redis://default:p%%40ss@localhost:%d/3", port);
    f->client = new_client(f, false);
    run_until(f, is_online);
    command(f, "GET where");
    assert_string_equal(answer(f), "nil");
    redis_client_free(f->client);
    snprintf(f->url, sizeof f->url, "redis://:p%%40ss@127.0.0.1:%d", port);
    f->client = new_client(f, false);
    run_until(f, is_online);
    command(f, "GET where");
    assert_string_equal(answer(f), "zero");
}

/* ---- notices and streams ---- */

static void on_notice(void *user, const char *payload, size_t n)
{
    say(user, "notice %.*s", (int)n, payload);
}

static void on_again(void *user)
{
    say(user, "again");
}

static const struct redis_subscription_events notices = {on_notice, on_again};

static void subscriptions_survive_a_restart(void **state)
{
    struct fixture *f = *state;
    struct redis_subscription *s = redis_subscribe(f->client, "news", &notices, f);
    assert_string_equal(answer(f), "again");
    command(f, "PUBLISH news one");
    char first[128];
    strcpy(first, answer(f));
    const char *second = answer(f);
    assert_true((strcmp(first, "1") == 0 && strcmp(second, "notice one") == 0) ||
                (strcmp(second, "1") == 0 && strcmp(first, "notice one") == 0));
    stop_server(f);
    run_until(f, is_offline);
    start_server(f, NULL);
    assert_string_equal(answer(f), "again");
    struct redis_subscription *other = redis_subscribe(f->client, "news", &notices, f);
    assert_string_equal(answer(f), "again"); /* the first one is told again as well */
    assert_string_equal(answer(f), "again");
    redis_subscription_free(s);
    run_until(f, is_online);
    command(f, "PUBLISH news two");
    answer(f);
    answer(f);
    assert_int_equal(f->n, 0);
    redis_subscription_free(other);
    command(f, "PUBLISH news three");
    const char *last = answer(f);
    assert_true(strcmp(last, "0") == 0 || strcmp(last, "1") == 0);
    assert_int_equal(f->n, 0);
}

static void on_entry(void *user, const char *id, const struct redis_reply *fields)
{
    assert_non_null(strchr(id, '-'));
    say(user, "%s=%s", redis_str(redis_at(fields, 0), NULL), redis_str(redis_at(fields, 1), NULL));
}

static void on_reset(void *user)
{
    say(user, "reset");
}

static const struct redis_follow_events entries = {on_entry, on_reset};

static const struct redis_script add = {
    "add", "for i = ARGV[1], ARGV[2] do redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'n', i) end "
           "redis.call('PUBLISH', KEYS[1], '')"};

static void add_entries(struct fixture *f, int from, int to, int max)
{
    char a[24], b[24], c[24];
    struct redis_arg key = redis_arg("changes");
    struct redis_arg args[] = {redis_arg_int(from, a), redis_arg_int(to, b), redis_arg_int(max, c)};
    redis_eval(f->client, &add, &key, 1, args, 3, NULL, NULL);
}

static void a_stream_is_followed_in_order_and_once(void **state)
{
    struct fixture *f = *state;
    char expected[32];
    add_entries(f, 1, 3, 1000);
    struct redis_follow *follow = redis_follow(f->client, "changes", "0-0", &entries, f);
    add_entries(f, 4, 40, 1000);
    for (int i = 1; i <= 40; i++) {
        snprintf(expected, sizeof expected, "n=%d", i);
        assert_string_equal(answer(f), expected);
    }
    f->other = new_client(f, false);
    run_until(f, is_online);
    struct redis_client *mine = f->client;
    f->client = f->other;
    add_entries(f, 41, 50, 1000); /* another process */
    f->client = mine;
    for (int i = 41; i <= 50; i++) {
        snprintf(expected, sizeof expected, "n=%d", i);
        assert_string_equal(answer(f), expected);
    }
    redis_follow_free(follow);
}

static void a_reader_that_missed_entries_takes_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct redis_follow *follow = redis_follow(f->client, "changes", "0-0", &entries, f);
    add_entries(f, 1, 30, 10); /* twenty are trimmed before anybody reads */
    assert_string_equal(answer(f), "reset");
    command(f, "XREVRANGE changes + - COUNT"); /* (a snapshot; its answer is an error here) */
    assert_string_equal(answer(f), "REDIS_ERROR");
    stop_server(f);
    run_until(f, is_offline);
    start_server(f, NULL);
    run_until(f, is_online);
    redis_follow_from(follow, "0-0"); /* an empty Redis */
    add_entries(f, 1, 1, 10);
    assert_string_equal(answer(f), "n=1");
    stop_server(f);
    run_until(f, is_offline);
    start_server(f, NULL); /* empty again: where we stand is gone */
    assert_string_equal(answer(f), "reset");
    redis_client_free(f->client);
    f->client = NULL;
    redis_follow_from(follow, "0-0");
    redis_follow_free(follow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(commands_are_answered_in_order),
        T(values_are_bytes),
        T(scripts_run_also_when_the_server_has_forgotten_them),
        T(a_server_that_is_down_is_told_at_once_and_found_when_it_comes),
        T(a_server_killed_in_the_middle_fails_what_is_under_way),
        T(a_slow_server_is_a_deadline_and_then_offline),
        T(too_many_commands_are_refused),
        T(freeing_the_client_answers_everything),
        T(a_callback_may_free_the_client),
        T(passwords_databases_and_bad_urls),
        T(tcp_with_user_password_and_database),
        T(subscriptions_survive_a_restart),
        T(a_stream_is_followed_in_order_and_once),
        T(a_reader_that_missed_entries_takes_a_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
