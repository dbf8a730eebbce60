/* The EchoService of the tests. */
#ifndef ADAPTERS_GRPC_ECHO_H_
#define ADAPTERS_GRPC_ECHO_H_

#include "adapters/grpc/testing.h"
#include "sandboxagent/test/v1/echo_service.rpc.h"

struct echo {
    uint64_t seq;
    struct counter cancelled; /* on_cancel of any stream, and of held unary calls */
    struct counter ended;     /* on_end of any stream */
    struct counter held;      /* EchoOnce calls with the text "hold", answered by echo_release */
    struct counter sent;      /* bytes that EchoMany handed to send */
    struct counter received;  /* messages of EchoSum and EchoChat */
    struct counter waiting;   /* times that EchoMany found no room */
    struct rpc_call *hold[16];
    bool pause; /* EchoSum pauses after its first message */
    struct rpc_call *paused;
};
#define ECHO_INIT                                                                                            \
    {                                                                                                        \
        .cancelled = COUNTER_INIT, .ended = COUNTER_INIT, .held = COUNTER_INIT, .sent = COUNTER_INIT,        \
        .received = COUNTER_INIT, .waiting = COUNTER_INIT                                                    \
    }

extern const struct echo_service_handlers echo_handlers;
/* Answers what was held. Under the lock. */
void echo_release(struct echo *e);

#endif
