#include "services/fs-svc/dir.h"
#include "services/fs-svc/test_dir.h"

static void a_page_is_sorted_and_bounded(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    enum { FILES = 257 };
    for (int i = 0; i < FILES; i++) {
        cleanup_free char *name = sa_format("f%03d", (i * 101) % FILES);
        test_put(dir, name, "x");
    }
    test_link("nowhere", dir, "\xff-last");
    test_mkdir(dir, ".hidden");
    struct fs_list list = {.depth = 1, .max = 50};
    struct fs_cursor after = {0};
    int seen = 0, pages = 0;
    for (bool more = true; more; pages++) {
        struct fs_page page;
        assert_int_equal(fs_dir_page(&root, ".", &list, &after, &page, NULL), 0);
        assert_true(page.n <= 50);
        for (size_t i = 0; i < page.n; i++, seen++) {
            if (seen == 0) {
                assert_string_equal(page.entries[i].name, ".hidden");
                assert_true(S_ISDIR(page.entries[i].st.st_mode));
            } else if (seen <= FILES) {
                cleanup_free char *expected = sa_format("f%03d", seen - 1);
                assert_string_equal(page.entries[i].name, expected);
            } else {
                assert_string_equal(page.entries[i].link_target, "nowhere");
            }
        }
        fs_cursor_fini(&after);
        after = page.last;
        page.last.n = 0;
        more = page.more;
        fs_page_fini(&page);
    }
    assert_int_equal(seen, FILES + 2);
    assert_int_equal(pages, (FILES + 2 + 49) / 50);
    fs_cursor_fini(&after);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void a_page_that_ends_with_the_directory_is_the_last(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    test_put(dir, "a", "");
    test_put(dir, "b", "");
    struct fs_page page, rest;
    struct fs_list list = {.depth = 1, .max = 2};
    assert_int_equal(fs_dir_page(&root, ".", &list, NULL, &page, NULL), 0);
    assert_int_equal(page.n, 2);
    assert_false(page.more);
    assert_int_equal(fs_dir_page(&root, ".", &list, &page.last, &rest, NULL), 0);
    assert_int_equal(rest.n, 0);
    fs_page_fini(&rest);
    fs_page_fini(&page);
    test_root_fini(&root);
    test_dir_remove(dir);
}

static void only_directories_are_listed(void **state)
{
    (void)state;
    char *dir = test_dir_new();
    struct fs_root root = test_root(dir, false);
    test_put(dir, "file", "");
    struct fs_page page;
    struct fs_list list = {.depth = 1, .max = 2};
    cleanup_error sa_error *err = NULL;
    assert_int_equal(fs_dir_page(&root, "file", &list, NULL, &page, &err), -1);
    assert_reason(err, SA_NOT_A_DIRECTORY);
    assert_int_equal(fs_dir_page(&root, "missing", &list, NULL, &page, &err), -1);
    assert_reason(err, SA_FILE_NOT_FOUND);
    test_root_fini(&root);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_sorted_and_bounded),
        cmocka_unit_test(a_page_that_ends_with_the_directory_is_the_last),
        cmocka_unit_test(only_directories_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
