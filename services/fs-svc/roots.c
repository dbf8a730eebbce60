#include "services/fs-svc/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { PRIVATE_MAX = 16 };

struct fs_roots {
    struct fs_root roots[FS_ROOTS_MAX];
    size_t n;
    char *private_dirs[PRIVATE_MAX + 1];
    const char *dirs[FS_ROOTS_MAX + 1]; /* of the roots */
};

static int open_root(struct fs_root *root, const char *dir, sa_error **err)
{
    root->dir = realpath(dir, NULL);
    root->fd = root->dir ? open(root->dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    if (root->fd < 0)
        return sa_fail(err, SA_INVALID_CONFIG, "--fs-root %s: directory `%s`: %s", root->name, dir,
                       strerror(errno));
    return 0;
}

static bool good_name(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(name);
    return n > 0 && n <= FS_ROOT_NAME_MAX && strspn(name, allowed) == n;
}

static bool strip(char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    if (n < m || strcmp(s + n - m, end))
        return false;
    s[n - m] = 0;
    return true;
}

/* Takes the options off the end: whatever is no option belongs to the directory. */
static int take_options(struct fs_root *root, char *dir, sa_error **err)
{
    for (char *at; (at = strrchr(dir, ':'));) {
        char *end;
        if (!strncmp(at, ":max=", 5)) {
            errno = 0;
            root->max_write = strtoull(at + 5, &end, 10);
            if (errno || !root->max_write || *end || at[5] < '0' || at[5] > '9')
                return sa_fail(err, SA_INVALID_CONFIG, "--fs-root %s: `%s` is no number of bytes from 1",
                               root->name, at + 5);
            *at = 0;
        } else if (strip(dir, ":ro")) {
            root->read_only = true;
        } else if (!strip(dir, ":rw")) {
            break;
        }
    }
    return 0;
}

static int add(struct fs_roots *r, const char *line, size_t n, sa_error **err)
{
    cleanup_free char *text = sa_strndup(line, n);
    char *dir = strchr(text, '=');
    if (!dir)
        return sa_fail(err, SA_INVALID_CONFIG, "--fs-root %s: NAME=DIR[:ro][:max=BYTES] is wanted", text);
    *dir++ = 0;
    if (!good_name(text))
        return sa_fail(err, SA_INVALID_CONFIG, "--fs-root: `%s` is no name; 1 to %d letters, digits, . _ -",
                       text, FS_ROOT_NAME_MAX);
    if (fs_roots_find(r, text, NULL))
        return sa_fail(err, SA_INVALID_CONFIG, "--fs-root %s is given twice", text);
    if (r->n == FS_ROOTS_MAX)
        return sa_fail(err, SA_INVALID_CONFIG, "--fs-root: more than %d roots", FS_ROOTS_MAX);
    struct fs_root *root = &r->roots[r->n++];
    *root = (struct fs_root){.name = sa_strdup(text), .fd = -1};
    return take_options(root, dir, err) < 0 ? -1 : open_root(root, dir, err);
}

static int add_all(struct fs_roots *r, const char *spec, const char *home, sa_error **err)
{
    if (!spec) {
        r->roots[r->n++] =
            (struct fs_root){.name = sa_strdup(""), .fd = -1, .whole = true, .home = sa_strdup(home)};
        return open_root(&r->roots[0], "/", err);
    }
    for (const char *at = spec; *at;) {
        size_t n = strcspn(at, "\n");
        if (add(r, at, n, err) < 0)
            return -1;
        at += n + (at[n] == '\n');
    }
    return 0;
}

struct fs_roots *fs_roots_new(const char *spec, const char *home, const char *const *private_dirs,
                              sa_error **err)
{
    struct fs_roots *r = sa_calloc(1, sizeof *r);
    for (size_t n = 0; private_dirs && *private_dirs && n < PRIVATE_MAX; private_dirs++) {
        char *real = realpath(*private_dirs, NULL);
        r->private_dirs[n++] = real ? real : sa_strdup(*private_dirs);
    }
    if (add_all(r, spec, home, err) < 0) {
        fs_roots_free(r);
        return NULL;
    }
    for (size_t i = 0; i < r->n; i++) {
        r->roots[i].private_dirs = (const char *const *)r->private_dirs;
        r->roots[i].root_dirs = r->dirs;
        r->dirs[i] = r->roots[i].dir;
    }
    return r;
}

void fs_roots_free(struct fs_roots *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++) {
        sa_close(r->roots[i].fd);
        free(r->roots[i].name);
        free(r->roots[i].dir);
        free(r->roots[i].home);
    }
    for (size_t i = 0; r->private_dirs[i]; i++)
        free(r->private_dirs[i]);
    free(r);
}

const struct fs_root *fs_roots_find(const struct fs_roots *r, const char *name, sa_error **err)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->roots[i].name, name))
            return &r->roots[i];
    sa_fail(err, SA_ROOT_NOT_FOUND,
            *name ? "there is no root `%s`" : "this server has named roots only; the request names none%s",
            name);
    return NULL;
}

int fs_root_check_change(const struct fs_root *root, sa_error **err)
{
    return root->read_only ? sa_fail(err, SA_PERMISSION_DENIED, "the root `%s` is read-only", root->name) : 0;
}

int fs_root_check_size(const struct fs_root *root, uint64_t bytes, sa_error **err)
{
    if (!root->max_write || bytes <= root->max_write)
        return 0;
    return sa_fail(err, SA_FILE_TOO_LARGE, "a write to the root `%s` may have %llu bytes, this one has more",
                   root->name, (unsigned long long)root->max_write);
}

size_t fs_roots_count(const struct fs_roots *r)
{
    return r->n;
}

const struct fs_root *fs_roots_at(const struct fs_roots *r, size_t i)
{
    return &r->roots[i];
}
