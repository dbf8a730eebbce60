#include "services/process-svc/spec.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/mem.h"
#include "services/process-svc/policy.h"
#include "services/process-svc/process_limits.h"

/* ---- checks ---- */

/* Every item without NUL; all of them, with their NULs, within max. */
static int check_list(const char *what, const ProtobufCBinaryData *items, size_t n, size_t max,
                      sa_error **err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i].len && memchr(items[i].data, 0, items[i].len))
            return sa_fail(err, SA_INVALID_REQUEST, "spec.%s[%zu] contains a NUL byte", what, i);
        total += items[i].len + 1;
    }
    if (total > max)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.%s has %zu bytes, at most %zu are allowed", what, total,
                       max);
    return 0;
}

static int check_env(const ProcessSpec *spec, sa_error **err)
{
    for (size_t i = 0; i < spec->n_env; i++) {
        const ProtobufCBinaryData *e = &spec->env[i];
        const uint8_t *eq = e->len ? memchr(e->data, '=', e->len) : NULL;
        if (!eq || eq == e->data)
            return sa_fail(err, SA_INVALID_REQUEST, "spec.env[%zu] is not NAME=value", i);
    }
    size_t term = spec->terminal ? SPEC_TERM_MAX + sizeof "TERM=" : 0; /* may be added */
    return check_list("env", spec->env, spec->n_env, SHIM_ENV_MAX - term, err);
}

static int check_labels(const ProcessSpec *spec, sa_error **err)
{
    if (spec->n_labels > SPEC_LABELS_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.labels has %zu entries, at most %d are allowed",
                       spec->n_labels, SPEC_LABELS_MAX);
    for (size_t i = 0; i < spec->n_labels; i++)
        if (!*spec->labels[i]->key || strlen(spec->labels[i]->key) > SPEC_LABEL_BYTES_MAX ||
            strlen(spec->labels[i]->value) > SPEC_LABEL_BYTES_MAX)
            return sa_fail(err, SA_INVALID_REQUEST,
                           "a label needs a key, and has at most %d bytes in key and value",
                           SPEC_LABEL_BYTES_MAX);
    return 0;
}

int spec_check_size(const char *what, uint32_t rows, uint32_t columns, sa_error **err)
{
    if (rows >= 1 && rows <= SHIM_SIDE_MAX && columns >= 1 && columns <= SHIM_SIDE_MAX)
        return 0;
    return sa_fail(err, SA_INVALID_REQUEST, "%s has %u rows and %u columns, allowed are 1 to %d", what, rows,
                   columns, SHIM_SIDE_MAX);
}

static uint32_t or_default(uint32_t value, uint32_t other)
{
    return value ? value : other;
}

static int check_terminal(const TerminalSpec *t, sa_error **err)
{
    if (spec_check_size("spec.terminal", or_default(t->rows, SPEC_ROWS_DEFAULT),
                        or_default(t->columns, SPEC_COLUMNS_DEFAULT), err) < 0)
        return -1;
    if (strlen(t->term) > SPEC_TERM_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.terminal.term has more than %d characters",
                       SPEC_TERM_MAX);
    if ((unsigned)t->size_policy > TERMINAL_SIZE_POLICY_SMALLEST)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.terminal.size_policy %u is unknown",
                       (unsigned)t->size_policy);
    if (t->scrollback_lines > SPEC_SCROLLBACK_MAX)
        return sa_fail(err, SA_INVALID_REQUEST,
                       "spec.terminal.scrollback_lines is %u, at most %d are allowed", t->scrollback_lines,
                       SPEC_SCROLLBACK_MAX);
    return 0;
}

int spec_check(const ProcessSpec *spec, sa_error **err)
{
    if (!spec)
        return sa_fail(err, SA_INVALID_REQUEST, "spec is missing");
    if (!spec->n_argv || !spec->argv[0].len)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.argv names no program");
    if (check_list("argv", spec->argv, spec->n_argv, SHIM_ARGV_MAX, err) < 0 || check_env(spec, err) < 0)
        return -1;
    if (spec->cwd.len && (spec->cwd.data[0] != '/' || memchr(spec->cwd.data, 0, spec->cwd.len)))
        return sa_fail(err, SA_INVALID_REQUEST, "spec.cwd is not an absolute path");
    if (spec->cwd.len >= SHIM_CWD_MAX)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.cwd has %zu bytes, at most %d are allowed",
                       spec->cwd.len, SHIM_CWD_MAX - 1);
    if (spec->journal_bytes &&
        (spec->journal_bytes < SHIM_JOURNAL_MIN || spec->journal_bytes > SHIM_JOURNAL_MAX))
        return sa_fail(err, SA_INVALID_REQUEST, "spec.journal_bytes is %llu, allowed are %d to %d",
                       (unsigned long long)spec->journal_bytes, SHIM_JOURNAL_MIN, SHIM_JOURNAL_MAX);
    if (spec->stdout_retention > RETENTION_POLICY_ACKNOWLEDGED)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.stdout_retention %u is unknown",
                       (unsigned)spec->stdout_retention);
    if (spec->terminal && check_terminal(spec->terminal, err) < 0)
        return -1;
    return check_labels(spec, err) < 0 ? -1 : policy_check(spec, err);
}

/* ---- users ---- */

static bool find_entry(const char *name, struct passwd *pw, char *buf, size_t n)
{
    struct passwd *found = NULL;
    char *end;
    unsigned long uid = strtoul(name, &end, 10);
    if (getpwnam_r(name, pw, buf, n, &found) == 0 && found)
        return true;
    if (*end || end == name || uid > UINT32_MAX - 1)
        return false;
    return getpwuid_r((uid_t)uid, pw, buf, n, &found) == 0 && found;
}

int spec_user_find(const char *name, struct spec_user *ret, sa_error **err)
{
    enum { ROOM = 64 << 10 };
    cleanup_free char *buf = sa_malloc(ROOM);
    struct passwd pw;
    struct spec_user u = {.set = true};
    if (!find_entry(name, &pw, buf, ROOM))
        return sa_fail(err, SA_INVALID_REQUEST, "user `%s` does not exist", name);
    u.uid = pw.pw_uid;
    u.gid = pw.pw_gid;
    gid_t groups[SHIM_GROUPS_MAX];
    int n = SHIM_GROUPS_MAX;
    if (getgrouplist(pw.pw_name, pw.pw_gid, groups, &n) < 0)
        n = SHIM_GROUPS_MAX; /* in more than that: the first ones */
    for (; u.n_groups < (uint32_t)n; u.n_groups++)
        u.groups[u.n_groups] = groups[u.n_groups];
    if (geteuid() != 0 && u.uid != geteuid())
        return sa_fail(err, SA_PERMISSION_DENIED, "running as user `%s` needs a service that runs as root",
                       name);
    u.set = geteuid() == 0;
    *ret = u;
    return 0;
}

/* ---- the memfd ---- */

static uint32_t add_strings(struct sa_buf *b, const ProtobufCBinaryData *items, size_t n)
{
    size_t before = b->len;
    for (size_t i = 0; i < n; i++) {
        sa_buf_add(b, items[i].data, items[i].len);
        sa_buf_add(b, "", 1);
    }
    return (uint32_t)(b->len - before);
}

static bool has_variable(const ProcessSpec *spec, const char *name)
{
    for (size_t i = 0; i < spec->n_env; i++)
        if (spec->env[i].len > strlen(name) && !memcmp(spec->env[i].data, name, strlen(name)) &&
            spec->env[i].data[strlen(name)] == '=')
            return true;
    return false;
}

static void fill_terminal(struct shim_spec *h, struct sa_buf *b, const ProcessSpec *spec)
{
    const TerminalSpec *t = spec->terminal;
    h->flags |= SHIM_FLAG_TERMINAL;
    h->rows = or_default(t->rows, SPEC_ROWS_DEFAULT);
    h->columns = or_default(t->columns, SPEC_COLUMNS_DEFAULT);
    if (has_variable(spec, "TERM"))
        return;
    size_t before = b->len;
    sa_buf_addf(b, "TERM=%s", *t->term ? t->term : SPEC_TERM_DEFAULT);
    sa_buf_add(b, "", 1);
    h->env_bytes += (uint32_t)(b->len - before);
    h->envc++;
}

static void fill(struct sa_buf *b, const ProcessSpec *spec, const struct spec_mode *mode)
{
    struct shim_spec h = {.magic = SHIM_SPEC_MAGIC, .version = SHIM_VERSION};
    const ProtobufCBinaryData root = {1, (uint8_t *)(uintptr_t) "/"};
    char run[SA_ID_TEXT + 1]; /* the cgroups of a command need a name too */
    sa_id_format(sa_id_new(), run);
    h.flags = (mode->id ? 0 : SHIM_FLAG_RUN) | (mode->user->set ? SHIM_FLAG_SET_USER : 0) |
              (mode->keep ? SHIM_FLAG_KEEP : 0);
    h.uid = mode->user->uid;
    h.gid = mode->user->gid;
    h.n_groups = mode->user->n_groups;
    h.argc = (uint32_t)spec->n_argv;
    h.envc = (uint32_t)spec->n_env;
    h.retention[SHIM_STDOUT] = mode->retention[SHIM_STDOUT];
    h.retention[SHIM_STDERR] = mode->retention[SHIM_STDERR];
    h.journal_bytes = mode->journal_bytes;
    if (mode->id)
        memcpy(h.id, mode->id, SHIM_ID_TEXT);
    sa_buf_add(b, &h, sizeof h);
    sa_buf_add(b, mode->user->groups, h.n_groups * sizeof *mode->user->groups);
    h.cwd_bytes = add_strings(b, spec->cwd.len ? &spec->cwd : &root, 1);
    h.argv_bytes = add_strings(b, spec->argv, spec->n_argv);
    h.env_bytes = add_strings(b, spec->env, spec->n_env);
    if (spec->terminal)
        fill_terminal(&h, b, spec);
    limits_pack(mode->limits, mode->id ? mode->id : run, spec->limits, &h, b);
    policy_pack(spec, &h, b);
    h.size = (uint32_t)b->len;
    memcpy(b->data, &h, sizeof h);
}

ssize_t spec_write(int fd, const ProcessSpec *spec, const struct spec_mode *mode, sa_error **err)
{
    cleanup_buf struct sa_buf b = {0};
    fill(&b, spec, mode);
    ssize_t n = pwrite(fd, b.data, b.len, 0);
    explicit_bzero(b.data, b.len); /* the environment may hold secrets */
    if (n < 0)
        return sa_fail_errno(err, errno, "memory file for the description of a process");
    if ((size_t)n != b.len)
        return sa_fail(err, SA_SYSTEM_ERROR, "the description of a process was written in part");
    return n;
}

int spec_memfd(const ProcessSpec *spec, const struct spec_mode *mode, sa_error **err)
{
    cleanup_close int fd = memfd_create("spec", MFD_CLOEXEC);
    if (fd < 0)
        return sa_fail_errno(err, errno, "memory file for the description of a process");
    return spec_write(fd, spec, mode, err) < 0 ? -1 : steal_fd(&fd);
}

/* ---- digest ---- */

static int by_key(const void *a, const void *b)
{
    const ProcessSpec__LabelsEntry *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

void spec_digest(const ProcessSpec *spec, uint8_t ret_digest[static SA_SHA256_SIZE])
{
    ProcessSpec copy = *spec;
    copy.labels = sa_memdup(spec->labels, spec->n_labels * sizeof *spec->labels);
    qsort(copy.labels, copy.n_labels, sizeof *copy.labels, by_key);
    size_t n = protobuf_c_message_get_packed_size(&copy.base);
    uint8_t *packed = sa_malloc(n + 1);
    protobuf_c_message_pack(&copy.base, packed);
    struct sa_sha256 c;
    sa_sha256_init(&c);
    sa_sha256_add(&c, packed, n);
    sa_sha256_end(&c, ret_digest);
    explicit_bzero(packed, n);
    free(packed);
    free(copy.labels);
}

/* ---- what a shim reports ---- */

int spec_fail(sa_error **err, const ProcessSpec *spec, uint32_t stage, int errnum)
{
    struct sa_arena *arena = sa_arena_new();
    const char *program = rpc_utf8(arena, spec->argv[0].data, spec->argv[0].len);
    const char *cwd = rpc_utf8(arena, spec->cwd.data, spec->cwd.len);
    bool path = strchr(program, '/') != NULL;
    if (stage == SHIM_STAGE_EXEC && errnum == ENOENT)
        sa_fail(err, SA_EXEC_FAILED,
                path ? "cannot run `%s`: it or its interpreter does not exist"
                     : "cannot run `%s`: it is not in the PATH of the given environment",
                program);
    else if (stage == SHIM_STAGE_EXEC && errnum == ENOEXEC)
        sa_fail(err, SA_EXEC_FAILED, "cannot run `%s`: it is neither a program nor a script with #!",
                program);
    else if (stage == SHIM_STAGE_EXEC && errnum == E2BIG)
        sa_fail(
            err, SA_EXEC_FAILED,
            "cannot run `%s`: the kernel does not take so many arguments and so large an environment (one "
            "string has at most 128 KiB)",
            program);
    else if (stage == SHIM_STAGE_EXEC)
        sa_fail(err, SA_EXEC_FAILED, "cannot run `%s`: %s", program, strerror(errnum));
    else if (stage == SHIM_STAGE_CWD)
        sa_fail(err, SA_EXEC_FAILED, "cannot run `%s`: working directory `%s`: %s", program, cwd,
                strerror(errnum));
    else if (stage == SHIM_STAGE_LIMITS)
        sa_fail(err, SA_LIMIT_UNAVAILABLE, "cannot run `%s`: set its limits: %s", program, strerror(errnum));
    else if (stage == SHIM_STAGE_USER && *spec->group)
        sa_fail(err, SA_EXEC_FAILED, "cannot run `%s`: change to user `%s` and group `%s`: %s", program,
                spec->user, spec->group, strerror(errnum));
    else if (stage == SHIM_STAGE_USER)
        sa_fail(err, SA_EXEC_FAILED, "cannot run `%s`: change to user `%s`: %s", program, spec->user,
                strerror(errnum));
    else
        sa_fail_errno(err, errnum, "start a process for `%s`", program);
    sa_arena_free(arena);
    return -1;
}
