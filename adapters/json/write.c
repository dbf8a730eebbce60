/* The writer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/json/json_internal.h"

struct json_writer json_writer(struct sa_buf *out)
{
    return (struct json_writer){.out = out};
}

/* Before each value and key. */
static void begin(struct json_writer *w)
{
    if (w->comma)
        sa_buf_add(w->out, ",", 1);
    w->comma = true;
}

static void open_container(struct json_writer *w, const char *bracket)
{
    begin(w);
    sa_buf_add(w->out, bracket, 1);
    w->comma = false;
}

static void close_container(struct json_writer *w, const char *bracket)
{
    sa_buf_add(w->out, bracket, 1);
    w->comma = true;
}

void json_begin_object(struct json_writer *w)
{
    open_container(w, "{");
}

void json_end_object(struct json_writer *w)
{
    close_container(w, "}");
}

void json_begin_array(struct json_writer *w)
{
    open_container(w, "[");
}

void json_end_array(struct json_writer *w)
{
    close_container(w, "]");
}

static void add_escaped(struct sa_buf *out, uint8_t b)
{
    static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
    const char *known = b ? strchr(from, b) : NULL;
    if (known)
        sa_buf_addf(out, "\\%c", to[known - from]);
    else
        sa_buf_addf(out, "\\u%04x", b);
}

static void add_string(struct sa_buf *out, const char *p, size_t n)
{
    const char *end = p + n, *plain = p;
    sa_buf_add(out, "\"", 1);
    while (p < end) {
        uint8_t b = (uint8_t)*p;
        size_t len = json_utf8_length(p, end);
        if (len && b >= 0x20 && b != '"' && b != '\\') {
            p += len;
            continue;
        }
        sa_buf_add(out, plain, (size_t)(p - plain));
        if (len)
            add_escaped(out, b);
        else
            sa_buf_add(out, "\xef\xbf\xbd", 3);
        plain = ++p;
    }
    sa_buf_add(out, plain, (size_t)(p - plain));
    sa_buf_add(out, "\"", 1);
}

void json_key(struct json_writer *w, const char *key)
{
    begin(w);
    add_string(w->out, key, strlen(key));
    sa_buf_add(w->out, ":", 1);
    w->comma = false;
}

void json_put_string(struct json_writer *w, const char *s)
{
    if (s)
        json_put_bytes(w, s, strlen(s));
    else
        json_put_null(w);
}

void json_put_bytes(struct json_writer *w, const void *p, size_t n)
{
    begin(w);
    add_string(w->out, p, n);
}

void json_put_int(struct json_writer *w, int64_t v)
{
    begin(w);
    sa_buf_addf(w->out, "%lld", (long long)v);
}

void json_put_uint(struct json_writer *w, uint64_t v)
{
    begin(w);
    sa_buf_addf(w->out, "%llu", (unsigned long long)v);
}

void json_put_double(struct json_writer *w, double v)
{
    char text[40];
    if (!isfinite(v)) {
        json_put_null(w);
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, v);
        if (strtod(text, NULL) == v)
            break;
    }
    json_put_raw(w, json_of(text));
}

void json_put_bool(struct json_writer *w, bool v)
{
    json_put_raw(w, json_of(v ? "true" : "false"));
}

void json_put_null(struct json_writer *w)
{
    json_put_raw(w, json_of("null"));
}

void json_put_raw(struct json_writer *w, struct json v)
{
    begin(w);
    if (v.n)
        sa_buf_add(w->out, v.p, v.n);
    else
        sa_buf_add(w->out, "null", 4);
}
