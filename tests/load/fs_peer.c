/* The npm package sandbox-agent over HTTP/1.1. It takes bodies of up to 2 MiB: large files cannot be sent,
 * archives have to come in parts; and it packs none. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters/os/file.h"
#include "tests/load/fs_bench.h"
#include "tests/load/http.h"

enum { LANES = 16, BODY_MAX = 2 << 20 };

struct peer {
    unsigned port;
};

struct lane {
    pthread_t thread;
    struct connection *c;
    const char *dir;
    bool write;
    size_t from, step, n;
    uint64_t *ns;
};

static void send_body(struct connection *c, const char *method, const char *path, const char *type,
                      const void *p, size_t n)
{
    cleanup_free char *head = sa_format("%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %s\r\n"
                                        "content-length: %zu\r\n\r\n",
                                        method, path, type, n);
    cleanup_buf struct sa_buf all = {0};
    sa_buf_add(&all, head, strlen(head));
    sa_buf_add(&all, p, n);
    http_send(c, all.data, all.len);
}

static void one(struct lane *l, size_t i)
{
    static const char content[SMALL];
    cleanup_free char *path = sa_format("/v1/fs/file?path=%s/f%zu", l->dir, i % FILES);
    if (l->write) {
        send_body(l->c, "PUT", path, "application/octet-stream", content, sizeof content);
        free(http_answer(l->c, path));
        return;
    }
    http_request(l->c, "GET", path, "");
    if (http_drain(l->c, path) != SMALL)
        die("peer: %s", path);
}

static void *run_lane(void *user)
{
    struct lane *l = user;
    for (size_t i = l->from; i < l->n; i += l->step) {
        uint64_t start = sa_now_ns();
        one(l, i);
        l->ns[i] = sa_now_ns() - start;
    }
    return NULL;
}

static void smalls(struct peer *p, const char *dir, bool write, size_t at_once, uint64_t *ret_ns, size_t n)
{
    struct lane lanes[LANES];
    for (size_t i = 0; i < at_once; i++)
        lanes[i] = (struct lane){.c = http_new(p->port),
                                 .dir = dir,
                                 .write = write,
                                 .from = i,
                                 .step = at_once,
                                 .n = n,
                                 .ns = ret_ns};
    for (size_t i = 0; i < at_once; i++)
        if (pthread_create(&lanes[i].thread, NULL, run_lane, &lanes[i]))
            die("thread");
    for (size_t i = 0; i < at_once; i++) {
        pthread_join(lanes[i].thread, NULL);
        http_free(lanes[i].c);
    }
}

static void read_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    smalls(user, dir, false, at_once, ret_ns, n);
}

static void write_small(void *user, const char *dir, size_t at_once, uint64_t *ret_ns, size_t n)
{
    smalls(user, dir, true, at_once, ret_ns, n);
}

static uint64_t get(void *user, const char *path)
{
    struct peer *p = user;
    struct connection *c = http_new(p->port);
    cleanup_free char *url = sa_format("/v1/fs/file?path=%s", path);
    http_request(c, "GET", url, "");
    uint64_t n = http_drain(c, url);
    http_free(c);
    return n;
}

static size_t list(void *user, const char *dir)
{
    struct peer *p = user;
    struct connection *c = http_new(p->port);
    cleanup_free char *url = sa_format("/v1/fs/entries?path=%s", dir);
    cleanup_free char *answer = http_call(c, "GET", url, "");
    size_t n = 0;
    for (const char *at = answer; (at = strstr(at, "\"entryType\"")); at++)
        n++;
    http_free(c);
    return n;
}

/* A tar is blocks of 512 bytes, and every file here is small: it is cut before any block that begins an
 * entry. Two empty blocks end each part. */
static void unpack(void *user, const char *dir, const char *tar)
{
    enum { BLOCK = 512, SIZE_AT = 124, SIZE_N = 12 };
    struct peer *p = user;
    struct connection *c = http_new(p->port);
    cleanup_free char *url = sa_format("/v1/fs/upload-batch?path=%s", dir);
    cleanup_buf struct sa_buf all = {0}, part = {0};
    if (sa_read_file(tar, 1u << 30, &all, NULL) < 0)
        die("read %s", tar);
    for (size_t at = 0, n; at + BLOCK <= all.len; at += n) {
        const char *head = (const char *)all.data + at;
        size_t size = *head ? strtoul(head + SIZE_AT, NULL, 8) : 0;
        n = BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
        if (!*head || part.len + n + 2 * BLOCK > BODY_MAX) {
            memset(sa_buf_reserve(&part, 2 * BLOCK), 0, 2 * BLOCK);
            part.len += 2 * BLOCK;
            send_body(c, "POST", url, "application/x-tar", part.data, part.len);
            free(http_answer(c, url));
            part.len = 0;
        }
        if (!*head)
            break;
        sa_buf_add(&part, head, n);
    }
    http_free(c);
}

struct way peer_way(const char *program, const char *directory, unsigned port)
{
    struct peer *p = sa_calloc(1, sizeof *p);
    cleanup_free char *text = sa_format("%u", port);
    p->port = port;
    start_program((const char *const[]){program, "server", "--no-token", "--no-telemetry", "--host",
                                        "127.0.0.1", "--port", text, NULL},
                  directory);
    close(connect_to(port));
    return (struct way){.name = "sandbox-agent",
                        .user = p,
                        .read_small = read_small,
                        .write_small = write_small,
                        .get = get,
                        .list = list,
                        .unpack = unpack};
}

void peer_free(struct way *w)
{
    free(w->user);
}
