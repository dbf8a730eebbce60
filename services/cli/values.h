/* Values as people write them on a command line. Each returns 0, or -1 with INVALID_CONFIG, which names the
 * option `what`. Plain functions. */
#ifndef SERVICES_CLI_VALUES_H_
#define SERVICES_CLI_VALUES_H_

#include <stdint.h>

#include "adapters/os/error.h"

/* "30", "30s", "500ms", "10m", "2h", "1d": milliseconds, at most `max`. A plain number counts seconds. */
int value_duration(const char *what, const char *text, uint64_t max_ms, uint64_t *ret_ms, sa_error **err);
/* "4096", "64k", "512M", "2G": bytes (powers of 1024). */
int value_size(const char *what, const char *text, uint64_t *ret_bytes, sa_error **err);
/* "1.5", "2": thousandths. */
int value_thousandths(const char *what, const char *text, uint32_t *ret, sa_error **err);
/* "TERM", "sigterm", "15": 1 to 64. */
int value_signal(const char *what, const char *text, uint32_t *ret_signal, sa_error **err);
/* "TERM" for 15, "40" where a signal has no name. Valid until the next call. */
const char *value_signal_name(uint32_t number);
/* A duration: so long before now_us. Else "2026-11-25T16:47:03Z", "2026-11-25 16:47:03" or "2026-11-25"
 * (local time without a zone, which is Z or +01:00). Microseconds since 1970. */
int value_time(const char *what, const char *text, int64_t now_us, int64_t *ret_us, sa_error **err);

#endif
