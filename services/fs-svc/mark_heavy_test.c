/* What marks cost: a turn of an agent in a tree of 5,000 files, and a tree of 50,000. And marks of files that
 * are being written. */
#include "services/fs-svc/mark_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

static void fill(const char *dir, int files)
{
    char content[4096];
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = i % 64 == 63 ? '\n' : (char)('a' + i % 23);
    for (int i = 0; i < files; i++) {
        cleanup_free char *sub = sa_format("d%d/e%d", i / 1000, i / 50 % 20),
                          *path = sa_format("%s/%s", dir, sub);
        if (i % 50 == 0)
            assert_int_equal(sa_mkdirs(path, 0755, NULL), 0);
        cleanup_free char *file = sa_format("%s/f%d", path, i);
        int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        int n = snprintf(content, 16, "%015d", i);
        content[n] = '\n';
        assert_int_equal(write(fd, content, sizeof content), sizeof content);
        close(fd);
    }
    let_times_pass();
}

static double ms_since(uint64_t from)
{
    return (double)(sa_now_ns() - from) / 1e6;
}

static void a_turn(struct service_fixture *f, int files, double limit_ms)
{
    cleanup_free char *tree = sa_format("tree%d", files), *dir = sa_format("%s/%s", f->ws, tree);
    test_mkdir(f->ws, tree);
    fill(dir, files);
    uint64_t from = sa_now_ns();
    struct marked first = make_mark(f, tree);
    print_message("%d files: first mark %.1f ms, %d read\n", files, ms_since(from), (int)first.files_read);
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        from = sa_now_ns();
        struct marked before = make_mark(f, tree);
        double one = ms_since(from);
        cleanup_free char *name = sa_format("d0/e1/f%d", 50 + i);
        test_put(dir, name, "changed\n");
        uint64_t second = sa_now_ns();
        struct marked after = make_mark(f, tree);
        double two = ms_since(second);
        second = sa_now_ns();
        cleanup_free char *text = diff_of(f, &before, &after, true);
        double three = ms_since(second);
        assert_non_null(strstr(text, "+changed\n"));
        assert_true(before.files_read <= 5 && after.files_read <= 6);
        print_message("%d files: mark %.1f ms, mark %.1f ms, diff %.1f ms\n", files, one, two, three);
        if (one + two + three < best)
            best = one + two + three;
    }
    assert_true(best < limit_ms);
}

static struct service_fixture start(char **root)
{
    struct service_fixture f = service_new(NULL);
    *root = sa_format("ws=%s", f.ws);
    f.extra[0] = "--fs-root";
    f.extra[1] = *root;
    service_up(&f);
    return f;
}

static void a_turn_costs_little(void **state)
{
    (void)state;
    cleanup_free char *root;
    struct service_fixture f = start(&root);
    a_turn(&f, 5000, 100);
    a_turn(&f, 50000, 1500);
    service_free(&f);
}

struct writer_thread {
    char *path;
    atomic_bool stop;
};

static void *write_on(void *user)
{
    struct writer_thread *w = user;
    for (unsigned n = 0; !w->stop; n++) {
        int fd = open(w->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        for (int i = 0; i < 200; i++)
            if (dprintf(fd, "%u %d\n", n, i) < 0)
                break;
        close(fd);
    }
    return NULL;
}

/* Whatever the writer does, the last mark before a pause and the one after it tell what changed. */
static void a_file_that_changes_while_it_is_read(void **state)
{
    (void)state;
    cleanup_free char *root;
    struct service_fixture f = start(&root);
    struct writer_thread w = {.path = sa_format("%s/busy", f.ws)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_on, &w), 0);
    for (int i = 0; i < 100; i++)
        make_mark(&f, ".");
    struct marked before = make_mark(&f, ".");
    w.stop = true;
    pthread_join(thread, NULL);
    test_put(f.ws, "busy", "at rest\n");
    cleanup_free char *text = diff_of(&f, &before, NULL, true);
    assert_non_null(strstr(text, "+at rest\n"));
    struct marked after = make_mark(&f, ".");
    assert_diff(&f, &after, NULL, "");
    free(w.path);
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_changes_while_it_is_read),
        cmocka_unit_test(a_turn_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
