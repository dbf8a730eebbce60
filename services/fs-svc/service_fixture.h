/* For the tests of the program fs-svc: starts it, and the calls in their shortest form. */
#ifndef SERVICES_FS_SVC_SERVICE_FIXTURE_H_
#define SERVICES_FS_SVC_SERVICE_FIXTURE_H_

#include "services/fs-svc/test_dir.h"

#include <dirent.h>
#include <signal.h>

#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "tests/harness/harness.h"

#define FS_SVC "services/fs-svc/fs-svc"
#define FS_SVC_FAULTS "services/fs-svc/fs-svc-faults"

struct service_fixture {
    struct program program;
    struct caller caller;
    const char *dir; /* data/ and home/ and ws/ are in it */
    char *data, *home, *ws;
    const char *extra[16];
    bool faulty;       /* the program that obeys SA_FAULT */
    const char *fault; /* dies the first time it comes there (name:2: the second time); NULL: nowhere */
};

/* What a call may take. */
static const struct rpc_call_options patient = {.deadline_ms = PATIENCE_MS, .wait_for_ready = true};

static inline void service_up(struct service_fixture *f)
{
    const char *argv[24] = {f->faulty ? FS_SVC_FAULTS : FS_SVC, "--data-dir", f->data, "--no-token"};
    for (int i = 0; f->extra[i]; i++)
        argv[4 + i] = f->extra[i];
    cleanup_free char *fault =
        sa_format("SA_FAULT=%s%s", f->fault ? f->fault : "", f->fault && strchr(f->fault, ':') ? "" : ":1");
    struct program_options opt = {.home = f->home, .env = f->fault ? WORDS(fault) : NULL};
    f->program = program_start(argv, &opt);
    cleanup_free char *target = sa_format("unix:%s/run/fs.sock", f->data);
    f->caller = caller_open(target, NULL, NULL);
    program_wait_for(&f->program, "service.ready");
}

/* extra: more words of the command line, NULL-terminated. */
static inline struct service_fixture service_new(const char *const *extra)
{
    struct service_fixture f = {.dir = harness_dir()};
    f.data = sa_format("%s/data", f.dir);
    f.home = sa_format("%s/home", f.dir);
    f.ws = sa_format("%s/ws", f.dir);
    assert_int_equal(mkdir(f.home, 0755) | mkdir(f.ws, 0755) | chmod(f.dir, 0755), 0);
    for (int i = 0; extra && extra[i]; i++)
        f.extra[i] = extra[i];
    return f;
}

static inline void service_down(struct service_fixture *f)
{
    caller_close(&f->caller);
    program_signal(&f->program, SIGTERM);
    int code = program_wait(&f->program);
    if (code)
        print_message("%s\n", program_output(&f->program));
    assert_int_equal(code, 0);
    program_free(&f->program);
}

static inline void service_kill(struct service_fixture *f)
{
    caller_close(&f->caller);
    program_signal(&f->program, SIGKILL);
    program_wait(&f->program);
    program_free(&f->program);
}

static inline void service_free(struct service_fixture *f)
{
    service_down(f);
    free(f->data);
    free(f->home);
    free(f->ws);
}

static inline ProtobufCBinaryData bytes(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

/* ---- calls; they answer "" or the reason of the failure ---- */

static char call_reason[64];

static inline const char *reason_of(sa_error *err)
{
    snprintf(call_reason, sizeof call_reason, "%s", err ? err->reason : "");
    return call_reason;
}

static inline const char *stat_path(struct service_fixture *f, const char *root, const char *path)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = (char *)(uintptr_t)root;
    req.path = bytes(path);
    cleanup_error sa_error *err = NULL;
    rpc_message_free(stat_file_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

struct writer {
    const char *root, *path, *request_id;
    bool make_parents, create_only;
    uint32_t mode;
};

static inline struct rpc_stream *write_begin(struct service_fixture *f, const struct writer *w)
{
    struct rpc_stream *s = write_file_begin(f->caller.channel, &patient);
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.root = (char *)(uintptr_t)w->root;
    open.path = bytes(w->path);
    if (w->request_id)
        open.request_id = (char *)(uintptr_t)w->request_id;
    open.make_parents = w->make_parents;
    open.create_only = w->create_only;
    open.mode = w->mode;
    msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    msg.open = &open;
    write_file_put(s, &msg, NULL);
    return s;
}

static inline int write_data(struct rpc_stream *s, const void *p, size_t n)
{
    WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
    msg.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
    msg.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)p};
    return write_file_put(s, &msg, NULL);
}

static inline const char *write_end(struct rpc_stream *s, uint64_t *ret_size)
{
    cleanup_error sa_error *err = NULL;
    WriteFileResponse *res = NULL;
    rpc_stream_close_send(s, NULL);
    if (write_file_next(s, &res, &err) == 1 && ret_size)
        *ret_size = res->file->size;
    rpc_message_free(res);
    rpc_stream_free(s);
    return reason_of(err);
}

static inline const char *write_text(struct service_fixture *f, const struct writer *w, const char *content)
{
    struct rpc_stream *s = write_begin(f, w);
    write_data(s, content, strlen(content));
    return write_end(s, NULL);
}

/* Appends to *ret. */
static inline const char *read_path(struct service_fixture *f, const char *root, const char *path,
                                    uint64_t offset, uint64_t length, struct sa_buf *ret)
{
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.root = (char *)(uintptr_t)root;
    req.path = bytes(path);
    req.offset = offset;
    req.length = length;
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = read_file_begin(f->caller.channel, &req, &patient);
    ReadFileResponse *res;
    while (read_file_next(s, &res, &err) == 1) {
        if (res->data.len) {
            assert_int_equal(res->offset, offset + ret->len);
            assert_true(res->data.len <= 256 << 10);
        }
        sa_buf_add(ret, res->data.data, res->data.len);
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return reason_of(err);
}

static inline int temporary_files(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += !strncmp(e->d_name, ".sa-", 4);
    closedir(d);
    return n;
}

static inline bool has_temporary_file(void *dir)
{
    return temporary_files(dir) > 0;
}

static inline bool has_no_temporary_file(void *dir)
{
    return temporary_files(dir) == 0;
}

#endif
