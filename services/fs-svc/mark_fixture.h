/* For the tests of MarkService: the calls in their shortest form. */
#ifndef SERVICES_FS_SVC_MARK_FIXTURE_H_
#define SERVICES_FS_SVC_MARK_FIXTURE_H_

#include "services/fs-svc/service_fixture.h"

#include "adapters/os/clock.h"
#include "sandboxagent/fs/v1/mark_service.rpc.h"

struct marked {
    char id[64];
    uint64_t entries, bytes, files_read, omitted, unreadable;
};

static inline struct marked marked_of(const Mark *m)
{
    struct marked r = {.entries = m->entries,
                       .bytes = m->bytes,
                       .files_read = m->files_read,
                       .omitted = m->omitted,
                       .unreadable = m->unreadable};
    snprintf(r.id, sizeof r.id, "%s", m->mark_id);
    return r;
}

/* "" or the reason of the failure. */
static inline const char *try_mark(struct service_fixture *f, const CreateMarkRequest *req,
                                   struct marked *ret)
{
    cleanup_error sa_error *err = NULL;
    CreateMarkResponse *res = create_mark_wait(f->caller.channel, req, &patient, &err);
    if (res && ret)
        *ret = marked_of(res->mark);
    rpc_message_free(res);
    return reason_of(err);
}

static inline CreateMarkRequest mark_request(const char *root, const char *path)
{
    CreateMarkRequest req = CREATE_MARK_REQUEST__INIT;
    req.root = (char *)(uintptr_t)root;
    req.path = bytes(path);
    return req;
}

static inline struct marked make_mark(struct service_fixture *f, const char *path)
{
    struct marked m;
    CreateMarkRequest req = mark_request("ws", path);
    assert_string_equal(try_mark(f, &req, &m), "");
    return m;
}

static inline const char *delete_mark(struct service_fixture *f, const char *id)
{
    cleanup_error sa_error *err = NULL;
    DeleteMarkRequest req = DELETE_MARK_REQUEST__INIT;
    req.mark_id = (char *)(uintptr_t)id;
    rpc_message_free(delete_mark_wait(f->caller.channel, &req, &patient, &err));
    return reason_of(err);
}

static inline size_t count_marks(struct service_fixture *f)
{
    ListMarksRequest req = LIST_MARKS_REQUEST__INIT;
    cleanup_error sa_error *err = NULL;
    ListMarksResponse *res = list_marks_wait(f->caller.channel, &req, &patient, &err);
    if (!res)
        fail_msg("%s: %s", err->reason, err->message);
    size_t n = res->n_marks;
    rpc_message_free(res);
    return n;
}

/* A diff as text: a line "M path", "A path", "D path", "R old > path", "m path" (mode) for each change,
 * directories with a slash, then what is special about it, then its diff. */
static inline void show_change(struct sa_buf *b, const Change *c, bool with_diff)
{
    static const char letters[] = "?AMDRm";
    bool dir = c->new_kind == FILE_KIND_DIRECTORY || (!c->new_kind && c->old_kind == FILE_KIND_DIRECTORY);
    sa_buf_addf(b, "%c ", letters[c->kind]);
    sa_buf_add(b, c->old_path.data, c->old_path.len);
    sa_buf_addf(b, "%s", c->old_path.len ? " > " : "");
    sa_buf_add(b, c->path.data, c->path.len);
    sa_buf_addf(b, "%s%s%s%s", dir ? "/" : "", c->binary ? " binary" : "", c->diff_omitted ? " omitted" : "",
                c->unsure ? " unsure" : "");
    if (with_diff && (c->lines_added || c->lines_deleted))
        sa_buf_addf(b, " +%u -%u", c->lines_added, c->lines_deleted);
    sa_buf_addf(b, "\n");
    if (with_diff)
        sa_buf_add(b, c->diff.data, c->diff.len);
}

static inline const char *try_diff(struct service_fixture *f, const DiffMarksRequest *req, bool with_diff,
                                   struct sa_buf *ret)
{
    cleanup_error sa_error *err = NULL;
    DiffMarksResponse *res;
    struct rpc_stream *s = diff_marks_begin(f->caller.channel, req, &patient);
    uint64_t told = 0, wanted = 0;
    while (diff_marks_next(s, &res, &err) == 1) {
        if (res->kind_case == DIFF_MARKS_RESPONSE__KIND_SUMMARY)
            wanted = res->summary->added + res->summary->modified + res->summary->deleted +
                     res->summary->renamed + res->summary->mode_changed;
        else
            show_change(ret, res->change, with_diff);
        told += res->kind_case == DIFF_MARKS_RESPONSE__KIND_CHANGE;
        rpc_message_free(res);
    }
    if (!err)
        assert_int_equal(told, wanted);
    rpc_stream_free(s);
    return reason_of(err);
}

/* to NULL: now. */
static inline char *diff_of(struct service_fixture *f, const struct marked *from, const struct marked *to,
                            bool with_diff)
{
    struct sa_buf b = {0};
    DiffMarksRequest req = DIFF_MARKS_REQUEST__INIT;
    req.from_mark_id = (char *)(uintptr_t)from->id;
    if (to)
        req.to_mark_id = (char *)(uintptr_t)to->id;
    req.names_only = !with_diff;
    assert_string_equal(try_diff(f, &req, with_diff, &b), "");
    return sa_buf_string(&b);
}

static inline void assert_diff(struct service_fixture *f, const struct marked *from, const struct marked *to,
                               const char *wanted)
{
    cleanup_free char *got = diff_of(f, from, to, false);
    assert_string_equal(got, wanted);
}

/* Files below a directory of the service. */
static inline size_t count_files(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        cleanup_free char *below = sa_format("%s/%s", path, e->d_name);
        n += e->d_type == DT_DIR ? count_files(below) : 1;
    }
    if (d)
        closedir(d);
    return n;
}

/* The clock of the files has gone on, so that what is as it is now is old enough to be believed. */
static inline void let_times_pass(void)
{
    enum { OLD_MS = 60 };
    for (uint64_t until = sa_now_ms() + OLD_MS; sa_now_ms() < until;)
        usleep(1000);
}

#endif
