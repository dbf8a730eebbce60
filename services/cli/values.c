#include "services/cli/values.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* A whole number and a unit; NULL-terminated units, the first for "". false: it is none, or more than max. */
static bool read_number(const char *text, const struct unit *units, uint64_t max, uint64_t *ret)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    for (; units->name && !errno; units++)
        if (!strcasecmp(end, units->name)) {
            if (n > max / units->factor)
                return false;
            *ret = n * units->factor;
            return true;
        }
    return false;
}

static const struct unit durations[] = {{"", 1000},     {"ms", 1},       {"s", 1000}, {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {0}};

int value_duration(const char *what, const char *text, uint64_t max_ms, uint64_t *ret_ms, sa_error **err)
{
    if (read_number(text, durations, max_ms, ret_ms))
        return 0;
    return sa_fail(err, SA_INVALID_CONFIG,
                   "option `--%s`: `%s` is no time of at most %llu s, such as 500ms, 30s, 10m or 2h", what,
                   text, (unsigned long long)max_ms / 1000);
}

int value_size(const char *what, const char *text, uint64_t *ret_bytes, sa_error **err)
{
    static const struct unit units[] = {{"", 1},
                                        {"k", 1 << 10},
                                        {"m", 1 << 20},
                                        {"g", 1 << 30},
                                        {"kb", 1 << 10},
                                        {"mb", 1 << 20},
                                        {"gb", 1 << 30},
                                        {"kib", 1 << 10},
                                        {"mib", 1 << 20},
                                        {"gib", 1 << 30},
                                        {0}};
    if (read_number(text, units, UINT64_MAX, ret_bytes))
        return 0;
    return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: `%s` is no size, such as 4096, 64k, 512M or 2G",
                   what, text);
}

int value_thousandths(const char *what, const char *text, uint32_t *ret, sa_error **err)
{
    unsigned whole = 0, part = 0, digits = 0;
    const char *at = text;
    for (; isdigit((unsigned char)*at) && at - text < 6; at++)
        whole = whole * 10 + (unsigned)(*at - '0');
    bool good = at > text;
    if (good && *at == '.')
        for (at++; isdigit((unsigned char)*at) && digits < 3; at++, digits++)
            part = part * 10 + (unsigned)(*at - '0');
    for (; digits < 3; digits++)
        part *= 10;
    if (!good || *at)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: `%s` is no number such as 2 or 0.5", what,
                       text);
    *ret = whole * 1000 + part;
    return 0;
}

int value_signal(const char *what, const char *text, uint32_t *ret_signal, sa_error **err)
{
    static const struct unit plain[] = {{"", 1}, {0}};
    const char *name = strncasecmp(text, "SIG", 3) ? text : text + 3;
    uint64_t number = 0;
    if (!read_number(text, plain, 64, &number))
        for (int i = 1; i <= 31 && !number; i++)
            if (sigabbrev_np(i) && !strcasecmp(sigabbrev_np(i), name))
                number = (uint64_t)i;
    if (!number)
        return sa_fail(err, SA_INVALID_CONFIG, "option `--%s`: there is no signal `%s`", what, text);
    *ret_signal = (uint32_t)number;
    return 0;
}

const char *value_signal_name(uint32_t number)
{
    static char text[16];
    const char *name = number && number <= 31 ? sigabbrev_np((int)number) : NULL;
    snprintf(text, sizeof text, "%.10s", name ? name : "");
    if (!name)
        snprintf(text, sizeof text, "%u", number);
    return text;
}

/* Z, +01:00, -0530 or nothing: seconds east of Greenwich. */
static bool read_zone(const char *text, bool *ret_given, long *ret_seconds)
{
    int hours, minutes, n = 0;
    *ret_given = *text;
    *ret_seconds = 0;
    if (!*text || !strcasecmp(text, "z"))
        return true;
    if ((*text != '+' && *text != '-') || (sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 &&
                                           sscanf(text + 1, "%2d%2d%n", &hours, &minutes, &n) != 2))
        return false;
    *ret_seconds = (hours * 60 + minutes) * (*text == '-' ? -60 : 60);
    return !text[1 + n] && hours < 24 && minutes < 60;
}

static bool read_time(const char *text, int64_t *ret_us)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                                        "%Y-%m-%d %H:%M", "%Y-%m-%d"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {.tm_isdst = -1};
        int64_t us = 0, unit = 100000;
        bool zoned;
        long zone;
        const char *rest = strptime(text, forms[i], &tm);
        if (rest && *rest == '.')
            for (rest++; isdigit((unsigned char)*rest); rest++, unit /= 10)
                us += (*rest - '0') * unit;
        if (!rest || !read_zone(rest, &zoned, &zone))
            continue;
        time_t at = zoned ? timegm(&tm) - zone : mktime(&tm);
        *ret_us = (int64_t)at * 1000000 + us;
        return true;
    }
    return false;
}

int value_time(const char *what, const char *text, int64_t now_us, int64_t *ret_us, sa_error **err)
{
    uint64_t ago;
    if (read_number(text, durations, (uint64_t)now_us / 1000, &ago)) {
        *ret_us = now_us - (int64_t)ago * 1000;
        return 0;
    }
    if (read_time(text, ret_us))
        return 0;
    return sa_fail(err, SA_INVALID_CONFIG,
                   "option `--%s`: `%s` is no time, such as 10m (ago), 2026-11-25T16:47:03Z or "
                   "\"2026-11-25 16:47\"",
                   what, text);
}
