/* Patterns of paths, with the rules of .gitignore: `*` and `?` stay within a name, `**` between slashes is
 * any directories, `[...]` with ranges, classes and negation, `\` takes the next byte as it is. A pattern
 * with a slash other than at its end is relative to the directory of its file; one without fits names at any
 * depth.
 * `!` before it turns it round, `/` at its end lets it fit directories only.
 *
 * Matching costs at most (parts x parts) walks over a name, whatever the pattern: there is no recursion.
 * Plain data; any thread. */
#ifndef SERVICES_FS_SVC_GLOB_H_
#define SERVICES_FS_SVC_GLOB_H_

#include <stdbool.h>
#include <stddef.h>

#include "adapters/os/error.h"

enum {
    FS_GLOB_MAX = 4096,     /* bytes of a pattern */
    FS_GLOBS_MAX = 256,     /* patterns of a request, */
    FS_EXPANDED_MAX = 1024, /* and what their braces make of them */
};

struct fs_glob {
    bool negated;  /* `!` */
    bool dir_only; /* `/` at the end */
    bool anchored;
    char *text;   /* the parts, each with a NUL */
    size_t parts; /* at least 1 */
};

/* Of a line of an ignore file, without its newline: false: it is empty, a comment or too long. A pattern that
 * is damaged fits nothing, as in git. */
bool fs_glob_of_line(const char *line, size_t n, struct fs_glob *ret);
void fs_glob_fini(struct fs_glob *g);
/* path: relative to the pattern's directory, n bytes; name: where its last part begins. */
bool fs_glob_fits(const struct fs_glob *g, const char *path, size_t n, size_t name, bool ignore_case);

/* An ordered list: the last that fits decides. */
struct fs_globs {
    struct fs_glob *glob;
    size_t n;
    bool includes; /* one of them is not negated */
};

/* Adds what a caller wrote: with braces, and INVALID_PATTERN when it is damaged. A NUL inside is damage. */
int fs_globs_add(struct fs_globs *g, const char *pattern, size_t n, sa_error **err);
/* Adds the lines of an ignore file. */
void fs_globs_add_lines(struct fs_globs *g, const char *text, size_t n);
/* The one that decides, or NULL. */
const struct fs_glob *fs_globs_decide(const struct fs_globs *g, const char *path, size_t n, size_t name,
                                      bool is_dir, bool ignore_case);
void fs_globs_fini(struct fs_globs *g);

#endif
