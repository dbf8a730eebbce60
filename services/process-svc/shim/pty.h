/* The pseudo terminal of a child. */
#ifndef SERVICES_PROCESS_SVC_SHIM_PTY_H_
#define SERVICES_PROCESS_SVC_SHIM_PTY_H_

#include <sys/types.h>

#include "services/process-svc/shim/protocol.h"

enum { PTY_BUFFERED_MAX = 64 << 10 }; /* more than the kernel keeps of what was written to a terminal */

/* Makes one; the spec's user owns it. *ret_master does not block. 0, or -1 with errno. */
int pty_open(const struct shim_spec *spec, uint32_t rows, uint32_t columns, int *ret_master, int *ret_slave);
/* The foreground processes get SIGWINCH. 0, or an errno. */
int pty_resize(int fd, uint32_t rows, uint32_t columns);
void pty_size(int fd, uint32_t *ret_rows, uint32_t *ret_columns);
/* As read(2), but takes as much as there is together: the kernel gives 4 KiB at once at most. */
ssize_t pty_read(int master, char *p, size_t n);
/* The character that means the end of input now; 0: there is none. */
char pty_eof(int fd);

#endif
