/* Shared by the files of sha256. */
#ifndef ADAPTERS_OS_SHA256_INTERNAL_H_
#define ADAPTERS_OS_SHA256_INTERNAL_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const uint32_t sha256_constants[64];

/* n blocks of 64 bytes, in plain C. */
void sha256_blocks_plain(uint32_t h[8], const uint8_t *p, size_t n);
/* The same with the processor's own instructions, several times as fast; false: it has none, nothing is done.
 */
bool sha256_blocks_fast(uint32_t h[8], const uint8_t *p, size_t n);

#endif
