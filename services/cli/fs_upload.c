/* `sandbox-agent fs upload DIR-OR-ARCHIVE DIRECTORY`: a tree of files, packed here and unpacked there. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/fs_filter.h"
#include "services/cli/show.h"
#include "services/fs-svc/pack.h"

enum { PIECE = 256 << 10 };

static const struct service_option own[] = {
    {"strip", SERVICE_OPTION_UINT, NULL, 0, 4096, "leave out so many leading parts of names"},
    {"overwrite", SERVICE_OPTION_TEXT, "fail", 0, 0, "what is there: fail (told), skip or replace it"},
    {"whole", SERVICE_OPTION_FLAG, NULL, 0, 0, "all or nothing: the directory is exchanged as a whole"},
    {"glob", SERVICE_OPTION_LIST, NULL, 0, 0,
     "of a directory, only files that fit; !GLOB excludes; may be repeated"},
    {0},
};

static int take_policy(const struct options *o, OverwritePolicy *ret, sa_error **err)
{
    static const char *const names[] = {[OVERWRITE_POLICY_FAIL] = "fail",
                                        [OVERWRITE_POLICY_SKIP] = "skip",
                                        [OVERWRITE_POLICY_REPLACE] = "replace"};
    const char *name = options_text(o, "overwrite");
    for (int i = OVERWRITE_POLICY_FAIL; i <= OVERWRITE_POLICY_REPLACE; i++)
        if (!strcmp(name, names[i])) {
            *ret = (OverwritePolicy)i;
            return 0;
        }
    return sa_fail(err, SA_INVALID_CONFIG, "--overwrite is fail, skip or replace, not `%s`", name);
}

/* A server that has had enough says why at the end: then this says only that. */
static bool send_piece(void *user, const void *p, size_t n)
{
    UploadArchiveRequest msg = UPLOAD_ARCHIVE_REQUEST__INIT;
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_DATA;
    msg.data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)p};
    return upload_archive_put(user, &msg, NULL) == 0;
}

static int send_file(struct rpc_stream *s, int fd, const char *path, sa_error **err)
{
    cleanup_free uint8_t *piece = sa_malloc(PIECE);
    for (;;) {
        ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sa_fail_errno(err, errno, "read `%s`", path);
        if (n == 0 || !send_piece(s, piece, (size_t)n))
            return 0;
    }
}

static void say(void *user, const char *name, const sa_error *err)
{
    (void)user;
    fprintf(stderr, "sandbox-agent: ");
    fs_show_name(stderr, fs_path(name));
    fprintf(stderr, ": %s\n", err->message);
}

static bool never(void *user)
{
    (void)user;
    return false;
}

static int send_directory(struct rpc_stream *s, const struct options *o, int fd, const char *path,
                          sa_error **err)
{
    const struct fs_root root = {.name = (char *)(uintptr_t) "", .dir = (char *)(uintptr_t)path, .fd = fd};
    const struct pack_events events = {.failed = say, .stop = never};
    struct fs_globs globs = {0};
    struct pack_result result = {0};
    struct sa_arena *a = sa_arena_new();
    FileFilter *filter = fs_filter_globs(a, o);
    int r = 0;
    for (size_t i = 0; r == 0 && i < filter->n_globs; i++)
        r = fs_globs_add(&globs, (const char *)filter->globs[i].data, filter->globs[i].len, err);
    const struct fs_walk_options walk = {.globs = &globs, .hidden = true, .no_ignore = true, .vcs = true};
    struct archive_locale *locale = archive_begin_thread();
    struct archive_out *out = r == 0 ? archive_out_new(ARCHIVE_TAR_ZSTD, send_piece, s, err) : NULL;
    cleanup_error sa_error *failed = NULL;
    if (out &&
        (pack(out, &root, ".", NULL, &walk, &events, &result, &failed) < 0 ||
         archive_out_finish(out, &failed) < 0) &&
        !sa_error_is(failed, SA_CANCELLED))
        r = sa_pass(err, steal_pointer(&failed));
    archive_out_free(out);
    archive_end_thread(locale);
    fs_globs_fini(&globs);
    sa_arena_free(a);
    return out ? r : -1;
}

static int tell(const struct options *o, const UploadArchiveResponse *res)
{
    if (options_flag(o, "json")) {
        show_json(stdout, &res->base);
        return res->failed > 0;
    }
    for (size_t i = 0; i < res->n_failures; i++) {
        fprintf(stderr, "sandbox-agent: ");
        fs_show_name(stderr, res->failures[i]->name);
        fprintf(stderr, ": %s\n", res->failures[i]->message);
    }
    printf("%" PRIu64 " entries, %" PRIu64 " bytes", res->entries, res->bytes);
    if (res->skipped)
        printf(", %" PRIu64 " skipped", res->skipped);
    printf(res->failed ? ", %" PRIu64 " failed\n" : "\n", res->failed);
    return res->failed > 0;
}

static int send_all(struct rpc_stream *s, const struct options *o, sa_error **err)
{
    const char *path = options_arguments(o)[0];
    cleanup_close int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return sa_fail_errno(err, errno, "open `%s`", path);
    return S_ISDIR(st.st_mode) ? send_directory(s, o, fd, path, err) : send_file(s, fd, path, err);
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    UploadArchiveRequest msg = UPLOAD_ARCHIVE_REQUEST__INIT;
    UploadArchiveOpen open_msg = UPLOAD_ARCHIVE_OPEN__INIT;
    if (take_policy(o, &open_msg.overwrite, err) < 0)
        return -1;
    open_msg.root = fs_root(o);
    open_msg.path = fs_path(options_arguments(o)[1]);
    open_msg.strip_components = (uint32_t)options_uint(o, "strip");
    open_msg.all_or_nothing = options_flag(o, "whole");
    msg.kind_case = UPLOAD_ARCHIVE_REQUEST__KIND_OPEN;
    msg.open = &open_msg;
    struct rpc_stream *s = upload_archive_begin(c->channel, NULL);
    UploadArchiveResponse *res = NULL;
    upload_archive_put(s, &msg, NULL);
    int r = send_all(s, o, err);
    if (r == 0) {
        rpc_stream_close_send(s, NULL);
        r = upload_archive_next(s, &res, err) == 1 ? tell(o, res) : -1;
    }
    rpc_message_free(res);
    rpc_stream_free(s);
    return r;
}

int fs_upload(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "g=glob",
        .usage = "upload [options] DIR|ARCHIVE|- DIRECTORY",
        .summary = "Unpacks what is in a directory or an archive (tar, gzip, zstd, zip) of this machine into "
                   "a directory there.",
        .least = 2,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
