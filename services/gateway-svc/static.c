/* The page at /ui/: files embedded in this binary (embed.sh), each with an ETag of its content, so that a
 * browser asks but seldom loads. The page may load from here only, and be framed by nobody. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "services/gateway-svc/gateway.h"

#define ASSET(name) extern const char asset_##name[], asset_##name##_end[];
ASSET(index)
ASSET(style)
ASSET(app)
ASSET(api)
ASSET(log)
ASSET(view)

struct file {
    const char *path, *type, *data, *end;
    char etag[24];
};

static struct file files[] = {
    {"", "text/html; charset=utf-8", asset_index, asset_index_end, ""},
    {"style.css", "text/css; charset=utf-8", asset_style, asset_style_end, ""},
    {"app.js", "text/javascript; charset=utf-8", asset_app, asset_app_end, ""},
    {"api.js", "text/javascript; charset=utf-8", asset_api, asset_api_end, ""},
    {"log.js", "text/javascript; charset=utf-8", asset_log, asset_log_end, ""},
    {"view.js", "text/javascript; charset=utf-8", asset_view, asset_view_end, ""},
};

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void static_init(void)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        uint64_t h = 14695981039346656037u; /* FNV-1a: tells versions apart, nothing more */
        for (const char *p = files[i].data; p < files[i].end; p++)
            h = (h ^ (uint8_t)*p) * 1099511628211u;
        snprintf(files[i].etag, sizeof(files[i].etag), "\"%016" PRIx64 "\"", h);
    }
}

/* Sessions have addresses of their own in the page: /ui/sessions/<id>. */
static const struct file *find(const char *path)
{
    if (strncmp(path, "sessions/", 9) == 0 && !strchr(path + 9, '/'))
        return &files[0];
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}

void static_file(struct exchange *x)
{
    const struct file *f = find(http_path(x->http) + strlen("/ui/"));
    if (!f) {
        problem_not_found(x->http);
        return;
    }
    const char *headers[] = {"ETag",
                             f->etag,
                             "Cache-Control",
                             "no-cache",
                             "Content-Security-Policy",
                             policy,
                             "Referrer-Policy",
                             "no-referrer",
                             "Cross-Origin-Opener-Policy",
                             "same-origin",
                             "Cross-Origin-Resource-Policy",
                             "same-origin",
                             NULL};
    const char *known = http_header(x->http, "If-None-Match");
    if (known && strstr(known, f->etag))
        http_reply(x->http, 304, NULL, NULL, 0, headers);
    else
        http_reply_static(x->http, 200, f->type, f->data, (size_t)(f->end - f->data), headers);
}

void static_redirect(struct exchange *x)
{
    static const char *const headers[] = {"Location", "/ui/", NULL};
    http_reply(x->http, 308, NULL, NULL, 0, headers);
}
