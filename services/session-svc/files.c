/* fs/read_text_file and fs/write_text_file of an agent, through fs-svc. */
#include <stdlib.h>
#include <string.h>

#include "adapters/os/fault.h"
#include "sandboxagent/fs/v1/file_service.rpc.h"
#include "services/session-svc/requests.h"
#include "services/session-svc/sessions.h"
#include "services/session-svc/talk.h"

enum {
    FILE_MAX = 16 << 20, /* bytes that are read into an answer */
    PATH_BYTES_MAX = 4095,
    CHUNK = 256 << 10,
    RETRY_MS = 300,
    INVALID_PARAMS = -32602,
    INTERNAL_ERROR = -32603,
    RESOURCE_NOT_FOUND = -32002,
};

struct file_request {
    struct session *session;
    uint64_t offset; /* of the pending row */
    struct rpc_request *request;
    struct sa_timer *retry; /* while fs-svc is away */
    bool writes;
    char *path;
    struct sa_buf content;
    size_t sent;
};

void files_abandon(struct file_request *f)
{
    if (!f)
        return;
    rpc_abandon(f->request);
    sa_timer_free(f->retry);
    free(f->path);
    sa_buf_fini(&f->content);
    free(f);
}

static void tell(struct file_request *f, const char *reason, uint64_t size)
{
    FileAccess access = FILE_ACCESS__INIT;
    access.path = (ProtobufCBinaryData){strlen(f->path), (uint8_t *)f->path};
    access.written = f->writes;
    access.size = size;
    access.error_reason = (char *)(uintptr_t)reason;
    Event e = EVENT__INIT;
    e.kind_case = EVENT__KIND_FILE_ACCESS;
    e.file_access = &access;
    session_event(f->session, &e);
}

/* The request is over: f and its row go. */
static void refuse(struct file_request *f, int code, const char *reason, const char *message)
{
    struct session *s = f->session;
    struct pending *p = requests_find(s, f->offset);
    tell(f, reason, 0);
    requests_refuse(s, p, code, message);
    session_settle(s);
}

static void refuse_with(struct file_request *f, const sa_error *err)
{
    refuse(f, sa_error_is(err, SA_FILE_NOT_FOUND) ? RESOURCE_NOT_FOUND : INTERNAL_ERROR, err->reason,
           err->message);
}

static void answer(struct file_request *f, const struct sa_buf *result, uint64_t size)
{
    struct session *s = f->session;
    struct pending *p = requests_find(s, f->offset);
    SA_FAULT("files.done");
    tell(f, "", size);
    requests_answer(s, p, result);
    session_settle(s);
}

static void begin(struct file_request *f);

static void retry_due(void *user)
{
    struct file_request *f = user;
    begin(f);
}

/* True: it is tried again. */
static bool retried(struct file_request *f, const sa_error *err)
{
    if (err->code != SA_CODE_UNAVAILABLE || f->session->all->stopped)
        return false;
    if (!f->retry)
        f->retry = sa_timer_new(f->session->all->loop, retry_due, f);
    sa_timer_start(f->retry, RETRY_MS);
    return true;
}

/* ---- read ---- */

/* Lines from `line` (1-based), at most `limit` of them. */
static void cut_lines(const struct sa_buf *content, uint64_t line, uint64_t limit, const uint8_t **ret,
                      size_t *ret_n)
{
    const uint8_t *p = content->data, *end = p + content->len, *newline;
    for (uint64_t i = 1; i < line && p < end; i++)
        p = (newline = memchr(p, '\n', (size_t)(end - p))) ? newline + 1 : end;
    const uint8_t *stop = p;
    for (uint64_t i = 0; i < limit && stop < end; i++)
        stop = (newline = memchr(stop, '\n', (size_t)(end - stop))) ? newline + 1 : end;
    *ret = p;
    *ret_n = (size_t)(stop - p);
}

/* What would not come back as it was is not handed out. */
static bool is_text(const void *p, size_t n)
{
    struct sa_arena *arena = sa_arena_new();
    const char *mended = rpc_utf8(arena, p ? p : "", n);
    bool same = strlen(mended) == n && !memcmp(mended, p ? p : "", n);
    sa_arena_free(arena);
    return same;
}

static void read_message(void *user, const ReadFileResponse *m)
{
    struct file_request *f = user;
    sa_buf_add(&f->content, m->data.data, m->data.len);
    if (f->content.len <= FILE_MAX)
        return;
    cleanup_free char *message = sa_format("file \"%s\" is over the limit of %d bytes", f->path, FILE_MAX);
    refuse(f, INTERNAL_ERROR, sa_reason_name(SA_MESSAGE_TOO_LARGE), message);
}

static void read_end(void *user, const sa_error *err)
{
    struct file_request *f = user;
    f->request = NULL;
    if (err) {
        if (!retried(f, err))
            refuse_with(f, err);
        return;
    }
    struct pending *p = requests_find(f->session, f->offset);
    struct json params = {(const char *)p->params.data, p->params.len};
    uint64_t line = 1, limit = UINT64_MAX;
    json_uint(json_get(params, "line"), &line);
    json_uint(json_get(params, "limit"), &limit);
    const uint8_t *text = f->content.data;
    size_t n = f->content.len;
    if (n)
        cut_lines(&f->content, line, limit, &text, &n);
    if (!is_text(text, n)) {
        refuse(f, INTERNAL_ERROR, sa_reason_name(SA_INVALID_REQUEST), "the file is not UTF-8 text");
        return;
    }
    cleanup_buf struct sa_buf result = {0};
    struct json_writer w = json_writer(&result);
    json_begin_object(&w);
    json_key(&w, "content");
    json_put_bytes(&w, n ? text : (const uint8_t *)"", n);
    json_end_object(&w);
    answer(f, &result, n);
}

static void begin_read(struct file_request *f)
{
    static const struct read_file_client callbacks = {.on_message = read_message, .on_end = read_end};
    ReadFileRequest req = READ_FILE_REQUEST__INIT;
    req.path = (ProtobufCBinaryData){strlen(f->path), (uint8_t *)f->path};
    f->content.len = 0;
    f->request = read_file_open(f->session->all->files, &req, NULL, &callbacks, f);
}

/* ---- write ---- */

static void write_more(void *user)
{
    struct file_request *f = user;
    bool room = true;
    while (f->request && room && f->sent < f->content.len) {
        size_t n = f->content.len - f->sent < CHUNK ? f->content.len - f->sent : CHUNK;
        WriteFileRequest req = WRITE_FILE_REQUEST__INIT;
        req.kind_case = WRITE_FILE_REQUEST__KIND_DATA;
        req.data = (ProtobufCBinaryData){n, f->content.data + f->sent};
        f->sent += n;
        room = write_file_write(f->request, &req);
        if (f->sent == f->content.len)
            rpc_close_send(f->request);
    }
}

static void write_end(void *user, const sa_error *err)
{
    struct file_request *f = user;
    f->request = NULL;
    if (err) {
        if (!retried(f, err))
            refuse_with(f, err);
        return;
    }
    cleanup_buf struct sa_buf result = {0};
    sa_buf_add(&result, "{}", 2);
    answer(f, &result, f->content.len);
}

static void begin_write(struct file_request *f)
{
    static const struct write_file_client callbacks = {.on_writable = write_more, .on_end = write_end};
    char request_id[96];
    snprintf(request_id, sizeof request_id, "%s-%llu-%llu", f->session->name,
             (unsigned long long)f->session->link.incarnation, (unsigned long long)f->offset);
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    open.path = (ProtobufCBinaryData){strlen(f->path), (uint8_t *)f->path};
    open.make_parents = true;
    open.request_id = request_id;
    WriteFileRequest req = WRITE_FILE_REQUEST__INIT;
    req.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    req.open = &open;
    f->sent = 0;
    f->request = write_file_open(f->session->all->files, NULL, &callbacks, f);
    write_file_write(f->request, &req);
    if (f->content.len)
        write_more(f);
    else
        rpc_close_send(f->request);
}

/* ---- start ---- */

static void begin(struct file_request *f)
{
    SA_FAULT("files.begin");
    if (f->writes)
        begin_write(f);
    else
        begin_read(f);
}

void files_start(struct session *s, struct pending *p)
{
    struct file_request *f = p->file = sa_calloc(1, sizeof *f);
    struct json params = {(const char *)p->params.data, p->params.len}, content = json_get(params, "content");
    f->session = s;
    f->offset = p->offset;
    f->writes = !strcmp(p->method, "fs/write_text_file");
    f->path = json_string(json_get(params, "path"));
    if (!f->path || *f->path != '/' || strlen(f->path) > PATH_BYTES_MAX ||
        (f->writes && json_type(content) != JSON_STRING)) {
        if (!f->path || strlen(f->path) > PATH_BYTES_MAX)
            session_set_text(&f->path, "");
        refuse(f, INVALID_PARAMS, sa_reason_name(SA_INVALID_REQUEST),
               "Invalid params: path is to be absolute, content a text");
        return;
    }
    if (f->writes)
        json_decode(content, JSON_REPLACE, &f->content, NULL);
    begin(f);
}
