#include "services/cli/fs_filter.h"

#include <string.h>

FileFilter *fs_filter_globs(struct sa_arena *a, const struct options *o)
{
    FileFilter *f = sa_arena_alloc(a, sizeof *f);
    const char *at = options_text(o, "glob");
    *f = (FileFilter)FILE_FILTER__INIT;
    f->globs = sa_arena_alloc(a, (at ? strlen(at) + 1 : 1) * sizeof *f->globs);
    while (at && *at) {
        size_t n = strcspn(at, "\n");
        f->globs[f->n_globs++] = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)at};
        at += n + (at[n] == '\n');
    }
    return f;
}

FileFilter *fs_filter_all(struct sa_arena *a, const struct options *o)
{
    FileFilter *f = fs_filter_globs(a, o);
    f->hidden = options_flag(o, "hidden");
    f->no_ignore = options_flag(o, "no-ignore");
    f->case_insensitive = options_flag(o, "any-case");
    f->max_depth = (uint32_t)options_uint(o, "depth");
    return f;
}
