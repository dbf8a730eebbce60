#include "adapters/grpc/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adapters/os/file.h"

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fixture: %s\n", what);
    abort();
}

void counter_add(struct counter *c, uint64_t n)
{
    pthread_mutex_lock(&c->lock);
    c->n += n;
    pthread_cond_broadcast(&c->cond);
    pthread_mutex_unlock(&c->lock);
}

uint64_t counter_get(struct counter *c)
{
    pthread_mutex_lock(&c->lock);
    uint64_t n = c->n;
    pthread_mutex_unlock(&c->lock);
    return n;
}

bool counter_wait(struct counter *c, uint64_t n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&c->lock);
    int r = 0;
    while (c->n < n && !r)
        r = pthread_cond_timedwait(&c->cond, &c->lock, &until);
    bool reached = c->n >= n;
    pthread_mutex_unlock(&c->lock);
    return reached;
}

static const char *pem(const char *name)
{
    cleanup_free char *path = sa_format("adapters/grpc/%s", name);
    struct sa_buf b = {0};
    must(!sa_read_file(path, 1 << 16, &b, NULL), path);
    return sa_buf_string(&b);
}

static struct rpc_tls server_tls, client_tls;
static const char *ca;

static void load_pem(void)
{
    if (ca)
        return;
    ca = pem("ca.pem");
    server_tls = (struct rpc_tls){.cert_chain = pem("server.pem"), .private_key = pem("server.key")};
    client_tls =
        (struct rpc_tls){.cert_chain = pem("client.pem"), .private_key = pem("client.key"), .ca = ca};
}

const struct rpc_tls *test_server_tls(bool mutual)
{
    load_pem();
    server_tls.ca = mutual ? ca : NULL;
    return &server_tls;
}

const struct rpc_tls *test_client_tls(bool with_certificate)
{
    static struct rpc_tls without;
    load_pem();
    without = (struct rpc_tls){.ca = ca};
    return with_certificate ? &client_tls : &without;
}

static void *run_loop(void *arg)
{
    sa_loop_run(arg);
    return NULL;
}

void fixture_start_server(struct fixture *f, const struct rpc_server_options *opt,
                          const struct rpc_service *service, const void *handlers, void *api)
{
    sa_loop_lock(f->loop);
    f->server = rpc_server_new(f->rt, opt);
    if (service)
        rpc_server_add(f->server, service, handlers, api);
    rpc_server_add_standard(f->server);
    rpc_server_set_serving(f->server, NULL, true);
    sa_loop_unlock(f->loop);
    cleanup_error sa_error *err = NULL;
    int port = 0;
    int r = rpc_server_listen(f->server, f->address, f->over == OVER_TLS ? test_server_tls(true) : NULL,
                              &port, &err);
    must(!r, err ? err->message : "listen");
    if (f->over != OVER_UNIX)
        snprintf(f->address, sizeof f->address, "localhost:%d", port);
    rpc_server_start(f->server);
}

struct rpc_channel *fixture_channel(struct fixture *f, const struct rpc_channel_options *opt)
{
    struct rpc_channel_options o = {0};
    if (opt)
        o = *opt;
    o.target = f->address;
    if (f->over == OVER_TLS && !o.tls)
        o.tls = test_client_tls(true);
    sa_loop_lock(f->loop);
    struct rpc_channel *ch = rpc_channel_new(f->rt, &o);
    sa_loop_unlock(f->loop);
    return ch;
}

void fixture_start(struct fixture *f, enum transport over, const struct rpc_server_options *opt,
                   const struct rpc_service *service, const void *handlers, void *api)
{
    *f = (struct fixture){.over = over};
    strcpy(f->dir, "/tmp/rpcXXXXXX"); /* a Bazel directory is too long for a socket */
    must(mkdtemp(f->dir), "mkdtemp");
    if (over == OVER_UNIX)
        snprintf(f->address, sizeof f->address, "unix:%s/s", f->dir);
    else
        strcpy(f->address, "localhost:0");
    f->loop = sa_loop_new(NULL);
    f->rt = rpc_runtime_new(f->loop);
    must(!pthread_create(&f->loop_thread, NULL, run_loop, f->loop), "thread");
    fixture_start_server(f, opt, service, handlers, api);
    f->channel = fixture_channel(f, NULL);
}

static void free_channel(struct fixture *f)
{
    sa_loop_lock(f->loop);
    rpc_channel_free(f->channel);
    sa_loop_unlock(f->loop);
}

void fixture_stop(struct fixture *f)
{
    free_channel(f);
    rpc_server_free(f->server);
    rpc_runtime_free(f->rt);
    sa_loop_lock(f->loop);
    sa_loop_stop(f->loop);
    sa_loop_unlock(f->loop);
    pthread_join(f->loop_thread, NULL);
    sa_loop_free(f->loop);
    sa_remove_tree(f->dir, NULL);
}
