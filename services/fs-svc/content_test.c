/* Reading and writing content, as the callers of the program see it. */
#include "services/fs-svc/service_fixture.h"

#include "adapters/os/clock.h"
#include "adapters/os/sha256.h"

static struct service_fixture start(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    service_free(f);
    free((char *)(uintptr_t)f->extra[1]);
}

/* ---- reading ---- */

struct read {
    struct sa_buf data;
    uint64_t holes; /* bytes */
    int messages;
    bool not_modified, changed;
    size_t largest;
    char etag[80];
};

/* Between the first message and the others `between` is called. */
static const char *read_with(struct service_fixture *f, ReadFileRequest *req, struct read *ret,
                             void (*between)(struct service_fixture *f))
{
    cleanup_error sa_error *err = NULL;
    *ret = (struct read){0};
    req->root = (char *)(uintptr_t) "ws";
    struct rpc_stream *s = read_file_begin(f->caller.channel, req, &patient);
    ReadFileResponse *res;
    while (read_file_next(s, &res, &err) == 1) {
        if (!ret->messages++ && between)
            between(f);
        if (res->file)
            snprintf(ret->etag, sizeof ret->etag, "%s", res->file->etag);
        ret->not_modified = ret->not_modified || res->not_modified;
        ret->changed = ret->changed || res->changed;
        if (res->data.len || res->hole_bytes)
            assert_int_equal(res->offset, req->offset + ret->data.len);
        ret->largest = res->data.len > ret->largest ? res->data.len : ret->largest;
        ret->holes += res->hole_bytes;
        if (res->hole_bytes)
            memset(sa_buf_reserve(&ret->data, res->hole_bytes), 0, res->hole_bytes);
        ret->data.len += res->hole_bytes;
        sa_buf_add(&ret->data, res->data.data, res->data.len);
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return reason_of(err);
}

static void what_the_caller_has_is_not_sent_again(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct read got, again;
    test_put(f.ws, "file", "content");
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = bytes("file");
    assert_string_equal(read_with(&f, &req, &got, NULL), "");
    assert_true(got.data.len == 7 && !got.not_modified && !got.changed);
    req.if_none_match = got.etag;
    assert_string_equal(read_with(&f, &req, &again, NULL), "");
    assert_true(again.not_modified && again.data.len == 0 && again.messages == 1);
    sa_buf_fini(&again.data);
    test_put(f.ws, "file", "other content");
    assert_string_equal(read_with(&f, &req, &again, NULL), "");
    assert_true(!again.not_modified && again.data.len == 13);
    sa_buf_fini(&again.data);
    req.if_none_match = (char *)(uintptr_t) "";
    req.if_match = got.etag;
    assert_string_equal(read_with(&f, &req, &again, NULL), "ETAG_MISMATCH");
    sa_buf_fini(&got.data);
    end(&f);
}

static void make_sparse(const char *dir)
{
    cleanup_free char *path = sa_format("%s/sparse", dir);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
    assert_int_equal(pwrite(fd, "middle", 6, 64 << 20), 6);
    assert_int_equal(ftruncate(fd, 128 << 20), 0);
}

static void holes_are_told_and_not_sent(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct read got;
    make_sparse(f.ws);
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = bytes("sparse");
    req.holes = true;
    req.chunk_bytes = 1 << 30;
    assert_string_equal(read_with(&f, &req, &got, NULL), "");
    assert_int_equal(got.data.len, 128 << 20);
    assert_true(got.holes > 120 << 20 && got.messages < 20 && got.largest <= 1 << 20);
    assert_memory_equal(got.data.data, "begin", 5);
    assert_memory_equal(got.data.data + (64 << 20), "middle", 6);
    sa_buf_fini(&got.data);
    req.offset = (64 << 20) - 100;
    req.length = 103;
    assert_string_equal(read_with(&f, &req, &got, NULL), "");
    assert_int_equal(got.data.len, 103);
    assert_memory_equal(got.data.data + 100, "mid", 3);
    sa_buf_fini(&got.data);
    req.offset = 100 << 20;
    assert_string_equal(read_with(&f, &req, &got, NULL), "");
    assert_true(got.data.len == 103 && got.holes == 103);
    sa_buf_fini(&got.data);
    end(&f);
}

static void grow(struct service_fixture *f)
{
    cleanup_free char *path = sa_format("%s/large", f->ws);
    cleanup_close int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "more", 4), 4);
}

static void replace(struct service_fixture *f)
{
    struct writer w = {.root = "ws", .path = "large"};
    assert_string_equal(write_text(f, &w, "small now"), "");
}

/* A download that mixed two states of a file was told as good: the reader has to learn it. */
static void a_change_while_reading_is_told(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct read got;
    cleanup_free char *content = sa_calloc(1, 8 << 20);
    memset(content, 'x', (8 << 20) - 1);
    test_put(f.ws, "large", content);
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = bytes("large");
    assert_string_equal(read_with(&f, &req, &got, grow), "");
    assert_true(got.changed);
    sa_buf_fini(&got.data);
    char etag[80];
    memcpy(etag, got.etag, sizeof etag);
    req.if_match = etag;
    assert_string_equal(read_with(&f, &req, &got, grow), "FILE_CHANGED");
    sa_buf_fini(&got.data);
    /* A file that is replaced as a whole stays what it was for who reads it. */
    req.if_match = (char *)(uintptr_t) "";
    assert_string_equal(read_with(&f, &req, &got, replace), "");
    assert_true(!got.changed && got.data.len == (8 << 20) - 1 + 8);
    sa_buf_fini(&got.data);
    end(&f);
}

/* ---- lines ---- */

static ReadTextResponse *read_text(struct service_fixture *f, ReadTextRequest *req, const char *path)
{
    cleanup_error sa_error *err = NULL;
    req->root = (char *)(uintptr_t) "ws";
    req->path = bytes(path);
    ReadTextResponse *res = read_text_wait(f->caller.channel, req, &patient, &err);
    reason_of(err);
    return res;
}

static void text_comes_by_lines(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_put(f.ws, "text", "one\ntw\xc3\xb6\nthree\n\xff\xfe\nfive");
    ReadTextRequest req = READ_TEXT_REQUEST__INIT;
    req.first_line = 2;
    req.max_lines = 2;
    ReadTextResponse *res = read_text(&f, &req, "text");
    assert_non_null(res);
    assert_int_equal(res->n_lines, 2);
    assert_string_equal(res->lines[0]->text, "tw\xc3\xb6");
    assert_string_equal(res->lines[1]->text, "three");
    assert_true(res->next_line == 4 && !res->binary && !res->_total_lines_case);
    req.first_line = res->next_line;
    req.offset = res->next_offset;
    assert_null(read_text(&f, &req, "text"));
    assert_string_equal(call_reason, "INVALID_REQUEST");
    req.if_match = res->file->etag;
    ReadTextResponse *rest = read_text(&f, &req, "text");
    assert_non_null(rest);
    assert_int_equal(rest->n_lines, 2);
    assert_true(rest->binary && rest->lines[0]->kind_case == TEXT_LINE__KIND_RAW);
    assert_memory_equal(rest->lines[0]->raw.data, "\xff\xfe", 2);
    assert_string_equal(rest->lines[1]->text, "five");
    assert_true(rest->total_lines == 5 && rest->next_line == 0);
    test_put(f.ws, "text", "something else");
    assert_null(read_text(&f, &req, "text"));
    assert_string_equal(call_reason, "FILE_CHANGED");
    rpc_message_free(rest);
    rpc_message_free(res);
    end(&f);
}

/* Half a gigabyte without a newline, then a line: found, and the memory of the service hardly grows. */
static void lines_behind_a_huge_one_are_found(void **state)
{
    (void)state;
    struct service_fixture f = start();
    cleanup_free char *path = sa_format("%s/huge", f.ws);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(pwrite(fd, "\nlast", 5, 512 << 20), 5);
    ReadTextRequest req = READ_TEXT_REQUEST__INIT;
    req.max_line_bytes = 10;
    ReadTextResponse *res = read_text(&f, &req, "huge");
    assert_non_null(res);
    assert_int_equal(res->n_lines, 2);
    assert_int_equal(res->lines[0]->full_bytes, 512 << 20);
    assert_int_equal(res->lines[0]->raw.len, 10);
    assert_string_equal(res->lines[1]->text, "last");
    assert_int_equal(res->total_lines, 2);
    rpc_message_free(res);
    end(&f);
}

/* ---- writing ---- */

struct edit {
    const char *path, *if_match, *request_id;
    WriteMethod method;
    uint64_t offset;
    bool truncate, in_place, sized, create_only;
    uint64_t size;
    const uint8_t *sha256;
};

static const char *edit(struct service_fixture *f, const struct edit *e, const void *data, size_t n)
{
    struct rpc_stream *s = write_file_begin(f->caller.channel, &patient);
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.root = (char *)(uintptr_t) "ws";
    open.path = bytes(e->path ? e->path : "file");
    open.if_match = (char *)(uintptr_t)(e->if_match ? e->if_match : "");
    open.request_id = (char *)(uintptr_t)(e->request_id ? e->request_id : "");
    open.method = e->method;
    open.offset = e->offset;
    open.truncate = e->truncate;
    open.in_place = e->in_place;
    open.create_only = e->create_only;
    if (e->sized) {
        open._size_case = WRITE_FILE_OPEN___SIZE_SIZE;
        open.size = e->size;
    }
    if (e->sha256)
        open.sha256 = (ProtobufCBinaryData){32, (uint8_t *)(uintptr_t)e->sha256};
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = &open;
    write_file_put(s, &msg, NULL);
    for (size_t at = 0; at < n; at += 1 << 20)
        if (write_data(s, (const char *)data + at, n - at < 1 << 20 ? n - at : 1 << 20) < 0)
            break;
    return write_end(s, NULL);
}

static void assert_content(struct service_fixture *f, const char *name, const char *content)
{
    cleanup_free char *got = test_get(f->ws, name);
    assert_string_equal(got, content);
    assert_int_equal(temporary_files(f->ws), 0);
}

static ino_t inode_of(struct service_fixture *f, const char *name)
{
    struct stat st;
    cleanup_free char *path = sa_format("%s/%s", f->ws, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static void old_content_is_extended_and_changed(void **state)
{
    (void)state;
    struct service_fixture f = start();
    for (int in_place = 0; in_place < 2; in_place++) {
        struct edit append = {.method = WRITE_METHOD_APPEND, .in_place = in_place};
        struct edit at = {.method = WRITE_METHOD_AT_OFFSET, .in_place = in_place, .offset = 3};
        assert_string_equal(edit(&f, &append, "hello", 5), "");
        assert_content(&f, "file", "hello");
        ino_t inode = inode_of(&f, "file");
        assert_string_equal(edit(&f, &append, " world", 6), "");
        assert_content(&f, "file", "hello world");
        assert_string_equal(edit(&f, &at, "p me", 4), "");
        assert_content(&f, "file", "help meorld");
        at.truncate = true;
        assert_string_equal(edit(&f, &at, "ium", 3), "");
        assert_content(&f, "file", "helium");
        assert_int_equal(inode_of(&f, "file") == inode, in_place);
        at.offset = 8;
        assert_string_equal(edit(&f, &at, "x", 1), "");
        cleanup_free char *got = test_get(f.ws, "file");
        assert_memory_equal(got, "helium\0\0x", 10);
        cleanup_free char *path = sa_format("%s/file", f.ws);
        unlink(path);
    }
    struct edit odd = {.offset = 1};
    assert_string_equal(edit(&f, &odd, "x", 1), "INVALID_REQUEST");
    odd = (struct edit){.in_place = true};
    assert_string_equal(edit(&f, &odd, "x", 1), "INVALID_REQUEST");
    odd = (struct edit){.method = WRITE_METHOD_AT_OFFSET, .offset = UINT64_MAX};
    assert_string_equal(edit(&f, &odd, "x", 1), "FILE_TOO_LARGE");
    end(&f);
}

/* An append that waited while another one took effect goes behind it, whatever the old size was at its
 * beginning. */
static void appends_at_once_all_arrive(void **state)
{
    (void)state;
    enum { WRITERS = 16 };
    struct service_fixture f = start();
    test_put(f.ws, "log", "start\n");
    for (int in_place = 0; in_place < 2; in_place++) {
        struct rpc_stream *s[WRITERS];
        for (int i = 0; i < WRITERS; i++) {
            s[i] = write_file_begin(f.caller.channel, &patient);
            WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
            WriteFileOpen open = WRITE_FILE_OPEN__INIT;
            open.root = (char *)(uintptr_t) "ws";
            open.path = bytes("log");
            open.method = WRITE_METHOD_APPEND;
            open.in_place = in_place;
            msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
            msg.open = &open;
            write_file_put(s[i], &msg, NULL);
        }
        for (int i = 0; i < WRITERS; i++) {
            char line[32];
            memset(line, 'a' + i, sizeof line);
            line[i + 1] = '\n';
            write_data(s[i], line, (size_t)i + 2);
        }
        for (int i = WRITERS; i-- > 0;)
            assert_string_equal(write_end(s[i], NULL), "");
    }
    cleanup_free char *log = test_get(f.ws, "log");
    assert_memory_equal(log, "start\n", 6);
    int seen[WRITERS] = {0};
    for (const char *line = log + 6; *line; line = strchr(line, '\n') + 1) {
        int i = line[0] - 'a';
        assert_true(i >= 0 && i < WRITERS);
        assert_int_equal(strspn(line, (char[]){line[0], 0}), i + 1);
        seen[i]++;
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(seen[i], 2);
    end(&f);
}

static void a_write_is_for_the_file_that_was_meant(void **state)
{
    (void)state;
    struct service_fixture f = start();
    struct read got;
    test_put(f.ws, "file", "old");
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = bytes("file");
    assert_string_equal(read_with(&f, &req, &got, NULL), "");
    sa_buf_fini(&got.data);
    struct edit mine = {.if_match = got.etag}, new = {.path = "new", .if_match = got.etag};
    assert_string_equal(edit(&f, &mine, "mine", 4), "");
    assert_string_equal(edit(&f, &mine, "theirs", 6), "ETAG_MISMATCH");
    assert_string_equal(edit(&f, &new, "x", 1), "ETAG_MISMATCH");
    mine.in_place = true;
    mine.method = WRITE_METHOD_APPEND;
    assert_string_equal(edit(&f, &mine, "theirs", 6), "ETAG_MISMATCH");
    assert_content(&f, "file", "mine");
    end(&f);
}

/* Changes within one tick of the filesystem's clock, of the same size: each has an etag of its own. */
static void every_change_in_place_has_its_etag(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char before[80] = "";
    struct read got;
    test_put(f.ws, "file", "0");
    for (int i = 0; i < 50; i++) {
        struct edit e = {.method = WRITE_METHOD_AT_OFFSET, .in_place = true};
        char digit = (char)('0' + i % 10);
        assert_string_equal(edit(&f, &e, &digit, 1), "");
        ReadFileRequest req = READ_FILE_REQUEST__INIT;
        req.path = bytes("file");
        assert_string_equal(read_with(&f, &req, &got, NULL), "");
        sa_buf_fini(&got.data);
        assert_string_not_equal(got.etag, before);
        memcpy(before, got.etag, sizeof before);
    }
    end(&f);
}

static void what_came_is_what_was_announced(void **state)
{
    (void)state;
    struct service_fixture f = start();
    test_put(f.ws, "file", "old");
    uint8_t digest[32];
    struct sa_sha256 c;
    sa_sha256_init(&c);
    sa_sha256_add(&c, "content", 7);
    sa_sha256_end(&c, digest);
    struct edit e = {.sha256 = digest, .sized = true, .size = 7};
    assert_string_equal(edit(&f, &e, "CONTENT", 7), "DIGEST_MISMATCH");
    assert_string_equal(edit(&f, &e, "conten", 6), "INVALID_REQUEST");
    assert_string_equal(edit(&f, &e, "content!", 8), "INVALID_REQUEST");
    wait_until(has_no_temporary_file, f.ws, "the temporary files go");
    assert_content(&f, "file", "old");
    e.method = WRITE_METHOD_APPEND;
    e.in_place = true;
    assert_string_equal(edit(&f, &e, "CONTENT", 7), "DIGEST_MISMATCH");
    assert_content(&f, "file", "old");
    assert_string_equal(edit(&f, &e, "content", 7), "");
    assert_content(&f, "file", "oldcontent");
    e = (struct edit){.sized = true, .size = (uint64_t)1 << 60};
    assert_string_equal(edit(&f, &e, "x", 1), "NO_SPACE");
    assert_content(&f, "file", "oldcontent");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_caller_has_is_not_sent_again),
        cmocka_unit_test(holes_are_told_and_not_sent),
        cmocka_unit_test(a_change_while_reading_is_told),
        cmocka_unit_test(text_comes_by_lines),
        cmocka_unit_test(lines_behind_a_huge_one_are_found),
        cmocka_unit_test(old_content_is_extended_and_changed),
        cmocka_unit_test(appends_at_once_all_arrive),
        cmocka_unit_test(a_write_is_for_the_file_that_was_meant),
        cmocka_unit_test(every_change_in_place_has_its_etag),
        cmocka_unit_test(what_came_is_what_was_announced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
