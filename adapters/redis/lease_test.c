#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "adapters/redis/redis_fixture.h"

#define LEASE "sa:{s1}:control"
#define MEMBERS "sa:{s1}:members"
#define CHANGES "sa:{s1}:changes"

/* ---- what is told ---- */

static void on_entry(void *user, const char *id, const struct redis_reply *fields)
{
    (void)id;
    say(user, "%s %s %s", redis_str(redis_at(fields, 1), NULL), redis_str(redis_at(fields, 3), NULL),
        redis_str(redis_at(fields, 5), NULL));
}

static void on_reset(void *user)
{
    say(user, "reset");
}

static const struct redis_follow_events entries = {on_entry, on_reset};

/* ---- lease ---- */

static void on_lease(void *user, const struct redis_lease *l, const sa_error *err)
{
    assert_true(!l != !err);
    if (err)
        say(user, "%s", err->reason);
    else
        say(user, "%d %s %llu%s", l->held, l->holder, (unsigned long long)l->fencing,
            l->left_ms ? "" : " free");
}

static const char *acquire(struct fixture *f, const char *who, uint64_t ttl, uint64_t floor, bool force)
{
    redis_lease_acquire(f->client, LEASE, NULL, who, ttl, floor, force, on_lease, f);
    return answer(f);
}

static const char *renew(struct fixture *f, const char *who, uint64_t fencing)
{
    redis_lease_renew(f->client, LEASE, NULL, who, fencing, 60000, on_lease, f);
    return answer(f);
}

static const char *release(struct fixture *f, const char *who, uint64_t fencing)
{
    redis_lease_release(f->client, LEASE, NULL, who, fencing, on_lease, f);
    return answer(f);
}

static const char *look(struct fixture *f)
{
    redis_lease_get(f->client, LEASE, NULL, on_lease, f);
    return answer(f);
}

static void a_lease_has_one_holder_and_a_growing_number(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(look(f), "0  0 free");
    assert_string_equal(acquire(f, "ann", 60000, 0, false), "1 ann 1");
    assert_string_equal(acquire(f, "ann", 60000, 1, false), "1 ann 1"); /* again: the same number */
    assert_string_equal(acquire(f, "bob", 60000, 0, false), "0 ann 1");
    assert_string_equal(look(f), "1 ann 1");
    assert_string_equal(renew(f, "ann", 1), "1 ann 1");
    assert_string_equal(renew(f, "bob", 1), "0 ann 1");
    assert_string_equal(renew(f, "ann", 7), "0 ann 1");
    assert_string_equal(release(f, "bob", 1), "0 ann 1");
    assert_string_equal(release(f, "ann", 1), "0  1 free");
    assert_string_equal(release(f, "ann", 1), "0  1 free");
    assert_string_equal(acquire(f, "bob", 60000, 0, false), "1 bob 2");
    assert_string_equal(acquire(f, "ann", 60000, 0, true), "1 ann 3"); /* taken by force */
    assert_string_equal(renew(f, "bob", 2), "0 ann 3");
}

static bool lease_is_free(struct fixture *f)
{
    static bool asked;
    if (!asked)
        redis_lease_get(f->client, LEASE, CHANGES, on_lease, f);
    asked = true;
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->log[i], "0  1 free") == 0)
            return true;
        if (strcmp(f->log[i], "1 ann 1") == 0) {
            asked = false;
            f->n = 0;
        }
    }
    return false;
}

static void a_lease_ends_by_itself_and_that_is_told(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(acquire(f, "ann", 80, 0, false), "1 ann 1");
    run_until(f, lease_is_free);
    f->n = 0;
    assert_string_equal(renew(f, "ann", 1), "0  1 free");
    struct redis_follow *follow = redis_follow(f->client, CHANGES, "0-0", &entries, f);
    assert_string_equal(answer(f), "lease.expired ann 1");
    redis_lease_acquire(f->client, LEASE, CHANGES, "bob", 60000, 0, false, NULL, NULL);
    assert_string_equal(answer(f), "lease.taken bob 2");
    redis_lease_release(f->client, LEASE, CHANGES, "bob", 2, NULL, NULL);
    assert_string_equal(answer(f), "lease.released bob 2");
    redis_follow_free(follow);
}

static void a_redis_that_restarts_empty_cannot_reuse_a_number(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(acquire(f, "ann", 60000, 41, false), "1 ann 42");
    stop_server(f);
    run_until(f, is_offline);
    assert_string_equal(renew(f, "ann", 42), "REDIS_UNAVAILABLE");
    start_server(f, NULL);
    run_until(f, is_online);
    assert_string_equal(renew(f, "ann", 42), "0  0 free");
    assert_string_equal(acquire(f, "bob", 60000, 42, false), "1 bob 43");
    /* One that comes back with older numbers: what it says is held is void. */
    command(f, "HSET " LEASE " fencing 5");
    assert_string_equal(answer(f), "0");
    assert_string_equal(acquire(f, "ann", 60000, 43, false), "1 ann 44");
}

static void two_processes_compete_and_one_wins(void **state)
{
    struct fixture *f = *state;
    f->other = new_client(f, false);
    run_until(f, is_online);
    for (int round = 1; round <= 20; round++) {
        redis_lease_acquire(f->client, LEASE, NULL, "ann", 60000, 0, false, on_lease, f);
        redis_lease_acquire(f->other, LEASE, NULL, "bob", 60000, 0, false, on_lease, f);
        int held = 0;
        bool ann = false;
        for (int i = 0; i < 2; i++) {
            const char *a = answer(f);
            held += a[0] == '1';
            ann = ann || strncmp(a, "1 ann", 5) == 0;
        }
        assert_int_equal(held, 1);
        release(f, ann ? "ann" : "bob", (uint64_t)round);
    }
}

/* ---- members ---- */

static void on_members(void *user, const struct redis_members *m, const sa_error *err)
{
    char text[128] = "";
    assert_true(!m != !err);
    if (err) {
        say(user, "%s", err->reason);
        return;
    }
    for (size_t i = 0; i < m->n; i++)
        sprintf(text + strlen(text), "%s%s:%s", i ? " " : "", m->members[i].name, m->members[i].data);
    assert_int_equal(m->next_expiry_ms != 0, m->n != 0);
    say(user, "[%s]", text);
}

static const char *put(struct fixture *f, const char *name, const char *data, uint64_t ttl)
{
    redis_members_put(f->client, MEMBERS, CHANGES, name, data, strlen(data), ttl, 3, on_members, f);
    return answer(f);
}

static const char *list(struct fixture *f)
{
    redis_members_list(f->client, MEMBERS, CHANGES, on_members, f);
    return answer(f);
}

static void members_come_change_and_go(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(list(f), "[]");
    assert_string_equal(put(f, "bob", "1", 60000), "[bob:1]");
    assert_string_equal(put(f, "ann", "2", 60000), "[ann:2 bob:1]");
    assert_string_equal(put(f, "ann", "2", 60000), "[ann:2 bob:1]"); /* only longer: not told */
    assert_string_equal(put(f, "ann", "3", 60000), "[ann:3 bob:1]");
    assert_string_equal(put(f, "cid", "", 60000), "[ann:3 bob:1 cid:]");
    assert_string_equal(put(f, "dan", "", 60000), "TOO_MANY");
    redis_members_remove(f->client, MEMBERS, CHANGES, "bob", on_members, f);
    assert_string_equal(answer(f), "[ann:3 cid:]");
    redis_members_remove(f->client, MEMBERS, CHANGES, "bob", on_members, f);
    assert_string_equal(answer(f), "[ann:3 cid:]");
    struct redis_follow *follow = redis_follow(f->client, CHANGES, "0-0", &entries, f);
    assert_string_equal(answer(f), "member.joined bob 1");
    assert_string_equal(answer(f), "member.joined ann 2");
    assert_string_equal(answer(f), "member.changed ann 3");
    assert_string_equal(answer(f), "member.joined cid ");
    assert_string_equal(answer(f), "member.left bob ");
    redis_follow_free(follow);
}

struct due {
    struct fixture *f;
    struct sa_timer *timer;
    char from[64];
};

static void on_due_list(void *user, const struct redis_members *m, const sa_error *err)
{
    struct due *d = user;
    assert_null(err);
    if (m->next_expiry_ms)
        sa_timer_start(d->timer, m->next_expiry_ms);
    snprintf(d->from, sizeof d->from, "%s", m->last_change);
}

static void on_due(void *user)
{
    struct due *d = user;
    redis_members_list(d->f->client, MEMBERS, CHANGES, on_due_list, d);
}

static void a_silent_member_leaves_when_it_is_due(void **state)
{
    struct fixture *f = *state;
    struct due d = {.f = f};
    d.timer = sa_timer_new(f->loop, on_due, &d);
    struct redis_follow *follow = redis_follow(f->client, CHANGES, "0-0", &entries, f);
    redis_members_put(f->client, MEMBERS, CHANGES, "ann", "", 0, 60000, 10, NULL, NULL);
    assert_string_equal(answer(f), "member.joined ann ");
    redis_members_put(f->client, MEMBERS, CHANGES, "bob", "", 0, 100, 10, on_due_list, &d);
    assert_string_equal(answer(f), "member.joined bob ");
    assert_string_equal(answer(f), "member.expired bob ");
    sa_timer_free(d.timer);
    redis_follow_free(follow);
    assert_string_equal(list(f), "[ann:]");
}

static void on_ttl(void *user, const struct redis_reply *reply, const sa_error *err)
{
    assert_null(err);
    say(user, "%d", redis_int(reply) > 1000 && redis_int(reply) <= REDIS_KEEP_MS);
}

static void every_key_expires(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(put(f, "ann", "x", 60000), "[ann:x]");
    redis_lease_acquire(f->client, LEASE, CHANGES, "ann", 60000, 0, false, on_lease, f);
    assert_string_equal(answer(f), "1 ann 1");
    command(f, "KEYS *");
    assert_string_equal(answer(f), "[4]");
    static const char *const keys[] = {LEASE, MEMBERS, MEMBERS ":data", CHANGES};
    for (int i = 0; i < 4; i++) {
        struct redis_arg args[] = {redis_arg("PTTL"), redis_arg(keys[i])};
        redis_command(f->client, args, 2, on_ttl, f);
        assert_string_equal(answer(f), "1");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(a_lease_has_one_holder_and_a_growing_number),
        T(a_lease_ends_by_itself_and_that_is_told),
        T(a_redis_that_restarts_empty_cannot_reuse_a_number),
        T(two_processes_compete_and_one_wins),
        T(members_come_change_and_go),
        T(a_silent_member_leaves_when_it_is_due),
        T(every_key_expires),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
