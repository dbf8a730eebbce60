/* Log lines: one line of logfmt on standard error,
 *     2026-11-23T06:00:00.000Z info session-svc agent.started session=01h.. agent=claude
 * Libraries (adapters) do not log; services do, once per happening. Never log a secret, a prompt or output.
 * Never waits: lines that standard error does not take at once are dropped, and `log.lost lines=N` says so
 * before the next one that it takes. Thread safe. */
#ifndef ADAPTERS_OS_LOG_H_
#define ADAPTERS_OS_LOG_H_

#include <stddef.h>

enum sa_log_level { SA_LOG_DEBUG, SA_LOG_INFO, SA_LOG_WARN, SA_LOG_ERROR };

/* Before the first line, from main. name: the service's, kept by reference. */
void sa_log_init(const char *name, enum sa_log_level lowest);
/* event: a stable dotted word. fmt: key=value pairs; a value that may contain blanks is written with %s
 * inside quotes by the caller. Control characters are replaced before output. */
void sa_log(enum sa_log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Called with every line before it is written: masks in place what must not be told. NULL: none. Any thread.
 */
void sa_log_filter(void (*mask)(void *user, char *line, size_t n), void *user);

#endif
