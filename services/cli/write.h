/* Bytes to a descriptor, unchanged, past stdio. */
#ifndef SERVICES_CLI_WRITE_H_
#define SERVICES_CLI_WRITE_H_

#include <stddef.h>

/* Writes all of it, waiting as long as it takes. When nobody reads any more, this program ends as SIGPIPE
 * ends one; any other error is told, and it ends with 1. */
void write_all(int fd, const void *p, size_t n);

#endif
