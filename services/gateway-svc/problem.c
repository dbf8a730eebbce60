#include "services/gateway-svc/problem.h"

#include <ctype.h>
#include <stdio.h>

#include "adapters/json/json.h"

struct problem {
    unsigned status;
    const char *reason; /* any case */
    const char *title;  /* NULL: from the reason */
    const char *detail;
    const char *message; /* details.message; NULL: none */
};

/* "SESSION_NOT_FOUND" as "session_not_found". */
static void put_type(struct json_writer *w, const char *reason)
{
    char text[96];
    int n = snprintf(text, sizeof(text), "urn:sandbox-agent:error:");
    for (; *reason && n < (int)sizeof(text) - 1; reason++)
        text[n++] = (char)tolower((unsigned char)*reason);
    text[n] = 0;
    json_put_string(w, text);
}

/* "SESSION_NOT_FOUND" as "Session Not Found". */
static void put_title(struct json_writer *w, const char *reason)
{
    char text[64];
    size_t n = 0;
    bool first = true;
    for (; *reason && n < sizeof(text) - 1; reason++) {
        unsigned char c = (unsigned char)*reason;
        text[n++] = c == '_' ? ' ' : (char)(first ? toupper(c) : tolower(c));
        first = c == '_';
    }
    text[n] = 0;
    json_put_string(w, text);
}

static void print(struct sa_buf *out, const struct problem *p)
{
    struct json_writer w = json_writer(out);
    json_begin_object(&w);
    json_key(&w, "type");
    put_type(&w, p->reason);
    json_key(&w, "title");
    if (p->title)
        json_put_string(&w, p->title);
    else
        put_title(&w, p->reason);
    json_key(&w, "status");
    json_put_uint(&w, p->status);
    json_key(&w, "detail");
    json_put_string(&w, p->detail);
    if (p->message) {
        json_key(&w, "details");
        json_begin_object(&w);
        json_key(&w, "message");
        json_put_string(&w, p->message);
        json_end_object(&w);
    }
    json_end_object(&w);
}

static void reply(struct http_request *r, const struct problem *p, const char *name, const char *value)
{
    const char *headers[] = {"Cache-Control", "no-store", name, value, NULL};
    cleanup_buf struct sa_buf body = {0};
    print(&body, p);
    http_reply(r, p->status, "application/problem+json", body.data, body.len, headers);
}

static struct problem of_error(const sa_error *err)
{
    return (struct problem){(unsigned)sa_code_to_http(err->code), err->reason, NULL, err->message, NULL};
}

void problem_reply(struct http_request *r, sa_error *err)
{
    struct problem p = of_error(err);
    bool busy = err->code == SA_CODE_UNAVAILABLE || err->code == SA_CODE_RESOURCE_EXHAUSTED;
    reply(r, &p, busy ? "Retry-After" : NULL, "1");
    sa_error_free(err);
}

void problem_print(struct sa_buf *out, const sa_error *err)
{
    struct problem p = of_error(err);
    print(out, &p);
}

void problem_not_found(struct http_request *r)
{
    reply(r, &(struct problem){404, "invalid_request", "Not Found", "endpoint not found", NULL}, NULL, NULL);
}

void problem_method(struct http_request *r, const char *allow)
{
    cleanup_free char *detail = sa_format("this path takes %s", allow);
    reply(r, &(struct problem){405, "method_not_allowed", NULL, detail, NULL}, "Allow", allow);
}

void problem_token(struct http_request *r)
{
    reply(r,
          &(struct problem){401, "token_invalid", NULL, "token invalid", "missing or invalid bearer token"},
          "WWW-Authenticate", "Bearer realm=\"sandbox-agent\"");
}

void problem_too_large(struct http_request *r, size_t max)
{
    cleanup_free char *detail = max ? sa_format("the body is larger than the %zu bytes this path takes", max)
                                    : sa_strdup("this path takes no body");
    reply(r, &(struct problem){413, "message_too_large", "Payload Too Large", detail, NULL}, NULL, NULL);
}

void problem_media_type(struct http_request *r, const char *expected)
{
    cleanup_free char *message = sa_format("content-type must be %s", expected);
    reply(r, &(struct problem){415, "unsupported_media_type", NULL, message, message}, NULL, NULL);
}

void problem_bad_request(struct http_request *r, const char *detail)
{
    reply(r, &(struct problem){400, "invalid_request", NULL, detail, NULL}, NULL, NULL);
}

void problem_forbidden(struct http_request *r, const char *detail)
{
    reply(r, &(struct problem){403, "permission_denied", NULL, detail, NULL}, NULL, NULL);
}
