/* SHA-256 whose state is plain data: a digest of a stream that is taken up again after a crash is stored with
 * the stream's position. Thread safe: no shared state. */
#ifndef ADAPTERS_OS_SHA256_H_
#define ADAPTERS_OS_SHA256_H_

#include <stddef.h>
#include <stdint.h>

enum { SA_SHA256_SIZE = 32, SA_SHA256_TEXT = 64, SA_SHA256_SAVED = 104 };

struct sa_sha256 {
    uint32_t h[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
};

void sa_sha256_init(struct sa_sha256 *c);
void sa_sha256_add(struct sa_sha256 *c, const void *p, size_t n);
/* c is used up. */
void sa_sha256_end(struct sa_sha256 *c, uint8_t ret_digest[static SA_SHA256_SIZE]);
/* Both in one: SA_SHA256_TEXT hexadecimal characters and a NUL. */
void sa_sha256_end_text(struct sa_sha256 *c, char ret_text[static SA_SHA256_TEXT + 1]);

/* The state as SA_SHA256_SAVED bytes, the same on every machine. */
void sa_sha256_save(const struct sa_sha256 *c, uint8_t ret_state[static SA_SHA256_SAVED]);
void sa_sha256_load(struct sa_sha256 *c, const uint8_t state[static SA_SHA256_SAVED]);

#endif
