/* Lists, as callers of the program fs-svc see them. */
#include "services/fs-svc/tree_fixture.h"

#include "adapters/os/clock.h"

static void a_long_list_comes_fast(void **state)
{
    (void)state;
    enum { FILES = 10000 };
    struct service_fixture f = tree_start();
    make_many(f.ws, "many", FILES);
    ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = bytes("many");
    req.page_size = FILES;
    for (int names_only = 0; names_only < 2; names_only++) {
        uint64_t start = sa_now_ns();
        cleanup_free char *token = sa_strdup("");
        size_t n = 0;
        int pages = 0;
        req.names_only = names_only;
        do {
            req.page_token = token;
            ListDirectoryResponse *res = list_directory_wait(f.caller.channel, &req, &patient, NULL);
            assert_non_null(res);
            n += res->n_entries;
            pages++;
            free(token);
            token = sa_strdup(res->next_page_token);
            rpc_message_free(res);
        } while (*token);
        print_message("10000 entries, %s, %d pages: %.1f ms\n", names_only ? "names" : "whole", pages,
                      (double)(sa_now_ns() - start) / 1e6);
        assert_int_equal(n, FILES);
        assert_int_equal(pages, names_only ? 1 : 3);
    }
    tree_end(&f);
}

/* The names of all entries, page by page, joined by blanks. */
static char *names_of(struct service_fixture *f, ListDirectoryRequest *req)
{
    cleanup_buf struct sa_buf b = {0};
    cleanup_free char *token = sa_strdup("");
    do {
        req->root = mutable("ws");
        req->page_token = token;
        cleanup_error sa_error *err = NULL;
        ListDirectoryResponse *res = list_directory_wait(f->caller.channel, req, &patient, &err);
        if (!res)
            fail_msg("%s", err->message);
        for (size_t i = 0; i < res->n_entries; i++)
            sa_buf_addf(&b, "%s%.*s", b.len ? " " : "", (int)res->entries[i]->path.len,
                        (char *)res->entries[i]->path.data);
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
    } while (*token);
    return sa_strdup(sa_buf_string(&b));
}

static void a_list_is_sorted_and_goes_down_as_asked(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "a/b/c");
    test_mkdir(f.ws, ".h");
    test_put(f.ws, ".h/x", "");
    test_put(f.ws, "a/b/c/deep", "");
    test_put(f.ws, "a/z", "12");
    test_put(f.ws, "m", "123");
    test_put(f.ws, "a-", "1");
    test_link("a", f.ws, "l");
    static const struct {
        int depth;
        ListOrder order;
        bool hide, descending;
        const char *path, *expected;
    } cases[] = {
        {0, LIST_ORDER_UNSPECIFIED, false, false, ".", ".h a a- l m"},
        {1, LIST_ORDER_NAME, true, true, ".", "m l a- a"},
        {64, LIST_ORDER_NAME, false, false, ".", ".h .h/x a a/b a/b/c a/b/c/deep a/z a- l m"},
        {2, LIST_ORDER_NAME, true, false, ".", "a a/b a/z a- l m"},
        {64, LIST_ORDER_NAME, true, true, ".", "m l a- a a/z a/b a/b/c a/b/c/deep"},
        {64, LIST_ORDER_NAME, true, false, "a", "a/b a/b/c a/b/c/deep a/z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int page = 1; page < 12; page++) {
            ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
            req.path = bytes(cases[i].path);
            req.depth = cases[i].depth;
            req.order = cases[i].order;
            req.hide_hidden = cases[i].hide;
            req.descending = cases[i].descending;
            req.page_size = page;
            req.names_only = page % 2;
            cleanup_free char *got = names_of(&f, &req);
            assert_string_equal(got, cases[i].expected);
        }
    test_mkdir(f.ws, "s");
    test_put(f.ws, "s/big", "123456");
    test_put(f.ws, "s/small", "1");
    test_put(f.ws, "s/mid", "123");
    cleanup_free char *mid = sa_format("%s/s/mid", f.ws);
    struct timespec old[2] = {{.tv_sec = -5}, {.tv_sec = -5}};
    assert_int_equal(utimensat(AT_FDCWD, mid, old, 0), 0);
    for (int page = 1; page < 5; page++) {
        ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
        req.path = bytes("s");
        req.page_size = page;
        req.order = LIST_ORDER_SIZE;
        cleanup_free char *by_size = names_of(&f, &req);
        assert_string_equal(by_size, "s/small s/mid s/big");
        req.descending = true;
        cleanup_free char *largest = names_of(&f, &req);
        assert_string_equal(largest, "s/big s/mid s/small");
        req.order = LIST_ORDER_MODIFY_TIME;
        cleanup_free char *newest = names_of(&f, &req);
        assert_string_equal(strrchr(newest, ' '), " s/mid");
    }
    tree_end(&f);
}

/* A token is only text to its caller, who may write one: it must not lead out. */
static void forged_page_tokens_are_refused(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "a/b");
    ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = bytes(".");
    req.page_size = 1;
    req.depth = 3;
    ListDirectoryResponse *res = list_directory_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    cleanup_free char *good = sa_strdup(res->next_page_token);
    rpc_message_free(res);
    /* Nothing, no hexadecimal, "..", ".", "a/b", no name, and more parts than the depth. */
    const char *parts[] = {
        "",
        "0",
        "zz",
        "00000000000000002e2e00",
        "00000000000000002e00",
        "0000000000000000612f6200",
        "000000000000000000",
        "0000000000000000610000000000000000006100000000000000000061000000000000000000610000"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        cleanup_free char *token = sa_format("%.9s%s", good, parts[i]);
        cleanup_error sa_error *err = NULL;
        req.page_token = token;
        assert_null(list_directory_wait(f.caller.channel, &req, &patient, &err));
        assert_reason(err, SA_INVALID_PAGE_TOKEN);
    }
    req.page_token = good;
    req.depth = 2;
    cleanup_error sa_error *other = NULL;
    assert_null(list_directory_wait(f.caller.channel, &req, &patient, &other));
    assert_reason(other, SA_INVALID_PAGE_TOKEN);
    tree_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_list_comes_fast),
        cmocka_unit_test(a_list_is_sorted_and_goes_down_as_asked),
        cmocka_unit_test(forged_page_tokens_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
