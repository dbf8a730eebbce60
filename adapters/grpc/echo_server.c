/* The EchoService with health and reflection on an address of your choice, for foreign clients:
 *
 *     bazel run //adapters/grpc:echo_server -- unix:/tmp/echo
 *     npx @bufbuild/buf curl --protocol grpc --http2-prior-knowledge --unix-socket /tmp/echo \
 *         --data '{"text":"hello"}' http://localhost/sandboxagent.test.v1.EchoService/EchoOnce */
#include <stdio.h>

#include "adapters/grpc/echo.h"

int main(int argc, char **argv)
{
    static struct echo echo = ECHO_INIT;
    if (argc != 2) {
        fprintf(stderr, "usage: %s ADDRESS\n", argv[0]);
        return 2;
    }
    struct sa_loop *loop = sa_loop_new(NULL);
    struct rpc_runtime *rt = rpc_runtime_new(loop);
    sa_loop_lock(loop);
    struct rpc_server *s = rpc_server_new(rt, NULL);
    echo_service_register(s, &echo_handlers, &echo);
    rpc_server_add_standard(s);
    rpc_server_set_serving(s, NULL, true);
    sa_loop_unlock(loop);
    sa_error *err = NULL;
    int port = 0;
    if (rpc_server_listen(s, argv[1], NULL, &port, &err) < 0) {
        fprintf(stderr, "%s\n", err->message);
        return 1;
    }
    rpc_server_start(s);
    printf("listening on %s, port %d\n", argv[1], port);
    fflush(stdout);
    sa_loop_run(loop);
    return 0;
}
