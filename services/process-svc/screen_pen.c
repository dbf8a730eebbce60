/* Colours and attributes: the sequence SGR, read and written. */
#include <string.h>

#include "services/process-svc/screen_private.h"

enum { PARAMETER_MAX = 9999 };

void parameters_read(struct parameters *p, const char *text, size_t n)
{
    *p = (struct parameters){.value = {-1}, .n = 1};
    for (size_t i = 0; i < n; i++) {
        int *value = &p->value[p->n - 1];
        if (text[i] >= '0' && text[i] <= '9') {
            *value = (*value < 0 ? 0 : *value) * 10 + (text[i] - '0');
            *value = *value < PARAMETER_MAX ? *value : PARAMETER_MAX;
        } else if (text[i] == ';' || text[i] == ':') {
            if (p->n == PARAMETERS_MAX)
                return;
            p->sub[p->n] = text[i] == ':';
            p->value[p->n++] = -1;
        }
    }
}

int parameter(const struct parameters *p, int i, int other)
{
    return i < p->n && p->value[i] >= 0 ? p->value[i] : other;
}

/* ---- reading ---- */

static uint32_t rgb(const struct parameters *p, int i)
{
    return COLOUR_RGB | (uint32_t)(parameter(p, i, 0) & 255) << 16 |
           (uint32_t)(parameter(p, i + 1, 0) & 255) << 8 | (uint32_t)(parameter(p, i + 2, 0) & 255);
}

/* 38 and the like at i: 5, index; 2, red, green, blue; with colons there may be a colour space before red.
 * Returns how many parameters follow. colour NULL: only that. */
static int extended_colour(const struct parameters *p, int i, uint32_t *colour)
{
    int subs = 0, kind = parameter(p, i + 1, 0);
    while (i + 1 + subs < p->n && p->sub[i + 1 + subs])
        subs++;
    int n = subs ? subs : kind == 5 ? 2 : kind == 2 ? 4 : 1;
    if (i + n >= p->n)
        return p->n - 1 - i;
    if (colour && kind == 5 && n >= 2)
        *colour = COLOUR_INDEX | (uint32_t)(parameter(p, i + 2, 0) & 255);
    else if (colour && kind == 2 && n >= 4)
        *colour = rgb(p, i + n - 2);
    return n;
}

static void set_underline(struct pen *pen, int style)
{
    pen->attributes &= (uint16_t)~ATTR_UNDERLINE;
    pen->attributes |= (uint16_t)((style <= 5 ? style : 1) << ATTR_UNDERLINE_SHIFT);
}

static const struct {
    int on, off;
    enum attribute bit;
} attributes[] = {
    {1, 22, ATTR_BOLD},    {2, 22, ATTR_FAINT},   {3, 23, ATTR_ITALIC}, {5, 25, ATTR_BLINK},
    {7, 27, ATTR_REVERSE}, {8, 28, ATTR_CONCEAL}, {9, 29, ATTR_STRIKE}, {53, 55, ATTR_OVERLINE},
};

static void apply_attribute(struct pen *pen, int v)
{
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        if (v == attributes[i].on)
            pen->attributes |= (uint16_t)attributes[i].bit;
        if (v == attributes[i].off)
            pen->attributes &= (uint16_t)~attributes[i].bit;
    }
}

static void apply_colour(struct pen *pen, int v)
{
    if (v >= 30 && v <= 37)
        pen->fg = COLOUR_INDEX | (uint32_t)(v - 30);
    else if (v >= 90 && v <= 97)
        pen->fg = COLOUR_INDEX | (uint32_t)(v - 90 + 8);
    else if (v >= 40 && v <= 47)
        pen->bg = COLOUR_INDEX | (uint32_t)(v - 40);
    else if (v >= 100 && v <= 107)
        pen->bg = COLOUR_INDEX | (uint32_t)(v - 100 + 8);
    else if (v == 39)
        pen->fg = 0;
    else if (v == 49)
        pen->bg = 0;
}

void pen_apply(struct pen *pen, const struct parameters *p)
{
    for (int i = 0; i < p->n; i++) {
        int v = parameter(p, i, 0);
        bool has_sub = i + 1 < p->n && p->sub[i + 1];
        if (v == 38)
            i += extended_colour(p, i, &pen->fg);
        else if (v == 48)
            i += extended_colour(p, i, &pen->bg);
        else if (v == 58)
            i += extended_colour(p, i, NULL); /* of the underline: not kept */
        else if (v == 0)
            *pen = (struct pen){0};
        else if (v == 4)
            set_underline(pen, has_sub ? parameter(p, i + 1, 1) : 1);
        else if (v == 21 || v == 24)
            set_underline(pen, v == 21 ? 2 : 0);
        else
            apply_attribute(pen, v), apply_colour(pen, v);
        while (i + 1 < p->n && p->sub[i + 1])
            i++;
    }
}

/* ---- writing ---- */

static void render_colour(uint32_t colour, int base, struct sa_buf *ret)
{
    uint32_t v = colour & 0xffffff;
    if (colour & COLOUR_RGB)
        sa_buf_addf(ret, ";%d;2;%u;%u;%u", base + 8, v >> 16, v >> 8 & 255, v & 255);
    else if (colour && v < 8)
        sa_buf_addf(ret, ";%u", (unsigned)base + v);
    else if (colour && v < 16)
        sa_buf_addf(ret, ";%u", (unsigned)base + 60 + v - 8);
    else if (colour)
        sa_buf_addf(ret, ";%d;5;%u", base + 8, v);
}

void pen_render(const struct pen *pen, struct sa_buf *ret)
{
    int underline = (pen->attributes & ATTR_UNDERLINE) >> ATTR_UNDERLINE_SHIFT;
    sa_buf_addf(ret, "\033[0");
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (pen->attributes & attributes[i].bit)
            sa_buf_addf(ret, ";%d", attributes[i].on);
    if (underline)
        sa_buf_addf(ret, underline == 1 ? ";4" : underline == 2 ? ";21" : ";4:%d", underline);
    render_colour(pen->fg, 30, ret);
    render_colour(pen->bg, 40, ret);
    sa_buf_add(ret, "m", 1);
}

bool pen_equal(const struct pen *a, const struct pen *b)
{
    return a->fg == b->fg && a->bg == b->bg && !((a->attributes ^ b->attributes) & ~ATTR_WIDE);
}
