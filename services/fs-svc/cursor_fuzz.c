/* Page tokens: whatever the text, what is read names nothing above where it begins, and is written as it was
 * read. */
#include "services/fs-svc/cursor.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cleanup_free char *text = sa_strndup(n ? (const char *)data : "", n);
    struct fs_cursor c = {0};
    if (!fs_cursor_parse(text, n % FS_DEPTH_MAX + 1, &c))
        return 0;
    cleanup_buf struct sa_buf again = {0};
    fs_cursor_print(&c, &again);
    if (strcmp(sa_buf_string(&again), text) != 0)
        abort();
    for (size_t i = 0; i < c.n; i++)
        if (!*c.at[i].name || strchr(c.at[i].name, '/') || !strcmp(c.at[i].name, ".") ||
            !strcmp(c.at[i].name, ".."))
            abort();
    fs_cursor_fini(&c);
    return 0;
}
