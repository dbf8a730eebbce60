#include "services/fs-svc/cursor.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { KEY = 8, BYTES_MAX = FS_DEPTH_MAX * (KEY + NAME_MAX + 1) };

void fs_cursor_fini(struct fs_cursor *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->at[i].name);
    *c = (struct fs_cursor){0};
}

void fs_cursor_print(const struct fs_cursor *c, struct sa_buf *ret)
{
    for (size_t i = 0; i < c->n; i++) {
        sa_buf_addf(ret, "%016llx", (unsigned long long)c->at[i].key);
        for (const char *at = c->at[i].name; *at; at++)
            sa_buf_addf(ret, "%02x", (uint8_t)*at);
        sa_buf_addf(ret, "00");
    }
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The bytes of hexadecimal text. false: it is none. */
static bool read_bytes(const char *text, struct sa_buf *ret)
{
    for (; *text; text += 2) {
        int high = hex(text[0]), low = high < 0 ? -1 : hex(text[1]);
        if (low < 0 || ret->len == BYTES_MAX)
            return false;
        uint8_t byte = (uint8_t)(high << 4 | low);
        sa_buf_add(ret, &byte, 1);
    }
    return true;
}

static bool good_name(const char *name)
{
    return *name && strlen(name) <= NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static uint64_t read_key(const uint8_t *p)
{
    uint64_t key = 0;
    for (int i = 0; i < KEY; i++)
        key = key << 8 | p[i];
    return key;
}

static bool read_parts(const struct sa_buf *b, size_t depth, struct fs_cursor *ret)
{
    for (size_t at = 0; at < b->len;) {
        if (b->len - at <= KEY)
            return false;
        const uint8_t *name = b->data + at + KEY, *end = memchr(name, 0, b->len - at - KEY);
        if (!end || ret->n == depth || !good_name((const char *)name))
            return false;
        ret->at[ret->n++] = (struct fs_position){read_key(b->data + at), sa_strdup((const char *)name)};
        at = (size_t)(end + 1 - b->data);
    }
    return ret->n > 0;
}

bool fs_cursor_parse(const char *text, size_t depth, struct fs_cursor *ret)
{
    cleanup_buf struct sa_buf bytes = {0};
    struct fs_cursor c = {0};
    if (!read_bytes(text, &bytes) || !read_parts(&bytes, depth, &c)) {
        fs_cursor_fini(&c);
        return false;
    }
    *ret = c;
    return true;
}
