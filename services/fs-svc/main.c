/* fs-svc: files below named roots. The map:
 *
 *     main.c        options, start, stop
 *     roots.c       which directories are offered
 *     stat_api.c    StatFile, ListDirectory      one job on a worker thread, then the reply
 *     read_api.c    ReadFile                     a chunk at a time, as the reader takes them
 *     write_api.c   WriteFile                    the state machine of a write
 *     text_api.c    ReadText                     lines.c: a slice of a file by lines
 *     turns.c       writes to one file take effect one after another
 *     uploads.c     an upload: what it does next; upload_api.c, upload_write.c its calls, upload_store.c its
 *                   records, upload_state.c what resuming stands on
 *     usage_api.c   GetUsage, ListRoots
 *     change.c      the state machine of a change; change_kinds.c has what each of them does:
 *                   MakeDirectory, DeleteFile, MoveFile, CopyFile, MakeLink, ChangeFile
 *     find_api.c    FindFiles, RankFiles         a walk on a thread of its own (task.c)
 *     search_api.c  SearchFiles                  the same, and a search in each file
 *     unpack_api.c  UploadArchive                the same: what comes is unpacked
 *     pack_api.c    DownloadArchive              the same: a walk is packed
 *     watch_api.c   WatchTree                    readers of the events of a tree
 *       watch_tree.c  the tree: watch_events.c what the kernel tells, watch_nodes.c its directories,
 *                     coalesce.c fewer events of many, watch_ring.c the last of them
 *     mark_api.c    CreateMark, ListMarks, DeleteMark; mark_diff_api.c DiffMarks    tasks, as in find_api.c
 *       marks.c       which marks there are
 *     records.c     what a crash must not lose, in LMDB (fs_store.proto); recovery at the start;
 *                   change_records.c the same for changes
 *
 * and what runs on worker threads, blocking, without the lock:
 *     path.c        resolving a path beneath a root
 *     identity.c    with the agent user's rights
 *     info.c dir.c  telling about files
 *     replace.c     replacing one atomically; patch.c: old content with a piece of new
 *     intents.c     where temporary files may be that no record tells of
 *     place.c       a name in a directory, for what makes, renames and removes names
 *     tree.c        walking a tree in slices: remove.c, copy.c, usage.c
 *     transfer.c    moving and copying to another name
 *     make.c        directories, links, attributes
 *     walk.c glob.c a tree in order, without what ignore files and globs leave out
 *     grep.c rank.c lines of a file, and how well a path fits what was typed
 *     archive.c unpack.c pack.c scratch.c    archives, and the place where one grows
 *     watch_walk.c  setting watches and listing
 *     mark_scan.c   looking at a directory; mark_manifest.c mark_store.c what is kept of it
 *     mark_diff.c   what changed between two marks, with libgit2 */
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/log.h"
#include "services/fs-svc/fs.h"
#include "services/fs-svc/intents.h"
#include "services/fs-svc/marks.h"
#include "services/fs-svc/uploads.h"
#include "services/fs-svc/watch.h"
#include "services/runtime/service.h"

static const struct service_option options[] = {
    {"fs-root", SERVICE_OPTION_LIST, NULL, 0, 0,
     "NAME=DIR[:ro][:max=BYTES]: offer this directory, and no longer the whole filesystem; may be repeated"},
    {"fs-watches", SERVICE_OPTION_UINT, "100000", 1, 10000000, "directories that are watched at most"},
    {"fs-watch-linger-ms", SERVICE_OPTION_UINT, "60000", 0, 86400000,
     "a tree is watched on so long after its last reader has left"},
    {0},
};

static const struct file_service_handlers handlers = {
    .stat_file = fs_stat_file,
    .list_directory = fs_list_directory,
    .read_file = fs_read_file,
    .read_text = fs_read_text,
    .write_file = fs_write_file,
    .make_directory = fs_make_directory,
    .delete_file = fs_delete_file,
    .move_file = fs_move_file,
    .copy_file = fs_copy_file,
    .make_link = fs_link_file,
    .change_file = fs_change_file,
    .get_usage = fs_get_usage,
    .list_roots = fs_list_roots,
};

static const struct search_service_handlers search_handlers = {
    .find_files = fs_find_files,
    .rank_files = fs_rank_files,
    .search_files = fs_search_files,
};

static const struct archive_service_handlers archive_handlers = {
    .upload_archive = fs_upload_archive,
    .download_archive = fs_download_archive,
};

static const struct watch_service_handlers watch_handlers = {.watch_tree = fs_watch_tree};

static const struct mark_service_handlers mark_handlers = {
    .create_mark = fs_create_mark,
    .list_marks = fs_list_marks,
    .delete_mark = fs_delete_mark,
    .diff_marks = fs_diff_marks,
};

static void free_parts(struct fs_service *fs)
{
    fs_intents_free(fs->intents);
    fs_roots_free(fs->roots);
    fs_identity_free(fs->identity);
    free(fs);
}

/* What the services keep for themselves. The data directory itself may hold what agents use. */
static struct fs_roots *open_roots(struct service *svc, const char *home, sa_error **err)
{
    static const char *const own[] = {"session", "process", "fs", "provider", "gateway", "run", "token"};
    enum { OWN = sizeof own / sizeof *own };
    cleanup_free char *copy = sa_strdup(service_data_dir(svc));
    const char *data = dirname(copy);
    char *private_dirs[OWN + 2] = {0};
    for (size_t i = 0; i < OWN; i++)
        private_dirs[i] = sa_format("%s/%s", data, own[i]);
    private_dirs[OWN] = sa_strdup(service_run_dir(svc));
    struct fs_roots *roots =
        fs_roots_new(service_text(svc, "fs-root"), home, (const char *const *)private_dirs, err);
    for (size_t i = 0; private_dirs[i]; i++)
        free(private_dirs[i]);
    return roots;
}

static int start(struct service *svc, void **ret_state, sa_error **err)
{
    struct fs_service *fs = sa_calloc(1, sizeof *fs);
    fs->svc = svc;
    fs->loop = service_loop(svc);
    fs->identity = fs_identity_new(service_agent_user(svc), err);
    if (fs->identity)
        fs->roots = open_roots(svc, fs_identity_home(fs->identity), err);
    if (fs->roots)
        fs->records =
            fs_records_open(fs->loop, service_data_dir(svc),
                            store_durability_of(service_text(svc, "durability")), fs->identity, err);
    cleanup_free char *intents = sa_format("%s/intents", service_data_dir(svc));
    if (fs->records)
        fs->intents = fs_intents_open(intents, fs->identity, err);
    if (fs->intents)
        fs->bus = service_bus(svc, fs_records_epoch(fs->records), err);
    if (fs->bus && fs_uploads_open(fs, err) == 0)
        fs->marks = fs_marks_open(fs, service_data_dir(svc), err);
    if (!fs->marks) {
        fs_uploads_free(fs);
        if (fs->records) {
            sa_loop_unlock(fs->loop);
            fs_records_free(fs->records);
            sa_loop_lock(fs->loop);
        }
        free_parts(fs);
        return -1;
    }
    for (size_t i = 0; i < fs_roots_count(fs->roots); i++) {
        const struct fs_root *root = fs_roots_at(fs->roots, i);
        sa_log(SA_LOG_INFO, "fs.root", "name=\"%s\" dir=\"%s\" read_only=%d", root->name, root->dir,
               root->read_only);
    }
    fs->watches =
        fs_watches_new(fs, service_uint(svc, "fs-watches"), service_uint(svc, "fs-watch-linger-ms"));
    file_service_register(service_rpc(svc), &handlers, fs);
    search_service_register(service_rpc(svc), &search_handlers, fs);
    archive_service_register(service_rpc(svc), &archive_handlers, fs);
    upload_service_register(service_rpc(svc), &fs_upload_handlers, fs);
    watch_service_register(service_rpc(svc), &watch_handlers, fs);
    mark_service_register(service_rpc(svc), &mark_handlers, fs);
    service_ready(svc);
    *ret_state = fs;
    return 0;
}

static void drain(void *state)
{
    struct fs_service *fs = state;
    fs_watches_drain(fs->watches);
}

static void stop(void *state)
{
    struct fs_service *fs = state;
    sa_loop_lock(fs->loop);
    fs_uploads_free(fs);
    fs_watches_free(fs->watches);
    fs_marks_free(fs->marks);
    sa_loop_unlock(fs->loop);
    fs_records_free(fs->records);
    free_parts(fs);
}

static const struct service_spec spec = {
    .name = "fs-svc",
    .summary = "Serves files below named roots over gRPC.",
    .options = options,
    .start = start,
    .drain = drain,
    .stop = stop,
};

int main(int argc, char **argv)
{
    return service_main(&spec, argc, argv);
}
