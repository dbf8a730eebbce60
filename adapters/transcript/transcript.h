/* The log of a session as a file: JSON lines, each with a hash over itself and all before it.
 *
 *     {"hash":"<64 hexadecimal digits>","transcript":{...}}      first: what it is
 *     {"hash":"...","event":{...}}                               any number, by seq without a hole
 *     {"hash":"...","end":{"headSeq":"57","events":"57"}}        last
 *
 * The hash is SHA-256 over the 64 digits of the line before (zeros before the first line) and this line's
 * bytes behind its own hash and the comma, without the newline. So nothing can be changed, left out, added or
 * moved without every later hash being another one, and the last hash stands for all.
 *
 * Plain functions over memory: any thread. */
#ifndef ADAPTERS_TRANSCRIPT_TRANSCRIPT_H_
#define ADAPTERS_TRANSCRIPT_TRANSCRIPT_H_

#include "adapters/json/json.h"
#include "adapters/os/error.h"
#include "adapters/os/mem.h"
#include "adapters/os/sha256.h"

enum {
    TRANSCRIPT_LINE_MAX = 8 << 20, /* bytes, without the newline */
    TRANSCRIPT_VERSION = 1,
};

enum transcript_kind { TRANSCRIPT_HEADER, TRANSCRIPT_EVENT, TRANSCRIPT_END };

/* ---- writing ---- */

struct transcript_writer {
    char hash[SA_SHA256_TEXT + 1]; /* of the last line */
};
void transcript_writer_init(struct transcript_writer *w);
/* Appends a line to *out. content: a JSON object on one line. */
void transcript_write(struct transcript_writer *w, enum transcript_kind kind, const struct sa_buf *content,
                      struct sa_buf *out);

/* ---- reading ---- */

/* Checks the chain, the order of the lines, the JSON, and that seqs follow each other. What an event says is
 * its user's business. Holds one line and what was fed beyond it. */
struct transcript_reader {
    struct sa_buf buf;
    size_t at, scanned;
    uint64_t line; /* number of the last one, from 1 */
    char hash[SA_SHA256_TEXT + 1];
    bool ended;
    uint64_t next_seq, events;
};
void transcript_reader_init(struct transcript_reader *r);
void transcript_reader_fini(struct transcript_reader *r);
void transcript_feed(struct transcript_reader *r, const void *p, size_t n);

struct transcript_line {
    enum transcript_kind kind;
    struct json content; /* valid until the next feed */
    uint64_t seq;        /* of an event */
};
/* 1: the next line; 0: there is no whole line yet; -1: INVALID_TRANSCRIPT, MESSAGE_TOO_LARGE name the line,
 * and no more is to be read. */
int transcript_next(struct transcript_reader *r, struct transcript_line *ret, sa_error **err);
/* There is nothing more to feed: was that all? INVALID_TRANSCRIPT. */
int transcript_complete(const struct transcript_reader *r, sa_error **err);

#endif
