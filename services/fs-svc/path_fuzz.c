/* Paths against a small tree full of links: openat2 and our own walk must agree on what a path leads to, and
 * neither may leave the root. An input is a path, or, when its first byte is '*', a series of parts of the
 * tree. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const parts[] = {"a",    "b",   "..",  ".",    "file", "up",     "out", "self",
                                    "loop", "abs", "//",  "deep", "x",    "deeper", "",    "wild",
                                    "a/",   "b/",  "../", "etc",  "tmp",  "proc",   "/"};

static char *base;
static struct fs_root root;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

static void remove_tree(void)
{
    sa_remove_tree(base, NULL);
}

static void link_at(const char *target, const char *name)
{
    cleanup_free char *path = sa_format("%s/ws/%s", base, name);
    if (symlink(target, path) < 0)
        die("symlink");
}

static void make_tree(void)
{
    base = sa_strdup("/tmp/fuzz-XXXXXX");
    if (!mkdtemp(base))
        die("mkdtemp");
    atexit(remove_tree);
    cleanup_free char *deep = sa_format("%s/ws/a/b/deep/deeper", base), *ws = sa_format("%s/ws", base);
    cleanup_free char *file = sa_format("%s/ws/a/file", base), *secret = sa_format("%s/file", base);
    if (sa_mkdirs(deep, 0755, NULL) < 0 || sa_write_file(file, "x", 1, 0644, NULL) < 0 ||
        sa_write_file(secret, "x", 1, 0644, NULL) < 0)
        die("tree");
    link_at("..", "a/up");
    link_at("../..", "a/out");
    link_at(".", "self");
    link_at("loop", "loop");
    link_at("/tmp", "abs");
    link_at("a/b/../../a/up/a/file", "wild");
    link_at("../up/self/a/b/deep/", "a/b/x");
    root = (struct fs_root){.name = sa_strdup(""), .fd = open(ws, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    root.dir = steal_pointer(&ws);
}

struct answer {
    struct stat st;
    char reason[48];
};

static struct answer ask(const char *path, bool follow, bool walk)
{
    struct answer a = {0};
    cleanup_error sa_error *err = NULL;
    root.no_openat2 = walk;
    cleanup_close int fd = fs_path_open(&root, path, follow, &err);
    if (fd < 0) {
        snprintf(a.reason, sizeof a.reason, "%s", err->reason);
        return a;
    }
    cleanup_free char *real = fs_real_path(fd);
    size_t len = strlen(root.dir);
    if (!real || strncmp(real, root.dir, len) || (real[len] && real[len] != '/'))
        die("left the root");
    if (fstat(fd, &a.st) < 0)
        die("fstat");
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (!base)
        make_tree();
    cleanup_buf struct sa_buf text = {0};
    if (n && data[0] == '*')
        for (size_t i = 1; i < n && text.len < FS_PATH_MAX; i++)
            sa_buf_addf(&text, "%s%s", parts[data[i] % (sizeof parts / sizeof *parts)],
                        data[i] & 0x80 ? "" : "/");
    else
        sa_buf_add(&text, data, n);
    cleanup_free char *path = fs_path_from_bytes(text.data, text.len, NULL);
    if (!path)
        return 0;
    for (int follow = 0; follow < 2; follow++) {
        struct answer kernel = ask(path, follow, false), walk = ask(path, follow, true);
        if (strcmp(kernel.reason, walk.reason) || kernel.st.st_ino != walk.st.st_ino)
            die("openat2 and the walk disagree");
    }
    char *parent, *name;
    bool slash;
    if (fs_path_split(path, &parent, &name, &slash, NULL) == 0) {
        if (!*name || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
            die("bad name");
        free(parent);
        free(name);
    }
    return 0;
}
