/* `sandbox-agent fs chmod MODE PATH...` and `fs touch PATH...`. */
#include <stdlib.h>

#include "services/cli/fs.h"

static int change(struct client *c, const struct options *o, ChangeFileRequest *req, const char *path,
                  sa_error **err)
{
    req->root = fs_root(o);
    req->path = fs_path(path);
    ChangeFileResponse *res = change_file_wait(c->channel, req, NULL, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    return res ? 0 : -1;
}

/* ---- chmod ---- */

static int read_mode(const char *text, uint32_t *ret, sa_error **err)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (*text < '0' || *text > '7' || *end || mode > 07777)
        return sa_fail(err, SA_INVALID_CONFIG, "`%s` is no mode such as 644 or 0755", text);
    *ret = (uint32_t)mode;
    return 0;
}

static int chmod_one(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    ChangeFileRequest req = CHANGE_FILE_REQUEST__INIT;
    req._mode_case = CHANGE_FILE_REQUEST___MODE_MODE;
    return read_mode(options_arguments(o)[0], &req.mode, err) < 0 ? -1 : change(c, o, &req, path, err);
}

static int act_chmod(struct client *c, const struct options *o, sa_error **err)
{
    uint32_t mode;
    return read_mode(options_arguments(o)[0], &mode, err) < 0 ? -1 : fs_each(c, o, 1, chmod_one);
}

int fs_chmod(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .usage = "chmod MODE PATH...",
        .summary = "Changes permissions; MODE is octal.",
        .least = 2,
        .most = -1,
        .act = act_chmod,
    };
    return fs_verb(&verb, argc, argv);
}

/* ---- touch ---- */

static int make_empty(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    WriteFileRequest req = WRITE_FILE_REQUEST__INIT;
    WriteFileOpen open = WRITE_FILE_OPEN__INIT;
    WriteFileResponse *res = NULL;
    open.root = fs_root(o);
    open.path = fs_path(path);
    open.create_only = true;
    req.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
    req.open = &open;
    struct rpc_stream *s = write_file_begin(c->channel, NULL);
    /* What is wrong with the request is told at the end. */
    write_file_put(s, &req, NULL);
    rpc_stream_close_send(s, NULL);
    int r = write_file_next(s, &res, err);
    if (res)
        fs_show_json(o, &res->base);
    rpc_message_free(res);
    rpc_stream_free(s);
    return r == 1 ? 0 : -1;
}

static int touch_one(struct client *c, const struct options *o, const char *path, sa_error **err)
{
    ChangeFileRequest req = CHANGE_FILE_REQUEST__INIT;
    sa_error *failed = NULL;
    req.modify_now = true;
    if (change(c, o, &req, path, &failed) == 0)
        return 0;
    if (!sa_error_is(failed, SA_FILE_NOT_FOUND))
        return sa_pass(err, failed);
    sa_error_free(failed);
    return make_empty(c, o, path, err);
}

static int act_touch(struct client *c, const struct options *o, sa_error **err)
{
    (void)err;
    return fs_each(c, o, 0, touch_one);
}

int fs_touch(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .usage = "touch PATH...",
        .summary = "Sets the time of files to now, and makes empty ones where there are none.",
        .least = 1,
        .most = -1,
        .act = act_touch,
    };
    return fs_verb(&verb, argc, argv);
}
