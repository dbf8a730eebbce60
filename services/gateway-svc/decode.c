/* Percent-decoding: apart from http.c so that it can be fuzzed alone. */
#include <string.h>

#include "services/gateway-svc/http.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Length of the UTF-8 character at p, 0 if it is none. No overlong forms, no surrogates. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    static const struct {
        uint8_t lead_min, lead_max, second_min, second_max, length;
    } forms[] = {
        {0x01, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        if (p[0] < forms[i].lead_min || p[0] > forms[i].lead_max)
            continue;
        size_t length = forms[i].length;
        if (length > n || (length > 1 && (p[1] < forms[i].second_min || p[1] > forms[i].second_max)))
            return 0;
        for (size_t k = 2; k < length; k++)
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        return length;
    }
    return 0;
}

bool http_is_utf8(const void *p, size_t n)
{
    for (size_t i = 0, k; i < n; i += k)
        if ((k = utf8_length((const uint8_t *)p + i, n - i)) == 0)
            return false;
    return true;
}

char *http_decode(struct sa_arena *a, const char *p, size_t n)
{
    char *out = sa_arena_alloc(a, n + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != '%') {
            out[len++] = p[i];
            continue;
        }
        if (n - i < 3 || hex(p[i + 1]) < 0 || hex(p[i + 2]) < 0)
            return NULL;
        out[len++] = (char)(hex(p[i + 1]) * 16 + hex(p[i + 2]));
        i += 2;
    }
    return http_is_utf8(out, len) ? out : NULL;
}
