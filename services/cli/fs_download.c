/* `sandbox-agent fs download PATH [DIRECTORY]`: a tree of files, packed there; an archive, or unpacked here.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "sandboxagent/fs/v1/archive_service.rpc.h"
#include "services/cli/cli.h"
#include "services/cli/fs.h"
#include "services/cli/fs_filter.h"
#include "services/fs-svc/scratch.h"
#include "services/fs-svc/unpack.h"

static const struct service_option own[] = {
    {"format", SERVICE_OPTION_TEXT, "tar", 0, 0, "of the archive: tar, tar.gz, tar.zst or zip"},
    {"overwrite", SERVICE_OPTION_FLAG, NULL, 0, 0, "replace files that are in DIRECTORY"},
    {"glob", SERVICE_OPTION_LIST, NULL, 0, 0, "only files that fit; !GLOB excludes; may be repeated"},
    {"ignore", SERVICE_OPTION_FLAG, NULL, 0, 0, "obey .gitignore and .ignore, and leave out .git"},
    {0},
};

struct receiving {
    struct rpc_stream *s;
    DownloadArchiveResponse *res; /* the message at hand */
    uint64_t incomplete;          /* entries that were skipped or filled up */
    uint64_t packed;
    sa_error *err;
};

static void tell(struct receiving *r, const DownloadSummary *s)
{
    for (size_t i = 0; i < s->n_failures; i++) {
        fprintf(stderr, "sandbox-agent: ");
        fs_show_name(stderr, s->failures[i]->name);
        fprintf(stderr, ": %s\n", s->failures[i]->message);
    }
    r->incomplete = s->skipped + s->padded;
}

/* The next bytes; 0: the end; -1: r->err. */
static ssize_t next_piece(void *user, const void **ret)
{
    struct receiving *r = user;
    int more;
    do {
        rpc_message_free(steal_pointer(&r->res));
        more = download_archive_next(r->s, &r->res, &r->err);
        if (more <= 0)
            return more;
        if (r->res->kind_case == DOWNLOAD_ARCHIVE_RESPONSE__KIND_SUMMARY)
            tell(r, r->res->summary);
    } while (r->res->kind_case != DOWNLOAD_ARCHIVE_RESPONSE__KIND_DATA || !r->res->data.len);
    *ret = r->res->data.data;
    r->packed += r->res->data.len;
    return (ssize_t)r->res->data.len;
}

static int write_out(struct receiving *r, sa_error **err)
{
    const void *p;
    ssize_t n;
    if (isatty(STDOUT_FILENO))
        return sa_fail(err, SA_INVALID_CONFIG,
                       "an archive is nothing for a terminal: name a DIRECTORY, or redirect it");
    while ((n = next_piece(r, &p)) > 0)
        if (fwrite(p, 1, (size_t)n, stdout) != (size_t)n)
            return sa_fail_errno(err, errno, "write");
    if (n < 0)
        return sa_pass(err, steal_pointer(&r->err));
    return fflush(stdout) ? sa_fail_errno(err, errno, "write") : 0;
}

/* ---- unpacking ---- */

static void say(void *user, const char *name, const sa_error *err)
{
    struct receiving *r = user;
    r->incomplete++;
    fprintf(stderr, "sandbox-agent: ");
    fs_show_name(stderr, fs_path(name));
    fprintf(stderr, ": %s\n", err->message);
}

static uint64_t packed(void *user)
{
    struct receiving *r = user;
    return r->packed;
}

static int unpack_into(struct receiving *r, const struct options *o, struct fs_scratch *s,
                       const struct fs_root *root, sa_error **err)
{
    const struct unpack_options opt = {
        .policy = options_flag(o, "overwrite") ? UNPACK_REPLACE : UNPACK_FAIL,
        .max_entries = UINT64_MAX,
        .max_bytes = UINT64_MAX / 2,
        .max_file_bytes = UINT64_MAX / 4,
        .max_ratio = UINT32_MAX,
    };
    const struct unpack_events events = {.failed = say, .packed = packed, .user = r};
    struct unpack_result result = {0};
    const void *p;
    struct archive_locale *locale = archive_begin_thread();
    struct archive_in *in = archive_in_stream(next_piece, r, err);
    int done = in ? unpack(in, root, s->tree, s->fd, &opt, &events, &result, err) : -1;
    archive_in_free(in);
    archive_end_thread(locale);
    while (done == 0 && next_piece(r, &p) > 0)
        continue;
    if (r->err)
        return sa_pass(err, steal_pointer(&r->err)); /* the cause of whatever was told before */
    if (done == 0)
        fprintf(stderr, "%" PRIu64 " entries, %" PRIu64 " bytes\n", result.entries, result.bytes);
    return done;
}

static int unpack_here(struct receiving *r, const struct options *o, const char *dir, sa_error **err)
{
    cleanup_close int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char here[4096], id[SA_ID_TEXT + 1];
    if (fd < 0 || !getcwd(here, sizeof here))
        return sa_fail_errno(err, errno, "open the working directory");
    const struct fs_root root = {.name = (char *)(uintptr_t) "",
                                 .dir = (char *)(uintptr_t) "/",
                                 .fd = fd,
                                 .whole = true,
                                 .home = here};
    struct fs_scratch s = {.dir_fd = -1, .fd = -1, .tree = -1};
    sa_id_format(sa_id_new(), id);
    int done = fs_scratch_locate(&root, dir, false, false, id, &s, err);
    if (done == 0)
        done = fs_scratch_make(&s, err);
    if (done == 0)
        done = unpack_into(r, o, &s, &root, err);
    cleanup_error sa_error *left = NULL;
    if (fs_scratch_remove(&s, &left) < 0)
        fprintf(stderr, "sandbox-agent: %s\n", left->message);
    fs_scratch_fini(&s);
    return done;
}

static int take_format(const struct options *o, ArchiveFormat *ret, sa_error **err)
{
    static const struct {
        const char *name;
        ArchiveFormat format;
    } formats[] = {{"tar", ARCHIVE_FORMAT_TAR},
                   {"tar.gz", ARCHIVE_FORMAT_TAR_GZIP},
                   {"tar.zst", ARCHIVE_FORMAT_TAR_ZSTD},
                   {"zip", ARCHIVE_FORMAT_ZIP}};
    const char *name = options_text(o, "format");
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(name, formats[i].name)) {
            *ret = formats[i].format;
            return 0;
        }
    return sa_fail(err, SA_INVALID_CONFIG, "--format is tar, tar.gz, tar.zst or zip, not `%s`", name);
}

static int act(struct client *c, const struct options *o, sa_error **err)
{
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    bool here = options_count(o) > 1;
    if (take_format(o, &req.format, err) < 0)
        return -1;
    struct sa_arena *a = sa_arena_new();
    req.root = fs_root(o);
    req.path = fs_path(options_arguments(o)[0]);
    req.filter = fs_filter_globs(a, o);
    req.obey_ignore = options_flag(o, "ignore");
    if (here)
        req.format = ARCHIVE_FORMAT_TAR_ZSTD;
    struct receiving r = {.s = download_archive_begin(c->channel, &req, NULL)};
    int done = here ? unpack_here(&r, o, options_arguments(o)[1], err) : write_out(&r, err);
    rpc_message_free(r.res);
    rpc_stream_free(r.s);
    sa_error_free(r.err);
    sa_arena_free(a);
    return done < 0 ? -1 : r.incomplete > 0;
}

int fs_download(int argc, char **argv)
{
    static const struct fs_verb verb = {
        .own = own,
        .letters = "g=glob,f=format",
        .usage = "download [options] PATH [DIRECTORY]",
        .summary = "Packs a directory or file there: as an archive to standard output, or unpacked into "
                   "DIRECTORY here.",
        .least = 1,
        .most = 2,
        .act = act,
    };
    return fs_verb(&verb, argc, argv);
}
