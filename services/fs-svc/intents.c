#include "services/fs-svc/intents.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/fs-svc/replace.h"

struct slot {
    char temp[128]; /* "": it is free */
    char dir[PATH_MAX];
};

struct fs_intents {
    int fd;
    bool used[FS_INTENTS_MAX];
};

static off_t place_of(int slot)
{
    return (off_t)slot * (off_t)sizeof(struct slot);
}

/* A temporary file of ours, and nothing else, is removed. */
static bool is_good(struct slot *s)
{
    s->temp[sizeof s->temp - 1] = s->dir[sizeof s->dir - 1] = '\0';
    return !strncmp(s->temp, ".sa-", 4) && !strchr(s->temp, '/') && *s->dir == '/';
}

/* false: it could not be told now. */
static bool undo(const struct fs_identity *identity, const struct slot *s)
{
    cleanup_error sa_error *err = NULL;
    enum fs_outcome outcome;
    int done = fs_identity_enter(identity, &err);
    if (done == 0) {
        done = fs_replace_undo(s->dir, "", s->temp, 0, &outcome, NULL, &err);
        fs_identity_leave(identity);
    }
    sa_log(err ? SA_LOG_WARN : SA_LOG_INFO, "fs.intent_undone", "temp=%s reason=%s", s->temp,
           err ? err->reason : "");
    return done == 0;
}

struct fs_intents *fs_intents_open(const char *path, const struct fs_identity *identity, sa_error **err)
{
    struct fs_intents *t = sa_calloc(1, sizeof *t);
    cleanup_free struct slot *s = sa_malloc(sizeof *s);
    t->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (t->fd < 0) {
        sa_fail_errno(err, errno, "open `%s`", path);
        fs_intents_free(t);
        return NULL;
    }
    for (int i = 0; i < FS_INTENTS_MAX; i++) {
        ssize_t n = pread(t->fd, s, sizeof *s, place_of(i));
        if (n <= 0)
            break;
        if (!*s->temp)
            continue;
        /* A short one was never finished: its file was not made. */
        if (n < (ssize_t)sizeof *s || !is_good(s) || undo(identity, s))
            fs_intents_clear(t, i);
        else
            t->used[i] = true;
    }
    return t;
}

void fs_intents_free(struct fs_intents *t)
{
    if (!t)
        return;
    sa_close(t->fd);
    free(t);
}

int fs_intents_take(struct fs_intents *t)
{
    for (int i = 0; i < FS_INTENTS_MAX; i++)
        if (!t->used[i]) {
            t->used[i] = true;
            return i;
        }
    return -1;
}

void fs_intents_release(struct fs_intents *t, int slot)
{
    if (slot >= 0)
        t->used[slot] = false;
}

int fs_intents_set(struct fs_intents *t, int slot, const char *dir, const char *temp, sa_error **err)
{
    cleanup_free struct slot *s = sa_calloc(1, sizeof *s);
    size_t n_dir = strlen(dir), n_temp = strlen(temp);
    if (n_dir >= sizeof s->dir || n_temp >= sizeof s->temp)
        return sa_fail(err, SA_INVALID_PATH, "the path of `%.200s` is too long", dir);
    memcpy(s->dir, dir, n_dir);
    memcpy(s->temp, temp, n_temp);
    if (pwrite(t->fd, s, sizeof *s, place_of(slot)) != (ssize_t)sizeof *s)
        return sa_fail_errno(err, errno ? errno : EIO, "note a temporary file");
    return 0;
}

void fs_intents_clear(struct fs_intents *t, int slot)
{
    /* If that fails, the next start looks for a file that is not there. */
    (void)!pwrite(t->fd, "", 1, place_of(slot));
}
