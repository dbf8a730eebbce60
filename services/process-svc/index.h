/* Reads the index of a journal (struct shim_index_record): when which bytes came, and in which order beside
 * those of the other stream. An index is a help and never needed: what is freed, cut short or makes no sense
 * in it is passed over. Any thread, one at a time for a cursor. */
#ifndef SERVICES_PROCESS_SVC_INDEX_H_
#define SERVICES_PROCESS_SVC_INDEX_H_

#include <stdbool.h>
#include <stdint.h>

#include "services/process-svc/shim/protocol.h"

enum { INDEX_BATCH = 32 }; /* records */

struct index_cursor {
    int fd;         /* stays the caller's; -1: there is no index */
    uint64_t first; /* number of batch[0] */
    unsigned n;     /* records in batch */
    struct shim_index_record batch[INDEX_BATCH];
};

struct index_cursor index_cursor(int fd);
/* How many records there are, freed ones too. */
uint64_t index_count(const struct index_cursor *c);
/* A record that makes sense by itself; false: there is none with this number, or none any more. */
bool index_get(struct index_cursor *c, uint64_t number, struct shim_index_record *ret);
/* Number of the first record that ends after `offset`, or the count. */
uint64_t index_find(struct index_cursor *c, uint64_t offset);
/* Number of the first record that began after time_us, or the count. */
uint64_t index_find_time(struct index_cursor *c, int64_t time_us);

#endif
