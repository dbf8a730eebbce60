/* Time and identifiers. Thread safe. */
#ifndef ADAPTERS_OS_CLOCK_H_
#define ADAPTERS_OS_CLOCK_H_

#include <stdbool.h>
#include <stdint.h>

uint64_t sa_now_ms(void); /* monotonic, milliseconds: for waits and durations */
uint64_t sa_now_ns(void); /* monotonic, nanoseconds: for measurements */
int64_t sa_wall_us(void); /* microseconds since 1970 UTC: for what is shown and stored */

/* A 128-bit identifier: 48 bits of milliseconds since 1970, 16 bits of the fraction of one, then 64 random
 * bits, so that the ids of a process sort in the order of their making, as long as the clock is not set back.
 * Its text form is 26 characters of lower-case Crockford base32 (ULID's layout). */
struct sa_id {
    uint8_t bytes[16];
};
enum { SA_ID_TEXT = 26 };

struct sa_id sa_id_new(void);
/* Writes SA_ID_TEXT characters and a NUL. */
void sa_id_format(struct sa_id id, char ret_text[static SA_ID_TEXT + 1]);
/* Accepts exactly SA_ID_TEXT lower-case characters; false leaves *ret_id untouched. */
bool sa_id_parse(const char *text, struct sa_id *ret_id);
bool sa_id_equal(struct sa_id a, struct sa_id b);
/* n random bytes from the kernel. */
void sa_random(void *p, unsigned n);

#endif
