/* The strict check: one pass, no recursion, no allocation. Everything else in this adapter trusts what passed
 * here. */
#include <string.h>

#include "adapters/json/json_internal.h"

struct check {
    const char *start, *at, *end;
    const char *problem; /* NULL while all is well */
};

static bool wrong(struct check *c, const char *problem)
{
    if (!c->problem)
        c->problem = problem;
    return false;
}

static bool is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

size_t json_utf8_length(const char *p, const char *end)
{
    const uint8_t *b = (const uint8_t *)p;
    size_t left = (size_t)(end - p);
    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    size_t n = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (left < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    }
    /* overlong forms, surrogates, beyond U+10FFFF */
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) || (b[0] == 0xf0 && b[1] < 0x90) ||
        (b[0] == 0xf4 && b[1] > 0x8f))
        return 0;
    return n;
}

/* Eight bytes that need no look: printable ASCII without quote and backslash. */
static bool plain8(const char *p)
{
    const uint64_t ones = 0x0101010101010101, high = ones << 7;
    uint64_t w;
    memcpy(&w, p, sizeof w);
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    uint64_t found = w | (w - ones * 0x20) | (quote - ones) | (slash - ones);
    return !(found & high);
}

static bool check_escape(struct check *c)
{
    if (c->end - c->at < 2)
        return wrong(c, "string does not end");
    char kind = c->at[1];
    if (kind == 'u') {
        if (c->end - c->at < 6)
            return wrong(c, "string does not end");
        for (int i = 2; i < 6; i++) {
            char h = c->at[i];
            if (!is_digit(h) && !(h >= 'a' && h <= 'f') && !(h >= 'A' && h <= 'F'))
                return wrong(c, "bad \\u escape");
        }
        c->at += 6;
        return true;
    }
    if (!kind || !strchr("\"\\/bfnrt", kind))
        return wrong(c, "bad escape");
    c->at += 2;
    return true;
}

static bool check_string(struct check *c)
{
    if (c->at >= c->end || *c->at != '"')
        return wrong(c, "string expected");
    c->at++;
    for (;;) {
        while (c->end - c->at >= 8 && plain8(c->at))
            c->at += 8;
        if (c->at >= c->end)
            return wrong(c, "string does not end");
        uint8_t b = (uint8_t)*c->at;
        if (b == '"') {
            c->at++;
            return true;
        }
        if (b == '\\') {
            if (!check_escape(c))
                return false;
        } else if (b < 0x20) {
            return wrong(c, "control character in a string");
        } else {
            size_t n = json_utf8_length(c->at, c->end);
            if (!n)
                return wrong(c, "not UTF-8");
            c->at += n;
        }
    }
}

static bool check_digits(struct check *c)
{
    if (c->at >= c->end || !is_digit(*c->at))
        return wrong(c, "bad number");
    while (c->at < c->end && is_digit(*c->at))
        c->at++;
    return true;
}

static bool check_number(struct check *c)
{
    if (*c->at == '-')
        c->at++;
    if (c->at < c->end && *c->at == '0')
        c->at++;
    else if (!check_digits(c))
        return false;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!check_digits(c))
            return false;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        if (!check_digits(c))
            return false;
    }
    return true;
}

static bool check_word(struct check *c, const char *word, size_t n)
{
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0)
        return wrong(c, "value expected");
    c->at += n;
    return true;
}

static bool check_scalar(struct check *c)
{
    switch (*c->at) {
    case '"':
        return check_string(c);
    case 't':
        return check_word(c, "true", 4);
    case 'f':
        return check_word(c, "false", 5);
    case 'n':
        return check_word(c, "null", 4);
    default:
        return *c->at == '-' || is_digit(*c->at) ? check_number(c) : wrong(c, "value expected");
    }
}

static void skip_blanks(struct check *c)
{
    c->at = json_skip_blanks(c->at, c->end);
}

static bool check_key(struct check *c)
{
    if (c->at >= c->end || *c->at != '"')
        return wrong(c, "key expected");
    if (!check_string(c))
        return false;
    skip_blanks(c);
    if (c->at >= c->end || *c->at != ':')
        return wrong(c, "\":\" expected");
    c->at++;
    skip_blanks(c);
    return true;
}

/* One value. `open` holds the bracket that closes each open container. */
static bool check_value(struct check *c)
{
    char open[JSON_DEPTH_MAX];
    size_t depth = 0;
    for (;;) {
        /* a value begins here */
        if (c->at >= c->end)
            return wrong(c, "value expected");
        if (*c->at == '{' || *c->at == '[') {
            if (depth == JSON_DEPTH_MAX)
                return wrong(c, "nested too deeply");
            open[depth++] = *c->at++ == '{' ? '}' : ']';
            skip_blanks(c);
            bool empty = c->at < c->end && *c->at == open[depth - 1];
            if (!empty && open[depth - 1] == '}' && !check_key(c))
                return false;
            if (!empty)
                continue;
        } else if (!check_scalar(c)) {
            return false;
        }
        /* a value has ended, or an empty container is about to: close what ends here */
        for (;;) {
            if (!depth)
                return true;
            skip_blanks(c);
            if (c->at >= c->end || *c->at != open[depth - 1])
                break;
            c->at++;
            depth--;
        }
        if (c->at >= c->end || *c->at != ',')
            return wrong(c, c->at >= c->end ? "text ends too early" : "\",\" or closing bracket expected");
        c->at++;
        skip_blanks(c);
        if (open[depth - 1] == '}' && !check_key(c))
            return false;
    }
}

int json_check(const void *p, size_t n, struct json *ret, sa_error **err)
{
    struct check c = {.start = p, .at = p, .end = (const char *)p + n};
    skip_blanks(&c);
    const char *value = c.at;
    if (check_value(&c)) {
        size_t value_len = (size_t)(c.at - value);
        skip_blanks(&c);
        if (c.at == c.end) {
            *ret = (struct json){value, value_len};
            return 0;
        }
        wrong(&c, "text after the value");
    }
    return sa_fail(err, SA_MALFORMED_MESSAGE, "JSON: byte %zu: %s", (size_t)(c.at - c.start), c.problem);
}
