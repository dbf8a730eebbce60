#include "services/process-svc/kept.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "adapters/os/log.h"
#include "adapters/os/mem.h"
#include "services/process-svc/processes.h"

struct kept {
    struct kept *next, **at;
    struct processes *all;
    uint32_t pid;
    uint64_t start;
    int fd; /* of the process */
    struct sa_io *io;
};

static void remove_file(const struct processes *all, uint32_t pid)
{
    cleanup_free char *path = sa_format("%s/" SHIM_KEPT_PREFIX "%u", all->directory, pid);
    unlink(path);
}

static void forget(struct kept *k)
{
    if ((*k->at = k->next))
        k->next->at = k->at;
    sa_io_free(k->io);
    sa_close(k->fd);
    free(k);
}

static void on_ended(void *user, int fd, int events)
{
    struct kept *k = user;
    (void)fd, (void)events;
    remove_file(k->all, k->pid); /* one that was killed could not */
    forget(k);
}

static bool is_known(const struct processes *all, uint32_t pid)
{
    for (const struct kept *k = all->kept; k; k = k->next)
        if (k->pid == pid)
            return true;
    return false;
}

void kept_add(struct processes *all, uint32_t pid, uint64_t start)
{
    bool zombie;
    if (is_known(all, pid))
        return;
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
    if (fd < 0 || shim_process_start((int)pid, NULL, NULL, &zombie) != start || zombie) {
        sa_close(fd);
        remove_file(all, pid);
        return;
    }
    struct kept *k = sa_calloc(1, sizeof *k);
    *k = (struct kept){.all = all, .pid = pid, .start = start, .fd = fd, .at = &all->kept};
    if ((k->next = all->kept))
        k->next->at = &k->next;
    all->kept = k;
    k->io = sa_io_new(all->loop, fd, on_ended, k);
    sa_io_set(k->io, SA_IO_READ);
    sa_log(SA_LOG_INFO, "run.descendants_kept", "runner=%u", pid);
}

static void recover_file(struct processes *all, const char *name, const char *boot)
{
    cleanup_free char *path = sa_format("%s/%s", all->directory, name);
    cleanup_buf struct sa_buf data = {0};
    struct shim_state st;
    if (sa_read_file(path, sizeof st, &data, NULL) == 0 && shim_check_state(data.data, data.len, &st) &&
        !strcmp(st.boot_id, boot))
        kept_add(all, st.shim_pid, st.shim_start);
    else
        unlink(path);
}

void kept_recover(struct processes *all)
{
    char boot[SHIM_BOOT_ID_TEXT + 1];
    shim_boot_id(boot);
    DIR *d = opendir(all->directory);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        if (!strncmp(e->d_name, SHIM_KEPT_PREFIX, strlen(SHIM_KEPT_PREFIX)))
            recover_file(all, e->d_name, boot);
    closedir(d);
}

void kept_each(const struct processes *all, void (*fn)(void *user, uint32_t pid, uint64_t start), void *user)
{
    for (const struct kept *k = all->kept; k; k = k->next)
        fn(user, k->pid, k->start);
}

void kept_terminate(struct processes *all)
{
    sa_loop_lock(all->loop);
    kept_recover(all); /* also those that came to be just when we gave up their command */
    sa_loop_unlock(all->loop);
    for (struct kept *k = all->kept; k; k = k->next)
        syscall(SYS_pidfd_send_signal, k->fd, SIGTERM, NULL, 0);
}

size_t kept_wait(struct processes *all, uint64_t ms)
{
    uint64_t until = sa_now_ms() + ms, now;
    size_t left = 0;
    for (struct kept *k = all->kept; k; k = k->next) {
        struct pollfd p = {.fd = k->fd, .events = POLLIN};
        now = sa_now_ms();
        left += poll(&p, 1, now < until ? (int)(until - now) : 0) != 1;
    }
    return left;
}

void kept_fini(struct processes *all)
{
    while (all->kept)
        forget(all->kept);
}
