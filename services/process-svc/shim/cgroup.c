#include "services/process-svc/shim/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *after(const char *text)
{
    return text + strlen(text) + 1;
}

static int write_file(const char *path, const char *value)
{
    size_t n = strlen(value);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t r = write(fd, value, n);
    int saved = errno;
    close(fd);
    errno = saved;
    return r == (ssize_t)n ? 0 : -1;
}

static int write_in(const char *directory, const char *file, const char *value)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, file) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return write_file(path, value);
}

int cgroups_make(const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    const char *at = parts->cgroups;
    for (uint32_t i = 0; i < spec->n_cgroups; i++, at = after(at))
        if (mkdir(at, 0755) < 0 && errno != EEXIST)
            return -1;
    at = parts->settings;
    for (uint32_t i = 0; i < spec->n_settings; i++, at = after(after(at)))
        if (write_file(at, after(at)) < 0)
            return -1;
    return 0;
}

int cgroups_join(const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    const char *at = parts->cgroups;
    for (uint32_t i = 0; i < spec->n_cgroups; i++, at = after(at))
        if (write_in(at, "cgroup.procs", "0") < 0)
            return -1;
    return 0;
}

void cgroups_kill(const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    const char *at = parts->cgroups;
    for (uint32_t i = 0; i < spec->n_cgroups; i++, at = after(at))
        write_in(at, "cgroup.kill", "1"); /* not there with v1: the walk through the tree does it */
}

/* The line "oom_kill <n>" of a file; 0: there is none. */
static uint32_t read_oom_kills(const char *directory, const char *file)
{
    char text[1024];
    snprintf(text, sizeof text, "%.900s/%s", directory, file);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *at = strstr(text, "oom_kill ");
    return at ? (uint32_t)strtoul(at + strlen("oom_kill "), NULL, 10) : 0;
}

uint32_t cgroups_oom_kills(const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    const char *at = parts->cgroups;
    uint32_t count = 0;
    for (uint32_t i = 0; i < spec->n_cgroups; i++, at = after(at))
        count += read_oom_kills(at, "memory.oom_control") + read_oom_kills(at, "memory.events");
    return count;
}

void cgroups_remove(const struct shim_spec *spec, const struct shim_spec_parts *parts)
{
    const char *at = parts->cgroups;
    for (uint32_t i = 0; i < spec->n_cgroups; i++, at = after(at))
        rmdir(at);
}
