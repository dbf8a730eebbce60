/* Bytes as an archive that is unpacked into a directory: whatever they are, nothing outside of it is touched,
 * nothing in it leads out, and nothing but files, directories and links is made. An input is an archive, or,
 * when its first byte is '*', a series of entries: each two bytes, a kind and names from a small tree. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char *base;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

static void remove_base(void)
{
    sa_remove_tree(base, NULL);
}

struct input {
    const uint8_t *p;
    size_t n;
};

static ssize_t source(void *user, const void **ret)
{
    struct input *in = user;
    ssize_t n = (ssize_t)in->n;
    *ret = in->p;
    in->n = 0;
    return n;
}

static void failed(void *user, const char *name, const sa_error *err)
{
    (void)user, (void)name, (void)err;
}

static uint64_t packed(void *user)
{
    (void)user;
    return 1 << 20;
}

/* ---- a series of entries ---- */

static bool collect(void *user, const void *p, size_t n)
{
    sa_buf_add(user, p, n);
    return true;
}

static void make_archive(const uint8_t *data, size_t n, struct sa_buf *ret)
{
    static const char *const names[] = {"a",      "b",  "a/b",       "b/a", "a/b/c", "..",
                                        "a/../b", "/x", "../secret", ".",   "a/.",   "c"};
    static const char *const targets[] = {".", "..",   "a",      "b",         "../..",   "a/..",
                                          "/", "../b", "secret", "../secret", "b/../..", "c"};
    struct archive_out *out = archive_out_new(ARCHIVE_TAR, collect, ret, NULL);
    for (size_t i = 0; out && i + 1 < n && i < 400; i += 2) {
        struct archive_item item = {.name = names[data[i] % 12],
                                    .target = targets[data[i + 1] % 12],
                                    .kind = (enum archive_kind)(data[i] >> 4 & 3),
                                    .mode = 0755};
        archive_out_entry(out, &item, NULL);
    }
    if (!out || archive_out_finish(out, NULL) < 0)
        die("cannot make an archive");
    archive_out_free(out);
}

/* ---- what may be there afterwards ---- */

static void check_tree(const char *dir, const char *top, int depth)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        cleanup_free char *path = sa_format("%s/%s", dir, e->d_name);
        struct stat st;
        if (lstat(path, &st) < 0)
            die("lstat");
        if (S_ISLNK(st.st_mode)) {
            char *real = realpath(path, NULL);
            size_t len = strlen(top);
            if (real && (strncmp(real, top, len) || (real[len] && real[len] != '/')))
                die("a link leads out");
            free(real);
        } else if (S_ISDIR(st.st_mode)) {
            if (depth < 200)
                check_tree(path, top, depth + 1);
        } else if (!S_ISREG(st.st_mode) || st.st_mode & 07000) {
            die("neither a file nor a directory nor a link");
        }
    }
    closedir(d);
}

static void make_base(void)
{
    char *real = sa_strdup(access("/dev/shm", W_OK) ? "/tmp/fuzz-XXXXXX" : "/dev/shm/fuzz-XXXXXX");
    if (!mkdtemp(real) || !(base = realpath(real, NULL)))
        die("mkdtemp");
    free(real);
    cleanup_free char *secret = sa_format("%s/secret", base), *scratch = sa_format("%s/scratch", base);
    if (sa_write_file(secret, "secret", 6, 0644, NULL) < 0 || mkdir(scratch, 0755) < 0)
        die("base");
    atexit(remove_base);
}

static void check_outside(void)
{
    cleanup_free char *secret = sa_format("%s/secret", base);
    struct stat st;
    cleanup_buf struct sa_buf text = {0};
    DIR *d = opendir(base);
    int n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    if (n != 5 || stat(secret, &st) < 0 || st.st_nlink != 1 || sa_read_file(secret, 100, &text, NULL) < 0 ||
        text.len != 6)
        die("something outside was touched");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!base)
        make_base();
    cleanup_free char *ws = sa_format("%s/ws", base), *scratch = sa_format("%s/scratch", base);
    if (mkdir(ws, 0755) < 0)
        die("mkdir");
    cleanup_buf struct sa_buf made = {0};
    struct input input = {data, n};
    if (n && *data == '*') {
        make_archive(data + 1, n - 1, &made);
        input = (struct input){made.data, made.len};
    }
    cleanup_close int tree = open(ws, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int part = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    cleanup_close int zip =
        archive_is_zip(input.p, input.n) ? open(base, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
    if (zip >= 0 && write(zip, input.p, input.n) != (ssize_t)input.n)
        die("write");
    const struct fs_root root = {.name = (char *)(uintptr_t) "ws", .dir = ws, .fd = tree};
    const struct unpack_options opt = {.policy = UNPACK_REPLACE,
                                       .max_entries = 1000,
                                       .max_bytes = 1 << 20,
                                       .max_file_bytes = 1 << 20,
                                       .max_ratio = 1000};
    const struct unpack_events events = {.failed = failed, .packed = packed};
    struct unpack_result result = {0};
    struct archive_in *in =
        zip >= 0 ? archive_in_zip(zip, 1000, NULL) : archive_in_stream(source, &input, NULL);
    if (in)
        unpack(in, &root, tree, part, &opt, &events, &result, NULL);
    archive_in_free(in);
    check_tree(ws, ws, 0);
    check_outside();
    if (sa_remove_tree(ws, NULL) < 0)
        die("remove");
    return 0;
}
