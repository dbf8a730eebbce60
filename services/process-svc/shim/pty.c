#include "services/process-svc/shim/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif
#ifndef IUTF8
#define IUTF8 0040000
#endif

enum { CTRL_D = 4 };

int pty_resize(int fd, uint32_t rows, uint32_t columns)
{
    const struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    return ioctl(fd, TIOCSWINSZ, &size) < 0 ? errno : 0;
}

void pty_size(int fd, uint32_t *ret_rows, uint32_t *ret_columns)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        return;
    *ret_rows = size.ws_row;
    *ret_columns = size.ws_col;
}

ssize_t pty_read(int master, char *p, size_t n)
{
    ssize_t got = read(master, p, n), more = got;
    while (more > 0 && (size_t)got < n && (more = read(master, p + got, n - (size_t)got)) > 0)
        got += more;
    return got;
}

char pty_eof(int fd)
{
    struct termios t;
    return tcgetattr(fd, &t) < 0 ? CTRL_D : (char)t.c_cc[VEOF];
}

static int prepare(const struct shim_spec *spec, uint32_t rows, uint32_t columns, int slave)
{
    struct termios t;
    int error = pty_resize(slave, rows, columns);
    if (error) {
        errno = error;
        return -1;
    }
    if (tcgetattr(slave, &t) == 0) {
        t.c_iflag |= IUTF8; /* so that erasing takes a whole character */
        tcsetattr(slave, TCSANOW, &t);
    }
    return (spec->flags & SHIM_FLAG_SET_USER) ? fchown(slave, spec->uid, (gid_t)-1) : 0;
}

int pty_open(const struct shim_spec *spec, uint32_t rows, uint32_t columns, int *ret_master, int *ret_slave)
{
    int unlock = 0, master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), slave = -1;
    if (master >= 0 && ioctl(master, TIOCSPTLCK, &unlock) == 0)
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC); /* needs no path to it */
    if (slave >= 0 && prepare(spec, rows, columns, slave) == 0) {
        *ret_master = master;
        *ret_slave = slave;
        return 0;
    }
    int error = errno;
    if (slave >= 0)
        close(slave);
    if (master >= 0)
        close(master);
    errno = error;
    return -1;
}
