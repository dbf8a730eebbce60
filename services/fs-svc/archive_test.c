/* Archives, as callers of the program fs-svc see them. */
#include "services/fs-svc/archive_fixture.h"

/* Everything that a tree can have, below `dir`. */
static void make_tree(const char *dir)
{
    cleanup_free char *longest = sa_format("src/%0200d/%0150d", 1, 2), *file = sa_format("%s/file", longest);
    test_mkdir(dir, "src/empty");
    test_mkdir(dir, "src/sub/deep");
    test_mkdir(dir, longest);
    test_put(dir, file, "long name");
    test_put(dir, "src/a.txt", "hello\n");
    test_put(dir, "src/zero", "");
    test_put(dir, "src/.hidden", "dot");
    test_put(dir, "src/sub/run.sh", "#!/bin/sh\n");
    test_put(dir, "src/sub/deep/\xc3\xa4\xe2\x82\xac \"'$\n", "odd name");
    test_link("../a.txt", dir, "src/sub/link");
    test_link("nowhere", dir, "src/dangling");
    test_link("sub", dir, "src/dirlink");
    assert_shell("",
                 "cd '%s/src' && chmod 755 sub/run.sh && chmod 600 a.txt && chmod 700 sub && "
                 "head -c 3000000 /dev/urandom > big && truncate -s 5000000 sparse && touch -d '2001-02-03 "
                 "04:05:06' zero",
                 dir);
}

/* Names, kinds, modes, link targets and content. */
#define TREE_SUM                                                                                             \
    "find . ! -name . -printf '%%y %%m %%P %%l\\n' | LC_ALL=C sort; find . -type f -exec sha256sum {} + | "  \
    "LC_ALL=C sort"

static void assert_same_tree(const char *a, const char *b)
{
    assert_shell("",
                 "cd '%s' && (" TREE_SUM ") > '%s.sum' && cd '%s' && (" TREE_SUM
                 ") | diff '%s.sum' - && rm '%s.sum'",
                 a, a, b, a, a);
}

static void real_archives_are_unpacked_as_by_their_own_programs(void **state)
{
    (void)state;
    static const struct {
        const char *name, *command;
    } table[] = {
        {"gnu.tar", "tar -C src --format=gnu -cf gnu.tar ."},
        {"pax.tar", "tar -C src --format=pax -cf pax.tar ."},
        {"sparse.tar", "tar -C src --sparse -cf sparse.tar ."},
        {"t.tar.gz", "tar -C src -czf t.tar.gz ."},
        {"t.tar.zst", "tar -C src --zstd -cf t.tar.zst ."},
        {"t.zip", "cd src && zip -qry ../t.zip ."},
    };
    struct service_fixture f = start_with_root();
    make_tree(f.dir);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (int whole = 0; whole < 2; whole++) {
            assert_shell("", "cd '%s' && %s", f.dir, table[i].command);
            cleanup_buf struct sa_buf archive = file_of(f.dir, table[i].name);
            cleanup_free char *name = sa_format("%s-%d", table[i].name, whole),
                              *out = sa_format("%s/%s", f.ws, name);
            cleanup_free char *src = sa_format("%s/src", f.dir);
            struct upload u = {.root = "ws", .path = name, .all_or_nothing = whole};
            UploadArchiveResponse *res = NULL;
            assert_string_equal(upload(&f, &u, archive.data, archive.len, &res), "");
            for (size_t k = 0; k < res->n_failures; k++)
                print_message("%.*s: %s\n", (int)res->failures[k]->name.len,
                              (char *)res->failures[k]->name.data, res->failures[k]->message);
            assert_int_equal(res->failed, 0);
            assert_int_equal(res->directory->kind, FILE_KIND_DIRECTORY);
            rpc_message_free(res);
            assert_same_tree(src, out);
            assert_shell("2001-02-03 04:05:06\n", "stat -c %%y '%s/zero' | cut -c1-19", out);
            assert_int_equal(temporary_files(out) + temporary_files(f.ws), 0);
            assert_shell("", "rm -r '%s'", out);
        }
    end(&f);
}

static void what_is_packed_can_be_unpacked_by_anyone(void **state)
{
    (void)state;
    static const struct {
        ArchiveFormat format;
        const char *command;
    } table[] = {
        {ARCHIVE_FORMAT_TAR, "tar -C out -xpf got"},
        {ARCHIVE_FORMAT_TAR_GZIP, "tar -C out -xzpf got"},
        {ARCHIVE_FORMAT_UNSPECIFIED, "tar -C out -xzpf got"},
        {ARCHIVE_FORMAT_TAR_ZSTD, "tar -C out --zstd -xpf got"},
        {ARCHIVE_FORMAT_ZIP, "LC_ALL=C.UTF-8 unzip -^ -q got -d out"},
    };
    struct service_fixture f = start_with_root();
    make_tree(f.ws);
    cleanup_free char *fifo = sa_format("%s/src/fifo", f.ws), *src = sa_format("%s/src", f.ws);
    cleanup_free char *out = sa_format("%s/out", f.dir), *got = sa_format("%s/got", f.dir);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        assert_int_equal(mkfifo(fifo, 0644), 0);
        cleanup_buf struct sa_buf archive = {0}, again = {0};
        uint64_t counts[4] = {0};
        DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
        req.root = (char *)(uintptr_t) "ws";
        req.path = bytes("src");
        req.format = table[i].format;
        assert_string_equal(download(&f, &req, &archive, counts), "");
        assert_int_equal(counts[0], 16);
        assert_int_equal(counts[2], 1); /* the FIFO */
        assert_int_equal(counts[3], 0);
        assert_string_equal(download(&f, &req, &again, counts), "");
        assert_int_equal(again.len, archive.len);
        assert_memory_equal(again.data, archive.data, archive.len);
        assert_int_equal(unlink(fifo), 0);
        assert_int_equal(sa_write_file(got, archive.data, archive.len, 0644, NULL), 0);
        assert_shell("", "cd '%s' && mkdir out && %s 2>&1", f.dir, table[i].command);
        assert_same_tree(src, out);
        assert_shell("", "rm -r '%s'", out);
    }
    end(&f);
}

static void globs_ignore_files_and_paths_choose_what_is_packed(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "p/src");
    test_mkdir(f.ws, "p/build");
    test_mkdir(f.ws, "p/.git");
    test_put(f.ws, "p/.gitignore", "build/\n*.o\n");
    test_put(f.ws, "p/.git/HEAD", "");
    test_put(f.ws, "p/src/a.c", "");
    test_put(f.ws, "p/src/a.o", "");
    test_put(f.ws, "p/build/x", "");
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("p");
    req.format = ARCHIVE_FORMAT_TAR;
    req.obey_ignore = true;
    uint64_t counts[4];
    cleanup_buf struct sa_buf ignoring = {0}, globbed = {0}, listed = {0}, bad = {0};
    cleanup_free char *got = sa_format("%s/got", f.dir);
    assert_string_equal(download(&f, &req, &ignoring, counts), "");
    assert_int_equal(sa_write_file(got, ignoring.data, ignoring.len, 0644, NULL), 0);
    assert_shell(".gitignore\nsrc/\nsrc/a.c\n", "tar -tf '%s'", got);

    FileFilter filter = FILE_FILTER__INIT;
    ProtobufCBinaryData globs[] = {bytes("*.[co]"), bytes("!.git")};
    filter.n_globs = 2;
    filter.globs = globs;
    req.obey_ignore = false;
    req.filter = &filter;
    assert_string_equal(download(&f, &req, &globbed, counts), "");
    assert_int_equal(sa_write_file(got, globbed.data, globbed.len, 0644, NULL), 0);
    assert_shell("src/a.c\nsrc/a.o\n", "tar -tf '%s'", got);

    ProtobufCBinaryData paths[] = {bytes("src/"), bytes(".gitignore")};
    req.filter = NULL;
    req.n_paths = 2;
    req.paths = paths;
    assert_string_equal(download(&f, &req, &listed, counts), "");
    assert_int_equal(sa_write_file(got, listed.data, listed.len, 0644, NULL), 0);
    assert_shell("src/\nsrc/a.c\nsrc/a.o\n.gitignore\n", "tar -tf '%s'", got);

    static const char *const outside[] = {"..", "../data", "/etc", "src/../../data", "a//b", "."};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        paths[0] = bytes(outside[i]);
        assert_string_equal(download(&f, &req, &bad, counts), "INVALID_PATH");
    }
    paths[0] = bytes("missing");
    assert_string_equal(download(&f, &req, &bad, counts), "FILE_NOT_FOUND");
    end(&f);
}

static void names_are_bytes(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    cleanup_buf struct sa_buf tar = {0};
    assert_shell("",
                 "cd '%s' && mkdir x && printf a > \"$(printf 'x/\\377\\376 bad')\" && printf b > x/A && "
                 "printf c > x/a && "
                 "tar --format=ustar -cf bad.tar -C x . && tar --format=pax -cf pax.tar -C x .",
                 f.dir);
    for (int i = 0; i < 2; i++) {
        cleanup_buf struct sa_buf archive = file_of(f.dir, i ? "pax.tar" : "bad.tar");
        cleanup_free char *name = sa_format("out%d", i), *out = sa_format("%s/%s", f.ws, name),
                          *x = sa_format("%s/x", f.dir);
        struct upload u = {.root = "ws", .path = name};
        UploadArchiveResponse *res = NULL;
        assert_string_equal(upload(&f, &u, archive.data, archive.len, &res), "");
        assert_int_equal(res->failed, 0);
        rpc_message_free(res);
        assert_same_tree(x, out);
    }
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("out0");
    req.format = ARCHIVE_FORMAT_TAR;
    uint64_t counts[4];
    cleanup_free char *got = sa_format("%s/got", f.dir), *x = sa_format("%s/x", f.dir),
                      *y = sa_format("%s/y", f.dir);
    assert_string_equal(download(&f, &req, &tar, counts), "");
    assert_int_equal(sa_write_file(got, tar.data, tar.len, 0644, NULL), 0);
    assert_shell("", "mkdir '%s' && tar -C '%s' -xf '%s'", y, y, got);
    assert_same_tree(x, y);
    end(&f);
}

static void policies_say_what_happens_to_what_is_there(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    struct made m;
    make_begin(&m, ARCHIVE_TAR);
    make_item(&m, ARCHIVE_DIR, "d", NULL);
    make_text(&m, "d/a", "new");
    make_text(&m, "d/b", "new");
    make_text(&m, "isdir", "new");
    make_end(&m);
    static const struct {
        OverwritePolicy policy;
        const char *a, *reason;
        int failed, skipped;
    } table[] = {
        {OVERWRITE_POLICY_UNSPECIFIED, "old", "ALREADY_EXISTS", 2, 0},
        {OVERWRITE_POLICY_FAIL, "old", "ALREADY_EXISTS", 2, 0},
        {OVERWRITE_POLICY_SKIP, "old", "", 0, 2},
        {OVERWRITE_POLICY_REPLACE, "new", "IS_A_DIRECTORY", 1, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        test_mkdir(f.ws, "t/d");
        test_mkdir(f.ws, "t/isdir");
        test_put(f.ws, "t/d/a", "old");
        struct upload u = {.root = "ws", .path = "t", .overwrite = table[i].policy};
        UploadArchiveResponse *res = NULL;
        assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
        assert_int_equal(res->failed, table[i].failed);
        assert_int_equal(res->skipped, table[i].skipped);
        if (*table[i].reason)
            assert_true(refused_with(res, "isdir", table[i].reason));
        rpc_message_free(res);
        cleanup_free char *a = test_get(f.ws, "t/d/a"), *b = test_get(f.ws, "t/d/b");
        assert_string_equal(a, table[i].a);
        assert_string_equal(b, "new");
        assert_shell("", "rm -r '%s/t'", f.ws);
    }
    sa_buf_fini(&m.bytes);
    make_begin(&m, ARCHIVE_TAR);
    make_text(&m, "top/dir/file", "x");
    make_text(&m, "top/other", "x");
    make_text(&m, "./a", "x");
    make_end(&m);
    struct upload u = {.root = "ws", .path = "strip", .strip = 1};
    UploadArchiveResponse *res = NULL;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
    assert_int_equal(res->entries, 2);
    assert_int_equal(res->skipped, 1);
    rpc_message_free(res);
    assert_shell("dir/file\nother\n", "cd '%s/strip' && find * -type f | sort", f.ws);
    sa_buf_fini(&m.bytes);
    end(&f);
}

/* ---- all or nothing ---- */

static struct sa_buf archive_of(const char *name, const char *text)
{
    struct made m;
    make_begin(&m, ARCHIVE_TAR_GZIP);
    make_text(&m, name, text);
    make_end(&m);
    return m.bytes;
}

static void a_directory_is_replaced_as_a_whole_or_not_at_all(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    cleanup_buf struct sa_buf first = archive_of("one", "1"), second = archive_of("two", "2");
    cleanup_buf struct sa_buf bad = archive_of("../two", "2");
    struct upload u = {.root = "ws", .path = "p/dir", .all_or_nothing = true};
    assert_string_equal(upload(&f, &u, first.data, first.len, NULL), "");
    assert_shell("",
                 "chmod 750 '%s/p/dir' && mkdir '%s/p/dir/locked' && touch '%s/p/dir/locked/x' && chmod 555 "
                 "'%s/p/dir/locked'",
                 f.ws, f.ws, f.ws, f.ws);
    assert_string_equal(upload(&f, &u, second.data, second.len, NULL), "ALREADY_EXISTS");
    u.overwrite = OVERWRITE_POLICY_REPLACE;
    assert_string_equal(upload(&f, &u, bad.data, bad.len, NULL), "INVALID_PATH");
    assert_shell("locked\none\n", "ls -A '%s/p/dir'", f.ws);
    assert_string_equal(upload(&f, &u, second.data, second.len, NULL), "");
    assert_shell("two\n", "ls -A '%s/p/dir'", f.ws);
    assert_shell("750\n", "stat -c %%a '%s/p/dir'", f.ws);
    assert_shell("dir\n", "ls -A '%s/p'", f.ws);
    /* An empty directory is no obstacle. */
    test_mkdir(f.ws, "empty");
    u = (struct upload){.root = "ws", .path = "empty/", .all_or_nothing = true};
    assert_string_equal(upload(&f, &u, first.data, first.len, NULL), "");
    assert_shell("one\n", "ls -A '%s/empty'", f.ws);
    end(&f);
}

static bool has_part(void *dir)
{
    cleanup_free char *command = sa_format("find '%s' -name part -size +100k | grep -q part", (char *)dir);
    return system(command) == 0;
}

static bool is_empty(void *dir)
{
    cleanup_free char *command = sa_format("test -z \"$(find '%s' -name '.sa-*')\"", (char *)dir);
    return system(command) == 0;
}

/* Begins to upload and stops in the middle of a file. */
static struct rpc_stream *half_an_upload(struct service_fixture *f, bool whole)
{
    struct made m;
    uint8_t *noise = sa_calloc(1, 1 << 20);
    make_begin(&m, ARCHIVE_TAR);
    make_text(&m, "first", "1");
    make_file(&m, "large", noise, 1 << 20, 0644);
    make_end(&m);
    struct upload u = {
        .root = "ws", .path = "dir", .all_or_nothing = whole, .overwrite = OVERWRITE_POLICY_REPLACE};
    struct rpc_stream *s = upload_begin(f, &u);
    assert_int_equal(upload_data(s, m.bytes.data, 600 << 10), 0);
    wait_until(has_part, f->ws, "half of the file is there");
    sa_buf_fini(&m.bytes);
    free(noise);
    return s;
}

static void a_broken_upload_leaves_nothing_temporary(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    for (int whole = 0; whole < 2; whole++) {
        test_mkdir(f.ws, "dir");
        test_put(f.ws, "dir/old", "old");
        rpc_stream_free(half_an_upload(&f, whole)); /* the caller leaves */
        wait_until(is_empty, f.ws, "nothing temporary is there");
        assert_shell(whole ? "old\n" : "first\nold\n", "ls -A '%s/dir'", f.ws);
        assert_shell("", "rm -r '%s/dir'", f.ws);

        test_mkdir(f.ws, "dir");
        test_put(f.ws, "dir/old", "old");
        struct rpc_stream *s = half_an_upload(&f, whole); /* the service dies */
        program_signal(&f.program, SIGKILL);
        program_wait(&f.program);
        rpc_stream_free(s);
        caller_close(&f.caller);
        program_free(&f.program);
        assert_false(is_empty(f.ws));
        service_up(&f);
        assert_true(is_empty(f.ws));
        assert_shell(whole ? "old\n" : "first\nold\n", "ls -A '%s/dir'", f.ws);
        assert_shell("", "rm -r '%s/dir'", f.ws);
    }
    end(&f);
}

/* ---- what happens while a tree is packed ---- */

static uint64_t memory_of(pid_t pid)
{
    cleanup_free char *path = sa_format("/proc/%d/status", (int)pid);
    cleanup_buf struct sa_buf b = {0};
    assert_int_equal(sa_read_file(path, 1 << 20, &b, NULL), 0);
    const char *at = strstr(sa_buf_string(&b), "VmHWM:");
    return at ? strtoull(at + 6, NULL, 10) << 10 : 0;
}

/* The reader takes nothing at first: the service waits and does not grow. Meanwhile a file shrinks. */
static void a_slow_reader_costs_nothing_and_a_file_that_shrinks_is_filled_up(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    assert_shell("", "mkdir '%s/d' && truncate -s 300M '%s/d/a' && truncate -s 64M '%s/d/b'", f.ws, f.ws,
                 f.ws);
    uint64_t before = memory_of(f.program.pid), counts[2] = {0}, got = 0;
    DownloadArchiveRequest req = DOWNLOAD_ARCHIVE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("d");
    req.format = ARCHIVE_FORMAT_TAR;
    struct rpc_stream *s = download_archive_begin(f.caller.channel, &req, &patient);
    DownloadArchiveResponse *res;
    assert_int_equal(download_archive_next(s, &res, NULL), 1);
    got += res->data.len;
    rpc_message_free(res);
    assert_shell("", "truncate -s 1M '%s/d/a'", f.ws);
    while (download_archive_next(s, &res, NULL) == 1) {
        got += res->kind_case == DOWNLOAD_ARCHIVE_RESPONSE__KIND_DATA ? res->data.len : 0;
        if (res->kind_case == DOWNLOAD_ARCHIVE_RESPONSE__KIND_SUMMARY) {
            counts[0] = res->summary->bytes;
            counts[1] = res->summary->padded;
            assert_int_equal(res->summary->n_failures, 1);
            assert_string_equal(res->summary->failures[0]->reason, "FILE_CHANGED");
        }
        rpc_message_free(res);
    }
    rpc_stream_free(s);
    assert_int_equal(counts[0], (uint64_t)364 << 20);
    assert_int_equal(counts[1], 1);
    assert_true(got > (uint64_t)364 << 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they remember what was freed */
    assert_true(memory_of(f.program.pid) - before < (uint64_t)64 << 20);
#else
    (void)before;
#endif
    end(&f);
}

static void many_at_once_is_an_error_and_not_a_wait(void **state)
{
    (void)state;
    enum { TASKS = 32 };
    struct service_fixture f = start_with_root();
    struct rpc_stream *s[TASKS];
    struct upload u = {.root = "ws", .path = "x"};
    for (int i = 0; i < TASKS; i++)
        s[i] = upload_begin(&f, &u);
    /* Streams open in any order, so one of them may be the one that is refused. */
    assert_string_equal(stat_path(&f, "ws", "."), "");
    const char *reason = "";
    struct rpc_stream *more[4];
    for (int i = 0; i < 4; i++)
        more[i] = upload_begin(&f, &u);
    for (int i = 0; i < 4; i++) {
        reason = upload_end(more[i], NULL);
        assert_true(!strcmp(reason, "TOO_MANY") || !strcmp(reason, "INVALID_ARCHIVE"));
    }
    for (int i = 0; i < TASKS; i++)
        rpc_stream_free(s[i]);
    assert_string_equal(stat_path(&f, "ws", "."), "");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_archives_are_unpacked_as_by_their_own_programs),
        cmocka_unit_test(what_is_packed_can_be_unpacked_by_anyone),
        cmocka_unit_test(globs_ignore_files_and_paths_choose_what_is_packed),
        cmocka_unit_test(names_are_bytes),
        cmocka_unit_test(policies_say_what_happens_to_what_is_there),
        cmocka_unit_test(a_directory_is_replaced_as_a_whole_or_not_at_all),
        cmocka_unit_test(a_broken_upload_leaves_nothing_temporary),
        cmocka_unit_test(a_slow_reader_costs_nothing_and_a_file_that_shrinks_is_filled_up),
        cmocka_unit_test(many_at_once_is_an_error_and_not_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
