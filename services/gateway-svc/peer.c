#include "services/gateway-svc/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- problems ---- */

static struct json_writer begin_problem(struct sa_buf *body, unsigned status, const char *type,
                                        const char *title, const char *detail)
{
    struct json_writer w = json_writer(body);
    char text[64];
    snprintf(text, sizeof(text), "urn:sandbox-agent:error:%s", type);
    json_begin_object(&w);
    json_key(&w, "type");
    json_put_string(&w, text);
    json_key(&w, "title");
    json_put_string(&w, title);
    json_key(&w, "status");
    json_put_uint(&w, status);
    json_key(&w, "detail");
    json_put_string(&w, detail);
    return w;
}

static void end_problem(struct exchange *x, unsigned status, struct json_writer *w)
{
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    json_end_object(w);
    http_reply(x->http, status, "application/problem+json", w->out->data, w->out->len, headers);
}

/* ---- the query ---- */

struct lookup {
    const char *name, *value;
};

static int look(void *user, const char *name, const char *value)
{
    struct lookup *l = user;
    if (l->name && !l->value && strcmp(l->name, name) == 0)
        l->value = value;
    return 0;
}

bool peer_check_query(struct exchange *x)
{
    struct lookup none = {NULL, NULL};
    if (http_query_each(x->http, look, &none) == 0)
        return true;
    problem_bad_request(x->http, "the query is not percent-encoded UTF-8");
    return false;
}

const char *peer_query(struct exchange *x, const char *name)
{
    struct lookup l = {name, NULL};
    http_query_each(x->http, look, &l);
    return l.value;
}

static bool bad_query(struct exchange *x, const char *name, const char *expected)
{
    cleanup_free char *detail = sa_format("query `%s` must be %s", name, expected);
    problem_bad_request(x->http, detail);
    return false;
}

bool peer_query_flag(struct exchange *x, const char *name, bool *ret)
{
    const char *text = peer_query(x, name);
    if (!text)
        return true;
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return bad_query(x, name, "true or false");
    *ret = *text == 't';
    return true;
}

bool peer_query_uint(struct exchange *x, const char *name, uint64_t *ret)
{
    const char *text = peer_query(x, name);
    size_t n = text ? strlen(text) : 0;
    if (!text)
        return true;
    if (n == 0 || n > 19 || strspn(text, "0123456789") != n)
        return bad_query(x, name, "a number");
    *ret = strtoull(text, NULL, 10);
    return true;
}

/* ---- the body ---- */

static void refuse_body(struct exchange *x, unsigned status, const char *title, const char *detail)
{
    cleanup_buf struct sa_buf body = {0};
    struct json_writer w = begin_problem(&body, status, "invalid_request", title, detail);
    end_problem(x, status, &w);
}

bool peer_body(struct exchange *x, struct json *ret)
{
    cleanup_error sa_error *err = NULL;
    size_t n;
    const void *body = http_body(x->http, &n);
    const char *type = http_header(x->http, "Content-Type");
    if (!type || strncasecmp(type, "application/json", 16) != 0 || !strchr("; \t", type[16])) {
        problem_media_type(x->http, "application/json");
        return false;
    }
    if (json_check(body, n, ret, &err) < 0) {
        cleanup_free char *detail = sa_format("Failed to parse the request body as JSON: %s", err->message);
        refuse_body(x, 400, "Invalid Request", detail);
        return false;
    }
    if (json_type(*ret) != JSON_OBJECT) {
        peer_wrong_shape(x, "body", "an object");
        return false;
    }
    return true;
}

void peer_wrong_shape(struct exchange *x, const char *name, const char *expected)
{
    cleanup_free char *detail = sa_format(
        "Failed to deserialize the JSON body into the target type: `%s` must be %s", name, expected);
    refuse_body(x, 422, "Unprocessable Entity", detail);
}

/* The member; absent also for null. */
static struct json member(struct json object, const char *name)
{
    struct json v = json_member(object, name, strlen(name));
    return json_type(v) == JSON_NULL ? (struct json){0} : v;
}

bool peer_string(struct exchange *x, struct json object, const char *name, bool required, char **ret)
{
    cleanup_buf struct sa_buf text = {0};
    struct json v = member(object, name);
    if (!v.n && !required)
        return true;
    if (json_decode(v, JSON_REFUSE, &text, NULL) < 0) {
        peer_wrong_shape(x, name, "a string");
        return false;
    }
    *ret = sa_arena_strdup(http_arena(x->http), sa_buf_string(&text));
    return true;
}

bool peer_flag(struct exchange *x, struct json object, const char *name, bool *ret)
{
    struct json v = member(object, name);
    if (!v.n || json_bool(v, ret))
        return true;
    peer_wrong_shape(x, name, "true or false");
    return false;
}

bool peer_uint(struct exchange *x, struct json object, const char *name, bool required, uint64_t max,
               uint64_t *ret)
{
    struct json v = member(object, name);
    uint64_t n;
    if (!v.n && !required)
        return true;
    if (!json_uint(v, &n) || n > max) {
        cleanup_free char *expected = sa_format("a number up to %llu", (unsigned long long)max);
        peer_wrong_shape(x, name, expected);
        return false;
    }
    *ret = n;
    return true;
}

/* ---- answers ---- */

struct problem_form {
    unsigned status;
    const char *type, *title, *words;
    bool details;
};

static const struct problem_form forms[] = {
    [PEER_INVALID] = {400, "invalid_request", "Invalid Request", "invalid request", false},
    [PEER_TOO_LARGE] = {413, "invalid_request", "Payload Too Large", "invalid request", false},
    [PEER_CONFLICT] = {409, "conflict", "Conflict", "conflict", true},
    [PEER_STREAM] = {502, "stream_error", "Stream Error", "stream error", true},
};

void peer_problem(struct exchange *x, enum peer_problem family, const char *reason, const char *message)
{
    const struct problem_form *f = &forms[family];
    cleanup_buf struct sa_buf body = {0};
    cleanup_free char *detail = sa_format("%s: %s", f->words, message);
    struct json_writer w = begin_problem(&body, f->status, f->type, f->title, detail);
    if (f->details) {
        json_key(&w, "details");
        json_begin_object(&w);
        json_key(&w, "message");
        json_put_string(&w, message);
        json_end_object(&w);
    }
    if (reason) {
        json_key(&w, "reason");
        json_put_string(&w, reason);
    }
    end_problem(x, f->status, &w);
}

void peer_no_process(struct exchange *x, const char *id)
{
    cleanup_buf struct sa_buf body = {0};
    cleanup_free char *detail = sa_format("not found: process %s", id);
    struct json_writer w = begin_problem(&body, 404, "not_found", "Not Found", detail);
    json_key(&w, "details");
    json_begin_object(&w);
    json_key(&w, "id");
    json_put_string(&w, id);
    json_key(&w, "resource");
    json_put_string(&w, "process");
    json_end_object(&w);
    json_key(&w, "reason");
    json_put_string(&w, sa_reason_name(SA_PROCESS_NOT_FOUND));
    end_problem(x, 404, &w);
}

void peer_fail(struct exchange *x, sa_error *err)
{
    if (err->code != SA_CODE_INVALID_ARGUMENT) {
        problem_reply(x->http, err);
        return;
    }
    peer_problem(x, PEER_INVALID, err->reason, err->message);
    sa_error_free(err);
}

void peer_reply(struct exchange *x, const struct sa_buf *body)
{
    static const char *const headers[] = {"Cache-Control", "no-store", NULL};
    http_reply(x->http, 200, "application/json", body->data, body->len, headers);
}

ssize_t peer_take(struct peer_out *out, char *buf, size_t max)
{
    size_t n = out->buf.len - out->at;
    if (n > max)
        n = max;
    if (n)
        memcpy(buf, out->buf.data + out->at, n);
    out->at += n;
    if (out->at == out->buf.len) {
        sa_buf_fini(&out->buf);
        out->at = 0;
    }
    return (ssize_t)n;
}
