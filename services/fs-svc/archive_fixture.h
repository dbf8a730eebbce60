/* For the tests of archives: the calls in their shortest form, and archives of any content. */
#ifndef SERVICES_FS_SVC_ARCHIVE_FIXTURE_H_
#define SERVICES_FS_SVC_ARCHIVE_FIXTURE_H_

#include "services/fs-svc/service_fixture.h"

#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "services/fs-svc/archive.h"

/* With a root `ws`. */
static inline struct service_fixture start_with_root(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static inline void end(struct service_fixture *f)
{
    char *extra = (char *)(uintptr_t)f->extra[1];
    service_free(f);
    free(extra);
}

static inline struct sa_buf file_of(const char *dir, const char *name)
{
    struct sa_buf b = {0};
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    sa_error *err = NULL;
    if (sa_read_file(path, 256 << 20, &b, &err) < 0)
        fail_msg("%s", err->message);
    return b;
}

/* ---- making archives ---- */

struct made {
    struct sa_buf bytes;
    struct archive_out *out;
    struct archive_locale *locale;
};

static inline bool made_sink(void *user, const void *p, size_t n)
{
    struct made *m = user;
    sa_buf_add(&m->bytes, p, n);
    return true;
}

static inline void make_begin(struct made *m, enum archive_format format)
{
    *m = (struct made){.locale = archive_begin_thread()};
    m->out = archive_out_new(format, made_sink, m, NULL);
    assert_non_null(m->out);
}

static inline void make_item(struct made *m, enum archive_kind kind, const char *name, const char *target)
{
    const struct archive_item item = {
        .name = name, .kind = kind, .target = target, .mode = kind == ARCHIVE_DIR ? 0755 : 0644};
    sa_error *err = NULL;
    if (archive_out_entry(m->out, &item, &err) < 0)
        fail_msg("%s: %s", name, err->message);
}

static inline void make_file(struct made *m, const char *name, const void *p, size_t n, mode_t mode)
{
    const struct archive_item item = {.name = name,
                                      .kind = ARCHIVE_FILE,
                                      .size = n,
                                      .mode = mode,
                                      .mtime = {.tv_sec = 1000000000},
                                      .has_mtime = true};
    sa_error *err = NULL;
    if (archive_out_entry(m->out, &item, &err) < 0)
        fail_msg("%s: %s", name, err->message);
    if (n)
        assert_int_equal(archive_out_data(m->out, p, n, NULL), 0);
}

static inline void make_text(struct made *m, const char *name, const char *text)
{
    make_file(m, name, text, strlen(text), 0644);
}

static inline void make_end(struct made *m)
{
    assert_int_equal(archive_out_finish(m->out, NULL), 0);
    archive_out_free(m->out);
    archive_end_thread(m->locale);
}

/* ---- calls ---- */

struct upload {
    const char *root, *path;
    unsigned strip;
    OverwritePolicy overwrite;
    bool all_or_nothing, ignore_modes;
    uint32_t max_entries, max_ratio;
    uint64_t max_bytes, max_file_bytes;
};

static inline struct rpc_stream *upload_begin(struct service_fixture *f, const struct upload *u)
{
    struct rpc_stream *s = upload_archive_begin(f->caller.channel, &patient);
    UploadArchiveRequest msg = UPLOAD_ARCHIVE_REQUEST__INIT;
    UploadArchiveOpen open = UPLOAD_ARCHIVE_OPEN__INIT;
    open.root = (char *)(uintptr_t)u->root;
    open.path = bytes(u->path);
    open.strip_components = u->strip;
    open.overwrite = u->overwrite;
    open.all_or_nothing = u->all_or_nothing;
    open.ignore_modes = u->ignore_modes;
    open.max_entries = u->max_entries;
    open.max_ratio = u->max_ratio;
    open.max_bytes = u->max_bytes;
    open.max_file_bytes = u->max_file_bytes;
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_OPEN;
    msg.open = &open;
    upload_archive_put(s, &msg, NULL);
    return s;
}

static inline int upload_data(struct rpc_stream *s, const void *p, size_t n)
{
    UploadArchiveRequest msg = UPLOAD_ARCHIVE_REQUEST__INIT;
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_DATA;
    msg.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)p};
    return upload_archive_put(s, &msg, NULL);
}

/* *ret (may be NULL): to be freed. "" or the reason. */
static inline const char *upload_end(struct rpc_stream *s, UploadArchiveResponse **ret)
{
    cleanup_error sa_error *err = NULL;
    UploadArchiveResponse *res = NULL;
    rpc_stream_close_send(s, NULL);
    int r = upload_archive_next(s, &res, &err);
    rpc_stream_free(s);
    if (err)
        print_message("    %s: %s\n", err->reason, err->message);
    if (r == 1 && ret)
        *ret = res;
    else
        rpc_message_free(res);
    return reason_of(err);
}

static inline const char *upload(struct service_fixture *f, const struct upload *u, const void *p, size_t n,
                                 UploadArchiveResponse **ret)
{
    enum { PIECE = 256 << 10 };
    struct rpc_stream *s = upload_begin(f, u);
    for (size_t at = 0; at < n; at += PIECE)
        if (upload_data(s, (const uint8_t *)p + at, n - at < PIECE ? n - at : PIECE) < 0)
            break;
    return upload_end(s, ret);
}

static inline const char *download(struct service_fixture *f, const DownloadArchiveRequest *req,
                                   struct sa_buf *ret, uint64_t ret_counts[static 4])
{
    cleanup_error sa_error *err = NULL;
    struct rpc_stream *s = download_archive_begin(f->caller.channel, req, &patient);
    DownloadArchiveResponse *res;
    while (download_archive_next(s, &res, &err) == 1) {
        if (res->kind_case == DOWNLOAD_ARCHIVE_RESPONSE__KIND_DATA) {
            assert_true(res->data.len <= 256 << 10);
            sa_buf_add(ret, res->data.data, res->data.len);
        } else {
            ret_counts[0] = res->summary->entries;
            ret_counts[1] = res->summary->bytes;
            ret_counts[2] = res->summary->skipped;
            ret_counts[3] = res->summary->padded;
        }
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    return reason_of(err);
}

static inline bool refused_with(const UploadArchiveResponse *res, const char *name, const char *reason)
{
    for (size_t i = 0; i < res->n_failures; i++)
        if (res->failures[i]->name.len == strlen(name) &&
            !memcmp(res->failures[i]->name.data, name, strlen(name)))
            return !strcmp(res->failures[i]->reason, reason);
    return false;
}

/* Runs a shell command; its output must be as expected and its code 0. */
static inline void __attribute__((format(printf, 2, 3)))
assert_shell(const char *expected, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    cleanup_free char *command = sa_vformat(fmt, ap);
    va_end(ap);
    cleanup_buf struct sa_buf b = {0};
    FILE *p = popen(command, "r");
    assert_non_null(p);
    for (size_t n; (n = fread(sa_buf_reserve(&b, 4096), 1, 4096, p)) > 0;)
        b.len += n;
    int code = pclose(p);
    if (code || strcmp(sa_buf_string(&b), expected))
        fail_msg("%s: code %d\n%s\n--- expected\n%s", command, code, sa_buf_string(&b), expected);
}

#endif
