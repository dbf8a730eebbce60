/* For tests: a directory of their own, and small files in it. */
#ifndef SERVICES_FS_SVC_TEST_DIR_H_
#define SERVICES_FS_SVC_TEST_DIR_H_

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "services/fs-svc/path.h"

/* "/tmp/fs-XXXXXX", made; free() it after test_dir_remove. */
static inline char *test_dir_new(void)
{
    char *dir = sa_strdup("/tmp/fs-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static inline void test_dir_remove(char *dir)
{
    assert_int_equal(sa_remove_tree(dir, NULL), 0);
    free(dir);
}

static inline void test_put(const char *dir, const char *name, const char *content)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
}

static inline void test_mkdir(const char *dir, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    assert_int_equal(sa_mkdirs(path, 0755, NULL), 0);
}

static inline void test_link(const char *target, const char *dir, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    assert_int_equal(symlink(target, path), 0);
}

/* Content of a file of up to a megabyte; "" and a failure when it is missing. free() it. */
static inline char *test_get(const char *dir, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s", dir, name);
    struct sa_buf b = {0};
    assert_int_equal(sa_read_file(path, 1 << 20, &b, NULL), 0);
    return sa_buf_string(&b);
}

#define assert_reason(e, why)                                                                                \
    do {                                                                                                     \
        assert_non_null(e);                                                                                  \
        assert_string_equal((e)->reason, sa_reason_name(why));                                               \
    } while (0)

static inline struct fs_root test_root(const char *dir, bool no_openat2)
{
    struct fs_root root = {.name = sa_strdup("ws"), .dir = sa_strdup(dir), .no_openat2 = no_openat2};
    root.fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(root.fd >= 0);
    return root;
}

static inline struct fs_root test_whole(const char *home, bool no_openat2)
{
    struct fs_root root = test_root("/", no_openat2);
    root.whole = true;
    root.home = sa_strdup(home);
    return root;
}

static inline void test_root_fini(struct fs_root *root)
{
    sa_close(root->fd);
    free(root->name);
    free(root->dir);
    free(root->home);
}

#endif
