/* 200,000 files are made, and half of them deleted, while events are read: the copy is the tree in the end,
 * whatever was lost on the way. */
#include "services/fs-svc/watch_fixture.h"

#include <pthread.h>

#include "adapters/os/clock.h"

enum { DIRS = 2000, FILES = 100 };

static void *make(void *dir)
{
    for (int d = 0; d < DIRS; d++) {
        cleanup_free char *path = sa_format("%s/%d/%d", (char *)dir, d % 50, d);
        assert_int_equal(sa_mkdirs(path, 0755, NULL), 0);
        for (int i = 0; i < FILES; i++) {
            cleanup_free char *file = sa_format("%s/%d", path, i);
            int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
            assert_true(fd >= 0 && write(fd, "x", 1) == 1);
            close(fd);
        }
        if (d % 2) {
            cleanup_free char *before = sa_format("%s/%d/%d", (char *)dir, (d - 1) % 50, d - 1);
            assert_int_equal(sa_remove_tree(before, NULL), 0);
        }
    }
    return NULL;
}

static void a_flood_of_files_is_followed(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[1] = root;
    service_up(&f);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    pthread_t thread;
    viewer_open(&v);
    uint64_t from = sa_now_ms();
    assert_int_equal(pthread_create(&thread, NULL, make, f.ws), 0);
    while (v.events < DIRS)
        assert_true(viewer_next(&v));
    pthread_join(thread, NULL);
    uint64_t made = sa_now_ms();
    viewer_settle(&v);
    print_message("made in %d ms, followed after %d more; %zu events, %zu rescans, %zu gaps\n",
                  (int)(made - from), (int)(sa_now_ms() - made), v.events, v.rescans, v.gaps);
    viewer_free(&v);
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_flood_of_files_is_followed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
