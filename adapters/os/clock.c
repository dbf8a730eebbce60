#include "adapters/os/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t now(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t sa_now_ms(void)
{
    return now(CLOCK_MONOTONIC) / 1000000;
}

uint64_t sa_now_ns(void)
{
    return now(CLOCK_MONOTONIC);
}

int64_t sa_wall_us(void)
{
    return (int64_t)(now(CLOCK_REALTIME) / 1000);
}

void sa_random(void *p, unsigned n)
{
    uint8_t *at = p;
    while (n) {
        ssize_t r = getrandom(at, n, 0);
        if (r < 0)
            continue; /* only EINTR is possible before the pool is ready */
        at += r;
        n -= (unsigned)r;
    }
}

struct sa_id sa_id_new(void)
{
    struct sa_id id;
    uint64_t ns = now(CLOCK_REALTIME);
    /* Milliseconds, then 1/65536 of one: 15 ns, less than the making of an id takes. */
    uint64_t time = (ns / 1000000) << 16 | ((ns % 1000000) << 16) / 1000000;
    for (int i = 0; i < 8; i++)
        id.bytes[i] = (uint8_t)(time >> (8 * (7 - i)));
    sa_random(id.bytes + 8, 8);
    return id;
}

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";

/* 26 characters hold 130 bits: the first one carries only the upper 3 bits of the 128. */
void sa_id_format(struct sa_id id, char ret_text[static SA_ID_TEXT + 1])
{
    for (int i = 0; i < SA_ID_TEXT; i++) {
        unsigned v = 0;
        for (int b = 0; b < 5; b++) {
            int bit = i * 5 + b - 2;
            v = v << 1 | (bit < 0 ? 0 : (id.bytes[bit / 8] >> (7 - bit % 8)) & 1);
        }
        ret_text[i] = alphabet[v];
    }
    ret_text[SA_ID_TEXT] = 0;
}

bool sa_id_parse(const char *text, struct sa_id *ret_id)
{
    struct sa_id id = {{0}};
    if (strnlen(text, SA_ID_TEXT + 1) != SA_ID_TEXT)
        return false;
    for (int i = 0; i < SA_ID_TEXT; i++) {
        const char *at = strchr(alphabet, text[i]);
        if (!at || (i == 0 && at - alphabet > 7))
            return false;
        for (int b = 0; b < 5; b++) {
            int bit = i * 5 + b - 2;
            if (bit >= 0 && ((at - alphabet) >> (4 - b)) & 1)
                id.bytes[bit / 8] |= (uint8_t)(0x80 >> (bit % 8));
        }
    }
    *ret_id = id;
    return true;
}

bool sa_id_equal(struct sa_id a, struct sa_id b)
{
    return !memcmp(a.bytes, b.bytes, sizeof a.bytes);
}
