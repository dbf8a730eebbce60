#include "services/process-svc/shim/protocol.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Copies a record of fixed size when it is one. */
static bool take(const void *data, size_t n, void *ret, size_t size, uint32_t magic)
{
    uint32_t head[2];
    if (n < size)
        return false;
    memcpy(head, data, sizeof head);
    if (head[0] != magic || head[1] != SHIM_VERSION)
        return false;
    memcpy(ret, data, size);
    return true;
}

/* Is p[0..n) exactly `count` strings that are not cut? */
static bool is_strings(const char *p, uint32_t n, uint32_t count)
{
    const char *end = p + n;
    for (; count; count--) {
        const char *nul = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
        if (!nul)
            return false;
        p = nul + 1;
    }
    return p == end;
}

/* What is said about restarts, limits and readiness. */
static bool check_policies(const struct shim_spec *s)
{
    return s->restart <= SHIM_RESTART_ALWAYS && s->n_cgroups <= SHIM_CGROUPS_MAX &&
           s->n_settings <= SHIM_SETTINGS_MAX && s->cgroups_bytes <= SHIM_CGROUP_PATHS_MAX &&
           s->settings_bytes <= SHIM_CGROUP_PATHS_MAX && s->pattern_bytes <= SHIM_PATTERN_MAX &&
           (s->restart == SHIM_RESTART_NONE || (s->backoff_ms && s->backoff_max_ms >= s->backoff_ms));
}

static bool is_size(uint32_t rows, uint32_t columns)
{
    return rows >= 1 && rows <= SHIM_SIDE_MAX && columns >= 1 && columns <= SHIM_SIDE_MAX;
}

bool shim_check_spec(const void *data, size_t n, struct shim_spec_parts *ret_parts)
{
    struct shim_spec s;
    if (!take(data, n, &s, sizeof s, SHIM_SPEC_MAGIC) || s.size != n || s.n_groups > SHIM_GROUPS_MAX ||
        s.argc == 0 || s.cwd_bytes == 0 || s.cwd_bytes > SHIM_CWD_MAX || s.argv_bytes > SHIM_ARGV_MAX ||
        s.env_bytes > SHIM_ENV_MAX || s.journal_bytes == 0 || s.journal_bytes > SHIM_JOURNAL_MAX ||
        s.retention[0] > SHIM_ACKNOWLEDGED || s.retention[1] > SHIM_ACKNOWLEDGED ||
        !memchr(s.id, 0, sizeof s.id) || !check_policies(&s))
        return false;
    size_t groups = s.n_groups * sizeof(uint32_t);
    if (n != sizeof s + groups + s.cwd_bytes + s.argv_bytes + s.env_bytes + s.cgroups_bytes +
                 s.settings_bytes + s.pattern_bytes)
        return false;
    struct shim_spec_parts parts;
    parts.groups = (const uint32_t *)(const void *)((const char *)data + sizeof s);
    parts.cwd = (const char *)data + sizeof s + groups;
    parts.argv = parts.cwd + s.cwd_bytes;
    parts.env = parts.argv + s.argv_bytes;
    parts.cgroups = parts.env + s.env_bytes;
    parts.settings = parts.cgroups + s.cgroups_bytes;
    parts.pattern = parts.settings + s.settings_bytes;
    if (!is_strings(parts.cwd, s.cwd_bytes, 1) || !is_strings(parts.argv, s.argv_bytes, s.argc) ||
        !is_strings(parts.env, s.env_bytes, s.envc) ||
        !is_strings(parts.cgroups, s.cgroups_bytes, s.n_cgroups) ||
        !is_strings(parts.settings, s.settings_bytes, 2 * s.n_settings))
        return false;
    if ((s.flags & SHIM_FLAG_RUN) && s.journal_bytes > RUNNER_OUTPUT_MAX)
        return false;
    /* The id becomes a file name. */
    if (strlen(s.id) != ((s.flags & SHIM_FLAG_RUN) ? 0 : SHIM_ID_TEXT) ||
        strspn(s.id, "0123456789abcdefghjkmnpqrstvwxyz") != strlen(s.id))
        return false;
    if ((s.flags & SHIM_FLAG_TERMINAL) && !is_size(s.rows, s.columns))
        return false;
    *ret_parts = parts;
    return true;
}

bool shim_check_spawn(const void *data, size_t n, struct shim_spawn *ret)
{
    struct shim_spawn s;
    if (n != sizeof s || !take(data, n, &s, sizeof s, SHIM_SPAWN_MAGIC) || s.type < SHIM_SPAWN ||
        s.type > SHIM_SPAWN_RUNNER)
        return false;
    *ret = s;
    return true;
}

bool shim_check_request(const void *data, size_t n, struct shim_request *ret)
{
    struct shim_request r;
    if (!take(data, n, &r, sizeof r, SHIM_REQUEST_MAGIC) || r.type < SHIM_STATUS ||
        (r.type > SHIM_RESIZE && r.type != SHIM_RUN) ||
        n - sizeof r > (r.type == SHIM_INPUT ? SHIM_INPUT_CHUNK_MAX : 0))
        return false;
    if (r.type == SHIM_ACK && r.stream >= SHIM_STREAMS)
        return false;
    if (r.type == SHIM_RESIZE && !is_size(r.value, r.scope))
        return false;
    if (r.type == SHIM_SIGNAL &&
        (r.value < 1 || r.value > 64 || r.scope < SHIM_SCOPE_PROCESS || r.scope > SHIM_SCOPE_TREE))
        return false;
    if (r.type == SHIM_RUN && (r.value < sizeof(struct shim_spec) || r.offset > RUNNER_INPUT_MAX))
        return false;
    *ret = r;
    return true;
}

/* FNV-1a: against a file that was cut or mixed up, not against a forger. */
static uint64_t sum(const void *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

void shim_seal_exit(struct shim_exit *e)
{
    e->magic = SHIM_EXIT_MAGIC;
    e->version = SHIM_VERSION;
    e->check = sum(e, offsetof(struct shim_exit, check));
}

bool shim_check_exit(const void *data, size_t n, struct shim_exit *ret)
{
    struct shim_exit e;
    if (n != sizeof e || !take(data, n, &e, sizeof e, SHIM_EXIT_MAGIC) ||
        e.check != sum(&e, offsetof(struct shim_exit, check)))
        return false;
    if (e.kind == SHIM_EXIT_CODE ? e.value > 255 : e.kind != SHIM_EXIT_SIGNAL || e.value < 1 || e.value > 64)
        return false;
    *ret = e;
    return true;
}

bool shim_check_status(const void *data, size_t n, struct shim_status *ret)
{
    struct shim_status s;
    if (n != sizeof s || !take(data, n, &s, sizeof s, SHIM_STATUS_MAGIC) || s.phase < SHIM_STARTING ||
        s.phase > SHIM_BACKING_OFF)
        return false;
    for (int i = 0; i < SHIM_STREAMS; i++)
        if (s.first[i] > s.end[i] || s.end[i] > INT64_MAX)
            return false;
    if (s.phase >= SHIM_EXITED && !shim_check_exit(&s.exit, sizeof s.exit, &s.exit))
        return false;
    if (s.restarts && !shim_check_exit(&s.last_exit, sizeof s.last_exit, &s.last_exit))
        return false;
    *ret = s;
    return true;
}

bool shim_check_state(const void *data, size_t n, struct shim_state *ret)
{
    struct shim_state s;
    if (!take(data, n, &s, sizeof s, SHIM_STATE_MAGIC) || !memchr(s.boot_id, 0, sizeof s.boot_id))
        return false;
    *ret = s;
    return true;
}

/* Reads a small file of /proc; the length, or -1. NUL-terminates. */
static int read_small(const char *path, char *buf, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, buf, size - 1);
    close(fd);
    if (n < 0)
        return -1;
    buf[n] = 0;
    return (int)n;
}

uint64_t shim_process_start(int pid, int *ret_parent, int *ret_session, bool *ret_zombie)
{
    char path[48], buf[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (read_small(path, buf, sizeof buf) <= 0)
        return 0;
    /* "pid (name) state ppid pgrp session ...": the name may hold anything, so count from the last ")". */
    char *at = strrchr(buf, ')'), state;
    int parent, session;
    if (!at || sscanf(at, ") %c %d %*d %d", &state, &parent, &session) != 3)
        return 0;
    for (int field = 2; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return 0;
    if (ret_parent)
        *ret_parent = parent;
    if (ret_session)
        *ret_session = session;
    if (ret_zombie)
        *ret_zombie = state == 'Z' || state == 'X';
    return strtoull(at + 1, NULL, 10);
}

void shim_boot_id(char ret_text[static SHIM_BOOT_ID_TEXT + 1])
{
    char buf[64];
    int n = read_small("/proc/sys/kernel/random/boot_id", buf, sizeof buf);
    snprintf(ret_text, SHIM_BOOT_ID_TEXT + 1, "%.*s", n > 0 ? (int)strcspn(buf, "\n") : 0, buf);
}
