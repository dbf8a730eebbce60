#include "adapters/os/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Set once by main before any thread exists. */
static const char *log_name = "-";
static enum sa_log_level log_lowest = SA_LOG_INFO;

void sa_log_init(const char *name, enum sa_log_level lowest)
{
    log_name = name;
    log_lowest = lowest;
}

static struct {
    pthread_mutex_t mutex;
    void (*mask)(void *user, char *line, size_t n);
    void *user;
} filter = {.mutex = PTHREAD_MUTEX_INITIALIZER};

void sa_log_filter(void (*mask)(void *user, char *line, size_t n), void *user)
{
    pthread_mutex_lock(&filter.mutex);
    filter.mask = mask;
    filter.user = user;
    pthread_mutex_unlock(&filter.mutex);
}

static void run_filter(char *line, size_t n)
{
    pthread_mutex_lock(&filter.mutex);
    if (filter.mask)
        filter.mask(filter.user, line, n);
    pthread_mutex_unlock(&filter.mutex);
}

enum { LINE_BYTES_MAX = 2048 }; /* two are PIPE_BUF: what poll promises room for */

/* Lines that nobody took. */
static atomic_uint lost;

/* One write: lines of several processes do not mix. Whoever logs may hold the service lock: a reader of the
 * log that stands must not stop the service. */
static bool put(const char *line, size_t n)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && !(p.revents & POLLOUT))
        return true; /* closed: there is nobody to tell of losses */
    return (p.revents & POLLOUT) && write(STDERR_FILENO, line, n) == (ssize_t)n;
}

__attribute__((format(printf, 4, 0))) static size_t format(char line[static LINE_BYTES_MAX],
                                                           enum sa_log_level level, const char *event,
                                                           const char *fmt, va_list ap)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, LINE_BYTES_MAX, "%Y-%m-%dT%H:%M:%S", &tm), max = LINE_BYTES_MAX;
    n += (size_t)snprintf(line + n, max - n, ".%03ldZ %s %s %s ", ts.tv_nsec / 1000000, names[level],
                          log_name, event);
    int more = vsnprintf(line + n, max - n - 1, fmt, ap);
    if (more > 0)
        n += (size_t)more < max - n - 1 ? (size_t)more : max - n - 2;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[n++] = '\n';
    return n;
}

__attribute__((format(printf, 2, 3))) static size_t format_lost(char line[static LINE_BYTES_MAX],
                                                                const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    size_t n = format(line, SA_LOG_WARN, "log.lost", fmt, ap);
    va_end(ap);
    return n;
}

void sa_log(enum sa_log_level level, const char *event, const char *fmt, ...)
{
    if (level < log_lowest)
        return;
    char lines[2 * LINE_BYTES_MAX];
    unsigned missing = atomic_exchange(&lost, 0);
    size_t n = missing ? format_lost(lines, "lines=%u", missing) : 0;
    va_list ap;
    va_start(ap, fmt);
    n += format(lines + n, level, event, fmt, ap);
    va_end(ap);
    run_filter(lines, n);
    if (!put(lines, n))
        atomic_fetch_add(&lost, missing + 1);
}
