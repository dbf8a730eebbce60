/* The HTTP server by itself, with a tiny service behind it, driven by raw sockets. */
#include "services/gateway-svc/http_fixture.h"

static int set_up_impatient(void **state)
{
    return set_up_with(state, 1000);
}

static bool is_held(struct fixture *f)
{
    return f->held != NULL;
}

/* ---- tests ---- */

static void requests_of_one_connection_are_answered_in_order(void **state)
{
    int fd = connect_to(*state);
    put(fd,
        "GET /one HTTP/1.1\r\nHost: x\r\n\r\nPOST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        "GET /no HTTP/1.1\r\nHost: x\r\n\r\nGET /three HTTP/1.1\r\nHost: x\r\n\r\n");
    cleanup_free char *text = get(fd, "GET /three ");
    const char *one = strstr(text, "GET /one "), *two = strstr(text, "POST /two abc"),
               *no = strstr(text, "404");
    assert_true(one && two && no && one < two && two < no && no < strstr(text, "GET /three "));
    close(fd);
}

static void a_request_in_pieces_is_understood(void **state)
{
    static const char request[] =
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    int fd = connect_to(*state);
    for (const char *p = request; *p; p++)
        assert_int_equal(send(fd, p, 1, MSG_NOSIGNAL), 1);
    await_text(fd, "POST /a abcde");
    close(fd);
}

static void half_a_request_harms_nobody(void **state)
{
    int half = connect_to(*state), gone = connect_to(*state);
    put(half, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    put(gone, "GET /a HT");
    close(gone);
    assert_answer(*state, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /b ", "200 OK");
    close(half);
}

static void an_answer_may_come_later_from_another_thread(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f);
    put(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until(f, is_held);
    sa_loop_lock(f->loop);
    http_reply(f->held, 200, "text/plain", "late", 4, NULL);
    sa_loop_unlock(f->loop);
    cleanup_free char *text = get(fd, "GET /next ");
    assert_non_null(strstr(text, "late"));
    close(fd);
}

static void a_body_over_the_limit_is_refused(void **state)
{
    cleanup_buf struct sa_buf chunked = {0};
    (void)state;
    sa_buf_addf(
        &chunked,
        "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5dc\r\n%01500d\r\n0\r\n\r\n", 1);
    assert_answer(*state, sa_buf_string(&chunked), "at most 1000", "413 ");
    cleanup_buf struct sa_buf sized = {0};
    sa_buf_addf(&sized,
                "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n%01001dGET /b HTTP/1.1\r\nHost: "
                "x\r\n\r\n",
                1);
    assert_answer(*state, sa_buf_string(&sized), "GET /b ", "413 "); /* and the connection goes on */
    assert_answer(*state, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", NULL, "413 ");
    assert_answer(*state,
                  "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n", NULL,
                  "413 ");
}

static void a_body_without_end_is_cut(void **state)
{
    struct fixture *f = *state;
    cleanup_free char *chunk = sa_format("10000\r\n%065536d\r\n", 1);
    int fd = connect_to(f);
    put(fd, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    size_t sent = 0, limit = (size_t)HTTP_DISCARD_MAX * 4;
    while (sent < limit && send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) > 0)
        sent += strlen(chunk);
    assert_true(sent < limit);
    close(fd);
}

static void headers_over_the_limit_are_refused(void **state)
{
    cleanup_free char *large =
        sa_format("GET /a HTTP/1.1\r\nHost: x\r\nBig: %0*d\r\n\r\n", HTTP_HEADER_MAX, 1);
    cleanup_free char *path = sa_format("GET /%0*d HTTP/1.1\r\nHost: x\r\n\r\n", HTTP_HEADER_MAX, 1);
    assert_answer(*state, large, NULL, "431 ");
    assert_answer(*state, path, NULL, "HTTP/1.1 4");
}

static void requests_that_two_readers_could_read_differently_are_refused(void **state)
{
    assert_answer(
        *state,
        "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        NULL, "400 ");
    assert_answer(*state, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
                  NULL, "400 ");
    assert_answer(*state, "POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", NULL, "400 ");
    assert_answer(*state, "GET /a HTTP/1.1\r\n\r\n", NULL, "400 "); /* no Host */
}

static void queries_are_decoded(void **state)
{
    assert_answer(*state, "GET /query?a=b%26c&%C3%BC=1+2&e= HTTP/1.1\r\nHost: x\r\n\r\n", "e=;",
                  "a=b&c;ü=1 2;e=;");
    assert_answer(*state, "GET /query?a=%ff HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n", "400 ");
}

static void a_stream_pauses_and_goes_on(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f);
    put(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    cleanup_free char *head = get(fd, "\r\n\r\n");
    assert_non_null(strstr(head, "chunked"));
    for (size_t step = 1; step <= 4; step++) {
        sa_loop_lock(f->loop);
        f->to_stream = STREAM_BYTES / 4 * step;
        http_wake(f->stream);
        sa_loop_unlock(f->loop);
    }
    await_text(fd, "\r\n0\r\n\r\n");
    assert_int_equal(f->streamed, STREAM_BYTES);
    close(fd);
}

static bool stream_is_over(struct fixture *f)
{
    return f->stream == NULL;
}

static bool stream_has_begun(struct fixture *f)
{
    return f->streamed > 0;
}

static void a_reader_that_stops_is_dropped_after_a_while(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    f->to_stream = f->stream_end = SIZE_MAX;
    put(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until(f, stream_has_begun);
    assert_answer(f, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /b ", "200 OK");
    wait_until(f, stream_is_over);
    assert_true(f->streamed < 8 << 20); /* what was in flight is bounded */
    close(fd);
}

/* Sends a byte now and then, for as long as the server listens. */
static void trickle_to_the_end(int fd, const char *byte)
{
    uint64_t deadline = sa_now_ms() + WAIT_MS;
    char answer[1024];
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, 50) > 0 && recv(fd, answer, sizeof(answer), 0) <= 0)
            return;
        if (sa_now_ms() > deadline)
            fail_msg("the server listens for ever");
        if (send(fd, byte, 1, MSG_NOSIGNAL) < 0)
            return;
    }
}

static void a_request_that_trickles_is_cut_off(void **state)
{
    int head = connect_to(*state), body = connect_to(*state), again = connect_to(*state);
    put(head, "GET /a HTTP/1.1\r\nHost: x\r\nLong: ");
    trickle_to_the_end(head, "x");
    put(body, "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    trickle_to_the_end(body, "x");
    put(again, "GET /first HTTP/1.1\r\nHost: x\r\n\r\nGET /second");
    trickle_to_the_end(again, "x");
    close(head);
    close(body);
    close(again);
}

static void freeing_ends_what_waits(void **state)
{
    struct fixture *f = *state;
    int held = connect_to(f), stream = connect_to(f);
    put(held, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    put(stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    await_text(stream, "\r\n\r\n");
    wait_until(f, is_held);
    sa_loop_lock(f->loop);
    http_server_free(f->server);
    f->server = NULL;
    sa_loop_unlock(f->loop);
    assert_int_equal(f->finished, 2);
    cleanup_free char *nothing = get(held, NULL);
    assert_string_equal(nothing, "");
    close(held);
    close(stream);
}

static void draining_refuses_new_connections_and_finishes_old_ones(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f), late = connect_to(f);
    put(fd, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until(f, is_held);
    sa_loop_lock(f->loop);
    http_server_drain(f->server);
    http_reply(f->held, 200, "text/plain", "done", 4, NULL);
    sa_loop_unlock(f->loop);
    cleanup_free char *text = get(fd, NULL);
    assert_non_null(strstr(text, "Connection: close"));
    assert_non_null(strstr(text, "done"));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(http_server_port(f->server))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int refused = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(refused, (struct sockaddr *)&a, sizeof(a)), -1);
    close(refused);
    close(fd);
    close(late);
}

static void a_port_in_use_is_named(void **state)
{
    struct fixture *f = *state;
    const struct http_options opt = {
        .host = "127.0.0.1", .port = http_server_port(f->server), .max_connections = 1};
    cleanup_error sa_error *err = NULL;
    sa_loop_lock(f->loop);
    assert_null(http_server_new(f->loop, &opt, &err));
    sa_loop_unlock(f->loop);
    assert_true(sa_error_is(err, SA_ADDRESS_IN_USE));
    assert_non_null(strstr(err->message, "127.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_of_one_connection_are_answered_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_in_pieces_is_understood, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_request_harms_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_may_come_later_from_another_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_body_over_the_limit_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_body_without_end_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(headers_over_the_limit_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_that_two_readers_could_read_differently_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(queries_are_decoded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_pauses_and_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_that_stops_is_dropped_after_a_while, set_up_impatient,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_request_that_trickles_is_cut_off, set_up_impatient, tear_down),
        cmocka_unit_test_setup_teardown(freeing_ends_what_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(draining_refuses_new_connections_and_finishes_old_ones, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
