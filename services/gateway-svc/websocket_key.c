/* Sec-WebSocket-Accept: base64 of the SHA-1 of the key and a fixed text. SHA-1 protects nothing here; it
 * shows that the server speaks WebSocket. */
#include <string.h>

#include "services/gateway-svc/websocket.h"

enum { KEY_TEXT = 24, BLOCK = 64 };

static uint32_t rotate(uint32_t v, int n)
{
    return v << n | v >> (32 - n);
}

static void add_block(uint32_t h[static 5], const uint8_t *p)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[i * 4] << 24 | (uint32_t)p[i * 4 + 1] << 16 | (uint32_t)p[i * 4 + 2] << 8 |
               p[i * 4 + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                     : i < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                     : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                              : (b ^ c ^ d) + 0xca62c1d6;
        uint32_t t = rotate(a, 5) + f + e + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = t;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* Of a text of 64 to 118 bytes less 9: two blocks. */
static void sha1(const char *text, size_t n, uint8_t ret[static 20])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t blocks[2 * BLOCK] = {0};
    memcpy(blocks, text, n);
    blocks[n] = 0x80;
    blocks[2 * BLOCK - 2] = (uint8_t)(n * 8 >> 8);
    blocks[2 * BLOCK - 1] = (uint8_t)(n * 8);
    add_block(h, blocks);
    add_block(h, blocks + BLOCK);
    for (int i = 0; i < 20; i++)
        ret[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
}

bool websocket_accept_key(const char *key, char ret[static WEBSOCKET_KEY_TEXT + 1])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[KEY_TEXT + sizeof(magic)];
    uint8_t digest[21] = {0}; /* a byte more, so that it is seven groups of three */
    if (!key || strlen(key) != KEY_TEXT)
        return false;
    memcpy(text, key, KEY_TEXT);
    memcpy(text + KEY_TEXT, magic, sizeof(magic));
    sha1(text, sizeof(text) - 1, digest);
    for (int i = 0; i < 7; i++) {
        uint32_t v = (uint32_t)digest[i * 3] << 16 | (uint32_t)digest[i * 3 + 1] << 8 | digest[i * 3 + 2];
        for (int k = 0; k < 4; k++)
            ret[i * 4 + k] = digits[v >> (18 - k * 6) & 63];
    }
    ret[WEBSOCKET_KEY_TEXT - 1] = '=';
    ret[WEBSOCKET_KEY_TEXT] = 0;
    return true;
}
