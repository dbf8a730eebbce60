/* The program fs-svc as its callers see it. */
#include "services/fs-svc/service_fixture.h"

#include <pthread.h>

#include "adapters/nng/bus.h"
#include "adapters/os/clock.h"

static struct service_fixture start_with_root(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    f.extra[2] = "--fs-root";
    f.extra[3] = sa_format("ro=%s:ro", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    service_free(f);
    if (f->extra[0]) {
        free((char *)(uintptr_t)f->extra[1]);
        free((char *)(uintptr_t)f->extra[3]);
    }
}

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    struct writer w = {.root = "ws", .path = "new/dir/file.txt", .make_parents = true, .mode = 0600};
    assert_string_equal(write_text(&f, &w, "hello"), "");
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(read_path(&f, "ws", "new/dir/file.txt", 0, 0, &got), "");
    assert_string_equal(sa_buf_string(&got), "hello");
    cleanup_buf struct sa_buf part = {0};
    assert_string_equal(read_path(&f, "ro", "new/dir/file.txt", 1, 3, &part), "");
    assert_string_equal(sa_buf_string(&part), "ell");
    cleanup_buf struct sa_buf beyond = {0};
    assert_string_equal(read_path(&f, "ws", "new/dir/file.txt", 99, 0, &beyond), "");
    assert_int_equal(beyond.len, 0);

    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("new/dir/file.txt");
    StatFileResponse *res = stat_file_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->file->size, 5);
    assert_int_equal(res->file->mode, 0600);
    assert_int_equal(res->file->kind, FILE_KIND_REGULAR);
    assert_int_equal(res->file->name.len, 8);
    assert_memory_equal(res->file->path.data, "new/dir/file.txt", 16);
    assert_true(res->file->modify_time->seconds > 1600000000);
    assert_true(*res->file->etag);
    rpc_message_free(res);
    end(&f);
}

static void errors_have_reasons(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "x");
    test_link("../data", f.ws, "out");
    cleanup_free char *fifo = sa_format("%s/fifo", f.ws);
    assert_int_equal(mkfifo(fifo, 0644), 0);
    assert_string_equal(stat_path(&f, "ws", "missing"), "FILE_NOT_FOUND");
    assert_string_equal(stat_path(&f, "ws", "file/x"), "NOT_A_DIRECTORY");
    assert_string_equal(stat_path(&f, "ws", "../data"), "INVALID_PATH");
    assert_string_equal(stat_path(&f, "ws", "out"), "INVALID_PATH");
    assert_string_equal(stat_path(&f, "ws", ""), "INVALID_PATH");
    assert_string_equal(stat_path(&f, "ws", "/etc/passwd"), "INVALID_PATH");
    assert_string_equal(stat_path(&f, "none", "file"), "ROOT_NOT_FOUND");
    assert_string_equal(stat_path(&f, "", "file"), "ROOT_NOT_FOUND");
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(read_path(&f, "ws", ".", 0, 0, &got), "IS_A_DIRECTORY");
    assert_string_equal(read_path(&f, "ws", "fifo", 0, 0, &got), "NOT_A_REGULAR_FILE");
    struct writer w = {.root = "ro", .path = "file"};
    assert_string_equal(write_text(&f, &w, "y"), "PERMISSION_DENIED");
    w = (struct writer){.root = "ws", .path = "file", .create_only = true};
    assert_string_equal(write_text(&f, &w, "y"), "ALREADY_EXISTS");
    w = (struct writer){.root = "ws", .path = "out/x"};
    assert_string_equal(write_text(&f, &w, "y"), "INVALID_PATH");
    w = (struct writer){.root = "ws", .path = "no/parent"};
    assert_string_equal(write_text(&f, &w, "y"), "FILE_NOT_FOUND");
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "x");
    end(&f);
}

static void a_stream_has_an_order(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    struct rpc_stream *s = write_file_begin(f.caller.channel, &patient);
    write_data(s, "x", 1);
    assert_string_equal(write_end(s, NULL), "INVALID_REQUEST");
    s = write_file_begin(f.caller.channel, &patient);
    assert_string_equal(write_end(s, NULL), "INVALID_REQUEST");
    char *large = sa_calloc(1, (1 << 20) + 1);
    struct writer w = {.root = "ws", .path = "f"};
    s = write_begin(&f, &w);
    write_data(s, large, (1 << 20) + 1);
    assert_string_equal(write_end(s, NULL), "MESSAGE_TOO_LARGE");
    free(large);
    assert_string_equal(stat_path(&f, "ws", "f"), "FILE_NOT_FOUND");
    wait_until(has_no_temporary_file, f.ws, "the temporary file goes");
    end(&f);
}

static void without_roots_the_whole_filesystem_is_there_but_our_own(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    service_up(&f);
    test_put(f.home, "in-home", "mine");
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(read_path(&f, "", "in-home", 0, 0, &got), "");
    assert_string_equal(sa_buf_string(&got), "mine");
    cleanup_free char *absolute = sa_format("%s/in-home", f.home);
    assert_string_equal(stat_path(&f, "", absolute), "");
    assert_string_equal(stat_path(&f, "", "/etc/passwd"), "");
    cleanup_free char *store = sa_format("%s/fs/store", f.data), *run = sa_format("%s/run", f.data);
    assert_string_equal(stat_path(&f, "", store), "PERMISSION_DENIED");
    assert_string_equal(stat_path(&f, "", run), "PERMISSION_DENIED");
    test_put(f.data, "token", "secret");
    test_mkdir(f.data, "agents");
    cleanup_free char *token = sa_format("%s/token", f.data), *agents = sa_format("%s/agents", f.data);
    assert_string_equal(stat_path(&f, "", token), "PERMISSION_DENIED");
    assert_string_equal(stat_path(&f, "", agents), "");
    test_link(store, f.home, "sneaky");
    assert_string_equal(stat_path(&f, "", "sneaky"), "PERMISSION_DENIED");
    assert_string_equal(stat_path(&f, "", "sneaky/data.mdb"), "PERMISSION_DENIED");
    assert_string_equal(stat_path(&f, "", "/proc/self/environ"), "PERMISSION_DENIED");
    cleanup_free char *pid = sa_format("/proc/%d/fd", (int)f.program.pid);
    assert_string_equal(stat_path(&f, "", pid), "PERMISSION_DENIED");
    cleanup_free char *inside = sa_format("%s/new", store);
    struct writer w = {.root = "", .path = inside, .make_parents = true};
    assert_string_equal(write_text(&f, &w, "x"), "PERMISSION_DENIED");
    /* Files of /proc tell no size. */
    cleanup_buf struct sa_buf proc = {0};
    assert_string_equal(read_path(&f, "", "/proc/meminfo", 0, 0, &proc), "");
    assert_non_null(strstr(sa_buf_string(&proc), "MemTotal"));
    end(&f);
}

static void a_directory_is_listed_in_pages(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    enum { FILES = 25 };
    for (int i = 0; i < FILES; i++) {
        cleanup_free char *name = sa_format("d/f%02d", i);
        test_mkdir(f.ws, "d");
        test_put(f.ws, name, "x");
    }
    cleanup_free char *token = sa_strdup("");
    int seen = 0, pages = 0;
    do {
        ListDirectoryRequest req = LIST_DIRECTORY_REQUEST__INIT;
        req.root = (char *)(uintptr_t) "ws";
        req.path = bytes("d");
        req.page_size = 10;
        req.page_token = token;
        ListDirectoryResponse *res = list_directory_wait(f.caller.channel, &req, &patient, NULL);
        assert_non_null(res);
        for (size_t i = 0; i < res->n_entries; i++, seen++) {
            char path[16];
            snprintf(path, sizeof path, "d/f%02d", seen);
            assert_int_equal(res->entries[i]->path.len, strlen(path));
            assert_memory_equal(res->entries[i]->path.data, path, strlen(path));
        }
        free(token);
        token = sa_strdup(res->next_page_token);
        rpc_message_free(res);
        if (!pages++) {
            ListDirectoryRequest other = LIST_DIRECTORY_REQUEST__INIT;
            other.root = (char *)(uintptr_t) "ws";
            other.path = bytes(".");
            other.page_token = token;
            cleanup_error sa_error *err = NULL;
            assert_null(list_directory_wait(f.caller.channel, &other, &patient, &err));
            assert_reason(err, SA_INVALID_PAGE_TOKEN);
        }
    } while (*token);
    assert_int_equal(seen, FILES);
    assert_int_equal(pages, 3);
    end(&f);
}

/* ---- large files ---- */

static uint64_t memory_peak(pid_t pid)
{
    cleanup_free char *path = sa_format("/proc/%d/status", (int)pid);
    cleanup_buf struct sa_buf b = {0};
    assert_int_equal(sa_read_file(path, 1 << 16, &b, NULL), 0);
    const char *at = strstr(sa_buf_string(&b), "VmHWM:");
    return at ? strtoull(at + 6, NULL, 10) << 10 : 0;
}

static uint8_t pattern(uint64_t i)
{
    return (uint8_t)(i * 2654435761u >> 13 ^ i);
}

static void large_files_pass_in_constant_memory(void **state)
{
    (void)state;
    enum { MESSAGES = 96, MESSAGE = 1 << 20 };
    struct service_fixture f = start_with_root();
    struct writer w = {.root = "ws", .path = "large"};
    uint8_t *chunk = sa_malloc(MESSAGE);
    assert_string_equal(write_text(&f, &w, "warm"), "");
    uint64_t before = memory_peak(f.program.pid), size = 0;
    struct rpc_stream *s = write_begin(&f, &w);
    for (uint64_t m = 0; m < MESSAGES; m++) {
        for (uint64_t i = 0; i < MESSAGE; i++)
            chunk[i] = pattern(m * MESSAGE + i);
        assert_int_equal(write_data(s, chunk, MESSAGE), 0);
    }
    assert_string_equal(write_end(s, &size), "");
    assert_int_equal(size, (uint64_t)MESSAGES * MESSAGE);

    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("large");
    s = read_file_begin(f.caller.channel, &req, &patient);
    ReadFileResponse *res;
    uint64_t at = 0;
    /* The first message is taken, then nobody reads until the server has had time to answer another call: it
     * must not have read on into memory. */
    assert_int_equal(read_file_next(s, &res, NULL), 1);
    assert_non_null(res->file);
    assert_int_equal(res->file->size, size);
    rpc_message_free(res);
    for (int i = 0; i < 100; i++)
        assert_string_equal(stat_path(&f, "ws", "large"), "");
    while (read_file_next(s, &res, NULL) == 1) {
        assert_int_equal(res->offset, at);
        for (size_t i = 0; i < res->data.len; i++, at++)
            if (res->data.data[i] != pattern(at))
                fail_msg("byte %llu differs", (unsigned long long)at);
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    assert_int_equal(at, size);
    free(chunk);
    uint64_t grown = memory_peak(f.program.pid) - before;
    print_message("memory above idle: %llu KiB\n", (unsigned long long)grown >> 10);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(grown <= 16 << 20);
#endif
    end(&f);
}

/* ---- crashes, breaks, repetitions ---- */

static void a_killed_service_leaves_the_old_file_and_nothing_else(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "old");
    struct writer w = {.root = "ws", .path = "file", .request_id = "r1"};
    struct rpc_stream *s = write_begin(&f, &w);
    write_data(s, "new", 3);
    wait_until(has_temporary_file, f.ws, "the temporary file is there");
    program_signal(&f.program, SIGKILL);
    program_wait(&f.program);
    rpc_stream_free(s);
    caller_close(&f.caller);
    program_free(&f.program);
    assert_int_equal(temporary_files(f.ws), 1);
    service_up(&f);
    assert_int_equal(temporary_files(f.ws), 0);
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "old");
    /* It was undone, so the same request is done now. */
    assert_string_equal(write_text(&f, &w, "again"), "");
    cleanup_free char *again = test_get(f.ws, "file");
    assert_string_equal(again, "again");
    end(&f);
}

static void a_broken_stream_leaves_the_old_file_and_nothing_else(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "old");
    struct writer w = {.root = "ws", .path = "file"};
    struct rpc_stream *s = write_begin(&f, &w);
    write_data(s, "new", 3);
    wait_until(has_temporary_file, f.ws, "the temporary file is there");
    rpc_stream_free(s);
    wait_until(has_no_temporary_file, f.ws, "the temporary file goes");
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "old");
    end(&f);
}

static void a_service_that_is_asked_to_end_cleans_up_first(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "old");
    struct writer w = {.root = "ws", .path = "file"};
    struct rpc_stream *s = write_begin(&f, &w);
    write_data(s, "new", 3);
    wait_until(has_temporary_file, f.ws, "the temporary file is there");
    program_signal(&f.program, SIGTERM);
    program_wait_for(&f.program, "service.drain");
    rpc_stream_free(s);
    assert_int_equal(program_wait(&f.program), 0);
    assert_int_equal(temporary_files(f.ws), 0);
    program_free(&f.program);
    caller_close(&f.caller);
    service_up(&f);
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "old");
    end(&f);
}

static void a_repeated_request_is_answered_and_not_done_again(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    struct writer w = {.root = "ws", .path = "file", .request_id = "r/1 ü", .create_only = true};
    assert_string_equal(write_text(&f, &w, "first"), "");
    test_put(f.ws, "file", "changed by another");
    assert_string_equal(write_text(&f, &w, "first"), "");
    service_kill(&f);
    service_up(&f);
    assert_string_equal(write_text(&f, &w, "first"), "");
    cleanup_free char *content = test_get(f.ws, "file");
    assert_string_equal(content, "changed by another");
    struct writer other = {.root = "ws", .path = "other", .request_id = "r/1 ü"};
    assert_string_equal(write_text(&f, &other, "x"), "REQUEST_ID_REUSED");
    /* The same request twice at the same time */
    struct writer twice = {.root = "ws", .path = "twice", .request_id = "r2"};
    struct rpc_stream *s = write_begin(&f, &twice);
    write_data(s, "one", 3);
    wait_until(has_temporary_file, f.ws, "the first is under way");
    assert_string_equal(write_text(&f, &twice, "two"), "UNAVAILABLE");
    assert_string_equal(write_end(s, NULL), "");
    cleanup_free char *one = test_get(f.ws, "twice");
    assert_string_equal(one, "one");
    end(&f);
}

/* ---- many at once ---- */

enum { WRITERS = 8, ROUNDS = 25, SIZE = 40000 };

struct job {
    struct service_fixture *f;
    int number, failures;
};

static void *write_often(void *arg)
{
    struct job *j = arg;
    char content[SIZE + 1];
    memset(content, 'a' + j->number, SIZE);
    content[SIZE] = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct writer w = {.root = "ws", .path = i % 2 ? "shared" : "other/../shared"};
        struct rpc_stream *s = write_begin(j->f, &w);
        uint64_t size = 0;
        write_data(s, content, SIZE / 2);
        write_data(s, content + SIZE / 2, SIZE / 2);
        cleanup_error sa_error *err = NULL;
        WriteFileResponse *res = NULL;
        rpc_stream_close_send(s, NULL);
        if (write_file_next(s, &res, &err) == 1)
            size = res->file->size;
        rpc_message_free(res);
        rpc_stream_free(s);
        j->failures += size != SIZE;
    }
    return NULL;
}

static void writers_at_once_replace_each_other_whole(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "other");
    test_put(f.ws, "shared", "");
    pthread_t threads[WRITERS];
    struct job jobs[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        jobs[i] = (struct job){&f, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, &jobs[i]), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        cleanup_free char *got = test_get(f.ws, "shared");
        size_t n = strlen(got);
        assert_true(n == 0 || n == SIZE);
        for (size_t k = 1; k < n; k++)
            assert_int_equal(got[k], got[0]);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].failures, 0);
    }
    assert_int_equal(temporary_files(f.ws), 0);
    end(&f);
}

/* ---- the bus ---- */

struct listener {
    struct sa_loop *loop;
    struct bus_subscriber *bus;
    uint64_t last;
    char path[64];
};

static void on_message(void *user, const struct bus_message *m)
{
    struct listener *l = user;
    FileChanged *c = rpc_unpack(&file_changed__descriptor, m->payload, m->payload_len, NULL);
    assert_non_null(c);
    assert_string_equal(m->topic, "fs/ws/write");
    assert_string_equal(c->root, "ws");
    assert_int_equal(m->seq, l->last + 1);
    l->last = m->seq;
    snprintf(l->path, sizeof l->path, "%.*s", (int)c->file->path.len, (char *)c->file->path.data);
    file_changed__free_unpacked(c, NULL);
}

static void on_read(void *user, struct bus_read *read, const char *stream, uint64_t after, uint64_t until)
{
    (void)user, (void)stream, (void)after;
    bus_read_gap(read, until + 1);
}

static void on_gap(void *user, const char *stream, uint64_t first_available)
{
    (void)stream;
    struct listener *l = user;
    l->last = first_available - 1;
}

static void on_heads(void *user, struct bus_list *list)
{
    (void)user;
    cleanup_error sa_error *err = NULL;
    sa_fail(&err, SA_UNAVAILABLE, "not listed");
    bus_list_done(list, 0, err);
}

static void *run_loop(void *loop)
{
    sa_loop_run(loop);
    return NULL;
}

static bool heard(void *user)
{
    struct listener *l = user;
    sa_loop_lock(l->loop);
    bool done = l->last == 2;
    sa_loop_unlock(l->loop);
    return done;
}

struct connecting {
    struct service_fixture *f;
    struct listener *l;
};

/* As a message, or, when the subscriber was not connected yet, as a gap after the next beat. */
static bool first_heard(void *user)
{
    struct connecting *c = user;
    sa_loop_lock(c->l->loop);
    bool done = c->l->last > 0;
    sa_loop_unlock(c->l->loop);
    return done;
}

static void changes_are_told_on_the_bus(void **state)
{
    (void)state;
    static const struct bus_subscriber_events events = {
        .message = on_message, .read = on_read, .list_heads = on_heads, .gap = on_gap};
    struct service_fixture f = start_with_root();
    struct listener l = {.loop = sa_loop_new(NULL)};
    cleanup_free char *url = sa_format("ipc://%s/run/fs.bus", f.data);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, l.loop), 0);
    struct bus_subscriber_options opt = {.url = url, .events = &events, .user = &l};
    sa_loop_lock(l.loop);
    l.bus = bus_subscriber_new(l.loop, &opt, NULL);
    assert_non_null(l.bus);
    assert_int_equal(bus_follow(l.bus, "fs/ws", 0, 0, NULL), 0);
    sa_loop_unlock(l.loop);
    struct writer w = {.root = "ws", .path = "one"};
    assert_string_equal(write_text(&f, &w, "1"), "");
    struct connecting c = {&f, &l};
    wait_until(first_heard, &c, "the first change is told");
    w.path = "two";
    assert_string_equal(write_text(&f, &w, "2"), "");
    wait_until(heard, &l, "the second change is told");
    assert_string_equal(l.path, "two");
    sa_loop_lock(l.loop);
    bus_subscriber_free(l.bus);
    sa_loop_stop(l.loop);
    sa_loop_unlock(l.loop);
    pthread_join(thread, NULL);
    sa_loop_free(l.loop);
    end(&f);
}

static void a_wrong_root_is_named_at_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *root, *why;
    } cases[] = {{"ws", "NAME=DIR"},
                 {"=/tmp", "is no name"},
                 {"a b=/tmp", "is no name"},
                 {"ws=/nonexistent/dir", "/nonexistent/dir"},
                 {"ws=/etc/passwd", "/etc/passwd"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int code;
        cleanup_free char *output =
            program_run(WORDS(FS_SVC, "--data-dir", harness_dir(), "--no-token", "--fs-root", cases[i].root),
                        NULL, &code);
        assert_int_equal(code, 1);
        if (!strstr(output, cases[i].why))
            fail_msg("wanted `%s`:\n%s", cases[i].why, output);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(errors_have_reasons),
        cmocka_unit_test(a_stream_has_an_order),
        cmocka_unit_test(without_roots_the_whole_filesystem_is_there_but_our_own),
        cmocka_unit_test(a_directory_is_listed_in_pages),
        cmocka_unit_test(large_files_pass_in_constant_memory),
        cmocka_unit_test(a_killed_service_leaves_the_old_file_and_nothing_else),
        cmocka_unit_test(a_broken_stream_leaves_the_old_file_and_nothing_else),
        cmocka_unit_test(a_service_that_is_asked_to_end_cleans_up_first),
        cmocka_unit_test(a_repeated_request_is_answered_and_not_done_again),
        cmocka_unit_test(writers_at_once_replace_each_other_whole),
        cmocka_unit_test(changes_are_told_on_the_bus),
        cmocka_unit_test(a_wrong_root_is_named_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
