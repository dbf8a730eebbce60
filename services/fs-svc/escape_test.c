/* Every operation of FileService that takes a path, against everything that could lead it out of its root. */
#include "services/fs-svc/tree_fixture.h"

#include <pthread.h>

/* ---- the operations; each tries to do harm at `path` ---- */

static const char *do_stat(struct service_fixture *f, const char *root, const char *path)
{
    return stat_path(f, root, path);
}

static const char *do_list(struct service_fixture *f, const char *root, const char *path)
{
    return list_path(f, ORDER(root, path, .recursive = true));
}

static const char *do_read(struct service_fixture *f, const char *root, const char *path)
{
    cleanup_buf struct sa_buf got = {0};
    const char *answer = read_path(f, root, path, 0, 0, &got);
    if (got.len && memmem(got.data, got.len, "secret", 6))
        fail_msg("`%s` was read", path);
    return answer;
}

static const char *do_write(struct service_fixture *f, const char *root, const char *path)
{
    struct writer w = {.root = root, .path = path};
    return write_text(f, &w, "overwritten");
}

static const char *do_make(struct service_fixture *f, const char *root, const char *path)
{
    return make_dir(f, ORDER(root, path));
}

static const char *do_make_parents(struct service_fixture *f, const char *root, const char *path)
{
    return make_dir(f, ORDER(root, path, .parents = true));
}

static const char *do_delete(struct service_fixture *f, const char *root, const char *path)
{
    return delete_path(f, ORDER(root, path, .recursive = true));
}

static const char *do_move_from(struct service_fixture *f, const char *root, const char *path)
{
    return move_path(f, ORDER(root, path, .to_path = "in/caught", .overwrite = true));
}

static const char *do_move_to(struct service_fixture *f, const char *root, const char *path)
{
    return move_path(f, ORDER(root, "in/bait", .to_path = path, .overwrite = true));
}

static const char *do_copy_from(struct service_fixture *f, const char *root, const char *path)
{
    return copy_path(f, ORDER(root, path, .to_path = "in/caught", .overwrite = true, .recursive = true));
}

static const char *do_copy_to(struct service_fixture *f, const char *root, const char *path)
{
    return copy_path(f, ORDER(root, "in/bait", .to_path = path, .overwrite = true, .parents = true));
}

static const char *do_link(struct service_fixture *f, const char *root, const char *path)
{
    return make_link(f, ORDER(root, path, .to_path = "x"));
}

static const char *do_change(struct service_fixture *f, const char *root, const char *path)
{
    return change_mode(f, ORDER(root, path, .mode = 0777));
}

static const char *do_usage(struct service_fixture *f, const char *root, const char *path)
{
    return usage_path(f, ORDER(root, path));
}

static const struct {
    const char *name;
    const char *(*run)(struct service_fixture *f, const char *root, const char *path);
    bool changes;
    bool names; /* means the name at the end of the path, not what a link there points to */
} operations[] = {
    {"stat", do_stat, false, false},     {"list", do_list, false, false},
    {"read", do_read, false, false},     {"write", do_write, true, false},
    {"make", do_make, true, true},       {"make with parents", do_make_parents, true, true},
    {"delete", do_delete, true, true},   {"move from", do_move_from, true, true},
    {"move to", do_move_to, true, true}, {"copy from", do_copy_from, false, true},
    {"copy to", do_copy_to, true, true}, {"link", do_link, true, true},
    {"change", do_change, true, false},  {"usage", do_usage, false, false},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* ---- the place ---- */

static struct service_fixture start(void)
{
    struct service_fixture f = tree_start();
    test_mkdir(f.dir, "outside/dir");
    test_put(f.dir, "outside/secret", "secret");
    test_put(f.dir, "outside/dir/secret", "secret");
    test_mkdir(f.ws, "in");
    cleanup_free char *absolute = sa_format("%s/outside", f.dir);
    test_link(absolute, f.ws, "absolute");
    test_link("../outside", f.ws, "relative");
    test_link("../outside/secret", f.ws, "file");
    test_link("..", f.ws, "in/up");
    test_link("loop", f.ws, "loop");
    test_link("/proc/self/root", f.ws, "proc");
    return f;
}

static void lay_bait(const struct service_fixture *f)
{
    test_put(f->ws, "in/bait", "bait");
}

static void assert_outside_is_untouched(const struct service_fixture *f, const char *what, const char *path)
{
    struct stat st;
    cleanup_free char *outside = sa_format("%s/outside", f->dir), *secret = sa_format("%s/secret", outside);
    cleanup_free char *content = there(outside, "secret") ? test_get(outside, "secret") : sa_strdup("gone");
    if (strcmp(content, "secret") != 0 || !there(outside, "dir/secret") || stat(secret, &st) < 0 ||
        st.st_mode & 0111)
        fail_msg("%s reached the outside by `%.80s`", what, path);
    DIR *d = opendir(outside);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    if (n != 4)
        fail_msg("%s left something outside by `%.80s`", what, path);
}

static void nothing_leads_out(void **state)
{
    (void)state;
    struct service_fixture f = start();
    cleanup_free char *absolute = sa_format("%s/outside/secret", f.dir);
    cleanup_free char *dots = sa_calloc(1, 4096), *names = sa_calloc(1, 4096), *name = sa_calloc(1, 258);
    for (int i = 0; i < 1365; i++)
        strcat(dots, "../");
    for (int i = 0; i < 4080; i++)
        names[i] = i % 16 == 15 ? '/' : 'n';
    memset(name, 'n', 256);
    /* No reason: of a link any; else a path that is long or odd and leads nowhere outside. */
    const struct {
        const char *path, *reason;
        bool link_at_end;
    } paths[] = {
        {"..", "INVALID_PATH", false},
        {"../outside/secret", "INVALID_PATH", false},
        {"in/../../outside/secret", "INVALID_PATH", false},
        {"in/up/../outside/secret", "INVALID_PATH", false},
        {"./.././outside", "INVALID_PATH", false},
        {absolute, "INVALID_PATH", false},
        {"/", "INVALID_PATH", false},
        {"//etc/passwd", "INVALID_PATH", false},
        {"absolute/secret", "INVALID_PATH", false},
        {"absolute/new", "INVALID_PATH", false},
        {"relative/dir/secret", "INVALID_PATH", false},
        {"relative/./dir/../secret", "INVALID_PATH", false},
        {"absolute", NULL, true},
        {"relative", NULL, true},
        {"file", NULL, true},
        {"loop", NULL, true},
        {"loop/x", "INVALID_PATH", false},
        {"proc/etc/passwd", "INVALID_PATH", false},
        {"/proc/self/root/etc/passwd", "INVALID_PATH", false},
        {"", "INVALID_PATH", false},
        {dots, "INVALID_PATH", false},
        {name, "INVALID_PATH", false},
        {names, NULL, false},
        {"\xff\xfe/../../outside/secret", NULL, false},
    };
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
        for (size_t o = 0; o < OPERATIONS; o++) {
            if (paths[p].link_at_end && operations[o].names)
                continue; /* see below */
            lay_bait(&f);
            const char *answer = operations[o].run(&f, "ws", paths[p].path);
            if (!strcmp(answer, "") && (paths[p].reason || paths[p].link_at_end))
                fail_msg("%s succeeds at `%.80s`", operations[o].name, paths[p].path);
            if (paths[p].reason && strcmp(answer, paths[p].reason) != 0)
                fail_msg("%s at `%.80s`: %s", operations[o].name, paths[p].path, answer);
            assert_outside_is_untouched(&f, operations[o].name, paths[p].path);
        }
    tree_end(&f);
}

static void a_link_is_changed_and_not_what_it_points_to(void **state)
{
    (void)state;
    static const char *const links[] = {"absolute", "relative", "file"};
    for (size_t o = 0; o < OPERATIONS; o++) {
        struct service_fixture f = start();
        for (size_t i = 0; i < 3 && operations[o].names; i++) {
            lay_bait(&f);
            operations[o].run(&f, "ws", links[i]);
            assert_outside_is_untouched(&f, operations[o].name, links[i]);
        }
        tree_end(&f);
    }
}

static void bytes_that_are_no_text_are_names_like_others(void **state)
{
    (void)state;
    struct service_fixture f = start();
    const char *odd = "in/\xff\xfe\n\x1b[31m\x80";
    lay_bait(&f);
    assert_string_equal(make_dir(&f, ORDER("ws", odd)), "");
    assert_string_equal(list_path(&f, ORDER("ws", "in")), "");
    assert_string_equal(move_path(&f, ORDER("ws", odd, .to_path = "in/\xc3\x28")), "");
    assert_string_equal(copy_path(&f, ORDER("ws", "in/\xc3\x28", .to_path = odd, .recursive = true)), "");
    assert_string_equal(delete_path(&f, ORDER("ws", odd, .recursive = true)), "");
    MakeDirectoryRequest req = MAKE_DIRECTORY_REQUEST__INIT;
    req.root = mutable("ws");
    req.path = (ProtobufCBinaryData){8, (uint8_t *)mutable("in\0/../x")};
    cleanup_error sa_error *err = NULL;
    assert_null(make_directory_wait(f.caller.channel, &req, &patient, &err));
    assert_reason(err, SA_INVALID_PATH);
    tree_end(&f);
}

static void a_read_only_root_refuses_every_change(void **state)
{
    (void)state;
    struct service_fixture f = start();
    lay_bait(&f);
    for (size_t o = 0; o < OPERATIONS; o++)
        if (operations[o].changes) {
            assert_string_equal(operations[o].run(&f, "ro", "in/bait"), "PERMISSION_DENIED");
            assert_content(f.ws, "in/bait", "bait");
        }
    tree_end(&f);
}

/* ---- a race ---- */

struct swapping {
    const char *dir;
    _Atomic bool stop;
};

/* "way" is a directory of ours, then a link to the outside, and so on. */
static void *swap(void *arg)
{
    struct swapping *s = arg;
    cleanup_close int dir = open(s->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    while (!s->stop)
        if (renameat2(dir, "way", dir, "trap", RENAME_EXCHANGE) < 0)
            return (void *)1;
    return NULL;
}

static void a_link_swapped_in_leads_nowhere(void **state)
{
    (void)state;
    enum { ROUNDS = 60 };
    struct service_fixture f = start();
    test_mkdir(f.ws, "way/dir");
    test_link("../outside", f.ws, "trap");
    struct swapping swapping = {.dir = f.ws};
    pthread_t thread;
    void *failed = NULL;
    assert_int_equal(pthread_create(&thread, NULL, swap, &swapping), 0);
    for (int i = 0; i < ROUNDS; i++)
        for (size_t o = 0; o < OPERATIONS; o++) {
            lay_bait(&f);
            operations[o].run(&f, "ws", i % 2 ? "way/secret" : "way/dir/secret");
            assert_outside_is_untouched(&f, operations[o].name, "way");
        }
    swapping.stop = true;
    pthread_join(thread, &failed);
    assert_null(failed);
    tree_end(&f);
}

/* A tree whose directories become links to the outside while it is walked. */
static void a_walk_does_not_follow_what_is_swapped_in(void **state)
{
    (void)state;
    enum { ROUNDS = 40 };
    struct service_fixture f = start();
    test_mkdir(f.ws, "tree");
    test_mkdir(f.ws, "tree/way/dir");
    test_link("../../outside", f.ws, "tree/trap");
    cleanup_free char *tree = sa_format("%s/tree", f.ws);
    struct swapping swapping = {.dir = tree};
    pthread_t thread;
    void *failed = NULL;
    assert_int_equal(pthread_create(&thread, NULL, swap, &swapping), 0);
    for (int i = 0; i < ROUNDS; i++) {
        const char *answer = copy_path(&f, ORDER("ws", "tree", .to_path = "copy", .recursive = true));
        struct stat st;
        cleanup_free char *way = sa_format("%s/copy/way", f.ws);
        /* Copied as a link is fine, as a directory it must be ours. */
        if (!strcmp(answer, "") && lstat(way, &st) == 0 && S_ISDIR(st.st_mode))
            assert_false(there(f.ws, "copy/way/secret"));
        delete_path(&f, ORDER("ws", "copy", .recursive = true, .missing_ok = true));
        usage_path(&f, ORDER("ws", "tree"));
        list_path(&f, ORDER("ws", "tree", .recursive = true));
        assert_outside_is_untouched(&f, "a walk", "tree");
    }
    swapping.stop = true;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_string_equal(delete_path(&f, ORDER("ws", "tree", .recursive = true)), "");
    assert_outside_is_untouched(&f, "delete", "tree");
    tree_end(&f);
}

/* ---- many at once ---- */

struct worker {
    struct service_fixture *f;
    int number;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct service_fixture f = *w->f;
    cleanup_free char *target = sa_format("unix:%s/run/fs.sock", f.data);
    f.caller = caller_open(target, NULL, NULL);
    cleanup_free char *name = sa_format("shared/f%d", w->number % 2),
                      *other = sa_format("shared/g%d", w->number);
    for (int i = 0; i < 30; i++) {
        copy_path(&f, ORDER("ws", name, .to_path = other, .overwrite = true));
        move_path(&f, ORDER("ws", other, .to_path = name, .overwrite = true));
        list_path(&f, ORDER("ws", "shared", .recursive = true));
        make_dir(&f, ORDER("ws", "shared/d/e/f", .parents = true));
        delete_path(&f, ORDER("ws", "shared/d", .recursive = true, .missing_ok = true));
        usage_path(&f, ORDER("ws", "shared"));
    }
    caller_close(&f.caller);
    return NULL;
}

static void many_at_once_leave_whole_files(void **state)
{
    (void)state;
    enum { WORKERS = 6 };
    struct service_fixture f = start();
    test_mkdir(f.ws, "shared");
    test_put(f.ws, "shared/f0", "zero");
    test_put(f.ws, "shared/f1", "one");
    pthread_t threads[WORKERS];
    struct worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){&f, i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    assert_content(f.ws, "shared/f0", "zero");
    assert_content(f.ws, "shared/f1", "one");
    cleanup_free char *shared = sa_format("%s/shared", f.ws);
    assert_int_equal(temporary_files(shared), 0);
    tree_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_leads_out),
        cmocka_unit_test(a_link_is_changed_and_not_what_it_points_to),
        cmocka_unit_test(bytes_that_are_no_text_are_names_like_others),
        cmocka_unit_test(a_read_only_root_refuses_every_change),
        cmocka_unit_test(a_link_swapped_in_leads_nowhere),
        cmocka_unit_test(a_walk_does_not_follow_what_is_swapped_in),
        cmocka_unit_test(many_at_once_leave_whole_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
