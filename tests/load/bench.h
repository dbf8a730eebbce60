/* What benchmarks have in common that do the same work in three ways: ours, the npm package sandbox-agent's
 * (the peer's), and the bare system's. What goes wrong ends the program. */
#ifndef TESTS_LOAD_BENCH_H_
#define TESTS_LOAD_BENCH_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WAYS = 3, BENCH_LIMIT_S = 570 };
#define MIB (1u << 20)

/* Makes a directory that goes with the program, which ends after BENCH_LIMIT_S in any case. */
void bench_begin(const char *program);
/* A new directory in it; free() its path. */
char *bench_directory(const char *which);
/* A port that is free now, and not one that the kernel gives to outgoing connections. */
unsigned bench_port(unsigned from);

void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* Starts a program with HOME in the directory and its output in a file there; it ends with us. */
void start_program(const char *const *argv, const char *directory);
/* Connects to the loopback, again until something listens there. */
int connect_to(unsigned port);

void bench_sort(uint64_t *ns, size_t n);
double bench_us(const uint64_t *sorted_ns, size_t n, unsigned percent);
void bench_head(const char *const names[WAYS]);
/* One line: the figures of all ways, then ours as a multiple of the peer's and a share of the bare one's.
 * Below zero: cannot. */
void bench_line(const char *what, const char *unit, const double v[WAYS], bool less_is_better);

#endif
