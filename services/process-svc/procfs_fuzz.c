/* Lines of /proc hold names that any process may choose: they are refused, or what is taken from them lies
 * inside of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "services/process-svc/ports.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1); /* exactly as large, so that a sanitizer sees a step outside */
    struct proc p;
    struct listener l;
    if (!copy)
        return 0;
    if (size)
        memcpy(copy, data, size);
    if (proc_parse_stat(copy, size, &p) &&
        (p.pid < 0 || p.parent < 0 || !memchr(p.name, 0, sizeof p.name) || strlen(p.name) > size))
        abort();
    if (ports_parse_line(copy, size, &l) &&
        (!l.port || l.port > 65535 || !l.inode || !memchr(l.address, 0, sizeof l.address)))
        abort();
    free(copy);
    return 0;
}
