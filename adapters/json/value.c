/* What a raw value means: strings, numbers, booleans. */
#include <stdlib.h>
#include <string.h>

#include "adapters/json/json_internal.h"

/* ---- strings ---- */

enum { REPLACEMENT = 0xfffd };

static size_t encode(uint32_t ch, char out[4])
{
    if (ch < 0x80) {
        out[0] = (char)ch;
        return 1;
    }
    size_t n = ch < 0x800 ? 2 : ch < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; ch >>= 6)
        out[i] = (char)(0x80 | (ch & 0x3f));
    out[0] = (char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | ch);
    return n;
}

/* The number of "\uXXXX" at p; -1: there is none. */
static int32_t unit(const char *p, const char *end)
{
    int32_t v = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        char c = p[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        v = v * 16 + digit;
    }
    return v;
}

/* Decodes the escape at *p, writes at most 4 bytes and never more than it took. */
static size_t decode_escape(const char **p, const char *end, char out[4], bool *bad)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *s = *p;
    if (end - s < 2) {
        *p = end;
        *bad = true;
        return 0;
    }
    int32_t high = unit(s, end);
    if (high < 0) {
        const char *known = s[1] ? strchr(from, s[1]) : NULL;
        out[0] = known ? to[known - from] : s[1];
        *p += 2;
        return 1;
    }
    *p += 6;
    uint32_t ch = (uint32_t)high;
    if (high >= 0xd800 && high <= 0xdbff) {
        int32_t low = unit(*p, end);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *p += 6;
            return encode(0x10000 + ((ch - 0xd800) << 10) + ((uint32_t)low - 0xdc00), out);
        }
    }
    if (!ch || (ch >= 0xd800 && ch <= 0xdfff)) {
        *bad = true;
        ch = REPLACEMENT;
    }
    return encode(ch, out);
}

/* Writes at most v.n bytes. */
static size_t decode(struct json v, char *out, bool *bad)
{
    const char *p = v.p + 1, *end = v.p + v.n - 1;
    size_t n = 0;
    while (p < end) {
        const char *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash ? slash : end) - p);
        memcpy(out + n, p, plain);
        n += plain;
        p += plain;
        if (slash)
            n += decode_escape(&p, end, out + n, bad);
    }
    return n;
}

static bool is_string(struct json v)
{
    return v.n >= 2 && v.p[0] == '"';
}

bool json_text_is(struct json raw, const char *text, size_t n)
{
    if (!is_string(raw) || raw.n - 2 < n)
        return false;
    const char *p = raw.p + 1, *end = raw.p + raw.n - 1;
    if (!memchr(p, '\\', raw.n - 2))
        return raw.n - 2 == n && !memcmp(p, text, n);
    bool bad = false;
    size_t at = 0;
    while (p < end) {
        char c[4] = {*p};
        size_t len = *p == '\\' ? decode_escape(&p, end, c, &bad) : (p++, 1);
        if (bad || len > n - at || memcmp(text + at, c, len) != 0)
            return false;
        at += len;
    }
    return at == n;
}

bool json_is(struct json v, const char *text)
{
    return json_text_is(v, text, strlen(text));
}

int json_decode(struct json v, enum json_invalid invalid, struct sa_buf *ret, sa_error **err)
{
    if (!is_string(v))
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON: a string was expected");
    bool bad = false;
    char *out = (char *)sa_buf_reserve(ret, v.n);
    size_t n = decode(v, out, &bad);
    if (bad && invalid == JSON_REFUSE)
        return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON: a string holds \\u0000 or half a surrogate pair");
    ret->len += n;
    return 0;
}

char *json_string(struct json v)
{
    if (!is_string(v))
        return NULL;
    bool bad = false;
    char *s = sa_malloc(v.n + 1);
    s[decode(v, s, &bad)] = 0;
    return s;
}

char *json_arena_string(struct sa_arena *a, struct json v)
{
    if (!is_string(v))
        return sa_arena_strdup(a, NULL);
    bool bad = false;
    char *s = sa_arena_alloc(a, v.n + 1);
    s[decode(v, s, &bad)] = 0;
    return s;
}

/* ---- numbers ---- */

static bool times10(uint64_t *v, uint64_t times)
{
    for (; times; times--) {
        if (__builtin_mul_overflow(*v, 10, v))
            return false;
    }
    return true;
}

/* The exponent after "e"; clamped, since nothing beyond a few thousand digits matters. */
static int64_t exponent(const char *p, const char *end)
{
    bool negative = p < end && *p == '-';
    int64_t e = 0;
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        e = e < 1 << 30 ? e * 10 + (*p - '0') : e;
    return negative ? -e : e;
}

/* Exact: |value| of a number that is an integer, however it is written. */
static bool magnitude(struct json v, bool *negative, uint64_t *ret)
{
    if (json_type(v) != JSON_NUMBER)
        return false;
    const char *p = v.p, *end = v.p + v.n;
    *negative = *p == '-';
    p += *negative;
    uint64_t m = 0, zeros = 0; /* zeros: not multiplied in yet, they may all be fraction */
    int64_t scale = 0;
    bool fraction = false;
    if (p >= end || *p < '0' || *p > '9')
        return false;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (*p < '0' || *p > '9')
            return false;
        scale -= fraction;
        if (*p == '0') {
            zeros += m != 0;
            continue;
        }
        if (!times10(&m, zeros + 1) || __builtin_add_overflow(m, (uint64_t)(*p - '0'), &m))
            return false;
        zeros = 0;
    }
    if (p < end)
        scale += exponent(p + 1, end);
    scale += (int64_t)zeros;
    if (m && (scale < 0 || scale > 20 || !times10(&m, (uint64_t)scale)))
        return false;
    *ret = m;
    return true;
}

bool json_int(struct json v, int64_t *ret)
{
    bool negative;
    uint64_t m;
    if (!magnitude(v, &negative, &m) || m > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = negative ? (int64_t)(0 - m) : (int64_t)m;
    return true;
}

bool json_uint(struct json v, uint64_t *ret)
{
    bool negative;
    uint64_t m;
    if (!magnitude(v, &negative, &m) || (negative && m))
        return false;
    *ret = m;
    return true;
}

bool json_double(struct json v, double *ret)
{
    if (json_type(v) != JSON_NUMBER || !(v.p[0] == '-' || (v.p[0] >= '0' && v.p[0] <= '9')))
        return false;
    cleanup_free char *text = sa_strndup(v.p, v.n);
    *ret = strtod(text, NULL);
    return true;
}

bool json_bool(struct json v, bool *ret)
{
    if (json_type(v) != JSON_BOOL)
        return false;
    *ret = v.p[0] == 't';
    return true;
}

bool json_true(struct json v)
{
    bool b = false;
    return json_bool(v, &b) && b;
}
