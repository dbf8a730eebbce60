/* Runs a fuzzer (LLVMFuzzerTestOneInput) as an ordinary test, without libFuzzer: every file named on the
 * command line, then FUZZ_RUNS (default 20000) deterministic mutations of them. FUZZ_SEED picks another
 * series. For long runs with coverage guidance build the same fuzzer with --config=fuzz. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 16, FILES_MAX = 4096 };

struct input {
    uint8_t *data;
    size_t n;
};

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

static struct input load(const char *path)
{
    struct input in = {malloc(INPUT_MAX), 0};
    FILE *f = fopen(path, "rb");
    if (!f || !in.data) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    in.n = fread(in.data, 1, INPUT_MAX, f);
    fclose(f);
    return in;
}

/* An exact-size copy, so that a sanitizer sees one byte too much. */
static void run(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        exit(1);
    memcpy(copy, data, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static size_t mutate(uint8_t *b, size_t n, const struct input *other)
{
    static const uint8_t special[] = {0,   1,   0x7f, 0x80, 0xff, '"',  '\\', '{', '[',
                                      '}', ']', ',',  ':',  '\n', '\r', ' ',  '-', '0'};
    size_t at = below(n + 1), len = 1 + below(16);
    switch (next() % 7) {
    case 0:
        if (at < n)
            b[at] ^= (uint8_t)(1u << (next() % 8));
        return n;
    case 1:
        if (at < n)
            b[at] = special[below(sizeof special)];
        return n;
    case 2: /* cut */
        return at;
    case 3: /* remove */
        if (at + len > n)
            return n;
        memmove(b + at, b + at + len, n - at - len);
        return n - len;
    case 4: /* repeat */
        if (at + len > n || n + len > INPUT_MAX)
            return n;
        memmove(b + at + len, b + at, n - at);
        return n + len;
    case 5: /* insert */
        if (n == INPUT_MAX)
            return n;
        memmove(b + at + 1, b + at, n - at);
        b[at] = special[below(sizeof special)];
        return n + 1;
    default: /* go on as another input */
        len = other->n - below(other->n + 1);
        if (at + len > INPUT_MAX)
            return n;
        memcpy(b + at, other->data + other->n - len, len);
        return at + len;
    }
}

int main(int argc, char **argv)
{
    static struct input inputs[FILES_MAX];
    static uint8_t b[INPUT_MAX];
    size_t n_inputs = 0;
    for (int i = 1; i < argc && n_inputs < FILES_MAX; i++)
        inputs[n_inputs++] = load(argv[i]);
    if (!n_inputs)
        inputs[n_inputs++] = (struct input){b, 0};
    const char *runs = getenv("FUZZ_RUNS"), *seed = getenv("FUZZ_SEED");
    state = 0x9e3779b97f4a7c15 ^ (seed ? strtoull(seed, NULL, 10) : 1);
    for (size_t i = 0; i < n_inputs; i++)
        run(inputs[i].data, inputs[i].n);
    unsigned long n_runs = runs ? strtoul(runs, NULL, 10) : 20000;
    for (unsigned long r = 0; r < n_runs; r++) {
        const struct input *in = &inputs[below(n_inputs)];
        size_t n = in->n;
        memmove(b, in->data, n);
        for (size_t i = 1 + below(8); i; i--)
            n = mutate(b, n, &inputs[below(n_inputs)]);
        run(b, n);
    }
    printf("%zu inputs, %lu mutations\n", n_inputs, n_runs);
    return 0;
}
