#include "services/session-svc/secrets.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/grpc/rpc.h"
#include "adapters/json/json.h"
#include "adapters/os/clock.h"
#include "adapters/os/fault.h"
#include "adapters/os/file.h"

enum { FILE_BYTES_MAX = SECRETS_MAX * (2 * SECRET_VALUE_MAX + 512) };

/* A text that is looked for. */
struct needle {
    char *text;
    size_t n;
    const char *name; /* "": of our own environment */
    uint64_t version;
    bool escaped;
};

struct change {
    struct change *next;
    struct secrets *secrets;
    char *name, *value;
    struct sa_buf file;
    StoredCredentials *after;
    secrets_done_fn *done;
    void *user;
    sa_error *err;
};

struct secrets {
    struct sa_loop *loop;
    char *path;
    StoredCredentials *present;
    struct change *changes, **changes_tail; /* the first one is being written */
    char **known;
    size_t n_known;
    pthread_mutex_t mutex;  /* of the needles */
    struct needle *needles; /* the longest first: one may be a part of another */
    size_t n_needles;
};

/* ---- needles ---- */

char *secrets_escape(const char *value)
{
    cleanup_buf struct sa_buf out = {0};
    struct json_writer w = json_writer(&out);
    json_put_string(&w, value);
    return sa_strndup((char *)out.data + 1, out.len - 2);
}

static void add_needle(struct secrets *s, char *text, const char *name, uint64_t version, bool escaped)
{
    s->needles[s->n_needles++] = (struct needle){
        .text = text, .n = strlen(text), .name = name, .version = version, .escaped = escaped};
}

static void add_value(struct secrets *s, const char *value, const char *name, uint64_t version)
{
    if (strlen(value) < SECRET_MASKED_MIN)
        return;
    cleanup_free char *escaped = secrets_escape(value);
    add_needle(s, sa_strdup(value), name, version, false);
    if (strcmp(escaped, value) != 0)
        add_needle(s, steal_pointer(&escaped), name, version, true);
}

static int longest_first(const void *a, const void *b)
{
    const struct needle *x = a, *y = b;
    return (x->n < y->n) - (x->n > y->n);
}

static void drop_needles(struct secrets *s)
{
    for (size_t i = 0; i < s->n_needles; i++)
        free(s->needles[i].text);
    free(s->needles);
    s->needles = NULL;
    s->n_needles = 0;
}

static void rebuild(struct secrets *s)
{
    pthread_mutex_lock(&s->mutex);
    drop_needles(s);
    s->needles = sa_calloc(4 * s->present->n_credentials + 2 * s->n_known + 1, sizeof *s->needles);
    for (size_t i = 0; i < s->present->n_credentials; i++) {
        const StoredCredential *c = s->present->credentials[i];
        add_value(s, c->value, c->name, c->version);
        add_value(s, c->previous, c->name, c->previous_version);
    }
    for (size_t i = 0; i < s->n_known; i++)
        add_value(s, s->known[i], "", 0);
    qsort(s->needles, s->n_needles, sizeof *s->needles, longest_first);
    pthread_mutex_unlock(&s->mutex);
}

void secrets_know(struct secrets *s, const char *value)
{
    s->known = sa_realloc(s->known, (s->n_known + 1) * sizeof *s->known);
    s->known[s->n_known++] = sa_strdup(value);
    rebuild(s);
}

static void note(struct sa_arena *arena, StoredHidden *ret, const struct needle *needle, size_t at)
{
    if (ret->n_parts % 16 == 0) {
        StoredHiddenPart **more = sa_arena_alloc(arena, (ret->n_parts + 16) * sizeof *more);
        if (ret->n_parts)
            memcpy(more, ret->parts, ret->n_parts * sizeof *more);
        ret->parts = more;
    }
    StoredHiddenPart *part = ret->parts[ret->n_parts++] = sa_arena_alloc(arena, sizeof *part);
    *part = (StoredHiddenPart)STORED_HIDDEN_PART__INIT;
    part->at = at;
    part->size = (uint32_t)needle->n;
    part->name = sa_arena_strdup(arena, needle->name);
    part->version = needle->version;
    part->escaped = needle->escaped;
}

/* ret NULL: only masks; values without a name stay when something is to be brought back. */
static bool replace(struct secrets *s, uint8_t *p, size_t n, struct sa_arena *arena, StoredHidden *ret)
{
    bool found = false;
    pthread_mutex_lock(&s->mutex);
    for (size_t i = 0; i < s->n_needles; i++) {
        const struct needle *needle = &s->needles[i];
        if (ret && !*needle->name)
            continue;
        for (uint8_t *at = p; (at = memmem(at, n - (size_t)(at - p), needle->text, needle->n));
             at += needle->n) {
            if (ret)
                note(arena, ret, needle, (size_t)(at - p));
            memset(at, '*', needle->n);
            found = true;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    return found;
}

bool secrets_mask(struct secrets *s, void *p, size_t n)
{
    return replace(s, p, n, NULL, NULL);
}

bool secrets_hide(struct secrets *s, void *p, size_t n, struct sa_arena *arena, StoredHidden *ret)
{
    return replace(s, p, n, arena, ret);
}

int secrets_reveal(struct secrets *s, void *p, size_t n, const StoredHidden *hidden, sa_error **err)
{
    int r = 0;
    for (size_t i = 0; i < hidden->n_parts; i++) {
        const StoredHiddenPart *part = hidden->parts[i];
        const char *value = secrets_value(s, part->name, part->version, NULL, err);
        cleanup_free char *escaped = value && part->escaped ? secrets_escape(value) : sa_strdup(value);
        if (!value || strlen(escaped) != part->size || part->at > n || part->size > n - part->at)
            r = -1;
        else
            memcpy((uint8_t *)p + part->at, escaped, part->size);
    }
    return r;
}

/* ---- values ---- */

static StoredCredential *find(const StoredCredentials *all, const char *name)
{
    for (size_t i = 0; i < all->n_credentials; i++)
        if (!strcmp(all->credentials[i]->name, name))
            return all->credentials[i];
    return NULL;
}

const char *secrets_value(const struct secrets *s, const char *name, uint64_t version, uint64_t *ret_version,
                          sa_error **err)
{
    const StoredCredential *c = find(s->present, name);
    if (c && ret_version)
        *ret_version = c->version;
    if (c && (!version || version == c->version))
        return c->value;
    if (c && version == c->previous_version)
        return c->previous;
    sa_fail(err, SA_NOT_FOUND, "credential \"%.128s\" does not exist%s", name,
            c ? " any more as it was" : "");
    return NULL;
}

const StoredCredential *secrets_at(const struct secrets *s, size_t i)
{
    return i < s->present->n_credentials ? s->present->credentials[i] : NULL;
}

/* ---- the file ---- */

static void pack(const StoredCredentials *m, struct sa_buf *ret)
{
    ret->len = 0;
    ret->len = stored_credentials__pack(m, sa_buf_reserve(ret, stored_credentials__get_packed_size(m) + 1));
}

static StoredCredentials *copy(const StoredCredentials *m)
{
    cleanup_buf struct sa_buf packed = {0};
    pack(m, &packed);
    return rpc_unpack(&stored_credentials__descriptor, packed.data, packed.len, NULL);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(StoredCredential *const *)a)->name, (*(StoredCredential *const *)b)->name);
}

static void swap_text(char **at, const char *value)
{
    if (*at != protobuf_c_empty_string)
        free(*at);
    *at = sa_strdup(value);
}

static StoredCredential *add(StoredCredentials *all, const char *name)
{
    all->credentials = sa_realloc(all->credentials, (all->n_credentials + 1) * sizeof *all->credentials);
    StoredCredential *c = all->credentials[all->n_credentials++] = sa_malloc(sizeof *c);
    stored_credential__init(c);
    c->name = sa_strdup(name);
    c->value = sa_strdup("");
    c->previous = sa_strdup("");
    qsort(all->credentials, all->n_credentials, sizeof *all->credentials, by_name);
    return c;
}

static int apply(StoredCredentials *all, const char *name, const char *value, sa_error **err)
{
    StoredCredential *c = find(all, name);
    if (!value) {
        for (size_t i = 0; c && i < all->n_credentials; i++)
            if (all->credentials[i] == c)
                memmove(all->credentials + i, all->credentials + i + 1,
                        (all->n_credentials-- - i - 1) * sizeof *all->credentials);
        if (c)
            protobuf_c_message_free_unpacked(&c->base, NULL);
        return 0;
    }
    if (!c && all->n_credentials >= SECRETS_MAX)
        return sa_fail(err, SA_TOO_MANY, "there are %d credentials already", SECRETS_MAX);
    if (!c)
        c = add(all, name);
    if (!strcmp(c->value, value) && c->version)
        return 0;
    swap_text(&c->previous, c->value);
    c->previous_version = c->version;
    swap_text(&c->value, value);
    c->version = ++all->last_version;
    c->set_time_us = sa_wall_us();
    return 0;
}

static void write_file(void *user)
{
    struct change *c = user;
    SA_FAULT("secrets.write");
    sa_write_file(c->secrets->path, c->file.data, c->file.len, 0600, &c->err);
    SA_FAULT("secrets.written");
}

static void written(void *user);

static void write_next(struct secrets *s)
{
    struct change *c = s->changes;
    if (!c)
        return;
    c->after = copy(s->present);
    if (!apply(c->after, c->name, c->value, &c->err))
        pack(c->after, &c->file);
    if (c->err)
        sa_defer(s->loop, written, c);
    else
        sa_work(s->loop, write_file, written, c);
}

static void written(void *user)
{
    struct change *c = user;
    struct secrets *s = c->secrets;
    StoredCredentials *unused = c->after;
    if (!c->err) {
        unused = s->present;
        s->present = c->after;
        rebuild(s);
    }
    protobuf_c_message_free_unpacked(&unused->base, NULL);
    s->changes = c->next;
    if (!s->changes)
        s->changes_tail = &s->changes;
    c->done(c->user, c->err);
    sa_error_free(c->err);
    sa_buf_fini(&c->file);
    free(c->name);
    free(c->value);
    free(c);
    write_next(s);
}

void secrets_change(struct secrets *s, const char *name, const char *value, secrets_done_fn *done, void *user)
{
    struct change *c = sa_calloc(1, sizeof *c);
    *c = (struct change){
        .secrets = s, .name = sa_strdup(name), .value = sa_strdup(value), .done = done, .user = user};
    bool idle = !s->changes;
    *s->changes_tail = c;
    s->changes_tail = &c->next;
    if (idle)
        write_next(s);
}

struct secrets *secrets_new(void)
{
    struct secrets *s = sa_calloc(1, sizeof *s);
    s->changes_tail = &s->changes;
    pthread_mutex_init(&s->mutex, NULL);
    s->present = rpc_unpack(&stored_credentials__descriptor, NULL, 0, NULL);
    return s;
}

struct secrets *secrets_open(struct sa_loop *loop, const char *dir, sa_error **err)
{
    struct secrets *s = secrets_new();
    s->loop = loop;
    s->path = sa_format("%s/credentials", dir);
    cleanup_buf struct sa_buf file = {0};
    cleanup_error sa_error *failed = NULL;
    StoredCredentials *read = NULL;
    if (sa_read_file(s->path, FILE_BYTES_MAX, &file, &failed) == 0)
        read = rpc_unpack(&stored_credentials__descriptor, file.data, file.len, &failed);
    if (read) {
        protobuf_c_message_free_unpacked(&s->present->base, NULL);
        s->present = read;
    } else if (!sa_error_is(failed, SA_FILE_NOT_FOUND)) {
        sa_pass(err, steal_pointer(&failed));
        sa_wrap(err, "%s", s->path);
        secrets_free(s);
        return NULL;
    }
    rebuild(s);
    return s;
}

void secrets_free(struct secrets *s)
{
    if (!s)
        return;
    drop_needles(s);
    for (size_t i = 0; i < s->n_known; i++)
        free(s->known[i]);
    free(s->known);
    protobuf_c_message_free_unpacked(&s->present->base, NULL);
    pthread_mutex_destroy(&s->mutex);
    free(s->path);
    free(s);
}
