#define SA_FAULTS
#include "adapters/os/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void sa_fault(const char *point)
{
    static atomic_int hits;
    const char *wanted = getenv("SA_FAULT");
    size_t n = strlen(point);
    if (!wanted || strncmp(wanted, point, n) != 0 || wanted[n] != ':')
        return;
    if (atomic_fetch_add(&hits, 1) + 1 == atoi(wanted + n + 1))
        raise(SIGKILL);
}
