/* Archives that mean no good, or are too much: what callers of the program fs-svc see of them. */
#include "services/fs-svc/archive_fixture.h"

#include <sys/wait.h>

/* ---- ways out ---- */

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
    end(&f);
}

/* What belongs to the services is none of an archive's business. */
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

/* Another process puts links to the outside in the place of directories all the time. */
static void a_race_leads_nowhere(void **state)
{
    (void)state;
    struct service_fixture f = start_with_root();
    test_mkdir(f.ws, "out/d");
    test_mkdir(f.ws, "beside");
    test_link("../beside", f.ws, "out/l");
    cleanup_free char *out = sa_format("%s/out", f.ws);
    pid_t racer = fork();
    if (racer == 0) {
        int fd = open(out, O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (;;)
            if (fd < 0 || renameat2(fd, "d", fd, "l", RENAME_EXCHANGE) < 0)
                _exit(1);
    }
    assert_true(racer > 0);
    struct made m;
    make_begin(&m, ARCHIVE_TAR);
    for (int i = 0; i < 2000; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/%d", i);
        make_text(&m, name, "x");
    }
    make_end(&m);
    struct upload u = {.root = "ws", .path = "out", .overwrite = OVERWRITE_POLICY_REPLACE};
    UploadArchiveResponse *res = NULL;
    assert_string_equal(upload(&f, &u, m.bytes.data, m.bytes.len, &res), "");
    kill(racer, SIGKILL);
    int wstatus;
    assert_int_equal(waitpid(racer, &wstatus, 0), racer);
    assert_true(WIFSIGNALED(wstatus));
    print_message("%d in place, %d refused\n", (int)res->entries, (int)res->failed);
    assert_int_equal(res->entries + res->failed, 2000);
    rpc_message_free(res);
    sa_buf_fini(&m.bytes);
    assert_shell("", "ls -A '%s/beside'", f.ws);
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

/* Zeros and holes become next to nothing in an archive: the ratio ends it soon. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_leaves_the_directory),
        cmocka_unit_test(the_services_own_files_are_safe),
        cmocka_unit_test(a_race_leads_nowhere),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_bomb_is_defused),
        cmocka_unit_test(a_large_file_is_no_bomb),
        cmocka_unit_test(a_zip_may_have_many_entries),
        cmocka_unit_test(a_damaged_archive_is_told),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
