/* Archives, as callers of the program fs-svc see them. */
#include "services/fs-svc/archive_fixture.h"

static struct service_fixture start_with_root(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    char *extra = (char *)(uintptr_t)f->extra[1];
    service_free(f);
    free(extra);
}

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

static struct sa_buf file_of(const char *dir, const char *name)
{
    struct sa_buf b = {0};
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    sa_error *err = NULL;
    if (sa_read_file(path, 256 << 20, &b, &err) < 0)
        fail_msg("%s", err->message);
    return b;
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

/* ---- hostile archives ---- */

static bool refused_with(const UploadArchiveResponse *res, const char *name, const char *reason)
{
    for (size_t i = 0; i < res->n_failures; i++)
        if (res->failures[i]->name.len == strlen(name) &&
            !memcmp(res->failures[i]->name.data, name, strlen(name)))
            return !strcmp(res->failures[i]->reason, reason);
    return false;
}

static void nothing_leaves_the_directory(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "out");
    test_mkdir(f.ws, "beside");
    test_put(f.ws, "secret", "secret");
    test_link("../beside", f.ws, "out/way"); /* leads out, and was there before */
    test_link("../secret", f.ws, "out/file");
    struct made m;
    make_begin(&m, ARCHIVE_TAR);
    make_text(&m, "fine", "fine");
    make_text(&m, "../evil", "x");
    make_text(&m, "a/../../evil", "x");
    make_text(&m, "/tmp/fs-svc-evil", "x");
    make_text(&m, "..", "x");
    make_item(&m, ARCHIVE_SYMLINK, "abs", "/etc");
    make_text(&m, "abs/evil", "inside");
    make_item(&m, ARCHIVE_SYMLINK, "up", "../beside");
    make_item(&m, ARCHIVE_SYMLINK, "here", ".");
    make_item(&m, ARCHIVE_SYMLINK, "tricky", "here/.."); /* the kernel: the parent of the directory */
    make_item(&m, ARCHIVE_DIR, "d", NULL);
    make_item(&m, ARCHIVE_SYMLINK, "d/loop", "../.");
    make_item(&m, ARCHIVE_SYMLINK, "d/loop/deep", "../x"); /* is in the directory itself, so ".." is out */
    make_item(&m, ARCHIVE_SYMLINK, "d/ok", "../fine");
    make_text(&m, "way/evil", "x");
    make_text(&m, "file", "own"); /* replaces the link, not what it points to */
    make_item(&m, ARCHIVE_HARD_LINK, "hard", "../secret");
    make_item(&m, ARCHIVE_HARD_LINK, "hard2", "/etc/passwd");
    make_item(&m, ARCHIVE_HARD_LINK, "hard3", "way/secret");
    make_item(&m, ARCHIVE_HARD_LINK, "hard4", "d");
    make_item(&m, ARCHIVE_HARD_LINK, "good", "fine");
    make_item(&m, ARCHIVE_OTHER, "fifo", NULL);
    make_file(&m, "setuid", "x", 1, 06755);
    make_text(&m, "last", "last");
    make_end(&m);
    struct upload u = {.root = "ws", .path = "out", .overwrite = OVERWRITE_POLICY_REPLACE};
    UploadArchiveResponse *res = NULL;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
    static const char *const bad[] = {"../evil", "a/../../evil", "/tmp/fs-svc-evil", "..",       "abs",
                                      "up",      "tricky",       "d/loop/deep",      "way/evil", "hard",
                                      "hard2",   "hard3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!refused_with(res, bad[i], "INVALID_PATH"))
            fail_msg("`%s` was not refused", bad[i]);
    assert_true(refused_with(res, "hard4", "NOT_A_REGULAR_FILE"));
    assert_true(refused_with(res, "fifo", "NOT_A_REGULAR_FILE"));
    assert_int_equal(res->failed, sizeof bad / sizeof *bad + 2);
    rpc_message_free(res);
    assert_shell("./abs f 755\n./abs/evil f 644\n",
                 "cd '%s/out' && find abs -printf './%%p %%y\\n' | sed 's/ d$/ f 755/; s/ f$/ f 644/'", f.ws);
    assert_shell("", "ls '%s/beside'; ls /tmp/fs-svc-evil 2>/dev/null || true", f.ws);
    assert_shell("beside\nout\nsecret\n", "ls -A '%s'", f.ws);
    assert_shell("secret", "cat '%s/secret'", f.ws);
    assert_shell("own", "cat '%s/out/file'", f.ws);
    assert_shell("2 regular file\n", "stat -c '%%h %%F' '%s/out/good'", f.ws);
    assert_shell("755\n", "stat -c %%a '%s/out/setuid'", f.ws);
    assert_shell("last", "cat '%s/out/last'", f.ws);
    sa_buf_fini(&m.bytes);

    /* What belongs to the services is none of an archive's business. */
    end(&f);
}

static void the_services_own_files_are_safe(void **state)
{
    (void)state;
    struct service_fixture f = service_new(NULL);
    service_up(&f);
    struct made m;
    make_begin(&m, ARCHIVE_TAR);
    make_text(&m, "token", "stolen");
    make_text(&m, "fs/evil", "x");
    make_text(&m, "other", "x");
    make_end(&m);
    struct upload u = {.root = "", .path = f.data, .overwrite = OVERWRITE_POLICY_REPLACE};
    UploadArchiveResponse *res = NULL;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
    assert_true(refused_with(res, "token", "PERMISSION_DENIED"));
    assert_true(refused_with(res, "fs/evil", "PERMISSION_DENIED"));
    assert_int_equal(res->entries, 1);
    rpc_message_free(res);
    sa_buf_fini(&m.bytes);
    service_free(&f);
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

/* ---- limits ---- */

static void limits_hold(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    struct made m;
    make_begin(&m, ARCHIVE_TAR);
    for (int i = 0; i < 100; i++) {
        char name[16], text[1000] = {0};
        snprintf(name, sizeof name, "%d", i);
        make_file(&m, name, text, sizeof text, 0644);
    }
    make_end(&m);
    struct upload u = {
        .root = "ws", .path = "a", .max_entries = 100, .max_bytes = 100000, .max_file_bytes = 1000};
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "");
    u = (struct upload){.root = "ws", .path = "b", .max_entries = 99};
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "TOO_MANY");
    u = (struct upload){.root = "ws", .path = "c", .max_bytes = 99999};
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "ARCHIVE_TOO_LARGE");
    u = (struct upload){.root = "ws", .path = "d", .max_file_bytes = 999, .all_or_nothing = true};
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "ARCHIVE_TOO_LARGE");
    assert_shell("a\nb\nc\n", "ls -A '%s'", f.ws);
    assert_shell("", "find '%s' -name '.sa-*'", f.ws);
    sa_buf_fini(&m.bytes);
    end(&f);
}

/* 10 GB of zeros are 10 MB of gzip and little of zstd: the ratio ends both soon. */
static void a_bomb_is_defused(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    static const char *const commands[] = {
        "head -c 400M /dev/zero > z && tar -czf bomb z && rm z",
        "truncate -s 50G z && tar --sparse -cf bomb z && rm z",
        "head -c 400M /dev/zero > z && zip -q bomb.zip z && mv bomb.zip bomb && rm z",
    };
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        assert_shell("", "cd '%s' && %s", f.dir, commands[i]);
        cleanup_buf struct sa_buf bomb = file_of(f.dir, "bomb");
        struct upload u = {.root = "ws", .path = "out"};
        assert_string_equal(upload(&f, &u, bomb.data, bomb.len, NULL), "ARCHIVE_TOO_LARGE");
        assert_shell("0\n", "du -sm '%s' | cut -f1 | sed 's/^[01]$/0/'", f.ws);
    }
    end(&f);
}

/* A tar tells the size of a file long before it has come: once this was taken for a bomb. */
static void a_large_file_is_no_bomb(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    assert_shell("", "cd '%s' && head -c 100M /dev/urandom > z && tar -cf large z", f.dir);
    cleanup_buf struct sa_buf archive = file_of(f.dir, "large");
    struct upload u = {.root = "ws", .path = "out", .max_ratio = 1};
    assert_string_equal(upload(&f, &u, archive.data, archive.len, NULL), "");
    assert_shell("", "cmp '%s/z' '%s/out/z'", f.dir, f.ws);
    end(&f);
}

static void a_zip_may_have_many_entries(void **state)
{
    (void)state;
    enum { ENTRIES = 70000 }; /* more than a plain zip can count */
    struct service_fixture f = start_with_root();
    struct made m;
    make_begin(&m, ARCHIVE_ZIP);
    for (int i = 0; i < ENTRIES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%03d/%d", i % 500, i);
        make_text(&m, name, "x");
    }
    make_end(&m);
    struct upload u = {.root = "ws", .path = "many", .all_or_nothing = true};
    UploadArchiveResponse *res = NULL;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
    assert_int_equal(res->entries, ENTRIES);
    rpc_message_free(res);
    assert_shell("70000\n", "find '%s/many' -type f | wc -l", f.ws);
    u.path = "fewer";
    u.max_entries = 1000;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, NULL), "TOO_MANY");
    sa_buf_fini(&m.bytes);
    end(&f);
}

static void a_damaged_archive_is_told(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    static const enum archive_format formats[] = {ARCHIVE_TAR, ARCHIVE_TAR_GZIP, ARCHIVE_TAR_ZSTD,
                                                  ARCHIVE_ZIP};
    static const char text[] = "neither a tar nor a zip, but a text that is long enough to be looked at";
    struct upload u = {
        .root = "ws", .path = "out", .overwrite = OVERWRITE_POLICY_REPLACE, .all_or_nothing = true};
    assert_string_equal(upload(&f, &u, text, sizeof text, NULL), "INVALID_ARCHIVE");
    assert_string_equal(upload(&f, &u, text, 0, NULL), "INVALID_ARCHIVE");
    assert_string_equal(upload(&f, &u, text, 1, NULL), "INVALID_ARCHIVE");
    for (size_t i = 0; i < 4; i++) {
        struct made m;
        make_begin(&m, formats[i]);
        unsigned seed = 1;
        for (int k = 0; k < 20; k++) {
            char name[16];
            uint8_t noise[3000];
            for (size_t j = 0; j < sizeof noise; j++)
                noise[j] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
            snprintf(name, sizeof name, "%d", k);
            make_file(&m, name, noise, sizeof noise, 0644);
        }
        make_end(&m);
        for (size_t cut = 1; cut < 10; cut++)
            assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len * cut / 10 + 7, NULL),
                                "INVALID_ARCHIVE");
        assert_shell("", "ls -A '%s'", f.ws);
        sa_buf_fini(&m.bytes);
    }
    end(&f);
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_put(f.ws, "file", "x");
    test_link("file", f.ws, "link");
    static const struct {
        struct upload u;
        const char *reason;
    } table[] = {
        {{.root = "none", .path = "x"}, "ROOT_NOT_FOUND"},
        {{.root = "ws", .path = ""}, "INVALID_PATH"},
        {{.root = "ws", .path = "../x"}, "INVALID_PATH"},
        {{.root = "ws", .path = "file"}, "NOT_A_DIRECTORY"},
        {{.root = "ws", .path = "file", .all_or_nothing = true}, "NOT_A_DIRECTORY"},
        {{.root = "ws", .path = "link", .all_or_nothing = true}, "NOT_A_DIRECTORY"},
        {{.root = "ws", .path = ".", .all_or_nothing = true}, "INVALID_PATH"},
        {{.root = "ws", .path = "x", .all_or_nothing = true, .overwrite = OVERWRITE_POLICY_SKIP},
         "INVALID_REQUEST"},
        {{.root = "ws", .path = "x", .strip = 5000}, "INVALID_REQUEST"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_string_equal(upload(&f, &table[i].u, "PK\5\6", 4, NULL), table[i].reason);
    struct rpc_stream *s = upload_archive_begin(f.caller.channel, &patient);
    upload_data(s, "x", 1);
    assert_string_equal(upload_end(s, NULL), "INVALID_REQUEST");
    s = upload_archive_begin(f.caller.channel, &patient);
    assert_string_equal(upload_end(s, NULL), "INVALID_REQUEST");
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
        cmocka_unit_test(nothing_leaves_the_directory),
        cmocka_unit_test(the_services_own_files_are_safe),
        cmocka_unit_test(names_are_bytes),
        cmocka_unit_test(policies_say_what_happens_to_what_is_there),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_bomb_is_defused),
        cmocka_unit_test(a_large_file_is_no_bomb),
        cmocka_unit_test(a_zip_may_have_many_entries),
        cmocka_unit_test(a_damaged_archive_is_told),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(a_directory_is_replaced_as_a_whole_or_not_at_all),
        cmocka_unit_test(a_broken_upload_leaves_nothing_temporary),
        cmocka_unit_test(a_slow_reader_costs_nothing_and_a_file_that_shrinks_is_filled_up),
        cmocka_unit_test(many_at_once_is_an_error_and_not_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
