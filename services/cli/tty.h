/* Our own terminal, made raw for a while. */
#ifndef SERVICES_CLI_TTY_H_
#define SERVICES_CLI_TTY_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

struct tty {
    bool raw;
    struct termios saved;
};

/* Makes standard input raw, if it is a terminal: every key reaches the other side. */
void tty_raw(struct tty *t);
/* Undoes it. modes: also what a program may have left on (screens, the mouse, ...). */
void tty_restore(struct tty *t, bool modes);
/* Clears it, and everything that a program may have set. */
void tty_clear(void);
/* The size of the first standard descriptor that is a terminal. false: none is. */
bool tty_size(uint32_t *ret_rows, uint32_t *ret_columns);
/* Writes all to a standard descriptor; false: nobody takes it any more. */
bool tty_write(int fd, const void *p, size_t n);

#endif
