/* /v1/fs: what is told about files and done with them, all but their content (file_content.c) and lists
 * (file_list.c). The paths of answers are absolute. */
#include "services/gateway-svc/files.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LONG_CALL_MS = 3600000 };

/* ---- paths ---- */

static bool has_parent_part(const char *path)
{
    for (const char *p = path; *p; p += strcspn(p, "/"), p += *p == '/')
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
            return true;
    return false;
}

bool file_place(struct exchange *x, const char *given, struct file_place *ret)
{
    struct sa_arena *a = http_arena(x->http);
    const char *root = peer_query(x, "root");
    given = given ? given : "";
    if (*given != '/' && has_parent_part(given)) {
        cleanup_free char *message = sa_format("invalid relative path: %s", given);
        peer_problem(x, PEER_INVALID, sa_reason_name(SA_INVALID_PATH), message);
        return false;
    }
    ret->root = sa_arena_strdup(a, root);
    if (*ret->root)
        ret->path = sa_arena_strdup(a, *given ? given : ".");
    else if (*given == '/')
        ret->path = sa_arena_strdup(a, given);
    else
        ret->path = sa_arena_format(a, "%s/%s", strcmp(x->gw->home, "/") == 0 ? "" : x->gw->home, given);
    return true;
}

bool file_place_of_query(struct exchange *x, struct file_place *ret)
{
    if (!peer_check_query(x))
        return false;
    const char *path = peer_query(x, "path");
    if (!path) {
        problem_bad_request(x->http, "Failed to deserialize query string: missing field `path`");
        return false;
    }
    return file_place(x, path, ret);
}

ProtobufCBinaryData file_path(const struct file_place *p)
{
    return (ProtobufCBinaryData){strlen(p->path), (uint8_t *)p->path};
}

/* ---- errors ---- */

void file_fail(struct exchange *x, enum file_call call, const char *path, const sa_error *err)
{
    static const struct {
        enum file_call call; /* FILE_ANY: every other one */
        enum sa_reason reason;
        enum peer_problem family;
        const char *message;
        bool names_path;
    } forms[] = {
        {FILE_LIST, SA_NOT_A_DIRECTORY, PEER_INVALID, "path is not a directory: ", true},
        {FILE_READ, SA_IS_A_DIRECTORY, PEER_INVALID, "path is not a file: ", true},
        {FILE_READ, SA_NOT_A_REGULAR_FILE, PEER_INVALID, "path is not a file: ", true},
        {FILE_WRITE, SA_NOT_A_DIRECTORY, PEER_STREAM, "File exists (os error 17)", false},
        /* What is in the way is never removed for a file that is to take its place. */
        {FILE_MOVE, SA_ALREADY_EXISTS, PEER_INVALID, "destination already exists: ", true},
        {FILE_MOVE, SA_IS_A_DIRECTORY, PEER_CONFLICT, "the destination is a directory: ", true},
        {FILE_MOVE, SA_NOT_A_DIRECTORY, PEER_CONFLICT, "the destination is not a directory: ", true},
        {FILE_MOVE, SA_DIRECTORY_NOT_EMPTY, PEER_CONFLICT, "the destination is not empty: ", true},
        {FILE_ANY, SA_FILE_NOT_FOUND, PEER_INVALID, "path not found: ", true},
        {FILE_ANY, SA_ALREADY_EXISTS, PEER_STREAM, "File exists (os error 17)", false},
        {FILE_ANY, SA_NOT_A_DIRECTORY, PEER_STREAM, "Not a directory (os error 20)", false},
        {FILE_ANY, SA_IS_A_DIRECTORY, PEER_STREAM, "Is a directory (os error 21)", false},
        {FILE_ANY, SA_DIRECTORY_NOT_EMPTY, PEER_STREAM, "Directory not empty (os error 39)", false},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if ((forms[i].call != FILE_ANY && forms[i].call != call) || !sa_error_is(err, forms[i].reason))
            continue;
        cleanup_free char *message = sa_format("%s%s", forms[i].message, forms[i].names_path ? path : "");
        peer_problem(x, forms[i].family, err->reason, message);
        return;
    }
    peer_fail(x, sa_error_copy(err));
}

/* ---- answers ---- */

static const char *kind_of(const FileInfo *f)
{
    return f->kind == FILE_KIND_DIRECTORY ? "directory" : "file";
}

void file_put_info(struct json_writer *w, const FileInfo *f)
{
    json_key(w, "entryType");
    json_put_string(w, kind_of(f));
    json_key(w, "size");
    json_put_uint(w, f->size);
    if (!f->modify_time)
        return;
    char text[64];
    time_t seconds = (time_t)f->modify_time->seconds;
    struct tm tm;
    if (!gmtime_r(&seconds, &tm))
        return;
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%09d+00:00", f->modify_time->nanos);
    json_key(w, "modified");
    json_put_string(w, text);
}

struct rpc_call_options file_long_call(const struct exchange *x)
{
    struct rpc_call_options opt = calls_options(x);
    opt.wait_for_ready = false;
    opt.deadline_ms = LONG_CALL_MS;
    return opt;
}

static void abandon(struct exchange *x)
{
    rpc_abandon(x->state);
}

static void begin(struct exchange *x, struct rpc_request *rpc)
{
    x->state = rpc;
    x->abandon = abandon;
}

/* {"path": ...} or {"from": ..., "to": ...} */
static void reply_paths(struct exchange *x, const char *name, const char *path, const char *name2,
                        const char *path2)
{
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    json_begin_object(&w);
    json_key(&w, name);
    json_put_string(&w, path);
    if (name2) {
        json_key(&w, name2);
        json_put_string(&w, path2);
    }
    json_end_object(&w);
    peer_reply(x, &body);
}

/* ---- stat ---- */

static const struct file_place *place_of(struct exchange *x)
{
    return x->data;
}

/* Keeps the place with the exchange until the answer. */
static void keep_place(struct exchange *x, const struct file_place *p)
{
    x->data = sa_arena_memdup(http_arena(x->http), p, sizeof(*p));
}

static void on_stat(void *user, const StatFileResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    const char *path = place_of(x)->path;
    x->state = NULL;
    if (err) {
        file_fail(x, FILE_ANY, path, err);
        return;
    }
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = json_writer(&body);
    json_begin_object(&w);
    json_key(&w, "path");
    json_put_string(&w, path);
    file_put_info(&w, res->file);
    json_end_object(&w);
    peer_reply(x, &body);
}

void files_stat(struct exchange *x)
{
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    struct file_place p;
    if (!file_place_of_query(x, &p))
        return;
    keep_place(x, &p);
    req.root = p.root;
    req.path = file_path(&p);
    begin(x, stat_file_call(x->gw->fs, &req, &opt, on_stat, x));
}

/* ---- mkdir ---- */

static void on_made(void *user, const MakeDirectoryResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    (void)res;
    x->state = NULL;
    if (err)
        file_fail(x, FILE_WRITE, place_of(x)->path, err);
    else
        reply_paths(x, "path", place_of(x)->path, NULL, NULL);
}

void files_mkdir(struct exchange *x)
{
    MakeDirectoryRequest req = MAKE_DIRECTORY_REQUEST__INIT;
    struct rpc_call_options opt = calls_options(x);
    struct file_place p;
    if (!file_place_of_query(x, &p))
        return;
    keep_place(x, &p);
    req.root = p.root;
    req.path = file_path(&p);
    req.parents = true;
    begin(x, make_directory_call(x->gw->fs, &req, &opt, on_made, x));
}

/* ---- delete ---- */

static void on_deleted(void *user, const DeleteFileResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    (void)res;
    x->state = NULL;
    if (err)
        file_fail(x, FILE_ANY, place_of(x)->path, err);
    else
        reply_paths(x, "path", place_of(x)->path, NULL, NULL);
}

void files_delete(struct exchange *x)
{
    DeleteFileRequest req = DELETE_FILE_REQUEST__INIT;
    struct rpc_call_options opt = file_long_call(x);
    struct file_place p;
    bool recursive = false;
    if (!file_place_of_query(x, &p) || !peer_query_flag(x, "recursive", &recursive))
        return;
    keep_place(x, &p);
    req.root = p.root;
    req.path = file_path(&p);
    req.recursive = recursive;
    begin(x, delete_file_call(x->gw->fs, &req, &opt, on_deleted, x));
}

/* ---- move ---- */

struct move {
    struct file_place from, to;
};

static void on_moved(void *user, const MoveFileResponse *res, const sa_error *err)
{
    struct exchange *x = user;
    const struct move *m = x->data;
    (void)res;
    x->state = NULL;
    if (err)
        file_fail(x, FILE_MOVE, sa_error_is(err, SA_FILE_NOT_FOUND) ? m->from.path : m->to.path, err);
    else
        reply_paths(x, "from", m->from.path, "to", m->to.path);
}

void files_move(struct exchange *x)
{
    MoveFileRequest req = MOVE_FILE_REQUEST__INIT;
    struct rpc_call_options opt = file_long_call(x);
    struct json body;
    char *from = NULL, *to = NULL;
    bool overwrite = false;
    struct move m;
    if (!peer_check_query(x) || !peer_body(x, &body) || !peer_string(x, body, "from", true, &from) ||
        !peer_string(x, body, "to", true, &to) || !peer_flag(x, body, "overwrite", &overwrite) ||
        !file_place(x, from, &m.from) || !file_place(x, to, &m.to))
        return;
    x->data = sa_arena_memdup(http_arena(x->http), &m, sizeof(m));
    req.root = m.from.root;
    req.path = file_path(&m.from);
    req.to_path = file_path(&m.to);
    req.overwrite = overwrite;
    req.make_parents = true;
    begin(x, move_file_call(x->gw->fs, &req, &opt, on_moved, x));
}
