#include "services/process-svc/policy.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "services/process-svc/process_limits.h"

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static int check_restart(const RestartPolicy *p, sa_error **err)
{
    uint32_t first = or_default(p->backoff_ms, POLICY_BACKOFF_MS);
    uint32_t longest = or_default(p->backoff_max_ms, POLICY_BACKOFF_MAX_MS);
    if ((unsigned)p->mode > RESTART_MODE_ALWAYS)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.restart.mode %u is unknown", (unsigned)p->mode);
    if (longest > POLICY_PAUSE_MAX_MS)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.restart.backoff_max_ms is %u, at most %d are allowed",
                       longest, POLICY_PAUSE_MAX_MS);
    if (first > longest)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.restart: the first pause is %u ms, the longest %u ms",
                       first, longest);
    return 0;
}

static int check_readiness(const ReadinessProbe *p, sa_error **err)
{
    size_t n = p->output_contains.len;
    if (p->kind_case == READINESS_PROBE__KIND_TCP_PORT && (p->tcp_port < 1 || p->tcp_port > 65535))
        return sa_fail(err, SA_INVALID_REQUEST, "spec.readiness.tcp_port is %u, allowed are 1 to 65535",
                       p->tcp_port);
    if (p->kind_case == READINESS_PROBE__KIND_OUTPUT_CONTAINS && (n < 1 || n > SHIM_PATTERN_MAX))
        return sa_fail(err, SA_INVALID_REQUEST,
                       "spec.readiness.output_contains has %zu bytes, allowed are 1 to %d", n,
                       SHIM_PATTERN_MAX);
    if (p->kind_case == READINESS_PROBE__KIND__NOT_SET)
        return sa_fail(err, SA_INVALID_REQUEST, "spec.readiness says neither output_contains nor tcp_port");
    return 0;
}

int policy_check(const ProcessSpec *spec, sa_error **err)
{
    if (spec->restart && check_restart(spec->restart, err) < 0)
        return -1;
    if (spec->readiness && check_readiness(spec->readiness, err) < 0)
        return -1;
    return limits_check(spec->limits, err);
}

void policy_pack(const ProcessSpec *spec, struct shim_spec *h, struct sa_buf *b)
{
    const RestartPolicy *p = spec->restart;
    if (p && p->mode > RESTART_MODE_NONE) {
        h->restart = p->mode == RESTART_MODE_ALWAYS ? SHIM_RESTART_ALWAYS : SHIM_RESTART_ON_FAILURE;
        h->backoff_ms = or_default(p->backoff_ms, POLICY_BACKOFF_MS);
        h->backoff_max_ms = or_default(p->backoff_max_ms, POLICY_BACKOFF_MAX_MS);
        h->max_restarts = or_default(p->max_restarts, POLICY_RESTARTS);
    }
    if (spec->readiness && spec->readiness->kind_case == READINESS_PROBE__KIND_OUTPUT_CONTAINS) {
        h->pattern_bytes = (uint32_t)spec->readiness->output_contains.len;
        sa_buf_add(b, spec->readiness->output_contains.data, h->pattern_bytes);
    }
}

void policy_to_record(const ProcessSpec *spec, ProcessRecord *r)
{
    r->group = spec->group;
    r->limits = spec->limits;
    r->restart = spec->restart;
    r->readiness = spec->readiness;
}

void policy_to_message(struct sa_arena *a, const ProcessRecord *r, ProcessSpec *m)
{
    m->group = sa_arena_strdup(a, r->group);
    if (r->limits)
        m->limits = sa_arena_memdup(a, r->limits, sizeof *r->limits);
    if (r->restart)
        m->restart = sa_arena_memdup(a, r->restart, sizeof *r->restart);
    if (!r->readiness)
        return;
    m->readiness = sa_arena_memdup(a, r->readiness, sizeof *r->readiness);
    if (r->readiness->kind_case == READINESS_PROBE__KIND_OUTPUT_CONTAINS)
        m->readiness->output_contains.data =
            sa_arena_memdup(a, r->readiness->output_contains.data, r->readiness->output_contains.len);
}

/* ---- the group ---- */

static bool find_group(const char *name, gid_t *ret)
{
    enum { ROOM = 64 << 10 };
    cleanup_free char *buf = sa_malloc(ROOM);
    struct group group, *found = NULL;
    char *end;
    if (getgrnam_r(name, &group, buf, ROOM, &found) == 0 && found) {
        *ret = group.gr_gid;
        return true;
    }
    unsigned long gid = strtoul(name, &end, 10);
    if (*end || end == name || gid > UINT32_MAX - 1)
        return false;
    *ret = (gid_t)gid;
    return true;
}

int policy_group_find(const char *name, struct spec_user *user, sa_error **err)
{
    gid_t gid;
    if (!find_group(name, &gid))
        return sa_fail(err, SA_INVALID_REQUEST, "group `%s` does not exist", name);
    if (geteuid() != 0)
        return gid == getegid() ? 0
                                : sa_fail(err, SA_PERMISSION_DENIED,
                                          "running as group `%s` needs a service that runs as root", name);
    if (!user->set) { /* as the service, but for the group */
        gid_t groups[SHIM_GROUPS_MAX];
        int n = getgroups(SHIM_GROUPS_MAX, groups);
        *user = (struct spec_user){.set = true, .uid = geteuid()};
        for (; user->n_groups < (uint32_t)(n > 0 ? n : 0); user->n_groups++)
            user->groups[user->n_groups] = groups[user->n_groups];
    }
    user->gid = gid;
    return 0;
}
