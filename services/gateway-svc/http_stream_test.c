/* Bodies and answers of any size, and connections that are handed over. */
#include "services/gateway-svc/http_fixture.h"

static void a_stream_of_known_size_that_ends_early_closes_the_connection(void **state)
{
    struct fixture *f = *state;
    f->to_stream = f->stream_end = 10;
    int fd = connect_to(f);
    put(fd, "GET /sized HTTP/1.1\r\nHost: x\r\n\r\n");
    cleanup_free char *answer = get(fd, NULL);
    assert_non_null(strstr(answer, "Content-Length: 1048576\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\nxxxxxxxxxx"));
    close(fd);
}

static bool has_taken_its_fill(struct fixture *f)
{
    return f->taken == f->room;
}

/* Until the socket takes no more. */
static size_t send_what_fits(int fd, size_t n)
{
    static const char zeros[65536];
    size_t sent = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (sent < n && poll(&p, 1, 300) > 0) {
        ssize_t k = send(fd, zeros, n - sent < sizeof(zeros) ? n - sent : sizeof(zeros), MSG_DONTWAIT);
        sent += k > 0 ? (size_t)k : 0;
    }
    return sent;
}

static void a_body_goes_to_its_sink_as_fast_as_there_is_room(void **state)
{
    enum { ALL = 100000000 };
    struct fixture *f = *state;
    f->room = 10000;
    int fd = connect_to(f);
    put(fd, "PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n");
    size_t sent = send_what_fits(fd, ALL);
    assert_in_range(sent, 10000, ALL / 2);
    wait_until(f, has_taken_its_fill);
    sa_loop_lock(f->loop);
    f->room = ALL;
    http_wake(f->sink);
    sa_loop_unlock(f->loop);
    while (sent < ALL)
        sent += send_what_fits(fd, ALL - sent);
    await_text(fd, "\r\n\r\ntaken");
    assert_answer(f, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n", "/next", "200 OK");
    close(fd);
}

static void an_answer_in_the_middle_of_a_body_arrives_behind_it(void **state)
{
    enum { ALL = 50000000 };
    struct fixture *f = *state;
    f->room = 1;
    int fd = connect_to(f);
    put(fd, "PUT /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n");
    for (size_t sent = 0; sent < ALL;)
        sent += send_what_fits(fd, ALL - sent);
    cleanup_free char *answer = get(fd, "\r\n\r\nfull");
    assert_non_null(strstr(answer, "HTTP/1.1 507"));
    close(fd);
}

static bool is_switched(struct fixture *f)
{
    return f->switched_fd > 0;
}

static void a_connection_is_handed_over_and_closed(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f);
    put(fd, "GET /switch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nearly");
    wait_until(f, is_switched);
    sa_loop_lock(f->loop);
    assert_string_equal(f->early, "early");
    assert_int_equal(send(f->switched_fd, "own words", 9, MSG_NOSIGNAL), 9);
    sa_loop_unlock(f->loop);
    cleanup_free char *answer = get(fd, "own words");
    assert_non_null(strstr(answer, "HTTP/1.1 101 "));
    sa_loop_lock(f->loop);
    http_close(f->switched);
    assert_true(f->closing);
    sa_loop_unlock(f->loop);
    await_text(fd, NULL);
    close(fd);
}

static void freeing_ends_a_connection_that_was_handed_over(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f);
    put(fd, "GET /switch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n");
    await_text(fd, "101");
    wait_until(f, is_switched);
    sa_loop_lock(f->loop);
    http_server_free(f->server);
    assert_true(f->closing);
    assert_int_equal(f->finished, 1);
    f->server = NULL;
    sa_loop_unlock(f->loop);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_of_known_size_that_ends_early_closes_the_connection, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_body_goes_to_its_sink_as_fast_as_there_is_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_in_the_middle_of_a_body_arrives_behind_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_connection_is_handed_over_and_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(freeing_ends_a_connection_that_was_handed_over, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
