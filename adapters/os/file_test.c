#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"

static int setup(void **state)
{
    char template[] = "/tmp/sa-file-XXXXXX";
    *state = sa_strdup(mkdtemp(template));
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(sa_remove_tree(*state, NULL), 0);
    free(*state);
    return 0;
}

static void a_tree_is_made_and_removed_and_links_are_not_followed(void **state)
{
    cleanup_free char *deep = sa_format("%s/a/b/c", (char *)*state),
                      *keep = sa_format("%s/keep", (char *)*state);
    cleanup_free char *link = sa_format("%s/a/link", (char *)*state), *a = sa_format("%s/a", (char *)*state);
    assert_int_equal(sa_mkdirs(deep, 0700, NULL), 0);
    assert_int_equal(sa_mkdirs(deep, 0700, NULL), 0);
    assert_int_equal(sa_write_file(keep, "x", 1, 0600, NULL), 0);
    assert_int_equal(symlink(*state, link), 0);
    assert_int_equal(sa_remove_tree(a, NULL), 0);
    assert_int_equal(access(a, F_OK), -1);
    assert_int_equal(access(keep, F_OK), 0);
    assert_int_equal(sa_remove_tree(a, NULL), 0);
}

static void a_directory_in_the_way_of_a_file_is_named(void **state)
{
    cleanup_free char *file = sa_format("%s/file", (char *)*state),
                      *below = sa_format("%s/file/x", (char *)*state);
    cleanup_error sa_error *err = NULL;
    assert_int_equal(sa_write_file(file, "x", 1, 0600, NULL), 0);
    assert_int_equal(sa_mkdirs(below, 0700, &err), -1);
    assert_string_equal(err->reason, "NOT_A_DIRECTORY");
    assert_non_null(strstr(err->message, file));
}

static void a_file_over_the_limit_is_refused_at_n_plus_1(void **state)
{
    cleanup_free char *path = sa_format("%s/f", (char *)*state);
    assert_int_equal(sa_write_file(path, "12345", 5, 0600, NULL), 0);
    cleanup_buf struct sa_buf b = {0};
    assert_int_equal(sa_read_file(path, 5, &b, NULL), 0);
    assert_int_equal(b.len, 5);
    cleanup_buf struct sa_buf c = {0};
    cleanup_error sa_error *err = NULL;
    assert_int_equal(sa_read_file(path, 4, &c, &err), -1);
    assert_string_equal(err->reason, "TOO_MANY");
}

static void a_locked_directory_names_its_holder_until_it_is_released(void **state)
{
    cleanup_error sa_error *err = NULL;
    int fd = sa_lock_dir(*state, NULL);
    assert_true(fd >= 0);
    assert_int_equal(sa_lock_dir(*state, &err), -1);
    assert_string_equal(err->reason, "DATA_DIR_IN_USE");
    cleanup_free char *pid = sa_format("process %d", (int)getpid());
    assert_non_null(strstr(err->message, pid));
    close(fd);
    fd = sa_lock_dir(*state, NULL);
    assert_true(fd >= 0);
    close(fd);
}

static void sockets_work_below_a_path_longer_than_sun_path(void **state)
{
    cleanup_free char *dir = sa_format("%s/%0100d/%0100d", (char *)*state, 1, 2);
    assert_int_equal(sa_mkdirs(dir, 0700, NULL), 0);
    cleanup_free char *path = sa_format("%s/sock", dir);
    cleanup_close int l = sa_unix_listen(path, SOCK_SEQPACKET, NULL);
    assert_true(l >= 0);
    cleanup_close int c = sa_unix_connect(path, SOCK_SEQPACKET, NULL);
    assert_true(c >= 0);
    cleanup_close int s = accept(l, NULL, NULL);
    assert_true(s >= 0);

    /* A descriptor that came over is the same file, and close-on-exec. */
    int p[2], got[2] = {-1, -1}, n = 2;
    char byte;
    assert_int_equal(pipe(p), 0);
    assert_int_equal(sa_send_fds(c, "m", 1, &p[1], 1), 1);
    struct pollfd ready = {s, POLLIN, 0};
    assert_int_equal(poll(&ready, 1, 10000), 1);
    assert_int_equal(sa_recv_fds(s, &byte, 1, got, &n), 1);
    assert_int_equal(n, 1);
    assert_int_equal(write(got[0], "y", 1), 1);
    assert_int_equal(read(p[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    close(p[0]);
    close(p[1]);
    close(got[0]);
}

static void ids_sort_by_time_and_survive_their_text_form(void **state)
{
    (void)state;
    struct sa_id a = sa_id_new(), back;
    char text[SA_ID_TEXT + 1], other[SA_ID_TEXT + 1];
    sa_id_format(a, text);
    assert_int_equal(strlen(text), SA_ID_TEXT);
    assert_true(sa_id_parse(text, &back));
    assert_true(sa_id_equal(a, back));
    a.bytes[5]++; /* a millisecond later */
    sa_id_format(a, other);
    assert_true(a.bytes[5] == 0 || strcmp(text, other) < 0);
    struct sa_id all = {{0}};
    memset(all.bytes, 0xff, sizeof all.bytes);
    sa_id_format(all, text);
    assert_string_equal(text, "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    assert_false(sa_id_parse("8zzzzzzzzzzzzzzzzzzzzzzzzz", &back));
    assert_false(sa_id_parse("7zzzzzzzzzzzzzzzzzzzzzzzz", &back));
    assert_false(sa_id_parse("7zzzzzzzzzzzzzzzzzzzzzzzzzz", &back));
    assert_false(sa_id_parse("7zzzzzzzzzzzzzzzzzzzzzzzzU", &back));
    assert_false(sa_id_parse("", &back));
}

/* Lists are sorted by id: two sandboxes made in one millisecond once stood in the wrong order. */
static void ids_of_one_millisecond_sort_in_the_order_of_their_making(void **state)
{
    (void)state;
    struct sa_id before = sa_id_new();
    for (int i = 0; i < 10000; i++) {
        struct sa_id id = sa_id_new();
        assert_true(memcmp(before.bytes, id.bytes, sizeof id.bytes) < 0);
        before = id;
    }
}

static void arena_memory_is_zeroed_aligned_and_of_any_size(void **state)
{
    (void)state;
    struct sa_arena *a = sa_arena_new();
    for (size_t n = 1; n < 300000; n = n * 3 + 1) {
        uint8_t *p = sa_arena_alloc(a, n);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xff, n);
    }
    assert_string_equal(sa_arena_format(a, "%s-%d", "x", 5), "x-5");
    assert_string_equal(sa_arena_strdup(a, NULL), "");
    sa_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_tree_is_made_and_removed_and_links_are_not_followed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_directory_in_the_way_of_a_file_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_over_the_limit_is_refused_at_n_plus_1, setup, teardown),
        cmocka_unit_test_setup_teardown(a_locked_directory_names_its_holder_until_it_is_released, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(sockets_work_below_a_path_longer_than_sun_path, setup, teardown),
        cmocka_unit_test(ids_sort_by_time_and_survive_their_text_form),
        cmocka_unit_test(ids_of_one_millisecond_sort_in_the_order_of_their_making),
        cmocka_unit_test(arena_memory_is_zeroed_aligned_and_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
