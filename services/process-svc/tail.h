/* Where the tail of the output of a process begins: the last lines or bytes of its streams together, in the
 * order of arrival (merge.h), or what came since a time.
 *
 * A line counts where it ends; a last line without a newline counts, too. The search walks backwards from the
 * end and reads up to all that is kept, so it goes in steps, meant for a worker thread. */
#ifndef SERVICES_PROCESS_SVC_TAIL_H_
#define SERVICES_PROCESS_SVC_TAIL_H_

#include "services/process-svc/index.h"
#include "services/process-svc/reader.h"

enum tail_kind { TAIL_LINES, TAIL_BYTES, TAIL_SINCE };

struct tail_window {
    uint8_t *data;       /* of the step */
    uint64_t first, end; /* what of the stream is in it; none when equal */
};

struct tail_stream {
    bool wanted;
    uint64_t first, end; /* the kept range; `first` moves when the front is freed meanwhile */
    uint64_t start;      /* the result */
    uint64_t at;         /* what is before it was not looked at */
    uint64_t above;      /* number of the first record that begins at `at` or later */
    bool open;           /* a line that counts begins further in front */
    bool touched;
    struct index_cursor index;
    struct tail_window window;
};

struct tail {
    const struct reader *reader; /* the caller's */
    enum tail_kind kind;
    uint64_t left; /* lines or bytes to find */
    int64_t since_us;
    struct tail_stream stream[SHIM_STREAMS];
};

/* kind TAIL_LINES and TAIL_BYTES: `count` of them; TAIL_SINCE: since_us, of the years 1 to 9999. Then
 * tail_range for each wanted stream. */
void tail_init(struct tail *t, const struct reader *r, enum tail_kind kind, uint64_t count, int64_t since_us);
void tail_range(struct tail *t, int stream, uint64_t first, uint64_t end);
/* Goes on for some milliseconds: 1 when stream[].start is known, 0: call again, -1: JOURNAL_TRUNCATED or a
 * system error. */
int tail_step(struct tail *t, sa_error **err);

#endif
