#include "services/fs-svc/filter.h"

int fs_filter(const FileFilter *f, struct fs_globs *globs, struct fs_walk_options *ret, sa_error **err)
{
    struct fs_walk_options opt = {.globs = globs};
    if (f && f->n_globs > FS_GLOBS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "there are %zu globs, the limit is %d", f->n_globs,
                       FS_GLOBS_MAX);
    for (size_t i = 0; f && i < f->n_globs; i++)
        if (fs_globs_add(globs, (const char *)f->globs[i].data, f->globs[i].len, err) < 0)
            return -1;
    if (f) {
        opt.ignore_case = f->case_insensitive;
        opt.hidden = f->hidden;
        opt.no_ignore = f->no_ignore;
        opt.vcs = f->always_ignored;
        opt.max_depth = f->max_depth < FS_WALK_DEPTH_MAX ? f->max_depth : 0;
    }
    *ret = opt;
    return 0;
}
