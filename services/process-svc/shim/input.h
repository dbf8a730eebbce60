/* Standard input of the child: taken at an offset, kept in a sparse file while the child does not read. */
#ifndef SERVICES_PROCESS_SVC_SHIM_INPUT_H_
#define SERVICES_PROCESS_SVC_SHIM_INPUT_H_

#include <stddef.h>
#include <stdint.h>

struct input {
    int pipe;         /* write end, non-blocking; -1: closed */
    int spool;        /* the file; -1 until bytes have to wait */
    uint64_t next;    /* next expected offset */
    uint64_t written; /* what the pipe has taken */
    uint64_t freed;   /* the spool is a hole up to here */
    int eof;          /* close the pipe once all is written */
    int closed;       /* nothing is taken any more: eof, or the child does not read */
    int hold;         /* another run may come: what this one does not read waits for it */
    int terminal;     /* `pipe` is one: its end is typed, and more may follow */
    uint64_t eof_at;  /* behind the byte that the last end followed; 0: none came */
};

/* Both descriptors become the input's. hold is the caller's to set. */
void input_init(struct input *in, int pipe, int spool, uint64_t next, int eof);

/* Takes bytes at an offset: the part before `next` is ignored. 0, or an errno:
 * ERANGE (a gap), EPIPE (closed), ENOBUFS (SHIM_INPUT_PENDING_MAX wait, or an end on a terminal does), or of
 * the spool file (ENOSPC): `next` then tells what was taken. eof closes after all that was taken. */
int input_take(struct input *in, uint64_t offset, const void *p, size_t n, int eof);

/* Writes what waits, until the pipe is full. buf: scratch of n bytes. Returns 1 while something waits. */
int input_pump(struct input *in, void *buf, size_t n);

/* The pipe has no reader any more, or the child has ended. */
void input_close(struct input *in);
/* Goes on with the pipe of another run. */
void input_resume(struct input *in, int pipe);

#endif
