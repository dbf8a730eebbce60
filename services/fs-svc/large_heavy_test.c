/* Five gigabytes up and down, interrupted at three points each: the service is killed, the stream breaks, the
 * client starts anew. Nothing that was committed is sent again, the content is the same, and the service's
 * memory hardly grows. LARGE_GIB sets another size. */
#include "services/fs-svc/upload_fixture.h"

#include "adapters/os/clock.h"

enum { MEMORY_MAX = 16 << 20, INTERRUPTIONS = 3 };

struct client {
    struct service_fixture f;
    uint64_t size;
    uint64_t idle; /* memory of the service as it started */
    char id[UPLOAD_ID_TEXT];
    struct sa_sha256 digest;
    uint64_t hashed, sent;
};

static uint64_t memory(pid_t pid, const char *field)
{
    cleanup_free char *path = sa_format("/proc/%d/status", (int)pid);
    cleanup_buf struct sa_buf b = {0};
    assert_int_equal(sa_read_file(path, 1 << 16, &b, NULL), 0);
    const char *at = strstr(sa_buf_string(&b), field);
    return at ? strtoull(at + strlen(field), NULL, 10) << 10 : 0;
}

static void check_memory(struct client *c)
{
    uint64_t peak = memory(c->f.program.pid, "VmHWM:");
    print_message("  memory: %.1f MiB above idle\n", (double)(peak - c->idle) / (1 << 20));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(peak < c->idle + MEMORY_MAX);
#endif
}

static void up(struct client *c)
{
    service_up(&c->f);
    cleanup_buf struct sa_buf nothing = {0};
    read_path(&c->f, "ws", "missing", 0, 0, &nothing); /* a first call: its threads and arenas are there */
    c->idle = memory(c->f.program.pid, "VmHWM:");
}

/* As an upload's content, but cheap: each page tells where it is. */
static void fill(uint8_t *p, uint64_t at, size_t n)
{
    static uint8_t page[4096];
    if (!page[1])
        upload_fill(page, 12345, sizeof page);
    for (size_t i = 0; i < n; i += sizeof page) {
        uint64_t here = at + i;
        memcpy(p + i, page, sizeof page);
        memcpy(p + i, &here, sizeof here);
    }
}

static int send_from(struct client *c, struct rpc_stream *s, uint64_t from, uint64_t to)
{
    static uint8_t piece[UPLOAD_MESSAGE];
    for (uint64_t at = from; at < to; at += sizeof piece) {
        WriteUploadRequest msg = WRITE_UPLOAD_REQUEST__INIT;
        size_t n = to - at < sizeof piece ? (size_t)(to - at) : sizeof piece;
        fill(piece, at, sizeof piece);
        if (at + n > c->hashed) {
            size_t known = c->hashed > at ? (size_t)(c->hashed - at) : 0;
            sa_sha256_add(&c->digest, piece + known, n - known);
            c->hashed = at + n;
        }
        msg.upload_id = c->id;
        msg.offset = at;
        msg.data = (ProtobufCBinaryData){n, piece};
        if (write_upload_put(s, &msg, NULL) < 0)
            return -1;
        c->sent += n;
    }
    return 0;
}

static void interrupt(struct client *c, int which, struct rpc_stream *s)
{
    check_memory(c);
    if (which == 0)
        program_signal(&c->f.program, SIGKILL);
    rpc_stream_free(s);
    if (which == 0) {
        service_kill(&c->f);
        up(c);
    } else if (which == 2) {
        caller_close(&c->f.caller);
        cleanup_free char *target = sa_format("unix:%s/run/fs.sock", c->f.data);
        c->f.caller = caller_open(target, NULL, NULL);
    }
}

static void send_it(struct client *c)
{
    static const struct rpc_call_options forever = {0};
    uint64_t committed = 0, start = sa_now_ns();
    struct up u = {.root = "ws", .path = "large", .sized = true, .size = c->size};
    assert_string_equal(upload_begin(&c->f, &u, c->id, NULL), "");
    for (int i = 0; i <= INTERRUPTIONS; i++) {
        struct rpc_stream *s = write_upload_begin(c->f.caller.channel, &forever);
        uint64_t until = i < INTERRUPTIONS ? c->size / (INTERRUPTIONS + 1) * (uint64_t)(i + 1) : c->size;
        assert_int_equal(send_from(c, s, committed, until), 0);
        if (i == INTERRUPTIONS)
            assert_string_equal(upload_close(s, &committed), "");
        else
            interrupt(c, i, s);
        uint64_t before = committed;
        assert_string_equal(upload_get(&c->f, c->id, &committed), "");
        assert_true(committed >= before && committed <= until);
        print_message("  sent up to %.2f GiB, committed %.2f GiB\n", (double)until / (1 << 30),
                      (double)committed / (1 << 30));
    }
    uint8_t digest[SA_SHA256_SIZE];
    struct sa_sha256 d = c->digest;
    sa_sha256_end(&d, digest);
    assert_string_equal(upload_commit(&c->f, c->id, digest), "");
    check_memory(c);
    print_message("  up: %.0f MB/s, %.1f %% sent again\n",
                  (double)c->size * 1e3 / (double)(sa_now_ns() - start),
                  100.0 * (double)(c->sent - c->size) / (double)c->size);
    assert_int_equal(temporary_files(c->f.ws), 0);
}

/* Reads to `until`; *at is how far it came. */
static struct rpc_stream *receive(struct client *c, char *etag, struct sa_sha256 *d, uint64_t *at,
                                  uint64_t until)
{
    static const struct rpc_call_options forever = {0};
    cleanup_error sa_error *err = NULL;
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    ReadFileResponse *res;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("large");
    req.offset = *at;
    req.if_match = etag;
    struct rpc_stream *s = read_file_begin(c->f.caller.channel, &req, &forever);
    while (*at < until && read_file_next(s, &res, &err) == 1) {
        if (res->file)
            snprintf(etag, 80, "%s", res->file->etag);
        sa_sha256_add(d, res->data.data, res->data.len);
        *at += res->data.len;
        rpc_message_free(res);
    }
    assert_null(err);
    return s;
}

static void fetch_it(struct client *c)
{
    char etag[80] = "";
    uint64_t at = 0, start = sa_now_ns();
    struct sa_sha256 d;
    uint8_t got[SA_SHA256_SIZE], want[SA_SHA256_SIZE];
    sa_sha256_init(&d);
    for (int i = 0; i <= INTERRUPTIONS; i++) {
        uint64_t until = i < INTERRUPTIONS ? c->size / (INTERRUPTIONS + 1) * (uint64_t)(i + 1) : UINT64_MAX;
        struct rpc_stream *s = receive(c, etag, &d, &at, until);
        if (i < INTERRUPTIONS)
            interrupt(c, i, s);
        else
            rpc_stream_free(s);
    }
    check_memory(c);
    print_message("  down: %.0f MB/s\n", (double)c->size * 1e3 / (double)(sa_now_ns() - start));
    sa_sha256_end(&d, got);
    sa_sha256_end(&c->digest, want);
    assert_int_equal(at, c->size);
    assert_memory_equal(got, want, sizeof got);
}

static void five_gigabytes_go_up_and_come_down(void **state)
{
    (void)state;
    const char *gib = getenv("LARGE_GIB");
    struct client c = {.f = service_new(NULL), .size = (gib ? strtoull(gib, NULL, 10) : 5) << 30};
    cleanup_free char *root = sa_format("ws=%s", c.f.ws);
    c.f.extra[0] = "--fs-root";
    c.f.extra[1] = root;
    sa_sha256_init(&c.digest);
    up(&c);
    send_it(&c);
    fetch_it(&c);
    service_free(&c.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(five_gigabytes_go_up_and_come_down)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
