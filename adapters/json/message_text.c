/* Base64 and RFC 3339 for messages, and how bytes of the API look. */
#include "adapters/json/message_internal.h"
#include <stdio.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void json_base64(struct sa_buf *out, const uint8_t *p, size_t n)
{
    uint8_t *to = sa_buf_reserve(out, (n + 2) / 3 * 4);
    out->len += (n + 2) / 3 * 4;
    for (; n >= 3; n -= 3, p += 3, to += 4) {
        to[0] = (uint8_t)alphabet[p[0] >> 2];
        to[1] = (uint8_t)alphabet[(p[0] & 3) << 4 | p[1] >> 4];
        to[2] = (uint8_t)alphabet[(p[1] & 15) << 2 | p[2] >> 6];
        to[3] = (uint8_t)alphabet[p[2] & 63];
    }
    if (n == 0)
        return;
    to[0] = (uint8_t)alphabet[p[0] >> 2];
    to[1] = (uint8_t)alphabet[(p[0] & 3) << 4 | (n == 2 ? p[1] >> 4 : 0)];
    to[2] = n == 2 ? (uint8_t)alphabet[(p[1] & 15) << 2] : '=';
    to[3] = '=';
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    return c == '/' || c == '_' ? 63 : -1;
}

int json_unbase64(struct sa_buf *out, const char *p, size_t n)
{
    if (n > 0 && n % 4 == 0 && p[n - 1] == '=')
        n -= p[n - 2] == '=' ? 2 : 1;
    if (n % 4 == 1)
        return -1;
    uint8_t *to = sa_buf_reserve(out, n / 4 * 3 + 3);
    size_t len = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int d = digit_of(p[i]);
        if (d < 0)
            return -1;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 == 3) {
            to[len++] = (uint8_t)(bits >> 16);
            to[len++] = (uint8_t)(bits >> 8);
            to[len++] = (uint8_t)bits;
            bits = 0;
        }
    }
    if (n % 4 == 2)
        to[len++] = (uint8_t)(bits >> 4);
    if (n % 4 == 3) {
        to[len++] = (uint8_t)(bits >> 10);
        to[len++] = (uint8_t)(bits >> 2);
    }
    out->len += len;
    return 0;
}

/* ---- time: the civil calendar, years 0001 to 9999 as protobuf has it ---- */

enum { DAY = 86400 };
static const int64_t time_min = -62135596800, time_max = 253402300799;

static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = year / 400, yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

bool json_time_print(char ret[static JSON_TIME_TEXT], int64_t seconds, int32_t nanos)
{
    if (seconds < time_min || seconds > time_max || nanos < 0 || nanos > 999999999)
        return false;
    int64_t days = seconds / DAY - (seconds % DAY < 0);
    int rest = (int)(seconds - days * DAY);
    int64_t z = days + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int doy = (int)(doe - (365 * yoe + yoe / 4 - yoe / 100)), mp = (5 * doy + 2) / 153;
    int day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    int year = (int)(yoe + era * 400 + (month <= 2));
    int n = snprintf(ret, JSON_TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d", year, month, day, rest / 3600,
                     rest / 60 % 60, rest % 60);
    size_t left = JSON_TIME_TEXT - (size_t)n;
    if (nanos % 1000000 == 0 && nanos)
        n += snprintf(ret + n, left, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0 && nanos)
        n += snprintf(ret + n, left, ".%06d", nanos / 1000);
    else if (nanos)
        n += snprintf(ret + n, left, ".%09d", nanos);
    snprintf(ret + n, JSON_TIME_TEXT - (size_t)n, "Z");
    return true;
}

/* Reads exactly `digits` digits. */
static bool number(const char **p, int digits, int *ret)
{
    int v = 0;
    for (int i = 0; i < digits; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        v = v * 10 + (**p - '0');
    }
    *ret = v;
    return true;
}

static bool literal(const char **p, char c)
{
    return **p == c && (*p)++;
}

static bool fraction(const char **p, int32_t *ret_nanos)
{
    int32_t nanos = 0, scale = 100000000;
    if (!literal(p, '.'))
        return true;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; (*p)++, scale /= 10) {
        if (scale == 0)
            return false;
        nanos += (**p - '0') * scale;
    }
    *ret_nanos = nanos;
    return true;
}

static bool zone(const char **p, int *ret_seconds)
{
    if (literal(p, 'Z'))
        return true;
    int sign = **p == '-' ? 1 : -1, hours, minutes;
    if (**p != '+' && **p != '-')
        return false;
    (*p)++;
    if (!number(p, 2, &hours) || !literal(p, ':') || !number(p, 2, &minutes) || hours > 23 || minutes > 59)
        return false;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool json_time_parse(const char *p, int64_t *ret_seconds, int32_t *ret_nanos)
{
    static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day, hour, minute, second, offset = 0;
    int32_t nanos = 0;
    if (!number(&p, 4, &year) || !literal(&p, '-') || !number(&p, 2, &month) || !literal(&p, '-') ||
        !number(&p, 2, &day) || !literal(&p, 'T') || !number(&p, 2, &hour) || !literal(&p, ':') ||
        !number(&p, 2, &minute) || !literal(&p, ':') || !number(&p, 2, &second) || !fraction(&p, &nanos) ||
        !zone(&p, &offset) || *p)
        return false;
    if (month < 1 || month > 12 || day < 1 || day > month_days[month - 1] || hour > 23 || minute > 59 ||
        second > 59)
        return false;
    if (month == 2 && day == 29 && (year % 4 || (year % 100 == 0 && year % 400)))
        return false;
    int64_t t = days_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second + offset;
    if (t < time_min || t > time_max)
        return false;
    *ret_seconds = t;
    *ret_nanos = nanos;
    return true;
}

enum json_bytes json_bytes_by_name(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f)
{
    static const char *const text[] = {"cwd",     "path",      "name",      "value", "argv",
                                       "env",     "to_path",   "target",    "home",  "link_target",
                                       "command", "directory", "unreadable"};
    (void)d;
    if (strcmp(f->name, "agent_json") == 0 || strcmp(f->name, "json") == 0)
        return JSON_BYTES_JSON;
    for (size_t i = 0; i < sizeof(text) / sizeof(*text); i++)
        if (strcmp(f->name, text[i]) == 0)
            return JSON_BYTES_TEXT;
    return JSON_BYTES_BASE64;
}
