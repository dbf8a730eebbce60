#include "services/cli/tty.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Leaves another screen; mouse, focus and paste are told no more; wrapping, a visible cursor, no scroll
 * region, usual characters. */
#define MODES_OFF                                                                                            \
    "\033[?1049l\033[?1;5;9;45;66;1000;1002;1003;1004;1005;1006;1007;1015;1016;2004l\033[?7;25h\033[4;20l"   \
    "\033(B\033)B\017\033[m"

void tty_raw(struct tty *t)
{
    if (t->raw || tcgetattr(STDIN_FILENO, &t->saved) < 0)
        return;
    struct termios raw = t->saved;
    cfmakeraw(&raw);
    t->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void tty_restore(struct tty *t, bool modes)
{
    if (modes && isatty(STDOUT_FILENO))
        tty_write(STDOUT_FILENO, MODES_OFF, sizeof MODES_OFF - 1);
    if (t->raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &t->saved);
    t->raw = false;
}

void tty_clear(void)
{
    static const char clear[] = MODES_OFF "\033[r\033[H\033[2J";
    if (isatty(STDOUT_FILENO))
        tty_write(STDOUT_FILENO, clear, sizeof clear - 1);
}

bool tty_size(uint32_t *ret_rows, uint32_t *ret_columns)
{
    struct winsize size;
    for (int fd = 0; fd < 3; fd++) {
        if (ioctl(fd, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
            continue;
        *ret_rows = size.ws_row < 1000 ? size.ws_row : 1000;
        *ret_columns = size.ws_col < 1000 ? size.ws_col : 1000;
        return true;
    }
    return false;
}

bool tty_write(int fd, const void *data, size_t n)
{
    const char *p = data;
    while (n) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (r < 0 && errno != EINTR)
            return false;
        else if (r > 0)
            p += r, n -= (size_t)r;
    }
    return true;
}
