/* The blocking steps of a local sandbox: each runs on a worker thread and has the sandbox for itself
 * meanwhile. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adapters/os/clock.h"
#include "adapters/os/file.h"
#include "adapters/providers/local_internal.h"

enum { TOKEN_BYTES = 24, LOG_MAX = 1 << 20 };

/* Ends whatever carries the label. Blocks. */
static int end_labelled(const char *id, sa_error **err)
{
    enum { PATIENCE_MS = 10000, AGAIN_MS = 20 };
    uint64_t deadline = sa_now_ms() + PATIENCE_MS;
    int left;
    while ((left = local_process_signal_all(id, SIGKILL)) > 0) {
        if (sa_now_ms() >= deadline)
            return sa_fail(err, SA_PROVIDER_ERROR, "local: %d processes of sandbox %s do not end", left, id);
        struct timespec moment = {.tv_nsec = AGAIN_MS * 1000000L};
        nanosleep(&moment, NULL);
    }
    return 0;
}

static int make_token(const char *data, sa_error **err)
{
    cleanup_free char *path = sa_format("%s/token", data);
    if (access(path, F_OK) == 0)
        return 0;
    uint8_t random[TOKEN_BYTES];
    char hex[2 * TOKEN_BYTES + 2];
    sa_random(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(hex + 2 * i, 3, "%02x", random[i]);
    strcat(hex, "\n");
    int r = sa_write_file(path, hex, strlen(hex), 0600, err);
    explicit_bzero(hex, sizeof hex);
    return r;
}

static int start_server(struct local_sandbox *s, sa_error **err)
{
    const struct local *l = s->local;
    cleanup_free char *data = sa_format("%s/data", s->dir), *runs = sa_format("%s/run", s->dir);
    cleanup_free char *log = sa_format("%s/log", s->dir), *old = sa_format("%s/log.1", s->dir);
    cleanup_free char *port = sa_format("%u", s->port);
    const char *argv[24] = {l->program, "server",    "--data-dir",  data,          "--run-dir",
                            runs,       "--port",    port,          "--grpc-port", port,
                            "--host",   "127.0.0.1", "--log-level", "warn"};
    size_t n = 14;
    if (l->agent_user)
        argv[n++] = "--agent-user", argv[n++] = l->agent_user;
    if (l->agents_dir)
        argv[n++] = "--agents-dir", argv[n++] = l->agents_dir;
    if (l->durability)
        argv[n++] = "--durability", argv[n++] = l->durability;
    rename(log, old);
    return local_process_start((char *const *)(uintptr_t)argv, s->dir, log, s->id, &s->process, err);
}

void local_work_prepare(void *user)
{
    struct local_sandbox *s = user;
    cleanup_free char *data = sa_format("%s/data", s->dir), *sign = sa_format("%s/data/server", s->dir);
    if (end_labelled(s->id, &s->err) < 0 || sa_mkdirs(s->dir, 0700, &s->err) < 0 ||
        sa_mkdirs(data, 0700, &s->err) < 0 || make_token(data, &s->err) < 0)
        return;
    unlink(sign);
    if (!s->port || s->tries)
        s->port = local_free_ports(LOCAL_PORTS);
    if (!s->port)
        sa_fail(&s->err, SA_PROVIDER_ERROR, "local: no %d neighbouring ports are free", LOCAL_PORTS);
    else
        start_server(s, &s->err);
}

/* The last line the server wrote, for a message. */
void local_work_read_log(void *user)
{
    struct local_sandbox *s = user;
    cleanup_free char *path = sa_format("%s/log", s->dir);
    cleanup_buf struct sa_buf b = {0};
    sa_read_file(path, LOG_MAX, &b, NULL);
    char *text = sa_buf_string(&b);
    size_t n = strlen(text);
    while (n && text[n - 1] == '\n')
        text[--n] = 0;
    const char *line = strrchr(text, '\n');
    free(s->text);
    s->text = sa_strdup(line ? line + 1 : text);
}

void local_work_clear(void *user)
{
    struct local_sandbox *s = user;
    if (end_labelled(s->id, &s->err) == 0 && s->remove)
        sa_remove_tree(s->dir, &s->err);
}
