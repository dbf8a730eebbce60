/* Bytes to characters and sequences: what a terminal's parser does, and where hostile bytes end. */
#include <string.h>

#include "services/process-svc/screen_private.h"

enum { MARKS_FROM = 0x300 /* no character before combines */ };

static void begin(struct screen *s, enum parser_state state)
{
    s->state = state;
    s->n_sequence = 0;
    s->string_escape = false;
}

static void keep(struct screen *s, char c)
{
    if (s->n_sequence < SEQUENCE_MAX)
        s->sequence[s->n_sequence++] = c;
}

static void begin_escape(struct screen *s)
{
    begin(s, ESCAPE);
    keep(s, '\033');
}

static void read_escape(struct screen *s, char c)
{
    keep(s, c);
    if (s->n_sequence == 2 && c == '[') {
        s->state = CONTROL_SEQUENCE;
    } else if (s->n_sequence == 2 && strchr("]PX^_", c)) {
        s->string_kind = c;
        begin(s, STRING);
    } else if ((uint8_t)c < 0x20 || (uint8_t)c > 0x2f) {
        s->state = GROUND;
        screen_escape(s);
    }
}

static void read_control_sequence(struct screen *s, char c)
{
    keep(s, c);
    if ((uint8_t)c < 0x40)
        return;
    s->state = GROUND;
    if (s->n_sequence < SEQUENCE_MAX && (uint8_t)c < 0x7f)
        screen_control_sequence(s);
}

static void read_byte(struct screen *s, char c);

static void read_string(struct screen *s, char c)
{
    bool escaped = s->string_escape;
    s->string_escape = false;
    if ((escaped && c == '\\') || (c == '\a' && s->string_kind == ']')) {
        s->state = GROUND;
        screen_string(s);
    } else if (escaped) { /* another sequence: the string was broken off */
        begin_escape(s);
        read_byte(s, c);
    } else if (c == '\033') {
        s->string_escape = true;
    } else {
        keep(s, c);
    }
}

/* A byte that belongs to a sequence. */
static void read_byte(struct screen *s, char c)
{
    if (c == 030 || c == 032) /* CAN, SUB */
        begin(s, GROUND);
    else if (s->state == STRING)
        read_string(s, c);
    else if (c == '\033')
        begin_escape(s);
    else if ((uint8_t)c < 0x20)
        screen_control(s, c); /* at once, within the sequence */
    else if (c == 0x7f)
        return;
    else if (s->state == ESCAPE)
        read_escape(s, c);
    else
        read_control_sequence(s, c);
}

/* Length of the character at p; 0: it is not complete; -1: it is none. */
static int utf8_read(const char *p, size_t n, uint32_t *ret_c)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = (uint8_t)p[0];
    int length = lead < 0x80 ? 1 : lead >= 0xc2 && lead < 0xe0 ? 2 : lead >= 0xe0 && lead < 0xf0 ? 3 : 4;
    uint32_t c = length == 1 ? lead : lead & (0xff >> (length + 1));
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4)
        return -1;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n)
            return 0;
        if (((uint8_t)p[i] & 0xc0) != 0x80)
            return -1;
        c = c << 6 | ((uint8_t)p[i] & 0x3f);
    }
    if (length > 1 && (c < smallest[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)))
        return -1;
    *ret_c = c;
    return length;
}

/* Is this a character to be shown? Those of 0x80 to 0x9f would be controls. */
static bool is_shown(struct screen *s, uint32_t c)
{
    if (c < MARKS_FROM)
        s->marks_full = false;
    return c >= 0xa0 ? !s->marks_full : c >= 0x20 && c < 0x7f;
}

/* Text up to the next control, or what is not text; returns where it ends. */
static const char *read_text(struct screen *s, const char *p, const char *end)
{
    const char *run = p, *last = p;
    while (p < end && (uint8_t)*p >= 0x20 && p - run < SCREEN_RUN_MAX) {
        uint32_t c;
        int length = (uint8_t)*p < 0x80 ? 1 : utf8_read(p, (size_t)(end - p), &c);
        if (length == 1)
            c = (uint8_t)*p;
        if (length <= 0 || !is_shown(s, c))
            break;
        last = p;
        p += length;
    }
    if (p > run) {
        s->n_last = (size_t)(p - last);
        memcpy(s->last, last, s->n_last);
        screen_run(s, run, (size_t)(p - run));
    }
    return p;
}

/* What read_text has left: a control, a piece of a character, none, or one that is not shown. */
static const char *read_other(struct screen *s, const char *p, const char *end)
{
    uint32_t c;
    if (*p == '\033') {
        begin_escape(s);
        return p + 1;
    }
    if ((uint8_t)*p < 0x20 || *p == 0x7f) {
        screen_control(s, *p);
        return p + 1;
    }
    int length = utf8_read(p, (size_t)(end - p), &c);
    if (length > 0)
        return p + length;
    if (length < 0) {
        screen_run(s, "\xef\xbf\xbd", 3);
        return p + 1;
    }
    begin(s, CHARACTER);
    while (p < end)
        keep(s, *p++);
    return p;
}

/* Goes on with a character that was cut. */
static const char *read_character(struct screen *s, const char *p)
{
    uint32_t c;
    char bytes[SEQUENCE_MAX];
    size_t n = s->n_sequence;
    if (((uint8_t)*p & 0xc0) == 0x80) {
        keep(s, *p++);
        n++;
        if (utf8_read(s->sequence, n, &c) == 0)
            return p;
    }
    memcpy(bytes, s->sequence, n);
    s->state = GROUND;
    if (utf8_read(bytes, n, &c) <= 0)
        screen_run(s, "\xef\xbf\xbd", 3);
    else
        read_text(s, bytes, bytes + n);
    return p;
}

void screen_feed(struct screen *s, const void *bytes, size_t n)
{
    const char *p = bytes, *end = p + n;
    while (p < end) {
        if (s->state == CHARACTER) {
            p = read_character(s, p);
        } else if (s->state != GROUND) {
            read_byte(s, *p++);
        } else {
            const char *text_end = read_text(s, p, end);
            p = text_end > p ? text_end : read_other(s, p, end);
        }
    }
}
