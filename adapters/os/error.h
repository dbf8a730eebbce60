/* The one error type: a code, a stable reason, a sentence for a person.
 *
 * Contract: a function that can fail takes `sa_error **err` last and returns -1, NULL or false on failure.
 * On success *err is untouched; on failure it holds a new error that the caller owns (sa_error_free, or the
 * `cleanup_error` attribute). `err` itself may be NULL when the caller does not want it. Out parameters
 * named ret_* are written on success only. A failing line reads
 *
 *     return sa_fail(err, SA_SESSION_NOT_FOUND, "session %s does not exist", id);
 *
 * Messages name the thing and the limit, and never contain a secret. Thread safe: no shared state. */
#ifndef ADAPTERS_OS_ERROR_H_
#define ADAPTERS_OS_ERROR_H_

#include <stdbool.h>
#include <stddef.h>

/* The sixteen canonical codes; the numbers are gRPC's. */
enum sa_code {
    SA_CODE_OK = 0,
    SA_CODE_CANCELLED = 1,
    SA_CODE_UNKNOWN = 2,
    SA_CODE_INVALID_ARGUMENT = 3,
    SA_CODE_DEADLINE_EXCEEDED = 4,
    SA_CODE_NOT_FOUND = 5,
    SA_CODE_ALREADY_EXISTS = 6,
    SA_CODE_PERMISSION_DENIED = 7,
    SA_CODE_RESOURCE_EXHAUSTED = 8,
    SA_CODE_FAILED_PRECONDITION = 9,
    SA_CODE_ABORTED = 10,
    SA_CODE_OUT_OF_RANGE = 11,
    SA_CODE_UNIMPLEMENTED = 12,
    SA_CODE_INTERNAL = 13,
    SA_CODE_UNAVAILABLE = 14,
    SA_CODE_DATA_LOSS = 15,
    SA_CODE_UNAUTHENTICATED = 16,
};

/* SA_SESSION_NOT_FOUND and so on: see reasons.def. */
enum sa_reason {
#define SA_REASON(reason, code) SA_##reason,
#include "adapters/os/reasons.def"
#undef SA_REASON
    SA_REASON_MAX_,
};

typedef struct sa_error {
    enum sa_code code;
    char reason[48]; /* UPPER_SNAKE; from reasons.def, or as another service sent it */
    char *message;   /* a sentence; UTF-8, never NULL */
} sa_error;

/* Makes an error in *err and returns -1. An error already in *err is replaced. */
int sa_fail(sa_error **err, enum sa_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same from an errno value: picks the reason (ENOENT: FILE_NOT_FOUND, ENOSPC: NO_SPACE, ...; else
 * SYSTEM_ERROR) and appends ": <strerror>". */
int sa_fail_errno(sa_error **err, int errnum, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same from the wire: any code and reason text. NULL reason: derived from the code. */
int sa_fail_remote(sa_error **err, enum sa_code code, const char *reason, const char *message);
/* Prepends "<context>: " to the message of *err (no-op when there is none); returns -1. */
int sa_wrap(sa_error **err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Moves `from` into *err (frees it when err is NULL) and returns -1. */
int sa_pass(sa_error **err, sa_error *from);

sa_error *sa_error_copy(const sa_error *e);
void sa_error_free(sa_error *e); /* NULL is fine */
bool sa_error_is(const sa_error *e, enum sa_reason reason);

const char *sa_reason_name(enum sa_reason reason);
enum sa_code sa_reason_code(enum sa_reason reason);
const char *sa_code_name(enum sa_code code); /* "NOT_FOUND" */
int sa_code_to_http(enum sa_code code);      /* 404 */

#endif
