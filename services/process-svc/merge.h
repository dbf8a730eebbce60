/* The streams of a process as one, in the order of arrival.
 *
 * A piece of a stream is what one index record covers. Bytes without a record come right before the record
 * that follows them in their stream; at the end of the stream, after everything else. So what is older than a
 * bounded index, or was never noted (a full disk, a damaged file), is still complete, in its stream's order.
 *
 * One owner for a merge; bounded work per call. */
#ifndef SERVICES_PROCESS_SVC_MERGE_H_
#define SERVICES_PROCESS_SVC_MERGE_H_

#include "services/process-svc/index.h"

struct piece {
    int stream;
    uint64_t offset, end;
    int64_t time_us;  /* when the first byte came, to 5 ms; 0: not known */
    uint64_t arrival; /* orders pieces of different streams */
};

struct merge {
    struct index_cursor index[SHIM_STREAMS];
    bool wanted[SHIM_STREAMS];
    uint64_t cursor[SHIM_STREAMS]; /* next byte */
    uint64_t record[SHIM_STREAMS]; /* number of the record that it is in or before, if all is well */
};

/* index_fd: -1 where there is none; they stay the caller's. Nothing is wanted yet. */
void merge_init(struct merge *m, const int index_fd[SHIM_STREAMS]);
/* A wanted stream goes on at this byte. */
void merge_seek(struct merge *m, int stream, uint64_t offset);
/* The piece that is next, of what lies before limit[stream]; false: there is none. The caller moves the
 * cursor by as much of it as it takes. */
bool merge_next(struct merge *m, const uint64_t limit[SHIM_STREAMS], struct piece *ret);

#endif
