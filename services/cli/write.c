#include "services/cli/write.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void write_all(int fd, const void *p, size_t n)
{
    const uint8_t *at = p;
    while (n) {
        ssize_t r = write(fd, at, n);
        if (r < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = fd, .events = POLLOUT};
            poll(&ready, 1, -1);
        } else if (r < 0 && errno == EPIPE) {
            signal(SIGPIPE, SIG_DFL);
            raise(SIGPIPE);
        } else if (r < 0 && errno != EINTR) {
            fprintf(stderr, "sandbox-agent: output: %s\n", strerror(errno));
            exit(1);
        } else if (r > 0) {
            at += r;
            n -= (size_t)r;
        }
    }
}
