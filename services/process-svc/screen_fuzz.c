/* Whatever a program writes, however the terminal's size changes: nothing breaks, and what is rendered brings
 * another screen to the same state. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "services/process-svc/screen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RESIZE = 0xff, SKIP = 0xfe, LINES = 20 };

static void check_same(const struct screen *s, bool scrollback)
{
    cleanup_buf struct sa_buf full = {0}, first = {0}, second = {0};
    unsigned rows, columns;
    screen_size(s, &rows, &columns);
    screen_render(s, scrollback, &full);
    screen_render(s, false, &first);
    if (full.len > SCREEN_RENDERED_BYTES)
        abort();
    struct screen *other = screen_new(rows, columns, LINES);
    screen_feed(other, full.data, full.len);
    screen_render(other, false, &second);
    /* In one column libvterm sees two. */
    if (columns > 1 && (first.len != second.len || memcmp(first.data, second.data, first.len) != 0))
        abort();
    screen_free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct screen *s = screen_new(1 + data[0] % 30u, 1 + data[1] % 50u, LINES);
    for (size_t at = 2; at < size;) {
        uint8_t op = data[at++];
        size_t n = op < size - at ? op : size - at;
        if (op == RESIZE && n >= 2) {
            screen_resize(s, 1 + data[at] % 30u, 1 + data[at + 1] % 50u);
            n = 2;
        } else if (op == SKIP) {
            screen_skip(s);
            n = 0;
        } else {
            screen_feed(s, data + at, n);
        }
        at += n;
    }
    cleanup_buf struct sa_buf text = {0};
    screen_text(s, &text);
    check_same(s, false);
    check_same(s, true);
    screen_free(s);
    return 0;
}
