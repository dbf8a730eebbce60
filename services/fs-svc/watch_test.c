/* WatchTree as its callers see it. */
#include "services/fs-svc/watch_fixture.h"

#include <sys/syscall.h>

#include "adapters/os/clock.h"

static struct service_fixture start_with(const char *extra, const char *value)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    f.extra[2] = extra;
    f.extra[3] = value;
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    service_free(f);
    free((char *)(uintptr_t)f->extra[1]);
}

static char *in(struct service_fixture *f, const char *name)
{
    static char paths[4][PATH_MAX];
    static int at;
    at = (at + 1) % 4;
    snprintf(paths[at], sizeof paths[at], "%s/%s", f->ws, name);
    return paths[at];
}

static void move(struct service_fixture *f, const char *from, const char *to)
{
    assert_int_equal(rename(in(f, from), in(f, to)), 0);
}

/* Takes what is told and compares: the test's own files are left out. */
static void expect(struct viewer *v, const char *wanted)
{
    viewer_forget(v);
    viewer_settle(v);
    cleanup_buf struct sa_buf got = {0};
    for (char *line = v->log, *next; line && *line; line = next) {
        next = strchr(line, '\n') + 1;
        if (!strstr(line, ".sync-") || strstr(line, ".sync-") > next)
            sa_buf_add(&got, line, (size_t)(next - line));
    }
    assert_string_equal(sa_buf_string(&got), wanted);
    viewer_check(v);
}

static void each_change_is_one_event(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    test_put(f.ws, "old", "1");
    viewer_open(&v);
    test_put(f.ws, "new", "content");
    expect(&v, "+new\n");
    test_put(f.ws, "new", "other");
    expect(&v, "~new\n");
    assert_int_equal(chmod(in(&f, "old"), 0600), 0);
    expect(&v, "!old\n");
    move(&f, "old", "older");
    expect(&v, "old>older\n");
    assert_int_equal(unlink(in(&f, "older")), 0);
    expect(&v, "-older\n");
    assert_int_equal(mkdir(in(&f, "d"), 0755), 0);
    expect(&v, "+d/\n");
    test_put(f.ws, "d/x", "");
    expect(&v, "+d/x\n");
    move(&f, "d", "e");
    expect(&v, "d>e/\n");
    test_put(f.ws, "e/x", "content");
    move(&f, "e/x", "x");
    expect(&v, "~e/x\ne/x>x\n");
    assert_int_equal(rmdir(in(&f, "e")), 0);
    expect(&v, "-e/\n");
    test_link("/", f.ws, "link");
    test_put(f.ws, "a\nb\xff", "");
    expect(&v, "+link\n+a\nb\xff\n");
    assert_int_equal(v.watched, 1);
    viewer_free(&v);
    end(&f);
}

static void what_is_made_at_once_is_told_once(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    viewer_open(&v);
    for (int round = 0; round < 20; round++) {
        cleanup_free char *dir = sa_format("r%d/a/b/c", round), *one = sa_format("r%d/one", round),
                          *two = sa_format("r%d/a/b/c/two", round);
        test_mkdir(f.ws, dir);
        test_put(f.ws, one, "1");
        test_put(f.ws, two, "2");
        viewer_forget(&v);
        viewer_sync(&v);
        viewer_sync(&v); /* what came before the first, and lies deeper, is there at the second */
        int lines = 0;
        for (char *at = v.log; (at = strstr(at, "\n+r")); at++)
            lines++;
        lines += v.log[0] == '+' && v.log[1] == 'r';
        if (lines > 6)
            fail_msg("%d creates, 6 paths:\n%s", lines, v.log);
        while (count_copied(&v.root) < (size_t)(round + 1) * 8)
            assert_true(viewer_next(&v));
        viewer_check(&v);
    }
    viewer_free(&v);
    end(&f);
}

static void a_storm_of_writes_is_an_event_a_window(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    test_put(f.ws, "log", "");
    viewer_open(&v);
    cleanup_close int fd = open(in(&f, "log"), O_WRONLY | O_APPEND | O_CLOEXEC);
    uint64_t from = sa_now_ms();
    int writes = 0;
    for (; sa_now_ms() < from + 300; writes++)
        assert_int_equal(write(fd, "line\n", 5), 5);
    viewer_sync(&v);
    size_t told = v.events;
    if (told > (sa_now_ms() - from) / 20 + 3)
        fail_msg("%zu events in %d ms for %d writes", told, (int)(sa_now_ms() - from), writes);
    /* and one after the last */
    assert_int_equal(write(fd, "end\n", 4), 4);
    expect(&v, "~log\n");
    viewer_free(&v);
    end(&f);
}

static void ignored_directories_take_no_watch(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    ProtobufCBinaryData patterns[] = {bytes("node_modules/"), bytes("*.o"), bytes("/top/deep")};
    v.req.ignore = patterns;
    v.req.n_ignore = 3;
    v.req.gitignore = true;
    test_mkdir(f.ws, "node_modules/a/b/c");
    test_mkdir(f.ws, "src/node_modules/x");
    test_mkdir(f.ws, "top/deep");
    test_mkdir(f.ws, ".git/objects");
    test_mkdir(f.ws, "out");
    test_put(f.ws, ".gitignore", "/out\n*.log\n!keep.log\n");
    viewer_open(&v);
    assert_int_equal(v.watched, 3); /* ".", src, top */
    /* The copy of the test lists the disk and knows nothing of patterns: only events are compared. */
    test_put(f.ws, "src/a.o", "");
    test_put(f.ws, "src/a.log", "");
    test_put(f.ws, "src/keep.log", "");
    test_put(f.ws, "out/x", "");
    test_put(f.ws, ".git/HEAD", "");
    test_put(f.ws, "node_modules/a/x", "");
    test_put(f.ws, "src/a.c", "");
    move(&f, "src/a.o", "src/b.c");
    move(&f, "src/a.c", "src/c.o");
    viewer_sync(&v);
    assert_non_null(strstr(v.log, "+src/keep.log\n"));
    assert_non_null(strstr(v.log, "+src/b.c\n"));
    assert_null(strstr(v.log, "a.o"));
    assert_null(strstr(v.log, "c.o"));
    assert_null(strstr(v.log, "a.log"));
    assert_null(strstr(v.log, "out/x"));
    assert_null(strstr(v.log, ".git/"));
    assert_null(strstr(v.log, "node_modules"));
    viewer_free(&v);
    end(&f);
}

static void directories_come_and_go_with_what_is_in_them(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", "tree", in(&f, "tree"));
    cleanup_free char *dir = sa_strdup(v.dir);
    v.dir = dir;
    test_mkdir(f.ws, "tree/in/deep");
    test_mkdir(f.ws, "outside/a/b");
    test_put(f.ws, "outside/a/b/x", "");
    viewer_open(&v);
    move(&f, "outside/a", "tree/a");
    while (!strstr(v.log ? v.log : "", "+a/b/x"))
        assert_true(viewer_next(&v));
    viewer_check(&v);
    move(&f, "tree/in", "outside/in");
    expect(&v, "-in/\n");
    test_put(f.ws, "outside/in/deep/y", "");
    test_put(f.ws, "tree/a/b/y", "");
    expect(&v, "+a/b/y\n");
    /* Back, under another name, and changed. */
    move(&f, "outside/in", "tree/back");
    while (!strstr(v.log ? v.log : "", "+back/deep/y"))
        assert_true(viewer_next(&v));
    viewer_check(&v);
    /* Links are not followed. */
    test_link("../outside", f.ws, "tree/link");
    expect(&v, "+link\n");
    test_put(f.ws, "outside/z", "");
    expect(&v, "");
    viewer_free(&v);
    end(&f);
}

static void an_exchange_is_told_as_a_rescan(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    test_mkdir(f.ws, "a/in-a");
    test_mkdir(f.ws, "b/in-b");
    viewer_open(&v);
    enum { EXCHANGE = 2 };
    if (syscall(SYS_renameat2, AT_FDCWD, in(&f, "a"), AT_FDCWD, in(&f, "b"), EXCHANGE) == 0) {
        while (!v.rescans)
            assert_true(viewer_next(&v));
        viewer_settle(&v);
        test_put(f.ws, "a/in-b/x", "");
        test_put(f.ws, "b/in-a/y", "");
        expect(&v, "+a/in-b/x\n+b/in-a/y\n");
    }
    viewer_free(&v);
    end(&f);
}

static void a_reader_goes_on_where_it_was(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    viewer_open(&v);
    test_put(f.ws, "one", "");
    expect(&v, "+one\n");
    viewer_close(&v);
    test_put(f.ws, "two", "");
    WatchCursor cursor = WATCH_CURSOR__INIT;
    char epoch[64];
    snprintf(epoch, sizeof epoch, "%s", v.epoch);
    cursor.epoch = epoch;
    cursor.after_seq = v.seq;
    v.req.resume = &cursor;
    viewer_open(&v);
    expect(&v, "+two\n");
    assert_int_equal(v.gaps, 0);
    viewer_close(&v);
    cursor.after_seq = v.seq + 1000;
    viewer_begin(&v);
    assert_false(viewer_next(&v));
    assert_string_equal(v.failed, "SEQ_AHEAD");
    viewer_close(&v);
    /* The service was killed: it knows nothing of the old epoch, and says so. */
    service_kill(&f);
    test_put(f.ws, "three", "");
    service_up(&f);
    viewer_open(&v);
    assert_string_not_equal(v.epoch, epoch);
    assert_true(viewer_next(&v));
    assert_int_equal(v.gaps, 1);
    viewer_sync(&v);
    viewer_check(&v);
    test_put(f.ws, "four", "");
    expect(&v, "+four\n");
    viewer_free(&v);
    end(&f);
}

static void what_cannot_be_watched_is_told(void **state)
{
    (void)state;
    struct service_fixture f = start_with("--fs-watches", "3");
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    test_mkdir(f.ws, "a");
    test_mkdir(f.ws, "b");
    viewer_open(&v);
    assert_int_equal(v.watched, 3);
    assert_int_equal(v.unwatched, 0);
    test_mkdir(f.ws, "c");
    expect(&v, "+c/\nxc/ TOO_MANY\n");
    viewer_close(&v);
    viewer_open(&v);
    assert_int_equal(v.unwatched, 1);
    /* Where one goes, another one may come. */
    assert_int_equal(rmdir(in(&f, "a")), 0);
    expect(&v, "-a/\n");
    test_mkdir(f.ws, "d");
    expect(&v, "+d/\n");
    viewer_free(&v);
    end(&f);
}

static void the_end_of_the_directory_is_the_end_of_the_watch(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    for (int way = 0; way < 3; way++) {
        test_mkdir(f.ws, "outer/tree/in");
        struct viewer v = viewer_of(&f, "ws", "outer/tree", in(&f, "outer/tree"));
        cleanup_free char *dir = sa_strdup(v.dir);
        v.dir = dir;
        viewer_open(&v);
        if (way == 0)
            assert_int_equal(sa_remove_tree(dir, NULL), 0);
        else if (way == 1)
            move(&f, "outer/tree", "outer/moved");
        else
            move(&f, "outer", "moved"); /* told by nobody: it is looked for */
        while (viewer_next(&v))
            ;
        assert_string_equal(v.failed, "");
        assert_string_equal(v.closed, "FILE_NOT_FOUND");
        assert_non_null(strstr(v.log, "-./\n"));
        viewer_free(&v);
        if (way < 2)
            assert_int_equal(sa_remove_tree(in(&f, "outer"), NULL), 0);
    }
    end(&f);
}

static int inotify_instances(const struct service_fixture *f)
{
    cleanup_free char *fds = sa_format("/proc/%d/fd", (int)f->program.pid);
    DIR *d = opendir(fds);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char target[64] = "";
        ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
        n += len > 0 && !strcmp(target, "anon_inode:inotify");
    }
    closedir(d);
    return n;
}

static bool no_instance_is_left(void *f)
{
    return inotify_instances(f) == 0;
}

static void readers_share_a_watch_and_the_last_ends_it(void **state)
{
    (void)state;
    struct service_fixture f = start_with("--fs-watch-linger-ms", "50");
    enum { READERS = 20 };
    struct viewer v[READERS];
    test_mkdir(f.ws, "a");
    for (int i = 0; i < READERS; i++) {
        v[i] = viewer_of(&f, "ws", ".", f.ws);
        viewer_open(&v[i]);
    }
    assert_int_equal(inotify_instances(&f), 1);
    test_put(f.ws, "a/x", "");
    for (int i = 0; i < READERS; i++) {
        viewer_sync(&v[i]);
        viewer_check(&v[i]);
        assert_string_equal(v[i].epoch, v[0].epoch);
    }
    for (int i = 0; i < READERS; i++)
        viewer_free(&v[i]);
    wait_until(no_instance_is_left, &f, "the watch ends");
    end(&f);
}

/* Story: the request's parts were put together with a format that ended at the first NUL, so that every
 * request for a root was taken for the same one. */
static void other_requests_get_another_watch(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    ProtobufCBinaryData pattern = bytes("x");
    enum { WAYS = 5 };
    struct viewer v[WAYS];
    test_mkdir(f.ws, "a");
    for (int i = 0; i < WAYS; i++) {
        v[i] = viewer_of(&f, "ws", i == 1 ? "a" : ".", i == 1 ? in(&f, "a") : f.ws);
        v[i].req.recursive = i != 2;
        v[i].req.gitignore = i == 3;
        v[i].req.ignore = &pattern;
        v[i].req.n_ignore = i == 4;
        viewer_open(&v[i]);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(v[i].epoch, v[k].epoch);
    }
    assert_int_equal(inotify_instances(&f), WAYS);
    for (int i = 0; i < WAYS; i++)
        viewer_free(&v[i]);
    end(&f);
}

static void a_slow_reader_costs_the_others_nothing(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer slow = viewer_of(&f, "ws", ".", f.ws), quick = slow;
    viewer_open(&slow);
    viewer_open(&quick);
    enum { FILES = 60000 };
    /* More than the ring and the connection hold, read at once by one of the two. */
    char name[300];
    test_mkdir(f.ws, "d");
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "d/%0240d", i);
        int fd = open(in(&f, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        close(fd);
        if (i % 4000 == 3999)
            viewer_sync(&quick);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "d/%0240d", i);
        assert_int_equal(unlink(in(&f, name)), 0);
        if (i % 4000 == 3999)
            viewer_sync(&quick);
    }
    viewer_sync(&quick);
    assert_int_equal(quick.gaps, 0);
    viewer_settle(&quick);
    viewer_settle(&slow);
    assert_true(slow.gaps > 0);
    viewer_free(&slow);
    viewer_free(&quick);
    end(&f);
}

static void a_lost_queue_is_told_as_a_rescan(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    test_mkdir(f.ws, "gone/in");
    viewer_open(&v);
    /* The service stands still while more happens than the kernel keeps. */
    program_signal(&f.program, SIGSTOP);
    cleanup_free char *limit_file = sa_strdup("/proc/sys/fs/inotify/max_queued_events");
    cleanup_buf struct sa_buf limit = {0};
    assert_int_equal(sa_read_file(limit_file, 64, &limit, NULL), 0);
    int n = atoi(sa_buf_string(&limit));
    for (int i = 0; i < n; i++) {
        char a[32], b[32];
        snprintf(a, sizeof a, "m%d", i);
        snprintf(b, sizeof b, "m%d", i + 1);
        if (i == 0)
            test_put(f.ws, a, "");
        move(&f, a, b);
    }
    test_mkdir(f.ws, "new/deep");
    move(&f, "gone", "new/deep/moved");
    program_signal(&f.program, SIGCONT);
    while (!v.rescans)
        assert_true(viewer_next(&v));
    viewer_sync(&v);
    viewer_check(&v);
    test_put(f.ws, "new/deep/moved/in/x", "");
    expect(&v, "+new/deep/moved/in/x\n");
    viewer_free(&v);
    end(&f);
}

static void a_flat_watch_tells_the_directory_only(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    v.req.recursive = false;
    test_mkdir(f.ws, "a/b");
    viewer_open(&v);
    assert_int_equal(v.watched, 1);
    test_put(f.ws, "a/x", "");
    test_put(f.ws, "y", "");
    viewer_sync(&v);
    assert_null(strstr(v.log, "a/x"));
    assert_non_null(strstr(v.log, "+y\n"));
    viewer_free(&v);
    end(&f);
}

static const char *refused(struct service_fixture *f, const char *root, const char *path, const char *pattern)
{
    static char reason[64];
    struct viewer v = viewer_of(f, root, path, f->ws);
    ProtobufCBinaryData ignore = bytes(pattern);
    v.req.ignore = &ignore;
    v.req.n_ignore = *pattern ? 1 : 0;
    viewer_begin(&v);
    assert_false(viewer_next(&v));
    snprintf(reason, sizeof reason, "%s", v.failed);
    viewer_free(&v);
    return reason;
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    test_put(f.ws, "file", "");
    test_link("/etc", f.ws, "out");
    assert_string_equal(refused(&f, "none", ".", ""), "ROOT_NOT_FOUND");
    assert_string_equal(refused(&f, "ws", "missing", ""), "FILE_NOT_FOUND");
    assert_string_equal(refused(&f, "ws", "file", ""), "NOT_A_DIRECTORY");
    assert_string_equal(refused(&f, "ws", "out", ""), "INVALID_PATH");
    assert_string_equal(refused(&f, "ws", "..", ""), "INVALID_PATH");
    assert_string_equal(refused(&f, "ws", "", ""), "INVALID_PATH");
    assert_string_equal(refused(&f, "ws", ".", "[a"), "INVALID_PATTERN");
    end(&f);
}

static void a_service_that_stops_says_so(void **state)
{
    (void)state;
    struct service_fixture f = start_with(NULL, NULL);
    struct viewer v = viewer_of(&f, "ws", ".", f.ws);
    viewer_open(&v);
    program_signal(&f.program, SIGTERM);
    while (viewer_next(&v))
        ;
    assert_string_equal(v.failed, "DRAINING");
    viewer_free(&v);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_is_one_event),
        cmocka_unit_test(what_is_made_at_once_is_told_once),
        cmocka_unit_test(a_storm_of_writes_is_an_event_a_window),
        cmocka_unit_test(ignored_directories_take_no_watch),
        cmocka_unit_test(directories_come_and_go_with_what_is_in_them),
        cmocka_unit_test(an_exchange_is_told_as_a_rescan),
        cmocka_unit_test(a_reader_goes_on_where_it_was),
        cmocka_unit_test(what_cannot_be_watched_is_told),
        cmocka_unit_test(the_end_of_the_directory_is_the_end_of_the_watch),
        cmocka_unit_test(readers_share_a_watch_and_the_last_ends_it),
        cmocka_unit_test(other_requests_get_another_watch),
        cmocka_unit_test(a_slow_reader_costs_the_others_nothing),
        cmocka_unit_test(a_lost_queue_is_told_as_a_rescan),
        cmocka_unit_test(a_flat_watch_tells_the_directory_only),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(a_service_that_stops_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
