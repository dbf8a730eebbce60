#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "services/gateway-svc/routes.h"
#include "services/gateway-svc/websocket.h"
#include "services/gateway-svc/window.h"

/* ---- routes ---- */

static const struct route table[] = {
    {.method = "GET", .pattern = "/"},
    {.method = "GET", .pattern = "/ui/*"},
    {.method = "GET", .pattern = "/v1/sessions"},
    {.method = "POST", .pattern = "/v1/sessions"},
    {.method = "GET", .pattern = "/v1/sessions/{sessionId}"},
    {.method = "DELETE", .pattern = "/v1/sessions/{sessionId}"},
    {.method = "POST", .pattern = "/v1/sessions/{sessionId}/permissions/{permissionId}/answer"},
    {0},
};

struct found {
    struct sa_arena *arena;
    struct route_match match;
    enum route_result result;
};

static int make_found(void **state)
{
    struct found *f = calloc(1, sizeof(*f));
    f->arena = sa_arena_new();
    *state = f;
    return 0;
}

static int free_found(void **state)
{
    struct found *f = *state;
    sa_arena_free(f->arena);
    free(f);
    return 0;
}

static enum route_result look(struct found *f, const char *method, const char *path)
{
    memset(&f->match, 0, sizeof(f->match));
    f->result = route_find(table, method, path, f->arena, &f->match);
    return f->result;
}

static void a_path_leads_to_its_entry(void **state)
{
    struct found *f = *state;
    assert_int_equal(look(f, "GET", "/"), ROUTE_FOUND);
    assert_ptr_equal(f->match.route, &table[0]);
    assert_int_equal(look(f, "POST", "/v1/sessions"), ROUTE_FOUND);
    assert_ptr_equal(f->match.route, &table[3]);
    assert_int_equal(look(f, "GET", "/ui/"), ROUTE_FOUND);
    assert_ptr_equal(f->match.route, &table[1]);
    assert_int_equal(look(f, "GET", "/ui/a/b"), ROUTE_FOUND);
    assert_int_equal(look(f, "HEAD", "/v1/sessions"), ROUTE_FOUND);
    assert_ptr_equal(f->match.route, &table[2]);
}

static void parameters_are_decoded(void **state)
{
    struct found *f = *state;
    assert_int_equal(look(f, "POST", "/v1/sessions/a%2Fb/permissions/%c3%bc/answer"), ROUTE_FOUND);
    assert_int_equal(f->match.n_params, 2);
    assert_memory_equal(f->match.params[0].name, "sessionId", f->match.params[0].name_len);
    assert_string_equal(f->match.params[0].value, "a/b");
    assert_memory_equal(f->match.params[1].name, "permissionId", f->match.params[1].name_len);
    assert_string_equal(f->match.params[1].value, "ü");
}

static void another_method_is_told_what_is_allowed(void **state)
{
    struct found *f = *state;
    assert_int_equal(look(f, "PUT", "/v1/sessions"), ROUTE_NO_METHOD);
    assert_string_equal(f->match.allow, "GET, HEAD, POST");
    assert_int_equal(look(f, "POST", "/v1/sessions/x"), ROUTE_NO_METHOD);
    assert_string_equal(f->match.allow, "GET, HEAD, DELETE");
    assert_int_equal(look(f, "get", "/v1/sessions"), ROUTE_NO_METHOD);
}

static void other_paths_do_not_exist(void **state)
{
    static const char *const paths[] = {"",
                                        "v1/sessions",
                                        "/v1",
                                        "/v1/sessions/",
                                        "/v1//sessions",
                                        "/v2/sessions",
                                        "/v1/sessions/x/y",
                                        "/ui",
                                        "*",
                                        "/v1/sessionsx",
                                        "//"};
    struct found *f = *state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++)
        if (look(f, "GET", paths[i]) != ROUTE_NO_PATH)
            fail_msg("%s", paths[i]);
}

static void bad_escapes_are_refused(void **state)
{
    static const char *const ids[] = {"%",      "%4",        "%zz",          "a%00b", "%ff",
                                      "%c0%80", "%ed%a0%80", "%f5%80%80%80", "%e2%82"};
    struct found *f = *state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(*ids); i++) {
        cleanup_free char *path = sa_format("/v1/sessions/%s", ids[i]);
        if (look(f, "GET", path) != ROUTE_BAD_PATH)
            fail_msg("%s", ids[i]);
    }
    assert_int_equal(look(f, "GET", "/v1/sessions/%f0%9f%98%80"), ROUTE_FOUND);
    assert_string_equal(f->match.params[0].value, "😀");
}

/* ---- the window ---- */

static void add(struct window *w, const char *text)
{
    window_add(w, sa_strdup(text), strlen(text), false);
}

static void a_window_holds_what_came_last(void **state)
{
    struct window w = {0};
    (void)state;
    window_reset(&w, 8);
    assert_null(window_get(&w, 7));
    assert_null(window_get(&w, 8));
    add(&w, "eight");
    window_add(&w, sa_strdup("nine"), 4, true);
    assert_string_equal(window_get(&w, 8)->text, "eight");
    assert_true(window_get(&w, 9)->last);
    assert_null(window_get(&w, 10));
    window_reset(&w, 100);
    assert_null(window_get(&w, 8));
    assert_int_equal(w.bytes, 0);
    window_reset(&w, 0);
}

static void a_window_forgets_the_oldest_event_when_it_is_full(void **state)
{
    struct window w = {0};
    (void)state;
    window_reset(&w, 1);
    for (int i = 0; i < WINDOW_EVENTS + 3; i++)
        add(&w, "x");
    assert_int_equal(w.first, 4);
    assert_null(window_get(&w, 3));
    assert_non_null(window_get(&w, 4));
    assert_non_null(window_get(&w, WINDOW_EVENTS + 3));
    window_reset(&w, 0);
}

static void a_window_holds_a_bounded_number_of_bytes(void **state)
{
    struct window w = {0};
    char *big = malloc(WINDOW_BYTES / 2 + 1);
    (void)state;
    memset(big, 'x', WINDOW_BYTES / 2);
    big[WINDOW_BYTES / 2] = 0;
    window_reset(&w, 1);
    for (int i = 0; i < 4; i++)
        add(&w, big);
    assert_int_equal(w.first, 3);
    assert_int_equal(w.bytes, WINDOW_BYTES / 2 * 2);
    window_add(&w, malloc(WINDOW_BYTES * 2), WINDOW_BYTES * 2, false); /* one that is larger than all */
    assert_int_equal(w.first, 5);
    assert_non_null(window_get(&w, 5));
    window_reset(&w, 0);
    free(big);
}

/* ---- WebSocket ---- */

static void a_key_is_answered_as_in_the_rfc(void **state)
{
    char text[WEBSOCKET_KEY_TEXT + 1];
    (void)state;
    assert_true(websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ==", text));
    assert_string_equal(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_false(websocket_accept_key("dGhlIHNhbXBsZSBub25jZQ=", text));
    assert_false(websocket_accept_key("", text));
    assert_false(websocket_accept_key(NULL, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_leads_to_its_entry, make_found, free_found),
        cmocka_unit_test_setup_teardown(parameters_are_decoded, make_found, free_found),
        cmocka_unit_test_setup_teardown(another_method_is_told_what_is_allowed, make_found, free_found),
        cmocka_unit_test_setup_teardown(other_paths_do_not_exist, make_found, free_found),
        cmocka_unit_test_setup_teardown(bad_escapes_are_refused, make_found, free_found),
        cmocka_unit_test(a_key_is_answered_as_in_the_rfc),
        cmocka_unit_test(a_window_holds_what_came_last),
        cmocka_unit_test(a_window_forgets_the_oldest_event_when_it_is_full),
        cmocka_unit_test(a_window_holds_a_bounded_number_of_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
