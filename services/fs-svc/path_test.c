/* Escapes and what must work, each through openat2 and through our own walk. */
#include "services/fs-svc/test_dir.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "adapters/os/clock.h"

/* base/            outside the root
 * base/secret.txt
 * base/ws/         the root */
struct world {
    char *base, *ws;
    struct fs_root root, whole;
    const char *private[2];
};

static bool walking; /* which of the two ways the tests use now */

static int setup(void **state)
{
    struct world *w = sa_calloc(1, sizeof *w);
    w->base = test_dir_new();
    w->ws = sa_format("%s/ws", w->base);
    test_put(w->base, "secret.txt", "secret");
    test_mkdir(w->ws, "a/b/c");
    test_put(w->ws, "a/file.txt", "content");
    test_link("a/file.txt", w->ws, "good");
    test_link("../file.txt", w->ws, "a/b/up");
    test_link("b", w->ws, "a/dir");
    test_link("../secret.txt", w->ws, "out-relative");
    test_link("..", w->ws, "out-dir");
    test_link("/etc/passwd", w->ws, "out-absolute");
    test_link("nothing", w->ws, "dangling");
    test_link("loop-b", w->ws, "loop-a");
    test_link("loop-a", w->ws, "loop-b");
    test_link("/proc/self/root/etc/passwd", w->ws, "out-proc");
    w->root = test_root(w->ws, walking);
    w->whole = test_whole(w->ws, walking);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    test_root_fini(&w->root);
    test_root_fini(&w->whole);
    free(w->ws);
    test_dir_remove(w->base);
    free(w);
    return 0;
}

/* What a path leads to: its content, "<dir>", or the reason of the refusal. */
static const char *leads_to(const struct fs_root *root, const char *path, bool follow)
{
    static char answer[64];
    cleanup_error sa_error *err = NULL;
    cleanup_close int at = fs_path_open(root, path, follow, &err);
    if (at < 0) {
        snprintf(answer, sizeof answer, "%s", err->reason);
        return answer;
    }
    struct stat st;
    assert_int_equal(fstat(at, &st), 0);
    if (S_ISDIR(st.st_mode))
        return "<dir>";
    if (S_ISLNK(st.st_mode))
        return "<link>";
    cleanup_close int fd = fs_reopen(at, O_RDONLY);
    assert_true(fd >= 0);
    ssize_t n = read(fd, answer, sizeof answer - 1);
    answer[n > 0 ? n : 0] = 0;
    return answer;
}

static void paths_below_a_root_work(void **state)
{
    struct world *w = *state;
    static const char *const files[] = {
        "a/file.txt", "./a/file.txt", "a//file.txt",       "a/b/../file.txt",
        "good",       "a/b/up",       "a/dir/../file.txt", "a/b/c/../../file.txt"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_string_equal(leads_to(&w->root, files[i], true), "content");
    static const char *const dirs[] = {".", "a", "a/", "a/dir", "a/dir/", "a/b/..", "a/..", "./"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        assert_string_equal(leads_to(&w->root, dirs[i], true), "<dir>");
    assert_string_equal(leads_to(&w->root, "good", false), "<link>");
    assert_string_equal(leads_to(&w->root, "dangling", false), "<link>");
    assert_string_equal(leads_to(&w->root, "out-relative", false), "<link>");
    assert_string_equal(leads_to(&w->root, "a/dir/", false), "<dir>");
}

static void a_root_is_never_left(void **state)
{
    struct world *w = *state;
    static const char *const escapes[] = {
        "..",
        "../secret.txt",
        "a/../../secret.txt",
        "/etc/passwd",
        "/",
        "out-relative",
        "out-dir/secret.txt",
        "out-absolute",
        "out-proc",
        "a/b/c/../../../../secret.txt",
        "out-dir",
        "./../ws/a/file.txt",
    };
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        assert_string_equal(leads_to(&w->root, escapes[i], true), "INVALID_PATH");
}

static void what_is_not_there_is_told(void **state)
{
    struct world *w = *state;
    assert_string_equal(leads_to(&w->root, "nothing", true), "FILE_NOT_FOUND");
    assert_string_equal(leads_to(&w->root, "nothing/../a", true), "FILE_NOT_FOUND");
    assert_string_equal(leads_to(&w->root, "dangling", true), "FILE_NOT_FOUND");
    assert_string_equal(leads_to(&w->root, "a/file.txt/x", true), "NOT_A_DIRECTORY");
    assert_string_equal(leads_to(&w->root, "a/file.txt/", true), "NOT_A_DIRECTORY");
    assert_string_equal(leads_to(&w->root, "a/file.txt/..", true), "NOT_A_DIRECTORY");
    assert_string_equal(leads_to(&w->root, "good/", true), "NOT_A_DIRECTORY");
    assert_string_equal(leads_to(&w->root, "loop-a", true), "INVALID_PATH");
}

static void long_and_strange_names_are_held(void **state)
{
    struct world *w = *state;
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[299] = 0;
    assert_string_equal(leads_to(&w->root, name, true), "INVALID_PATH");
    name[255] = 0;
    assert_string_equal(leads_to(&w->root, name, true), "FILE_NOT_FOUND");
    static const char invalid[] = "not-\xff\xfe-utf8";
    test_put(w->ws, invalid, "bytes");
    assert_string_equal(leads_to(&w->root, invalid, true), "bytes");
    assert_string_equal(leads_to(&w->root, "A/FILE.TXT", true), "FILE_NOT_FOUND");

    cleanup_error sa_error *err = NULL;
    uint8_t bytes[FS_PATH_MAX + 1];
    memset(bytes, 'x', sizeof bytes);
    assert_null(fs_path_from_bytes(bytes, sizeof bytes, &err));
    assert_reason(err, SA_INVALID_PATH);
    assert_null(fs_path_from_bytes(bytes, 0, &err));
    assert_reason(err, SA_INVALID_PATH);
    assert_null(fs_path_from_bytes((const uint8_t *)"a\0b", 3, &err));
    assert_reason(err, SA_INVALID_PATH);
    cleanup_free char *longest = fs_path_from_bytes(bytes, FS_PATH_MAX, &err);
    assert_int_equal(strlen(longest), FS_PATH_MAX);
    assert_string_equal(leads_to(&w->root, longest, true), "INVALID_PATH");
    for (size_t i = 1; i < FS_PATH_MAX - 1; i += 2)
        longest[i] = '/';
    assert_string_equal(leads_to(&w->root, longest, true), "FILE_NOT_FOUND");
}

static void deep_trees_work(void **state)
{
    struct world *w = *state;
    enum { DEPTH = 1000 };
    cleanup_buf struct sa_buf path = {0};
    for (int i = 0; i < DEPTH; i++)
        sa_buf_add(&path, "d/", 2);
    cleanup_close int dir = fs_path_make_dirs(&w->root, sa_buf_string(&path), NULL);
    assert_true(dir >= 0);
    assert_string_equal(leads_to(&w->root, sa_buf_string(&path), true), "<dir>");
    sa_buf_addf(&path, "../../x/");
    cleanup_close int beside = fs_path_make_dirs(&w->root, sa_buf_string(&path), NULL);
    assert_true(beside >= 0);
}

static void the_whole_filesystem_starts_at_home(void **state)
{
    struct world *w = *state;
    assert_string_equal(leads_to(&w->whole, "a/file.txt", true), "content");
    assert_string_equal(leads_to(&w->whole, "../secret.txt", true), "secret");
    assert_string_equal(leads_to(&w->whole, "out-relative", true), "secret");
    cleanup_free char *absolute = sa_format("%s/ws/a/../a/file.txt", w->base);
    assert_string_equal(leads_to(&w->whole, absolute, true), "content");
    assert_string_equal(leads_to(&w->whole, "/", true), "<dir>");
    assert_string_equal(leads_to(&w->whole, "/../..", true), "<dir>");
    assert_string_equal(leads_to(&w->whole, "out-absolute", false), "<link>");
    assert_memory_equal(leads_to(&w->whole, "out-absolute", true), "root:", 5);
}

static void magic_links_are_not_followed(void **state)
{
    struct world *w = *state;
    cleanup_close int secret = open(w->base, O_RDONLY | O_CLOEXEC);
    cleanup_free char *by_fd = sa_format("/proc/self/fd/%d", secret);
    assert_string_equal(leads_to(&w->whole, by_fd, true), "INVALID_PATH");
    assert_string_equal(leads_to(&w->whole, "/proc/self/root/etc/passwd", true), "INVALID_PATH");
    assert_string_equal(leads_to(&w->whole, "/proc/1/cwd", true), "INVALID_PATH");
    assert_string_equal(leads_to(&w->whole, "out-proc", true), "INVALID_PATH");
    /* Our own process is nobody's business, by any of its names. */
    assert_string_equal(leads_to(&w->whole, "/proc/self/maps", true), "PERMISSION_DENIED");
    assert_string_equal(leads_to(&w->whole, "/proc/thread-self/maps", true), "PERMISSION_DENIED");
    cleanup_free char *by_pid = sa_format("/proc/%d/environ", (int)getpid());
    assert_string_equal(leads_to(&w->whole, by_pid, true), "PERMISSION_DENIED");
    assert_string_equal(leads_to(&w->whole, "/proc/1", true), getpid() == 1 ? "PERMISSION_DENIED" : "<dir>");
}

static void private_directories_are_out_of_reach(void **state)
{
    struct world *w = *state;
    cleanup_free char *private = sa_format("%s/a", w->ws);
    w->private[0] = private;
    w->root.private_dirs = w->whole.private_dirs = w->private;
    test_mkdir(w->ws, "ab");
    for (int whole = 0; whole < 2; whole++) {
        const struct fs_root *root = whole ? &w->whole : &w->root;
        static const char *const paths[] = {"a", "a/file.txt", "good", "a/b/up", "ab/../a/b", "a/dir"};
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
            assert_string_equal(leads_to(root, paths[i], true), "PERMISSION_DENIED");
        assert_string_equal(leads_to(root, "ab", true), "<dir>");
        assert_string_equal(leads_to(root, "good", false), "<link>");
        cleanup_error sa_error *err = NULL;
        assert_int_equal(fs_path_make_dirs(root, "a/new/dir", &err), -1);
        assert_reason(err, SA_PERMISSION_DENIED);
    }
}

static void missing_directories_are_made_below_the_root_only(void **state)
{
    struct world *w = *state;
    cleanup_close int made = fs_path_make_dirs(&w->root, "new/deep/dir", NULL);
    assert_true(made >= 0);
    cleanup_close int again = fs_path_make_dirs(&w->root, "new/deep/dir", NULL);
    assert_true(again >= 0);
    cleanup_close int linked = fs_path_make_dirs(&w->root, "a/dir/new", NULL);
    assert_true(linked >= 0);
    assert_string_equal(leads_to(&w->root, "a/b/new", true), "<dir>");
    static const struct {
        const char *path;
        enum sa_reason reason;
    } refused[] = {{"../new", SA_INVALID_PATH},         {"out-dir/new", SA_INVALID_PATH},
                   {"new/../../out", SA_INVALID_PATH},  {"a/file.txt/new", SA_NOT_A_DIRECTORY},
                   {"dangling/new", SA_FILE_NOT_FOUND}, {"/tmp/new", SA_INVALID_PATH}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cleanup_error sa_error *err = NULL;
        assert_int_equal(fs_path_make_dirs(&w->root, refused[i].path, &err), -1);
        assert_reason(err, refused[i].reason);
    }
    cleanup_free char *outside = sa_format("%s/new", w->base);
    assert_int_equal(access(outside, F_OK), -1);
}

/* A process that swaps a directory for a link to the outside, as fast as it can. */
struct swapper {
    char *dir, *link, *aside;
    _Atomic bool stop;
};

static void *swap(void *arg)
{
    struct swapper *s = arg;
    while (!s->stop)
        syscall(SYS_renameat2, AT_FDCWD, s->dir, AT_FDCWD, s->link, RENAME_EXCHANGE);
    return NULL;
}

static void a_racing_link_leads_nowhere(void **state)
{
    struct world *w = *state;
    test_mkdir(w->ws, "race/target");
    test_put(w->ws, "race/target/secret.txt", "harmless");
    test_link("../..", w->ws, "race/other");
    struct swapper s = {.dir = sa_format("%s/race/target", w->ws), .link = sa_format("%s/race/other", w->ws)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
    /* On a busy machine the swapper may not have its turn for long. */
    int inside = 0, refused = 0;
    uint64_t start = sa_now_ms(), passed = 0;
    for (; passed < 300 || ((!inside || !refused) && passed < 30000); passed = sa_now_ms() - start) {
        const char *got = leads_to(&w->root, "race/target/secret.txt", true);
        assert_string_not_equal(got, "secret");
        inside += !strcmp(got, "harmless");
        refused += !strcmp(got, "INVALID_PATH");
    }
    s.stop = true;
    pthread_join(thread, NULL);
    free(s.dir);
    free(s.link);
    assert_true(inside > 0);
    assert_true(refused > 0);
}

static void names_are_split_from_their_directory(void **state)
{
    (void)state;
    static const struct {
        const char *path, *parent, *name;
        bool slash;
    } good[] = {{"f", ".", "f", false},        {"a/f", "a/", "f", false},   {"/f", "/", "f", false},
                {"a/b/f/", "a/b/", "f", true}, {"../f", "../", "f", false}, {"a//f", "a//", "f", false}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        cleanup_free char *parent = NULL, *name = NULL;
        bool slash = false;
        assert_int_equal(fs_path_split(good[i].path, &parent, &name, &slash, NULL), 0);
        assert_string_equal(parent, good[i].parent);
        assert_string_equal(name, good[i].name);
        assert_int_equal(slash, good[i].slash);
    }
    static const char *const bad[] = {"/", "..", ".", "a/..", "a/.", "a/../", "//"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *parent, *name;
        bool slash;
        cleanup_error sa_error *err = NULL;
        assert_int_equal(fs_path_split(bad[i], &parent, &name, &slash, &err), -1);
        assert_reason(err, SA_INVALID_PATH);
    }
}

/* As an old kernel or a container's seccomp filter does. */
static int refuse_openat2(int errnum)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)errnum),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -1
                                                      : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void a_blocked_openat2_is_walked_around(void **state)
{
    struct world *w = *state;
    static const int errnums[] = {ENOSYS, EPERM};
    for (size_t i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            bool ok = refuse_openat2(errnums[i]) == 0 &&
                      !strcmp(leads_to(&w->root, "a/b/up", true), "content") &&
                      !strcmp(leads_to(&w->root, "out-dir/secret.txt", true), "INVALID_PATH") &&
                      !strcmp(leads_to(&w->root, "/etc/passwd", true), "INVALID_PATH") &&
                      !strcmp(leads_to(&w->whole, "/proc/self/root/etc/passwd", true), "INVALID_PATH");
            _exit(ok ? 0 : 1);
        }
        int wstatus;
        assert_int_equal(waitpid(pid, &wstatus, 0), pid);
        assert_int_equal(wstatus, 0);
    }
}

#define PATH_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PATH_TEST(paths_below_a_root_work),
        PATH_TEST(a_root_is_never_left),
        PATH_TEST(what_is_not_there_is_told),
        PATH_TEST(long_and_strange_names_are_held),
        PATH_TEST(deep_trees_work),
        PATH_TEST(the_whole_filesystem_starts_at_home),
        PATH_TEST(magic_links_are_not_followed),
        PATH_TEST(private_directories_are_out_of_reach),
        PATH_TEST(missing_directories_are_made_below_the_root_only),
        PATH_TEST(a_racing_link_leads_nowhere),
        PATH_TEST(names_are_split_from_their_directory),
        PATH_TEST(a_blocked_openat2_is_walked_around),
    };
    int failed = cmocka_run_group_tests_name("openat2", tests, NULL, NULL);
    walking = true;
    return failed + cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
