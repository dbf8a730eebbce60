#include "services/process-svc/scan.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/process-svc/kept.h"

/* A shim is named "shim " and the end of its process's id, a runner "shim run..."; before that as the helper
 * that it was forked from. */
#define SHIM_NAME "shim "
#define RUNNER_NAME "shim run"
#define HELPER_NAME "process-shim"
enum { TAG_LENGTH = 10 };

int scan_read(struct scan *s, sa_error **err)
{
    return proc_table_read(&s->table, err);
}

/* ---- under the lock ---- */

static int newest_first(const void *a, const void *b)
{
    const struct scan_tree *x = a, *y = b;
    return memcmp(y->id.bytes, x->id.bytes, sizeof x->id.bytes);
}

static void add_known(struct scan *s, const struct process *p)
{
    struct scan_tree t = {.id = p->id, .ended = p->phase == PROCESS_EXITED};
    if (!tree_root_of(p, &t.root) && p->phase == PROCESS_EXITED)
        return;
    if ((s->n_trees & (s->n_trees - 1)) == 0)
        s->trees = sa_realloc(s->trees, (s->n_trees ? 2 * s->n_trees : 1) * sizeof *s->trees);
    s->trees[s->n_trees++] = t;
}

static void add_kept(void *user, uint32_t pid, uint64_t start)
{
    struct scan *s = user;
    if ((s->n_kept & (s->n_kept - 1)) == 0)
        s->kept = sa_realloc(s->kept, (s->n_kept ? 2 * s->n_kept : 1) * sizeof *s->kept);
    s->kept[s->n_kept++] = (struct tree_root){(int)pid, 0, start};
}

void scan_known(struct scan *s)
{
    for (size_t i = 0; i < PROCESS_BUCKETS; i++)
        for (const struct process *p = s->all->buckets[i]; p; p = p->next)
            add_known(s, p);
    if (s->n_trees)
        qsort(s->trees, s->n_trees, sizeof *s->trees, newest_first);
    kept_each(s->all, add_kept, s);
    s->helper = spawner_pid(s->all->spawner);
}

/* ---- shims, whoever their parent is by now ---- */

/* Target of a link of /proc without the mark of a deleted file. */
static bool read_link(int pid, const char *name, char *ret, size_t size)
{
    static const char mark[] = " (deleted)";
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    ssize_t n = readlink(path, ret, size - 1);
    if (n < 0)
        return false;
    ret[n] = 0;
    size_t len = sizeof mark - 1;
    if ((size_t)n > len && !strcmp(ret + n - (ssize_t)len, mark))
        ret[(size_t)n - len] = 0;
    return true;
}

/* The name alone says nothing, any process may take it: it runs our program (maybe an older build) in our
 * directory, which is for our user only. */
static bool is_shim(const struct proc *p, const char *directory)
{
    char exe[PATH_MAX], cwd[PATH_MAX];
    size_t n = strlen(directory);
    if (strncmp(p->name, SHIM_NAME, strlen(SHIM_NAME)) != 0 && strcmp(p->name, HELPER_NAME) != 0)
        return false;
    if (!read_link(p->pid, "exe", exe, sizeof exe) || !read_link(p->pid, "cwd", cwd, sizeof cwd))
        return false;
    const char *base = strrchr(exe, '/');
    return base && !strcmp(base, "/process-shim") && !strncmp(cwd, directory, n) &&
           (!cwd[n] || cwd[n] == '/');
}

static bool is_known_tag(const struct scan *s, const char *tag)
{
    for (size_t i = 0; i < s->n_trees; i++) {
        char name[SA_ID_TEXT + 1];
        sa_id_format(s->trees[i].id, name);
        if (!strcmp(name + SA_ID_TEXT - TAG_LENGTH, tag))
            return true;
    }
    return false;
}

/* What is below this shim belongs to a process that is being started, or to a command of RunProcess. */
static bool is_in_use(const struct scan *s, const struct proc *shim)
{
    const char *tag = shim->name + strlen(SHIM_NAME);
    return !strncmp(shim->name, RUNNER_NAME, strlen(RUNNER_NAME)) || !strcmp(shim->name, HELPER_NAME) ||
           (strlen(tag) == TAG_LENGTH && is_known_tag(s, tag));
}

/* ---- strays ---- */

/* Takes all shims first, so that none is mistaken for what is below the helper. */
static int take_shims(struct scan *s, sa_error **err)
{
    struct proc_list used = {0};
    char directory[PATH_MAX];
    if (!realpath(s->all->directory, directory))
        return sa_fail_errno(err, errno, "directory of processes `%s`", s->all->directory);
    for (size_t i = 0; i < s->table.n; i++) {
        struct proc *p = &s->table.list[i];
        if (p->taken || !is_shim(p, directory))
            continue;
        p->taken = true;
        if (is_in_use(s, p))
            proc_walk(&s->table, p, false, &used);
        else
            proc_walk(&s->table, p, false, &s->strays);
    }
    proc_list_fini(&used);
    return 0;
}

/* What is in the cgroup of a process but not below its shim: left by one that was killed while we were away.
 */
static void take_cgroup(struct scan *s, const char *base, const char *name)
{
    cleanup_free char *path = sa_format("%s/%s/cgroup.procs", base, name);
    FILE *f = fopen(path, "re");
    for (int pid; f && fscanf(f, "%d", &pid) == 1;) {
        struct proc *p = proc_table_find(&s->table, pid, 0);
        if (p && !p->taken)
            proc_walk(&s->table, p, true, &s->strays);
    }
    if (f)
        fclose(f);
}

/* Others have cgroups beside ours, another service like this one too: ours are named by an id whose directory
 * we have. */
static bool is_our_cgroup(const struct scan *s, const char *name)
{
    struct sa_id id;
    size_t n = strlen(LIMITS_CGROUP_PREFIX);
    if (strncmp(name, LIMITS_CGROUP_PREFIX, n) != 0 || !sa_id_parse(name + n, &id))
        return false;
    cleanup_free char *directory = sa_format("%s/%s", s->all->directory, name + n);
    return access(directory, F_OK) == 0;
}

static void take_cgroups(struct scan *s)
{
    for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
        const char *base = s->all->limits.place[i].base; /* set at the start only */
        DIR *d = base ? opendir(base) : NULL;
        for (struct dirent *e; d && (e = readdir(d));)
            if (is_our_cgroup(s, e->d_name))
                take_cgroup(s, base, e->d_name);
        if (d)
            closedir(d);
    }
}

/* One on its way out is gone, too: it has no program any more. (Other users' programs are not for us to see:
 * EACCES.) */
static bool has_ended(const struct proc *p)
{
    char exe[2];
    struct proc now;
    return proc_read(p->pid, &now) < 0 || now.start_ticks != p->start_ticks || now.state == 'Z' ||
           now.state == 'X' || (!read_link(p->pid, "exe", exe, sizeof exe) && errno != EACCES);
}

void scan_drop_ended(struct proc_list *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!has_ended(l->list[i]))
            l->list[kept++] = l->list[i];
    l->n = kept;
}

int scan_classify(struct scan *s, sa_error **err)
{
    struct proc *self = proc_table_find(&s->table, getpid(), 0);
    struct proc *helper = proc_table_find(&s->table, s->helper, 0);
    if (self)
        self->taken = true;
    if (helper)
        helper->taken = true;
    for (size_t i = 0; i < s->n_trees; i++)
        s->trees[i].shim =
            s->trees[i].root.shim ? tree_walk(&s->table, &s->trees[i].root, &s->trees[i].list) : NULL;
    for (size_t i = 0; i < s->n_kept; i++)
        tree_walk(&s->table, &s->kept[i], &s->strays);
    if (take_shims(s, err) < 0)
        return -1;
    if (helper)
        proc_walk(&s->table, helper, false, &s->strays);
    if (self)
        proc_walk(&s->table, self, false, &s->strays);
    take_cgroups(s);
    return 0;
}

void scan_reset(struct scan *s)
{
    for (size_t i = 0; i < s->n_trees; i++)
        proc_list_fini(&s->trees[i].list);
    free(s->trees);
    free(s->kept);
    proc_list_fini(&s->strays);
    proc_table_fini(&s->table);
    *s = (struct scan){.all = s->all};
}
