/* Design notes
 *
 * setfsuid, not setresuid: a thread that runs under the agent's uid could be signalled by the agent, and a
 * fatal signal ends the whole process. The kernel takes the file capabilities (DAC_OVERRIDE and so on) from
 * the effective set when fsuid leaves 0; the others go by capset, or the ptrace capability would open other
 * processes' /proc. glibc's setgroups changes every thread of the process, the bare system call only this
 * one. */
#include "services/fs-svc/identity.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapters/os/mem.h"

enum { GROUPS_MAX = 65536 };

struct groups {
    gid_t *ids;
    size_t n;
};

struct fs_identity {
    bool changes;
    uid_t uid;
    gid_t gid;
    char *home;
    struct groups theirs, ours;
};

static void own_home(struct fs_identity *id)
{
    const char *home = getenv("HOME");
    struct passwd *pw = home && *home == '/' ? NULL : getpwuid(geteuid());
    id->home = sa_strdup(home && *home == '/' ? home : pw ? pw->pw_dir : "/");
}

static int load_user(struct fs_identity *id, const char *user, sa_error **err)
{
    char *end;
    struct passwd *pw = getpwnam(user);
    unsigned long uid = strtoul(user, &end, 10);
    if (!pw && *user && !*end)
        pw = getpwuid((uid_t)uid);
    if (!pw)
        return sa_fail(err, SA_INVALID_CONFIG, "--agent-user: there is no user `%s`", user);
    id->uid = pw->pw_uid;
    id->gid = pw->pw_gid;
    id->home = sa_strdup(*pw->pw_dir ? pw->pw_dir : "/");
    id->changes = id->uid != geteuid();
    if (id->changes && geteuid() != 0)
        return sa_fail(err, SA_PERMISSION_DENIED, "--agent-user %s: only root can use another user's rights",
                       user);
    cleanup_free char *name = sa_strdup(pw->pw_name);
    int n = GROUPS_MAX;
    id->theirs.ids = sa_calloc((size_t)n, sizeof *id->theirs.ids);
    if (getgrouplist(name, id->gid, id->theirs.ids, &n) < 0)
        return sa_fail(err, SA_INVALID_CONFIG, "user `%s` is in more than %d groups", user, GROUPS_MAX);
    id->theirs.n = (size_t)n;
    id->theirs.ids = sa_realloc(id->theirs.ids, id->theirs.n * sizeof *id->theirs.ids);
    return 0;
}

struct fs_identity *fs_identity_new(const char *user, sa_error **err)
{
    struct fs_identity *id = sa_calloc(1, sizeof *id);
    if (!user) {
        own_home(id);
        return id;
    }
    if (load_user(id, user, err) < 0) {
        fs_identity_free(id);
        return NULL;
    }
    int n = getgroups(0, NULL);
    id->ours.n = n > 0 ? (size_t)n : 0;
    id->ours.ids = sa_calloc(id->ours.n, sizeof *id->ours.ids);
    if (getgroups((int)id->ours.n, id->ours.ids) < 0) {
        sa_fail_errno(err, errno, "read our groups");
        fs_identity_free(id);
        return NULL;
    }
    return id;
}

void fs_identity_free(struct fs_identity *id)
{
    if (!id)
        return;
    free(id->home);
    free(id->theirs.ids);
    free(id->ours.ids);
    free(id);
}

const char *fs_identity_home(const struct fs_identity *id)
{
    return id->home;
}

/* Sets the thread's effective capabilities to those of `mask` that are permitted. */
static int limit_capabilities(uint64_t mask)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return -1;
    data[0].effective = data[0].permitted & (uint32_t)mask;
    data[1].effective = data[1].permitted & (uint32_t)(mask >> 32);
    return (int)syscall(SYS_capset, &header, data);
}

static int set_groups(const struct groups *g)
{
    return (int)syscall(SYS_setgroups, g->n, g->ids);
}

/* setfsuid tells the uid before the call and no failure: asked again, it tells whether it worked. */
static bool set_fs_ids(uid_t uid, gid_t gid)
{
    setfsgid(gid);
    setfsuid(uid);
    return (uid_t)setfsuid((uid_t)-1) == uid && (gid_t)setfsgid((gid_t)-1) == gid;
}

int fs_identity_enter(const struct fs_identity *id, sa_error **err)
{
    if (!id->changes)
        return 0;
    if (set_groups(&id->theirs) < 0)
        return sa_fail(err, SA_SYSTEM_ERROR, "take the groups of uid %u: %s", id->uid, strerror(errno));
    if (!set_fs_ids(id->uid, id->gid) || limit_capabilities(1u << CAP_SETUID | 1u << CAP_SETGID) < 0) {
        fs_identity_leave(id);
        return sa_fail(err, SA_SYSTEM_ERROR, "take the file rights of uid %u", id->uid);
    }
    return 0;
}

void fs_identity_leave(const struct fs_identity *id)
{
    if (!id->changes)
        return;
    if (limit_capabilities(UINT64_MAX) < 0 || !set_fs_ids(geteuid(), getegid()) || set_groups(&id->ours) < 0)
        abort(); /* a thread with the wrong rights must not go on */
}
