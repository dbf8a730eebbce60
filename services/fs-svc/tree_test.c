/* Changing names, as callers of the program fs-svc see it. */
#include "services/fs-svc/tree_fixture.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

static void directories_are_made(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    struct stat st;
    assert_string_equal(make_dir(&f, ORDER("ws", "a")), "");
    assert_string_equal(make_dir(&f, ORDER("ws", "a")), "ALREADY_EXISTS");
    assert_string_equal(make_dir(&f, ORDER("ws", "a", .parents = true)), "");
    assert_string_equal(make_dir(&f, ORDER("ws", ".", .parents = true)), "");
    assert_string_equal(make_dir(&f, ORDER("ws", "b/c")), "FILE_NOT_FOUND");
    assert_string_equal(make_dir(&f, ORDER("ws", "b/c/", .parents = true, .mode = 0710)), "");
    cleanup_free char *made = sa_format("%s/b/c", f.ws);
    assert_int_equal(stat(made, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0710);
    test_put(f.ws, "file", "x");
    assert_string_equal(make_dir(&f, ORDER("ws", "file", .parents = true)), "ALREADY_EXISTS");
    assert_string_equal(make_dir(&f, ORDER("ws", "file/x", .parents = true)), "NOT_A_DIRECTORY");
    assert_string_equal(make_dir(&f, ORDER("ro", "new")), "PERMISSION_DENIED");
    assert_string_equal(make_dir(&f, ORDER("ws", "x", .mode = 010000)), "INVALID_REQUEST");
    tree_end(&f);
}

static void files_and_trees_are_deleted(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "kept");
    test_put(f.ws, "kept/file", "kept");
    test_mkdir(f.ws, "d/in");
    test_put(f.ws, "d/in/file", "x");
    test_link("../kept", f.ws, "d/link");
    test_link("nowhere", f.ws, "dangling");
    test_put(f.ws, "file", "x");
    assert_string_equal(delete_path(&f, ORDER("ws", "dangling")), "");
    assert_string_equal(delete_path(&f, ORDER("ws", "file/")), "NOT_A_DIRECTORY");
    assert_string_equal(delete_path(&f, ORDER("ws", "file")), "");
    assert_int_equal(deleted, 1);
    assert_string_equal(delete_path(&f, ORDER("ws", "file")), "FILE_NOT_FOUND");
    assert_string_equal(delete_path(&f, ORDER("ws", "file", .missing_ok = true)), "");
    assert_int_equal(deleted, 0);
    assert_string_equal(delete_path(&f, ORDER("ws", "d")), "DIRECTORY_NOT_EMPTY");
    assert_string_equal(delete_path(&f, ORDER("ro", "d", .recursive = true)), "PERMISSION_DENIED");
    assert_string_equal(delete_path(&f, ORDER("ws", "d/link/", .recursive = true)), "NOT_A_DIRECTORY");
    assert_string_equal(delete_path(&f, ORDER("ws", "d", .recursive = true)), "");
    assert_int_equal(deleted, 4);
    assert_false(there(f.ws, "d"));
    assert_content(f.ws, "kept/file", "kept");
    const char *roots[] = {".", "/", "..", "kept/..", "./", "kept/."};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        assert_string_equal(delete_path(&f, ORDER("ws", roots[i], .recursive = true)), "INVALID_PATH");
    test_mkdir(f.ws, "empty");
    assert_string_equal(delete_path(&f, ORDER("ws", "empty/")), "");
    tree_end(&f);
}

static void a_root_is_never_deleted_through_another(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    test_mkdir(f.ws, "in/ner");
    test_put(f.ws, "in/ner/file", "x");
    cleanup_free char *ws = sa_format("ws=%s", f.ws), *inner = sa_format("inner=%s/in/ner", f.ws);
    const char *extra[] = {"--fs-root", ws, "--fs-root", inner};
    memcpy(f.extra, extra, sizeof extra);
    service_up(&f);
    assert_string_equal(delete_path(&f, ORDER("ws", "in", .recursive = true)), "PERMISSION_DENIED");
    assert_string_equal(delete_path(&f, ORDER("ws", "in/ner", .recursive = true)), "PERMISSION_DENIED");
    assert_string_equal(move_path(&f, ORDER("ws", "in", .to_path = "out")), "PERMISSION_DENIED");
    assert_string_equal(delete_path(&f, ORDER("ws", "in/ner/file")), "");
    service_free(&f);
}

/* The data directory may hold what agents use, so it can be reached; what is the services' own in it must
 * neither be deleted nor moved to where it can be read. */
static void the_services_own_files_stay_where_they_are(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    service_up(&f);
    test_put(f.data, "token", "secret");
    cleanup_free char *data = sa_format("%s/data", f.dir), *token = sa_format("%s/data/token", f.dir);
    cleanup_free char *store = sa_format("%s/data/fs", f.dir), *gone = sa_format("%s/gone", f.dir);
    cleanup_free char *gateway = sa_format("%s/data/gateway", f.dir);
    const char *own[] = {data, token, store, f.dir, "/proc", "/"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        const char *why = i == 5 ? "INVALID_PATH" : "PERMISSION_DENIED";
        assert_string_equal(delete_path(&f, ORDER("", own[i], .recursive = true)), why);
        assert_string_equal(move_path(&f, ORDER("", own[i], .to_path = gone)), why);
        assert_string_equal(copy_path(&f, ORDER("", own[i], .to_path = gone, .recursive = true)),
                            "PERMISSION_DENIED");
    }
    assert_string_equal(make_dir(&f, ORDER("", gateway)), "PERMISSION_DENIED");
    cleanup_free char *below = sa_format("%s/x/y", gateway);
    assert_string_equal(make_dir(&f, ORDER("", below, .parents = true)), "PERMISSION_DENIED");
    struct writer w = {.root = "", .path = token};
    assert_string_equal(write_text(&f, &w, "mine"), "PERMISSION_DENIED");
    test_put(f.home, "mine", "mine");
    assert_string_equal(move_path(&f, ORDER("", "mine", .to_path = token, .overwrite = true)),
                        "PERMISSION_DENIED");
    assert_string_equal(copy_path(&f, ORDER("", "mine", .to_path = token, .overwrite = true)),
                        "PERMISSION_DENIED");
    assert_string_equal(change_mode(&f, ORDER("", token, .mode = 0666)), "PERMISSION_DENIED");
    assert_content(f.data, "token", "secret");
    assert_false(there(f.data, "gateway"));
    assert_false(there(f.dir, "gone"));
    service_free(&f);
}

/* The peer's move onto itself with overwrite deletes the file; over a directory it deletes the directory. */
static void a_move_loses_nothing(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_put(f.ws, "a", "a");
    test_put(f.ws, "b", "b");
    test_mkdir(f.ws, "full/dir");
    test_mkdir(f.ws, "empty");
    test_mkdir(f.ws, "d");
    for (int overwrite = 0; overwrite < 2; overwrite++) {
        assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "a", .overwrite = overwrite)), "");
        assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "d/../a", .overwrite = overwrite)), "");
        assert_string_equal(move_path(&f, ORDER("ws", "d", .to_path = "d", .overwrite = overwrite)), "");
        assert_content(f.ws, "a", "a");
    }
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "b")), "ALREADY_EXISTS");
    assert_content(f.ws, "b", "b");
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "full", .overwrite = true)),
                        "IS_A_DIRECTORY");
    assert_string_equal(move_path(&f, ORDER("ws", "d", .to_path = "b", .overwrite = true)),
                        "NOT_A_DIRECTORY");
    assert_string_equal(move_path(&f, ORDER("ws", "d", .to_path = "full", .overwrite = true)),
                        "DIRECTORY_NOT_EMPTY");
    assert_string_equal(move_path(&f, ORDER("ws", "d", .to_path = "empty")), "ALREADY_EXISTS");
    assert_string_equal(move_path(&f, ORDER("ws", "full", .to_path = "full/dir/x")), "INVALID_PATH");
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "no/where")), "FILE_NOT_FOUND");
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "new/")), "NOT_A_DIRECTORY");
    assert_string_equal(move_path(&f, ORDER("ro", "a", .to_path = "x")), "PERMISSION_DENIED");
    assert_string_equal(move_path(&f, ORDER("ws", "a", "ro", "x")), "PERMISSION_DENIED");
    assert_true(there(f.ws, "full/dir") && there(f.ws, "a") && there(f.ws, "b") && there(f.ws, "d"));
    assert_string_equal(move_path(&f, ORDER("ws", "d", .to_path = "empty", .overwrite = true)), "");
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "b", .overwrite = true)), "");
    assert_content(f.ws, "b", "a");
    assert_string_equal(move_path(&f, ORDER("ws", "b", .to_path = "new/dir/b", .parents = true)), "");
    assert_string_equal(move_path(&f, ORDER("ws", "full", "other", "full")), "");
    assert_false(there(f.ws, "full") || there(f.ws, "b") || there(f.ws, "d"));
    cleanup_free char *other = sa_format("%s/other", f.dir);
    assert_true(there(other, "full/dir"));
    tree_end(&f);
}

static void two_names_of_one_file_become_one(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    cleanup_free char *a = sa_format("%s/a", f.ws), *b = sa_format("%s/b", f.ws);
    test_put(f.ws, "a", "content");
    assert_int_equal(link(a, b), 0);
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "b")), "ALREADY_EXISTS");
    assert_string_equal(move_path(&f, ORDER("ws", "a", .to_path = "b", .overwrite = true)), "");
    assert_false(there(f.ws, "a"));
    assert_content(f.ws, "b", "content");
    tree_end(&f);
}

static void make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void a_tree_is_copied_as_it_is(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "t/closed");
    test_put(f.ws, "t/file", "content");
    test_put(f.ws, "t/closed/in", "in");
    test_link("file", f.ws, "t/link");
    test_link("nowhere", f.ws, "t/dangling");
    cleanup_free char *fifo = sa_format("%s/t/fifo", f.ws), *sock = sa_format("%s/t/sock", f.ws);
    cleanup_free char *closed = sa_format("%s/t/closed", f.ws), *file = sa_format("%s/t/file", f.ws);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    make_socket(sock);
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1234567, .tv_nsec = 89}};
    assert_int_equal(utimensat(AT_FDCWD, file, old, 0), 0);
    assert_int_equal(chmod(file, 04750) | utimensat(AT_FDCWD, closed, old, 0) | chmod(closed, 0500), 0);
    assert_string_equal(copy_path(&f, ORDER("ws", "t", .to_path = "c")), "IS_A_DIRECTORY");
    assert_string_equal(copy_path(&f, ORDER("ws", "t", .to_path = "c", .recursive = true)), "");
    assert_string_equal(copy_path(&f, ORDER("ws", "t", "other", "p", .recursive = true, .preserve = true)),
                        "");
    cleanup_free char *kept = sa_format("%s/other/p/file", f.dir), *plain = sa_format("%s/c/file", f.ws);
    cleanup_free char *kept_dir = sa_format("%s/other/p/closed", f.dir);
    cleanup_free char *link = sa_format("%s/c/link", f.ws);
    struct stat st;
    char target[16] = "";
    assert_int_equal(stat(plain, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_true(st.st_mtim.tv_sec != 1234567);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 07777, 04750);
    assert_true(st.st_mtim.tv_sec == 1234567 && st.st_mtim.tv_nsec == 89);
    assert_int_equal(stat(kept_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0500);
    assert_int_equal(st.st_mtim.tv_sec, 1234567);
    assert_int_equal(readlink(link, target, sizeof target), 4);
    assert_memory_equal(target, "file", 4);
    assert_true(there(f.ws, "c/dangling") && there(f.ws, "c/fifo") && there(f.ws, "c/sock"));
    assert_content(f.ws, "c/closed/in", "in");
    assert_int_equal(temporary_files(f.ws), 0);
    tree_end(&f);
}

static void a_copy_goes_only_where_it_may(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "t/in");
    test_mkdir(f.ws, "empty");
    test_mkdir(f.ws, "full/x");
    test_put(f.ws, "a", "a");
    test_put(f.ws, "b", "b");
    struct order all = {"ws", "t", .to_path = "t/in/t", .recursive = true, .overwrite = true};
    assert_string_equal(copy_path(&f, &all), "INVALID_PATH");
    all.to_path = "t/t";
    assert_string_equal(copy_path(&f, &all), "INVALID_PATH");
    all.to_path = "t";
    assert_string_equal(copy_path(&f, &all), "INVALID_PATH");
    all.to_path = "b";
    assert_string_equal(copy_path(&f, &all), "NOT_A_DIRECTORY");
    all.to_path = "full";
    assert_string_equal(copy_path(&f, &all), "DIRECTORY_NOT_EMPTY");
    all.to_path = "empty";
    assert_string_equal(copy_path(&f, &all), "");
    assert_true(there(f.ws, "empty/in"));
    all = (struct order){"ws", ".", "other", "whole", .recursive = true};
    assert_string_equal(copy_path(&f, &all), "");
    cleanup_free char *other = sa_format("%s/other", f.dir);
    assert_content(other, "whole/a", "a");
    assert_string_equal(copy_path(&f, ORDER("ws", "a", .to_path = "a", .overwrite = true)), "INVALID_PATH");
    assert_string_equal(copy_path(&f, ORDER("ws", "a", .to_path = "b")), "ALREADY_EXISTS");
    assert_string_equal(copy_path(&f, ORDER("ws", "a", .to_path = "full", .overwrite = true)),
                        "IS_A_DIRECTORY");
    assert_string_equal(copy_path(&f, ORDER("ws", "a", "ro", "x")), "PERMISSION_DENIED");
    assert_string_equal(copy_path(&f, ORDER("ro", "a", "ws", "b", .overwrite = true)), "");
    assert_content(f.ws, "b", "a");
    tree_end(&f);
}

static void a_sparse_file_stays_sparse(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    cleanup_free char *path = sa_format("%s/sparse", f.ws), *copy = sa_format("%s/copy", f.ws);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    enum { HOLE = 64 << 20 };
    assert_int_equal(pwrite(fd, "begin", 5, 0), 5);
    assert_int_equal(pwrite(fd, "middle", 6, HOLE), 6);
    assert_int_equal(ftruncate(fd, 2 * HOLE), 0);
    struct stat from, to;
    assert_string_equal(copy_path(&f, ORDER("ws", "sparse", .to_path = "copy")), "");
    assert_int_equal(stat(path, &from) | stat(copy, &to), 0);
    assert_int_equal(to.st_size, 2 * HOLE);
    assert_true(from.st_blocks < 2048 && to.st_blocks < 2048);
    cleanup_close int got = open(copy, O_RDONLY | O_CLOEXEC);
    char text[6];
    assert_int_equal(pread(got, text, 6, HOLE), 6);
    assert_memory_equal(text, "middle", 6);
    tree_end(&f);
}

static void a_root_may_limit_what_is_written(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    cleanup_free char *small = sa_format("%s/small", f.dir);
    test_put(f.ws, "fits", "0123456789abcdef");
    test_put(f.ws, "more", "0123456789abcdefg");
    test_mkdir(f.ws, "tree");
    test_put(f.ws, "tree/a", "0123456789");
    test_put(f.ws, "tree/b", "0123456789");
    test_put(small, "old", "old");
    assert_string_equal(copy_path(&f, ORDER("ws", "more", "small", "old", .overwrite = true)),
                        "FILE_TOO_LARGE");
    assert_string_equal(copy_path(&f, ORDER("ws", "tree", "small", "tree", .recursive = true)),
                        "FILE_TOO_LARGE");
    assert_content(small, "old", "old");
    assert_false(there(small, "tree"));
    assert_int_equal(temporary_files(small), 0);
    assert_string_equal(copy_path(&f, ORDER("ws", "fits", "small", "old", .overwrite = true)), "");
    assert_content(small, "old", "0123456789abcdef");
    ListRootsRequest req = LIST_ROOTS_REQUEST__INIT;
    ListRootsResponse *res = list_roots_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->n_roots, 4);
    assert_string_equal(res->roots[1]->name, "ro");
    assert_true(res->roots[1]->read_only && !res->roots[0]->read_only);
    assert_int_equal(res->roots[3]->max_write_bytes, 16);
    rpc_message_free(res);
    tree_end(&f);
}

static void links_stay_in_their_root(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "d/e");
    test_put(f.ws, "file", "x");
    test_link("../..", f.ws, "d/e/up");
    assert_string_equal(make_link(&f, ORDER("ws", "d/l", .to_path = "../file")), "");
    cleanup_buf struct sa_buf got = {0};
    assert_string_equal(read_path(&f, "ws", "d/l", 0, 0, &got), "");
    assert_string_equal(make_link(&f, ORDER("ws", "d/l", .to_path = "../file")), "ALREADY_EXISTS");
    assert_string_equal(make_link(&f, ORDER("ws", "dangling", .to_path = "not/yet/there")), "");
    assert_string_equal(make_link(&f, ORDER("ws", "d/e/x", .to_path = "../../file")), "");
    const char *out[] = {"/etc/passwd", "../../x", "../d/../../x", "not/there/../../../../x", "e/up/../x"};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        assert_string_equal(make_link(&f, ORDER("ws", "d/out", .to_path = out[i])), "INVALID_PATH");
    assert_string_equal(make_link(&f, ORDER("ws", "empty", .to_path = "")), "INVALID_PATH");
    assert_string_equal(make_link(&f, ORDER("ro", "l", .to_path = "file")), "PERMISSION_DENIED");
    assert_string_equal(make_link(&f, ORDER("ws", "p/q/l", .to_path = "x", .parents = true)), "");
    tree_end(&f);
}

static void attributes_are_changed(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_put(f.ws, "file", "x");
    test_link("file", f.ws, "link");
    assert_string_equal(change_mode(&f, ORDER("ws", "link", .mode = 0640)), "");
    assert_string_equal(change_mode(&f, ORDER("ws", "file", .mode = 010000)), "INVALID_REQUEST");
    assert_string_equal(change_mode(&f, ORDER("ro", "file", .mode = 0600)), "PERMISSION_DENIED");
    ChangeFileRequest req = CHANGE_FILE_REQUEST__INIT;
    Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    t.seconds = 86400;
    t.nanos = 5;
    req.root = mutable("ws");
    req.path = bytes("file");
    cleanup_error sa_error *nothing = NULL;
    assert_null(change_file_wait(f.caller.channel, &req, &patient, &nothing));
    assert_reason(nothing, SA_INVALID_REQUEST);
    req.modify_time = &t;
    ChangeFileResponse *res = change_file_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->file->mode, 0640);
    assert_int_equal(res->file->modify_time->seconds, 86400);
    assert_int_equal(res->file->modify_time->nanos, 5);
    rpc_message_free(res);
    req.modify_time = NULL;
    req.modify_now = true;
    res = change_file_wait(f.caller.channel, &req, &patient, NULL);
    assert_true(res->file->modify_time->seconds > 1600000000);
    rpc_message_free(res);
    tree_end(&f);
}

static void a_file_is_told_whole(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_put(f.ws, "file", "12345");
    cleanup_free char *file = sa_format("%s/file", f.ws), *hard = sa_format("%s/hard", f.ws);
    struct stat st;
    assert_int_equal(link(file, hard) | stat(file, &st), 0);
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = bytes("file");
    StatFileResponse *res = stat_file_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->file->uid, getuid());
    assert_int_equal(res->file->inode, st.st_ino);
    assert_int_equal(res->file->links, 2);
    assert_int_equal(res->file->allocated_bytes, st.st_blocks * 512);
    assert_int_equal(res->file->change_time->seconds, st.st_ctim.tv_sec);
    rpc_message_free(res);
    tree_end(&f);
}

static void usage_counts_hard_links_once(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "d/e");
    test_put(f.ws, "d/a", "12345");
    test_put(f.ws, "d/e/b", "123");
    test_link("a", f.ws, "d/l");
    cleanup_free char *a = sa_format("%s/d/a", f.ws), *h = sa_format("%s/d/e/h", f.ws);
    assert_int_equal(link(a, h), 0);
    GetUsageRequest req = GET_USAGE_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = bytes(".");
    GetUsageResponse *res = get_usage_wait(f.caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    assert_int_equal(res->content_bytes, 8);
    assert_int_equal(res->files, 3);
    assert_int_equal(res->directories, 3);
    assert_true(res->filesystem_bytes > 0 && res->available_bytes <= res->filesystem_bytes);
    rpc_message_free(res);
    assert_string_equal(usage_path(&f, ORDER("ws", "none")), "FILE_NOT_FOUND");
    tree_end(&f);
}

/* ---- repetitions ---- */

static void a_repeated_change_is_answered_and_not_done_again(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    struct order move = {"ws", "a", .to_path = "b", .request_id = "m"};
    struct order delete = {"ws", "b", .request_id = "d"};
    struct order copy = {"ws", "b", .to_path = "c", .request_id = "c", .overwrite = true};
    test_put(f.ws, "a", "1");
    assert_string_equal(move_path(&f, &move), "");
    test_put(f.ws, "a", "2");
    assert_string_equal(move_path(&f, &move), "");
    assert_content(f.ws, "a", "2");
    assert_string_equal(copy_path(&f, &copy), "");
    test_put(f.ws, "c", "changed");
    service_kill(&f);
    service_up(&f);
    assert_string_equal(copy_path(&f, &copy), "");
    assert_content(f.ws, "c", "changed");
    assert_string_equal(delete_path(&f, &delete), "");
    test_put(f.ws, "b", "new");
    assert_string_equal(delete_path(&f, &delete), "");
    assert_int_equal(deleted, 1);
    assert_content(f.ws, "b", "new");
    move.to_path = "elsewhere";
    assert_string_equal(move_path(&f, &move), "REQUEST_ID_REUSED");
    delete.request_id = "m";
    assert_string_equal(delete_path(&f, &delete), "REQUEST_ID_REUSED");
    /* What failed may be tried again under its key. */
    move = (struct order){"ws", "late", .to_path = "done", .request_id = "again"};
    assert_string_equal(move_path(&f, &move), "FILE_NOT_FOUND");
    test_put(f.ws, "late", "x");
    assert_string_equal(move_path(&f, &move), "");
    tree_end(&f);
}

/* ---- large and deep ---- */

static void deep_trees_are_no_trouble(void **state)
{
    (void)state;
    enum { DEPTH = 1000 };
    struct service_fixture f = tree_start();
    make_deep(f.ws, "deep", DEPTH);
    assert_string_equal(copy_path(&f, ORDER("ws", "deep", .to_path = "copy", .recursive = true)), "");
    assert_string_equal(usage_path(&f, ORDER("ws", "copy")), "");
    assert_string_equal(list_path(&f, ORDER("ws", "deep", .recursive = true)), "");
    assert_string_equal(delete_path(&f, ORDER("ws", "deep", .recursive = true)), "");
    assert_int_equal(deleted, DEPTH + 2);
    assert_string_equal(delete_path(&f, ORDER("ws", "copy", .recursive = true)), "");
    assert_int_equal(deleted, DEPTH + 2);
    tree_end(&f);
}

struct churn {
    const char *dir;
    _Atomic bool stop;
};

static void *make_files(void *arg)
{
    struct churn *c = arg;
    for (unsigned i = 0; !c->stop; i++) {
        cleanup_free char *path = sa_format("%s/f%u", c->dir, i % 5000);
        sa_close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    }
    return NULL;
}

static void deleting_ends_although_others_create(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    test_mkdir(f.ws, "busy/in");
    cleanup_free char *in = sa_format("%s/busy/in", f.ws);
    struct churn churn = {.dir = in};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, make_files, &churn), 0);
    const char *answer = delete_path(&f, ORDER("ws", "busy", .recursive = true));
    churn.stop = true;
    pthread_join(thread, NULL);
    if (strcmp(answer, "") != 0)
        assert_string_equal(answer, "DIRECTORY_NOT_EMPTY");
    else
        assert_false(there(f.ws, "busy"));
    tree_end(&f);
}

static bool no_temporary(void *user)
{
    return temporary_files(user) == 0;
}

static void what_the_caller_gives_up_is_undone(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    make_many(f.ws, "many", 20000);
    CopyFileRequest req = COPY_FILE_REQUEST__INIT;
    struct rpc_call_options hurried = {.deadline_ms = 50};
    req.root = mutable("ws");
    req.path = bytes("many");
    req.to_path = bytes("copy");
    req.recursive = true;
    cleanup_error sa_error *err = NULL;
    assert_null(copy_file_wait(f.caller.channel, &req, &hurried, &err));
    assert_reason(err, SA_DEADLINE_EXCEEDED);
    wait_until(no_temporary, f.ws, "the half copy is removed");
    assert_false(there(f.ws, "copy"));
    tree_end(&f);
}

static void *copy_many(void *arg)
{
    struct service_fixture *f = arg;
    const char *answer = copy_path(f, ORDER("ws", "many", .to_path = "copy", .recursive = true));
    return (void *)(uintptr_t)(strcmp(answer, "") != 0);
}

static void a_service_that_ends_leaves_no_half_copy(void **state)
{
    (void)state;
    struct service_fixture f = tree_start();
    pthread_t thread;
    void *failed;
    make_many(f.ws, "many", 20000);
    assert_int_equal(pthread_create(&thread, NULL, copy_many, &f), 0);
    wait_until(has_temporary_file, f.ws, "the copy has begun");
    program_signal(&f.program, SIGTERM);
    assert_int_equal(program_wait(&f.program), 0);
    pthread_join(thread, &failed);
    assert_int_equal(temporary_files(f.ws), 0);
    assert_int_equal(there(f.ws, "copy"), !failed);
    caller_close(&f.caller);
    program_free(&f.program);
    service_up(&f);
    tree_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(directories_are_made),
        cmocka_unit_test(files_and_trees_are_deleted),
        cmocka_unit_test(a_root_is_never_deleted_through_another),
        cmocka_unit_test(the_services_own_files_stay_where_they_are),
        cmocka_unit_test(a_move_loses_nothing),
        cmocka_unit_test(two_names_of_one_file_become_one),
        cmocka_unit_test(a_tree_is_copied_as_it_is),
        cmocka_unit_test(a_copy_goes_only_where_it_may),
        cmocka_unit_test(a_sparse_file_stays_sparse),
        cmocka_unit_test(a_root_may_limit_what_is_written),
        cmocka_unit_test(links_stay_in_their_root),
        cmocka_unit_test(attributes_are_changed),
        cmocka_unit_test(a_file_is_told_whole),
        cmocka_unit_test(usage_counts_hard_links_once),
        cmocka_unit_test(a_repeated_change_is_answered_and_not_done_again),
        cmocka_unit_test(deep_trees_are_no_trouble),
        cmocka_unit_test(deleting_ends_although_others_create),
        cmocka_unit_test(what_the_caller_gives_up_is_undone),
        cmocka_unit_test(a_service_that_ends_leaves_no_half_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
