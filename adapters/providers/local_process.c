#include "adapters/providers/local_process.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/os/mem.h"

extern char **environ;

enum {
    STAT_MAX = 1024,
    ENVIRON_MAX = 256 << 10, /* bytes of a process's environment that are looked at */
    PORT_FIRST = 10000,      /* below the kernel's own choice for connections */
    PORT_LAST = 32000,
    PORT_TRIES = 500,
};

/* ---- knowing a process again ---- */

struct stat_line {
    char state;
    pid_t parent;
    uint64_t start_ticks;
};

static bool read_stat(pid_t pid, struct stat_line *ret)
{
    char path[32], line[STAT_MAX];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
    if (n <= 0)
        return false;
    line[n] = 0;
    /* The name may contain anything: what follows its last parenthesis counts. */
    const char *at = strrchr(line, ')');
    int parent;
    unsigned long long start;
    if (!at ||
        sscanf(at + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ret->state, &parent, &start) != 3)
        return false;
    ret->parent = (pid_t)parent;
    ret->start_ticks = start;
    return true;
}

static bool ended(const struct stat_line *s)
{
    return s->state == 'Z' || s->state == 'X';
}

static void read_boot_id(char ret[static 40])
{
    cleanup_buf struct sa_buf b = {0};
    ret[0] = 0;
    if (sa_read_file("/proc/sys/kernel/random/boot_id", 64, &b, NULL) == 0)
        snprintf(ret, 40, "%.*s", (int)strcspn(sa_buf_string(&b), "\n"), (char *)b.data);
}

bool local_process_alive(const struct local_process *p)
{
    char boot_id[40];
    struct stat_line s;
    read_boot_id(boot_id);
    return p->pid > 0 && !strcmp(boot_id, p->boot_id) && read_stat(p->pid, &s) &&
           s.start_ticks == p->start_ticks && !ended(&s);
}

int local_process_open(const struct local_process *p)
{
    if (p->pid <= 0)
        return -1;
    cleanup_close int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    /* Checked after it is held: the number cannot go to another one any more. */
    return fd >= 0 && local_process_alive(p) ? steal_fd(&fd) : -1;
}

/* ---- starting ---- */

/* Ours, with the label, without what names our own server. To be freed with its last string's owner:
 * *ret_label. */
static char **environment(const char *sandbox_id, char **ret_label)
{
    static const char *const dropped[] = {LOCAL_LABEL "=", "SANDBOX_AGENT_TOKEN=", "SANDBOX_AGENT_DATA_DIR="};
    const char *outer = getenv(LOCAL_LABEL);
    size_t n = 0, kept = 0;
    while (environ[n])
        n++;
    char **env = sa_calloc(n + 2, sizeof *env);
    for (size_t i = 0; i < n; i++) {
        bool drop = false;
        for (size_t d = 0; d < sizeof dropped / sizeof *dropped; d++)
            drop |= !strncmp(environ[i], dropped[d], strlen(dropped[d]));
        if (!drop)
            env[kept++] = environ[i];
    }
    *ret_label = sa_format("%s=%s%s%s", LOCAL_LABEL, outer ? outer : "", outer ? "/" : "", sandbox_id);
    env[kept] = *ret_label;
    return env;
}

static void clean(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attr, &none);
    posix_spawnattr_setsigdefault(attr, &all);
    posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

int local_process_start(char *const *argv, const char *dir, const char *log, const char *sandbox_id,
                        struct local_process *ret, sa_error **err)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    struct local_process p = {0};
    struct stat_line s;
    cleanup_free char *label = NULL;
    cleanup_free char **env = environment(sandbox_id, &label);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_init(&files);
    clean(&attr);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, 1, 2);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawn_file_actions_addchdir_np(&files, dir);
    int r = posix_spawn(&p.pid, argv[0], &files, &attr, argv, env);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    if (r)
        return sa_fail(err, SA_EXEC_FAILED, "start `%s`: %s", argv[0], strerror(r));
    read_boot_id(p.boot_id);
    /* It is our child and not reaped: its line is there even when it has ended. */
    if (read_stat(p.pid, &s))
        p.start_ticks = s.start_ticks;
    *ret = p;
    return 0;
}

/* ---- all processes of a sandbox ---- */

struct entry {
    pid_t pid, parent;
    bool labelled;
};

struct table {
    struct entry *entries;
    size_t n, cap;
};

static bool has_label(pid_t pid, const char *sandbox_id)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    cleanup_buf struct sa_buf env = {0};
    if (sa_read_file(path, ENVIRON_MAX, &env, NULL) < 0 && env.len == 0)
        return false;
    sa_buf_add(&env, "", 1);
    for (const char *at = (char *)env.data, *end = at + env.len; at < end; at += strlen(at) + 1)
        if (!strncmp(at, LOCAL_LABEL "=", sizeof LOCAL_LABEL))
            return strstr(at, sandbox_id) != NULL;
    return false;
}

static void read_table(struct table *t, const char *sandbox_id)
{
    DIR *d = opendir("/proc");
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t pid = (pid_t)atoi(e->d_name);
        struct stat_line s;
        if (!isdigit((unsigned char)e->d_name[0]) || pid <= 0 || !read_stat(pid, &s) || ended(&s))
            continue;
        if (t->n == t->cap) {
            t->cap = t->cap ? 2 * t->cap : 256;
            t->entries = sa_realloc(t->entries, t->cap * sizeof *t->entries);
        }
        t->entries[t->n++] = (struct entry){pid, s.parent, has_label(pid, sandbox_id)};
    }
    closedir(d);
}

/* Descendants of a labelled process belong to it, whatever their environment says. */
static void spread(struct table *t)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < t->n; i++)
            for (size_t k = 0; k < t->n && !t->entries[i].labelled; k++)
                if (t->entries[k].labelled && t->entries[k].pid == t->entries[i].parent)
                    changed = t->entries[i].labelled = true;
    }
}

int local_process_signal_all(const char *sandbox_id, int signum)
{
    struct table t = {0};
    int n = 0;
    read_table(&t, sandbox_id);
    spread(&t);
    for (size_t i = 0; i < t.n; i++) {
        if (!t.entries[i].labelled || t.entries[i].pid == getpid())
            continue;
        n++;
        if (signum)
            kill(t.entries[i].pid, signum);
    }
    free(t.entries);
    return n;
}

/* ---- ports ---- */

static bool port_free(unsigned port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    return fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0;
}

unsigned local_free_ports(unsigned n)
{
    for (int tries = 0; tries < PORT_TRIES; tries++) {
        uint32_t random;
        sa_random(&random, sizeof random);
        unsigned first = PORT_FIRST + random % (PORT_LAST - PORT_FIRST), i = 0;
        while (i < n && port_free(first + i))
            i++;
        if (i == n)
            return first;
    }
    return 0;
}
