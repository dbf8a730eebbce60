/* The watch against the disk: while a thread changes a tree at random, a reader keeps its copy by the events
 * alone; when the thread is done, the copy is the tree. */
#include "services/fs-svc/watch_fixture.h"

#include <pthread.h>
#include <sys/syscall.h>

#include "adapters/os/clock.h"

enum { STEPS = 20000, ROUNDS = 5, NAMES = 5, DEPTH = 4 };

struct hammer {
    const char *inside, *outside;
    unsigned seed;
    pthread_mutex_t disk;
};

static unsigned pick(struct hammer *h, unsigned n)
{
    h->seed = h->seed * 1103515245u + 12345u;
    return (h->seed >> 16) % n;
}

/* A path of up to DEPTH names, rarely outside of the watched tree. */
static char *any_path(struct hammer *h)
{
    cleanup_buf struct sa_buf b = {0};
    sa_buf_addf(&b, "%s", pick(h, 8) ? h->inside : h->outside);
    for (unsigned n = 1 + pick(h, DEPTH); n; n--)
        sa_buf_addf(&b, "/%c", 'a' + (char)pick(h, NAMES));
    return sa_strdup(sa_buf_string(&b));
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd >= 0 && write(fd, "x", 1) == 1)
        close(fd);
    else
        sa_close(fd);
}

static void step(struct hammer *h)
{
    cleanup_free char *a = any_path(h), *b = any_path(h);
    switch (pick(h, 12)) {
    case 0:
    case 1:
    case 2:
        (void)!mkdir(a, 0755);
        break;
    case 3:
    case 4:
    case 5:
        touch(a);
        break;
    case 6:
        (void)!unlink(a);
        break;
    case 7:
        (void)!rmdir(a);
        break;
    case 8:
    case 9:
        (void)!rename(a, b);
        break;
    case 10:
        if (pick(h, 20) == 0)
            sa_remove_tree(a, NULL);
        else
            (void)!symlink("a", a);
        break;
    default:
        if (pick(h, 10) == 0) {
            enum { EXCHANGE = 2 };
            (void)!syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, EXCHANGE);
        }
        break;
    }
}

static void *run(void *user)
{
    struct hammer *h = user;
    for (int i = 0; i < STEPS; i++) {
        pthread_mutex_lock(&h->disk);
        step(h);
        pthread_mutex_unlock(&h->disk);
    }
    test_put(h->inside, "end", "");
    return NULL;
}

static void the_copy_is_the_tree(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    cleanup_free char *root = sa_format("ws=%s", f.ws);
    f.extra[1] = root;
    service_up(&f);
    cleanup_free char *inside = sa_format("%s/in", f.ws), *outside = sa_format("%s/out", f.ws);
    const char *seed = getenv("WATCH_SEED");
    test_mkdir(f.ws, "in");
    test_mkdir(f.ws, "out");
    unsigned first = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)sa_wall_us();
    print_message("WATCH_SEED=%u\n", first);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct viewer v = viewer_of(&f, "ws", "in", inside);
        struct hammer h = {
            .inside = inside, .outside = outside, .seed = first + round, .disk = PTHREAD_MUTEX_INITIALIZER};
        v.disk = &h.disk;
        pthread_t thread;
        viewer_open(&v);
        assert_int_equal(pthread_create(&thread, NULL, run, &h), 0);
        while (!copied_child(&v.root, "end"))
            if (!viewer_next(&v))
                fail_msg("%s%s", v.failed, v.closed);
        pthread_join(thread, NULL);
        viewer_settle(&v);
        viewer_free(&v);
        cleanup_free char *last = sa_format("%s/end", inside);
        assert_int_equal(unlink(last), 0);
    }
    service_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_copy_is_the_tree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
