#include "adapters/os/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/os/mem.h"

static const struct {
    const char *name;
    enum sa_code code;
} reasons[] = {
#define SA_REASON(reason, code) [SA_##reason] = {#reason, SA_CODE_##code},
#include "adapters/os/reasons.def"
#undef SA_REASON
};

static const struct {
    const char *name;
    int http;
} codes[] = {
    [SA_CODE_OK] = {"OK", 200},
    [SA_CODE_CANCELLED] = {"CANCELLED", 499},
    [SA_CODE_UNKNOWN] = {"UNKNOWN", 502},
    [SA_CODE_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", 400},
    [SA_CODE_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", 504},
    [SA_CODE_NOT_FOUND] = {"NOT_FOUND", 404},
    [SA_CODE_ALREADY_EXISTS] = {"ALREADY_EXISTS", 409},
    [SA_CODE_PERMISSION_DENIED] = {"PERMISSION_DENIED", 403},
    [SA_CODE_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", 429},
    [SA_CODE_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", 409},
    [SA_CODE_ABORTED] = {"ABORTED", 409},
    [SA_CODE_OUT_OF_RANGE] = {"OUT_OF_RANGE", 416},
    [SA_CODE_UNIMPLEMENTED] = {"UNIMPLEMENTED", 501},
    [SA_CODE_INTERNAL] = {"INTERNAL", 500},
    [SA_CODE_UNAVAILABLE] = {"UNAVAILABLE", 503},
    [SA_CODE_DATA_LOSS] = {"DATA_LOSS", 500},
    [SA_CODE_UNAUTHENTICATED] = {"UNAUTHENTICATED", 401},
};

const char *sa_reason_name(enum sa_reason reason)
{
    return reasons[reason].name;
}

enum sa_code sa_reason_code(enum sa_reason reason)
{
    return reasons[reason].code;
}

static size_t known(enum sa_code code)
{
    size_t i = (size_t)code;
    return i < sizeof codes / sizeof *codes ? i : SA_CODE_UNKNOWN;
}

const char *sa_code_name(enum sa_code code)
{
    return codes[known(code)].name;
}

int sa_code_to_http(enum sa_code code)
{
    return codes[known(code)].http;
}

/* Takes `message`. */
static int make(sa_error **err, enum sa_code code, const char *reason, char *message)
{
    if (!err) {
        free(message);
        return -1;
    }
    sa_error *e = sa_calloc(1, sizeof *e);
    e->code = code;
    snprintf(e->reason, sizeof e->reason, "%s", reason);
    e->message = message;
    sa_error_free(*err);
    *err = e;
    return -1;
}

int sa_fail(sa_error **err, enum sa_reason reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *message = sa_vformat(fmt, ap);
    va_end(ap);
    return make(err, reasons[reason].code, reasons[reason].name, message);
}

static enum sa_reason reason_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return SA_FILE_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return SA_PERMISSION_DENIED;
    case EEXIST:
        return SA_ALREADY_EXISTS;
    case ENOTDIR:
        return SA_NOT_A_DIRECTORY;
    case EISDIR:
        return SA_IS_A_DIRECTORY;
    case ENOTEMPTY:
        return SA_DIRECTORY_NOT_EMPTY;
    case EBUSY:
    case ETXTBSY:
        return SA_FILE_BUSY;
    case EFBIG:
        return SA_FILE_TOO_LARGE;
    case ENOSPC:
    case EDQUOT:
        return SA_NO_SPACE;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return SA_TOO_MANY;
    case ENAMETOOLONG:
    case ELOOP:
    case EXDEV:
        return SA_INVALID_PATH;
    case EINVAL:
        return SA_INVALID_REQUEST;
    case EADDRINUSE:
        return SA_ADDRESS_IN_USE;
    default:
        return SA_SYSTEM_ERROR;
    }
}

int sa_fail_errno(sa_error **err, int errnum, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *what = sa_vformat(fmt, ap);
    va_end(ap);
    char buf[128];
    char *message = sa_format("%s: %s", what, strerror_r(errnum, buf, sizeof buf));
    free(what);
    enum sa_reason reason = reason_of_errno(errnum);
    return make(err, reasons[reason].code, reasons[reason].name, message);
}

int sa_fail_remote(sa_error **err, enum sa_code code, const char *reason, const char *message)
{
    return make(err, code, reason && *reason ? reason : sa_code_name(code),
                sa_strdup(message ? message : ""));
}

int sa_wrap(sa_error **err, const char *fmt, ...)
{
    if (!err || !*err)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    char *context = sa_vformat(fmt, ap);
    va_end(ap);
    char *message = sa_format("%s: %s", context, (*err)->message);
    free(context);
    free((*err)->message);
    (*err)->message = message;
    return -1;
}

int sa_pass(sa_error **err, sa_error *from)
{
    if (!err) {
        sa_error_free(from);
    } else if (*err != from) {
        sa_error_free(*err);
        *err = from;
    }
    return -1;
}

sa_error *sa_error_copy(const sa_error *e)
{
    if (!e)
        return NULL;
    sa_error *copy = sa_calloc(1, sizeof *copy);
    *copy = *e;
    copy->message = sa_strdup(e->message);
    return copy;
}

void sa_error_free(sa_error *e)
{
    if (!e)
        return;
    free(e->message);
    free(e);
}

bool sa_error_is(const sa_error *e, enum sa_reason reason)
{
    return e && !strcmp(e->reason, reasons[reason].name);
}
