/* Patterns of callers and ignore files against paths. An input is lines of an ignore file, a NUL, a path. A
 * pattern must end, and read the same way twice; one without special bytes fits its own text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/glob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_plain(const char *text, size_t n)
{
    if (n == 0 || n > FS_GLOB_MAX || strpbrk(text, "*?[]\\!#{}/ \r\n") || strlen(text) != n)
        return;
    struct fs_glob g;
    if (!fs_glob_of_line(text, n, &g) || !fs_glob_fits(&g, text, n, 0, false))
        abort();
    fs_glob_fini(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *nul = memchr(data, 0, n);
    size_t len = nul ? (size_t)(nul - data) : n;
    cleanup_free char *text = sa_strndup((const char *)data, len);
    cleanup_free char *path = nul ? sa_strndup((const char *)nul + 1, n - len - 1) : sa_strdup("a/b");
    size_t path_len = strlen(path);
    const char *slash = strrchr(path, '/');
    size_t name = slash ? (size_t)(slash - path) + 1 : 0;
    struct fs_globs lines = {0}, asked = {0};
    fs_globs_add_lines(&lines, text, len);
    bool taken = fs_globs_add(&asked, text, len, NULL) == 0;
    if (asked.n > FS_EXPANDED_MAX || (taken && asked.n == 0))
        abort();
    for (int i = 0; i < 4; i++) {
        fs_globs_decide(&lines, path, path_len, name, i & 1, i & 2);
        fs_globs_decide(&asked, path, path_len, name, i & 1, i & 2);
    }
    check_plain(text, len);
    fs_globs_fini(&lines);
    fs_globs_fini(&asked);
    return 0;
}
