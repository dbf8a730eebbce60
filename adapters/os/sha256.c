#include "adapters/os/sha256.h"

#include <string.h>

#include "adapters/os/sha256_internal.h"

const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 3; i >= 0; i--, v >>= 8)
        p[i] = (uint8_t)v;
}

static void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)(v >> 32));
    put32(p + 4, (uint32_t)v);
}

static void take_block(uint32_t h[8], const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++)
        w[i] = get32(p + 4 * i);
    for (int i = 16; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
               (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, h, sizeof v);
    /* Instead of shifting the eight variables, their places move. */
    for (int i = 0; i < 64; i++) {
        uint32_t *e = &v[(68 - i) & 7], *a = &v[(64 - i) & 7], *last = &v[(71 - i) & 7];
        uint32_t f = v[(69 - i) & 7], g = v[(70 - i) & 7], b = v[(65 - i) & 7], c = v[(66 - i) & 7];
        uint32_t t1 = *last + (rotate(*e, 6) ^ rotate(*e, 11) ^ rotate(*e, 25)) + ((*e & f) ^ (~*e & g)) +
                      sha256_constants[i] + w[i];
        v[(67 - i) & 7] += t1;
        *last = t1 + (rotate(*a, 2) ^ rotate(*a, 13) ^ rotate(*a, 22)) + ((*a & b) ^ (*a & c) ^ (b & c));
    }
    for (int i = 0; i < 8; i++)
        h[i] += v[i];
}

void sha256_blocks_plain(uint32_t h[8], const uint8_t *p, size_t n)
{
    for (; n; n--, p += 64)
        take_block(h, p);
}

static void take_blocks(uint32_t h[8], const uint8_t *p, size_t n)
{
    if (!sha256_blocks_fast(h, p, n))
        sha256_blocks_plain(h, p, n);
}

void sa_sha256_init(struct sa_sha256 *c)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(c, 0, sizeof *c);
    memcpy(c->h, start, sizeof start);
}

void sa_sha256_add(struct sa_sha256 *c, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t have = c->size % 64;
    c->size += n;
    if (have) {
        size_t take = n < 64 - have ? n : 64 - have;
        if (take)
            memcpy(c->block + have, p, take);
        if (have + take < 64)
            return;
        take_blocks(c->h, c->block, 1);
        p += take;
        n -= take;
    }
    take_blocks(c->h, p, n / 64);
    if (n % 64)
        memcpy(c->block, p + n / 64 * 64, n % 64);
}

void sa_sha256_end(struct sa_sha256 *c, uint8_t ret_digest[static SA_SHA256_SIZE])
{
    uint64_t bits = c->size * 8;
    static const uint8_t padding[64] = {0x80};
    uint8_t length[8];
    size_t have = c->size % 64;
    sa_sha256_add(c, padding, have < 56 ? 56 - have : 120 - have);
    put64(length, bits);
    sa_sha256_add(c, length, 8);
    for (int i = 0; i < 8; i++)
        put32(ret_digest + 4 * i, c->h[i]);
}

void sa_sha256_end_text(struct sa_sha256 *c, char ret_text[static SA_SHA256_TEXT + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t d[SA_SHA256_SIZE];
    sa_sha256_end(c, d);
    for (int i = 0; i < SA_SHA256_SIZE; i++) {
        ret_text[2 * i] = digits[d[i] >> 4];
        ret_text[2 * i + 1] = digits[d[i] & 15];
    }
    ret_text[SA_SHA256_TEXT] = '\0';
}

void sa_sha256_save(const struct sa_sha256 *c, uint8_t ret_state[static SA_SHA256_SAVED])
{
    for (int i = 0; i < 8; i++)
        put32(ret_state + 4 * i, c->h[i]);
    put64(ret_state + 32, c->size);
    memcpy(ret_state + 40, c->block, 64);
}

void sa_sha256_load(struct sa_sha256 *c, const uint8_t state[static SA_SHA256_SAVED])
{
    for (int i = 0; i < 8; i++)
        c->h[i] = get32(state + 4 * i);
    c->size = (uint64_t)get32(state + 32) << 32 | get32(state + 36);
    memcpy(c->block, state + 40, 64);
}
