#include "services/fs-svc/glob.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

/* ---- one name ---- */

static int fold(unsigned char c, bool ignore_case)
{
    return ignore_case && c < 128 ? tolower(c) : c;
}

static bool in_class(const char *name, size_t n, unsigned char c, bool ignore_case)
{
    static const struct {
        const char *name;
        int (*is)(int c);
    } classes[] = {{"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
                   {"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
                   {"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit}};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == n && !memcmp(classes[i].name, name, n))
            return c < 128 && (classes[i].is(c) || (ignore_case && islower(c) && classes[i].is(toupper(c))));
    return false;
}

static bool in_range(int from, int to, unsigned char c, bool ignore_case)
{
    return (c >= from && c <= to) ||
           (ignore_case && c < 128 &&
            ((tolower(c) >= from && tolower(c) <= to) || (toupper(c) >= from && toupper(c) <= to)));
}

/* A set in brackets, p behind the '['. Where it ends, or NULL: it does not. */
static const char *set_fits(const char *p, unsigned char c, bool ignore_case, bool *ret_fits)
{
    bool negated = *p == '!' || *p == '^', fits = false;
    p += negated;
    for (bool first = true; first || *p != ']'; first = false) {
        const char *end;
        if (p[0] == '[' && p[1] == ':' && (end = strchr(p + 2, ']')) && end[-1] == ':' && end > p + 2) {
            fits |= in_class(p + 2, (size_t)(end - 1 - (p + 2)), c, ignore_case);
            p = end + 1;
            continue;
        }
        p += *p == '\\';
        if (!*p)
            return NULL;
        unsigned char from = (unsigned char)*p++, to = from;
        if (p[0] == '-' && p[1] && p[1] != ']') {
            p++;
            p += *p == '\\';
            if (!*p)
                return NULL;
            to = (unsigned char)*p++;
        }
        fits |= in_range(from, to, c, ignore_case);
    }
    *ret_fits = fits != negated;
    return p + 1;
}

/* One element of a pattern other than `*` against a byte. Where the next one is, or NULL: it does not fit. */
static const char *element_fits(const char *p, unsigned char c, bool ignore_case)
{
    bool fits = false;
    switch (*p) {
    case 0:
        return NULL;
    case '?':
        return p + 1;
    case '[':
        p = set_fits(p + 1, c, ignore_case, &fits);
        return fits ? p : NULL;
    case '\\':
        p++;
        /* fall through */
    default:
        return *p && fold((unsigned char)*p, ignore_case) == fold(c, ignore_case) ? p + 1 : NULL;
    }
}

/* Only the last `*` is ever tried again: an earlier one has nothing to gain. */
static bool name_fits(const char *p, const char *name, size_t n, bool ignore_case)
{
    const char *star = NULL;
    size_t at = 0, again = 0;
    while (at < n) {
        const char *next = *p == '*' ? NULL : element_fits(p, (unsigned char)name[at], ignore_case);
        if (*p == '*') {
            star = ++p;
            again = at;
        } else if (next) {
            p = next;
            at++;
        } else if (star) {
            p = star;
            at = ++again;
        } else {
            return false;
        }
    }
    while (*p == '*')
        p++;
    return !*p;
}

/* ---- a path ---- */

static const char *next_part(const char *part)
{
    return part + strlen(part) + 1;
}

static bool is_any(const char *part)
{
    return !strcmp(part, "**");
}

static size_t part_end(const char *path, size_t n, size_t at)
{
    const char *slash = memchr(path + at, '/', n - at);
    return slash ? (size_t)(slash - path) : n;
}

/* The same as with one name, with parts for bytes: `**` is tried again at each next part. */
static bool path_fits(const struct fs_glob *g, const char *path, size_t n, bool ignore_case)
{
    const char *part = g->text, *star = NULL;
    size_t left = g->parts, star_left = 0, at = 0, again = 0;
    while (at < n) {
        size_t end = part_end(path, n, at), next = end < n ? end + 1 : n;
        if (left && is_any(part)) {
            part = star = next_part(part);
            star_left = --left;
            again = at;
            if (!left)
                return true;
        } else if (left && name_fits(part, path + at, end - at, ignore_case)) {
            part = next_part(part);
            left--;
            at = next;
        } else if (star) {
            end = part_end(path, n, again);
            at = again = end < n ? end + 1 : n;
            part = star;
            left = star_left;
        } else {
            return false;
        }
    }
    return !left;
}

bool fs_glob_fits(const struct fs_glob *g, const char *path, size_t n, size_t name, bool ignore_case)
{
    if (!g->anchored)
        return name_fits(g->text, path + name, n - name, ignore_case);
    return path_fits(g, path, n, ignore_case);
}

/* ---- reading patterns ---- */

/* Trailing blanks do not count, unless the last one follows a backslash. */
static size_t without_blanks(const char *line, size_t n)
{
    while (n && line[n - 1] == ' ') {
        size_t slashes = 0;
        while (slashes < n - 1 && line[n - 2 - slashes] == '\\')
            slashes++;
        if (slashes % 2)
            break;
        n--;
    }
    return n;
}

/* p: without `!`, blanks and comments. */
static bool parse(const char *p, size_t n, bool negated, struct fs_glob *ret)
{
    struct fs_glob g = {.negated = negated};
    if (n && p[n - 1] == '/') {
        g.dir_only = true;
        n--;
    }
    g.anchored = memchr(p, '/', n) != NULL;
    if (n && *p == '/') {
        p++;
        n--;
    }
    if (n == 0 || memchr(p, 0, n))
        return false;
    g.text = sa_strndup(p, n);
    g.parts = 1;
    for (char *c = g.text; *c && g.anchored; c++) {
        if (*c == '\\' && c[1] == '/')
            memmove(c, c + 1, strlen(c)); /* a slash needs no escape */
        else if (*c == '\\' && c[1])
            c++;
        if (*c == '/') {
            *c = 0;
            g.parts++;
        }
    }
    *ret = g;
    return true;
}

bool fs_glob_of_line(const char *line, size_t n, struct fs_glob *ret)
{
    if (n && line[n - 1] == '\r')
        n--;
    n = without_blanks(line, n);
    if (n == 0 || n > FS_GLOB_MAX || *line == '#')
        return false;
    bool negated = *line == '!';
    return parse(line + negated, n - negated, negated, ret);
}

void fs_glob_fini(struct fs_glob *g)
{
    free(g->text);
    *g = (struct fs_glob){0};
}

/* ---- lists ---- */

static void push(struct fs_globs *g, struct fs_glob glob)
{
    if ((g->n & (g->n - 1)) == 0)
        g->glob = sa_realloc(g->glob, (g->n ? 2 * g->n : 1) * sizeof *g->glob);
    g->glob[g->n++] = glob;
    g->includes |= !glob.negated;
}

void fs_globs_add_lines(struct fs_globs *g, const char *text, size_t n)
{
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
        text += 3;
        n -= 3;
    }
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        struct fs_glob glob;
        if (fs_glob_of_line(text + at, len, &glob))
            push(g, glob);
        at += len + 1;
    }
}

/* Where the braces that open at `open` are cut: at themselves and at each comma of their own. How many
 * places; 0: they do not close, or there are too many. */
static size_t cuts(const char *p, size_t open, size_t ret[static FS_EXPANDED_MAX])
{
    size_t depth = 0, n = 0;
    for (size_t i = open; p[i] && n < FS_EXPANDED_MAX; i++) {
        if (p[i] == '\\' && p[i + 1])
            i++;
        else if (p[i] == '{' && depth++ == 0)
            ret[n++] = i;
        else if (p[i] == ',' && depth == 1)
            ret[n++] = i;
        else if (p[i] == '}' && --depth == 0) {
            ret[n++] = i;
            return n;
        }
    }
    return 0;
}

static size_t opening(const char *p)
{
    size_t i = 0;
    while (p[i] && p[i] != '{')
        i += p[i] == '\\' && p[i + 1] ? 2 : 1;
    return i;
}

/* Where an unfinished set begins, or the length. */
static size_t unfinished(const char *p)
{
    size_t i = 0;
    for (bool fits; p[i]; i++) {
        if (p[i] == '\\' && !p[i + 1])
            return i;
        if (p[i] == '\\')
            i++;
        else if (p[i] == '[') {
            const char *end = set_fits(p + i + 1, 'x', false, &fits);
            if (!end)
                return i;
            i = (size_t)(end - p) - 1;
        }
    }
    return i;
}

static int add_plain(struct fs_globs *g, const char *p, sa_error **err)
{
    size_t n = strlen(p), at = unfinished(p);
    struct fs_glob glob;
    bool negated = *p == '!';
    if (at < n)
        return sa_fail(err, SA_INVALID_PATTERN, "`%.200s`: what begins at byte %zu has no end", p, at);
    if (g->n >= FS_EXPANDED_MAX)
        return sa_fail(err, SA_INVALID_PATTERN, "there are more than %d patterns", FS_EXPANDED_MAX);
    if (!parse(p + negated, n - negated, negated, &glob))
        return sa_fail(err, SA_INVALID_PATTERN, "`%.200s` names nothing", p);
    push(g, glob);
    return 0;
}

/* The first braces are replaced by each of their alternatives, until there are none: a stack of patterns. */
static int add_expanded(struct fs_globs *g, const char *pattern, sa_error **err)
{
    size_t cut[FS_EXPANDED_MAX], n = 1;
    char *todo[FS_EXPANDED_MAX] = {sa_strdup(pattern)};
    int r = 0;
    while (n) {
        cleanup_free char *p = todo[--n];
        size_t open = opening(p), k = p[open] ? cuts(p, open, cut) : 0;
        if (r < 0)
            continue;
        if (!p[open])
            r = add_plain(g, p, err);
        else if (!k || n + k > FS_EXPANDED_MAX)
            r = sa_fail(err, SA_INVALID_PATTERN,
                        "`%.200s`: the brace at byte %zu has no end, or makes more than %d patterns", p, open,
                        FS_EXPANDED_MAX);
        else
            /* From the last to the first, so that the first is next. */
            for (size_t i = k - 1; i-- > 0;)
                todo[n++] = sa_format("%.*s%.*s%s", (int)open, p, (int)(cut[i + 1] - cut[i] - 1),
                                      p + cut[i] + 1, p + cut[k - 1] + 1);
    }
    return r;
}

int fs_globs_add(struct fs_globs *g, const char *pattern, size_t n, sa_error **err)
{
    if (n == 0 || n > FS_GLOB_MAX)
        return sa_fail(err, SA_INVALID_PATTERN, "a pattern has %zu bytes; it may have 1 to %d", n,
                       FS_GLOB_MAX);
    if (memchr(pattern, 0, n))
        return sa_fail(err, SA_INVALID_PATTERN, "a pattern contains a NUL byte");
    cleanup_free char *copy = sa_strndup(pattern, n);
    return add_expanded(g, copy, err);
}

const struct fs_glob *fs_globs_decide(const struct fs_globs *g, const char *path, size_t n, size_t name,
                                      bool is_dir, bool ignore_case)
{
    for (size_t i = g->n; i-- > 0;)
        if ((is_dir || !g->glob[i].dir_only) && fs_glob_fits(&g->glob[i], path, n, name, ignore_case))
            return &g->glob[i];
    return NULL;
}

void fs_globs_fini(struct fs_globs *g)
{
    for (size_t i = 0; i < g->n; i++)
        fs_glob_fini(&g->glob[i]);
    free(g->glob);
    *g = (struct fs_globs){0};
}
