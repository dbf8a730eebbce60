/* Bytes become changes of a small tree and what the kernel tells of them; a reader that knows nothing but
 * what comes out of the coalescer must end with the same tree, and with the last content of every file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"
#include "services/fs-svc/coalesce.h"

enum { DIRS = 3, NAMES = 4, FILES = (DIRS + 1) * NAMES }; /* names in the top and in each directory */

/* Directories d0 to d2, files f0 to f3 in each and at the top (directory 3). */
struct tree {
    bool dir[DIRS];
    int file[DIRS + 1][NAMES]; /* version of its content; 0: not there */
};

struct world {
    struct coalesce *c;
    struct tree disk, reader;
    int version;
    uint32_t cookie;
};

static bool there(const struct tree *t, int d)
{
    return d == DIRS || t->dir[d];
}

static void path_of(int d, int f, char ret[16])
{
    if (d == DIRS)
        snprintf(ret, 16, "f%d", f);
    else if (f < 0)
        snprintf(ret, 16, "d%d", d);
    else
        snprintf(ret, 16, "d%d/f%d", d, f);
}

static void parse(const char *path, int *ret_d, int *ret_f)
{
    *ret_d = *path == 'd' ? path[1] - '0' : DIRS;
    const char *f = *path == 'd' ? strchr(path, '/') : path;
    *ret_f = f ? strchr(f, 'f')[1] - '0' : -1;
}

/* ---- the reader ---- */

/* It looks at the disk, which may be ahead: -1 when there is nothing. */
static void look(struct world *w, int d, int f)
{
    int version = there(&w->disk, d) ? w->disk.file[d][f] : 0;
    w->reader.file[d][f] = version ? version : -1;
}

static void read_move(struct world *w, int od, int of, int d, int f)
{
    struct tree *r = &w->reader;
    bool known = r->file[od][of];
    r->file[od][of] = 0;
    r->file[d][f] = 0;
    if (known)
        look(w, d, f);
}

static void read_change(void *user, const struct watch_change *w)
{
    struct world *world = user;
    struct tree *r = &world->reader;
    int d, f, od = 0, of = 0;
    parse(w->path, &d, &f);
    if (w->old_path)
        parse(w->old_path, &od, &of);
    if (w->kind == WATCH_MOVE && f >= 0) {
        read_move(world, od, of, d, f);
    } else if (w->kind == WATCH_MOVE) {
        r->dir[d] = true;
        r->dir[od] = false;
        for (f = 0; f < NAMES; f++)
            read_move(world, od, f, d, f);
    } else if (w->kind == WATCH_DELETE && f < 0) {
        r->dir[d] = false;
        memset(r->file[d], 0, sizeof r->file[d]);
    } else if (w->kind == WATCH_DELETE) {
        r->file[d][f] = 0;
    } else if (f < 0) {
        r->dir[d] = true;
    } else if (w->kind != WATCH_ATTRIB) {
        look(world, d, f);
    }
}

/* ---- the disk and the kernel ---- */

static void tell(struct world *w, enum watch_kind kind, int d, int f)
{
    char path[16];
    path_of(d, f, path);
    struct watch_change change = {.kind = kind, .directory = f < 0, .path = path};
    coalesce_add(w->c, &change);
}

static void put(struct world *w, int d, int f)
{
    if (!there(&w->disk, d))
        return;
    tell(w, w->disk.file[d][f] ? WATCH_MODIFY : WATCH_CREATE, d, f);
    w->disk.file[d][f] = ++w->version;
}

static void delete (struct world *w, int d, int f)
{
    if (!there(&w->disk, d) || !w->disk.file[d][f])
        return;
    w->disk.file[d][f] = 0;
    tell(w, WATCH_DELETE, d, f);
}

/* Both halves, with the end of a window between them when `cut`. A half that is outside is not told. */
static void move(struct world *w, int d, int f, int to_d, int to_f, bool cut)
{
    char from[16], to[16];
    uint32_t cookie = ++w->cookie;
    path_of(d, f, from);
    path_of(to_d, to_f, to);
    coalesce_leave(w->c, cookie, from, f < 0);
    if (cut)
        coalesce_flush(w->c, read_change, w);
    coalesce_arrive(w->c, cookie, to, f < 0);
}

static void move_file(struct world *w, int d, int f, int to_d, int to_f, bool cut)
{
    if (!there(&w->disk, d) || !w->disk.file[d][f] || !there(&w->disk, to_d) || (d == to_d && f == to_f))
        return;
    w->disk.file[to_d][to_f] = w->disk.file[d][f];
    w->disk.file[d][f] = 0;
    move(w, d, f, to_d, to_f, cut);
}

static void move_dir(struct world *w, int d, int to, bool cut)
{
    if (d == DIRS || to == DIRS || d == to || !w->disk.dir[d] || w->disk.dir[to])
        return;
    w->disk.dir[d] = false;
    w->disk.dir[to] = true;
    memcpy(w->disk.file[to], w->disk.file[d], sizeof w->disk.file[to]);
    memset(w->disk.file[d], 0, sizeof w->disk.file[d]);
    move(w, d, -1, to, -1, cut);
}

/* Out of what is watched. */
static void move_out(struct world *w, int d, int f)
{
    char path[16];
    if (!there(&w->disk, d) || (f < 0 && d == DIRS) || (f >= 0 && !w->disk.file[d][f]))
        return;
    path_of(d, f, path);
    if (f < 0) {
        w->disk.dir[d] = false;
        memset(w->disk.file[d], 0, sizeof w->disk.file[d]);
    } else {
        w->disk.file[d][f] = 0;
    }
    coalesce_leave(w->c, ++w->cookie, path, f < 0);
}

/* From outside; over what is there. */
static void move_in(struct world *w, int d, int f)
{
    char path[16];
    if (!there(&w->disk, d))
        return;
    path_of(d, f, path);
    w->disk.file[d][f] = ++w->version;
    coalesce_arrive(w->c, ++w->cookie, path, false);
}

static void directory(struct world *w, int d)
{
    if (d == DIRS)
        return;
    if (!w->disk.dir[d]) {
        w->disk.dir[d] = true;
        tell(w, WATCH_CREATE, d, -1);
        return;
    }
    for (int f = 0; f < NAMES; f++)
        if (w->disk.file[d][f])
            return;
    w->disk.dir[d] = false;
    tell(w, WATCH_DELETE, d, -1);
}

static void step(struct world *w, uint8_t a, uint8_t b)
{
    int d = a >> 4 & 3, f = a >> 6 & 3, to_d = b & 3, to_f = b >> 2 & 3;
    bool cut = b >> 4 & 1;
    switch (a & 15) {
    case 0:
    case 1:
    case 2:
        put(w, d, f);
        break;
    case 3:
        delete (w, d, f);
        break;
    case 4:
    case 5:
        move_file(w, d, f, to_d, to_f, cut);
        break;
    case 6:
        move_dir(w, d, to_d, cut);
        break;
    case 7:
        move_out(w, d, f);
        break;
    case 8:
        move_out(w, d, -1);
        break;
    case 9:
        move_in(w, d, f);
        break;
    case 10:
    case 11:
        directory(w, d);
        break;
    case 12:
        if (there(&w->disk, d) && w->disk.file[d][f])
            tell(w, WATCH_ATTRIB, d, f);
        break;
    default:
        coalesce_flush(w->c, read_change, w);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.c = coalesce_new()};
    for (size_t i = 0; i + 1 < size; i += 2)
        step(&w, data[i], data[i + 1]);
    coalesce_flush(w.c, read_change, &w);
    coalesce_flush(w.c, read_change, &w);
    if (coalesce_pending(w.c) || memcmp(&w.disk, &w.reader, sizeof w.disk) != 0)
        abort();
    coalesce_free(w.c);
    return 0;
}
