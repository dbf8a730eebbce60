#include "services/process-svc/process_limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "adapters/os/file.h"

enum { PROC_FILE_MAX = 1 << 20 };

static const char *const controllers[LIMITS_CONTROLLERS] = {"memory", "pids", "cpu", ""};

/* ---- where ---- */

/* Is `word` one of the words of a list, separated by commas or blanks? */
static bool has_word(const char *list, size_t n, const char *word)
{
    size_t len = strlen(word);
    for (size_t at = 0; at < n;) {
        size_t end = at;
        while (end < n && list[end] != ',' && list[end] != ' ' && list[end] != '\n')
            end++;
        if (end - at == len && !memcmp(list + at, word, len))
            return true;
        at = end + 1;
    }
    return false;
}

/* The path of our cgroup from a line "id:controllers:path" of /proc/self/cgroup; v2 has no controllers. */
static bool own_path(const char *cgroup, const char *controller, struct sa_buf *ret)
{
    for (const char *line = cgroup; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            return false;
        size_t n = (size_t)(path - list - 1);
        if (*controller ? !has_word(list + 1, n, controller) : n != 0)
            continue;
        sa_buf_add(ret, path + 1, strcspn(path + 1, "\n"));
        return true;
    }
    return false;
}

/* The directory of a cgroup path below a mount that shows the hierarchy from `root` on. */
static void mounted(struct sa_buf *ret, const char *mount, const char *root, const char *path)
{
    size_t n = strcmp(root, "/") ? strlen(root) : 0;
    sa_buf_add(ret, mount, strlen(mount));
    if (!strncmp(path, root, n) && strcmp(path + n, "/") != 0)
        sa_buf_add(ret, path + n, strlen(path + n));
}

/* A line of mountinfo: "id parent dev root mount options [tags] - type source options". */
static bool take_mount(const char *line, const char *cgroup, const char *controller, bool v2,
                       struct sa_buf *ret)
{
    char root[4096], mount[4096], type[32], options[1024];
    const char *rest = strstr(line, " - ");
    if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", root, mount) != 2 ||
        sscanf(rest, " - %31s %*s %1023s", type, options) != 2 ||
        strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 ||
        (!v2 && !has_word(options, strlen(options), controller)))
        return false;
    cleanup_buf struct sa_buf path = {0};
    if (!own_path(cgroup, v2 ? "" : controller, &path))
        return false;
    mounted(ret, mount, root, sa_buf_string(&path));
    return true;
}

int limits_find(const char *mountinfo, const char *cgroup, const char *controller,
                struct sa_buf *ret_directory)
{
    for (int version = *controller ? 1 : 2; version <= 2; version++) {
        cleanup_free char *text = sa_strdup(mountinfo);
        char *rest;
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
            if (take_mount(line, cgroup, controller, version == 2, ret_directory))
                return version;
    }
    return 0;
}

static int write_to(const char *directory, const char *file, const char *value)
{
    cleanup_free char *path = sa_format("%s/%s", directory, file);
    FILE *f = fopen(path, "we");
    if (!f)
        return -1;
    int r = fputs(value, f);
    return fclose(f) == 0 && r >= 0 ? 0 : -1;
}

static bool exists_in(const char *directory, const char *file)
{
    cleanup_free char *path = sa_format("%s/%s", directory, file);
    return access(path, F_OK) == 0;
}

static bool has_controller(const char *directory, const char *file, const char *controller)
{
    cleanup_free char *path = sa_format("%s/%s", directory, file);
    cleanup_buf struct sa_buf text = {0};
    return sa_read_file(path, PROC_FILE_MAX, &text, NULL) == 0 &&
           has_word(sa_buf_string(&text), text.len, controller);
}

/* Gives the controller of a v2 cgroup to its children. */
static int delegate(const char *directory, const char *controller)
{
    cleanup_free char *text = sa_format("+%s", controller);
    if (!has_controller(directory, "cgroup.controllers", controller)) {
        errno = ENOENT;
        return -1;
    }
    return has_controller(directory, "cgroup.subtree_control", controller)
               ? 0
               : write_to(directory, "cgroup.subtree_control", text);
}

/* May cgroups be made in this directory? On failure `why` tells. */
static bool use(struct limits_place *p, const char *directory, const char *controller)
{
    if (p->v2 && *controller && delegate(directory, controller) < 0)
        p->why = errno == ENOENT ? sa_format("no cgroup hierarchy here has the controller `%s`", controller)
                                 : sa_format("`%s` to the children of cgroup `%s`: %s", controller, directory,
                                             strerror(errno));
    else if (access(directory, W_OK) < 0)
        p->why = sa_format("cgroup `%s`: %s", directory, strerror(errno));
    else
        p->base = sa_strdup(directory);
    return p->base != NULL;
}

/* Did a manager hand this v2 cgroup over? systemd says so; without root only that makes it writable. */
static bool is_delegated(const char *directory)
{
    char value[8];
    return geteuid() != 0 || getxattr(directory, "user.delegate", value, sizeof value) > 0 ||
           getxattr(directory, "trusted.delegate", value, sizeof value) > 0;
}

static void find_place(struct limits_place *p, const char *controller, const char *mountinfo,
                       const char *cgroup)
{
    cleanup_buf struct sa_buf own = {0};
    int version = limits_find(mountinfo, cgroup, controller, &own);
    p->v2 = version == 2;
    if (!version) {
        p->why = sa_strdup("no cgroups are mounted here");
        return;
    }
    if (use(p, sa_buf_string(&own), controller) || !p->v2)
        return;
    char *slash = strrchr(sa_buf_string(&own), '/');
    cleanup_free char *first = steal_pointer(&p->why);
    *slash = 0;
    if (slash == (char *)own.data || !exists_in((char *)own.data, "cgroup.procs") ||
        !is_delegated((char *)own.data) || !use(p, (char *)own.data, controller)) {
        free(p->why);
        p->why = steal_pointer(&first); /* of our own cgroup: the one to put right */
    }
}

static uint64_t files_max(void)
{
    struct rlimit limit = {0};
    cleanup_buf struct sa_buf text = {0};
    if (geteuid() == 0 && sa_read_file("/proc/sys/fs/nr_open", 64, &text, NULL) == 0)
        return strtoull(sa_buf_string(&text), NULL, 10);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max;
}

/* Has the controller of memory a limit for swapping? The root of v2 has no files that tell: it is assumed. */
static bool has_swap(const struct limits_place *p)
{
    if (!p->v2)
        return exists_in(p->base, "memory.memsw.limit_in_bytes");
    return exists_in(p->base, "memory.swap.max") || !exists_in(p->base, "memory.max");
}

void limits_init(struct limits *l)
{
    cleanup_buf struct sa_buf mountinfo = {0}, cgroup = {0};
    *l = (struct limits){.files_max = files_max()};
    sa_read_file("/proc/self/mountinfo", PROC_FILE_MAX, &mountinfo, NULL); /* missing: nothing is found */
    sa_read_file("/proc/self/cgroup", PROC_FILE_MAX, &cgroup, NULL);
    for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
        struct limits_place *p = &l->place[i];
        find_place(p, controllers[i], sa_buf_string(&mountinfo), sa_buf_string(&cgroup));
        p->swap = p->base && has_swap(p);
    }
}

void limits_fini(struct limits *l)
{
    for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
        free(l->place[i].base);
        free(l->place[i].why);
    }
    *l = (struct limits){0};
}

/* The cgroup of a process. */
static char *directory_of(const struct limits_place *p, const char *name)
{
    return sa_format("%s/" LIMITS_CGROUP_PREFIX "%s", p->base, name);
}

void limits_remove(const struct limits *l, const char *name)
{
    for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
        cleanup_free char *directory = l->place[i].base ? directory_of(&l->place[i], name) : NULL;
        if (directory)
            rmdir(directory);
    }
}

/* ---- what ---- */

/* What is asked of each controller; 0: nothing. */
static void values(const ProcessLimits *asked, uint64_t ret[LIMITS_CONTROLLERS])
{
    ret[LIMITS_MEMORY] = asked ? asked->memory_bytes : 0;
    ret[LIMITS_PIDS] = asked ? asked->pids : 0;
    ret[LIMITS_CPU] = asked ? asked->cpu_millis : 0;
    ret[LIMITS_KILL] = 0;
}

int limits_check(const ProcessLimits *asked, sa_error **err)
{
    static const struct {
        const char *field;
        uint64_t min;
    } ranges[LIMITS_CONTROLLERS] = {
        {"memory_bytes", LIMITS_MEMORY_MIN}, {"pids", 1}, {"cpu_millis", LIMITS_CPU_MIN}, {"", 0}};
    uint64_t value[LIMITS_CONTROLLERS];
    values(asked, value);
    for (int i = 0; i < LIMITS_CONTROLLERS; i++)
        if (value[i] && (value[i] < ranges[i].min || value[i] > INT64_MAX))
            return sa_fail(err, SA_INVALID_REQUEST, "spec.limits.%s is %llu, allowed are 0 and %llu or more",
                           ranges[i].field, (unsigned long long)value[i], (unsigned long long)ranges[i].min);
    if (asked && asked->open_files && asked->open_files < LIMITS_FILES_MIN)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.limits.open_files is %u, allowed are 0 and %d or more",
                       asked->open_files, LIMITS_FILES_MIN);
    return 0;
}

int limits_available(const struct limits *l, const ProcessLimits *asked, sa_error **err)
{
    uint64_t value[LIMITS_CONTROLLERS];
    values(asked, value);
    for (int i = 0; i < LIMITS_CONTROLLERS; i++)
        if (value[i] && !l->place[i].base)
            return sa_fail(err, SA_LIMIT_UNAVAILABLE, "a limit of %s needs a cgroup: %s", controllers[i],
                           l->place[i].why);
    if (asked && asked->open_files > l->files_max)
        return sa_fail(err, SA_LIMIT_UNAVAILABLE,
                       "%u open files are more than the %llu that this service may give", asked->open_files,
                       (unsigned long long)l->files_max);
    return 0;
}

static void add_setting(struct shim_spec *h, struct sa_buf *b, const char *directory, const char *file,
                        const char *value)
{
    size_t before = b->len;
    sa_buf_addf(b, "%s/%s", directory, file);
    sa_buf_add(b, "", 1);
    sa_buf_add(b, value, strlen(value) + 1);
    h->settings_bytes += (uint32_t)(b->len - before);
    h->n_settings++;
}

static void add_number(struct shim_spec *h, struct sa_buf *b, const char *directory, const char *file,
                       uint64_t n)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    add_setting(h, b, directory, file, text);
}

enum { CPU_PERIOD_US = 100000, US_PER_MILLI = CPU_PERIOD_US / 1000 };

static void add_settings(struct shim_spec *h, struct sa_buf *b, const struct limits_place *p, int controller,
                         const char *directory, uint64_t value)
{
    cleanup_free char *cpu_max = NULL;
    switch (controller) {
    case LIMITS_MEMORY: /* and no way round it through swapping */
        add_number(h, b, directory, p->v2 ? "memory.max" : "memory.limit_in_bytes", value);
        if (p->swap)
            add_number(h, b, directory, p->v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes",
                       p->v2 ? 0 : value);
        break;
    case LIMITS_PIDS:
        add_number(h, b, directory, "pids.max", value);
        break;
    case LIMITS_CPU:
        cpu_max = sa_format("%llu %d", (unsigned long long)value * US_PER_MILLI, CPU_PERIOD_US);
        if (p->v2) {
            add_setting(h, b, directory, "cpu.max", cpu_max);
        } else {
            add_number(h, b, directory, "cpu.cfs_period_us", CPU_PERIOD_US);
            add_number(h, b, directory, "cpu.cfs_quota_us", value * US_PER_MILLI);
        }
        break;
    default:
        break;
    }
}

void limits_pack(const struct limits *l, const char *name, const ProcessLimits *asked, struct shim_spec *h,
                 struct sa_buf *b)
{
    uint64_t value[LIMITS_CONTROLLERS];
    cleanup_buf struct sa_buf settings = {0};
    const char *bases[LIMITS_CONTROLLERS];
    values(asked, value);
    /* With a cgroup, also one that kills its members at once. */
    value[LIMITS_KILL] = value[LIMITS_MEMORY] || value[LIMITS_PIDS] || value[LIMITS_CPU];
    for (int i = 0; i < LIMITS_CONTROLLERS; i++) {
        const struct limits_place *p = &l->place[i];
        if (!value[i] || !p->base)
            continue;
        cleanup_free char *directory = directory_of(p, name);
        add_settings(h, &settings, p, i, directory, value[i]);
        bool known = false;
        for (uint32_t k = 0; k < h->n_cgroups; k++)
            known |= !strcmp(bases[k], p->base);
        if (known)
            continue;
        bases[h->n_cgroups++] = p->base;
        sa_buf_add(b, directory, strlen(directory) + 1);
        h->cgroups_bytes += (uint32_t)strlen(directory) + 1;
    }
    sa_buf_add(b, settings.data, settings.len);
    h->open_files = asked ? asked->open_files : 0;
}
