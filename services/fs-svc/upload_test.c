/* Uploads, as the callers of the program see them. */
#include "services/fs-svc/upload_fixture.h"

#include "adapters/nng/bus.h"

#define MIB ((uint64_t)1 << 20)

static struct service_fixture start(void)
{
    struct service_fixture f = service_new(NULL);
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    service_free(f);
    free((char *)(uintptr_t)f->extra[1]);
}

static void an_upload_is_in_place_when_it_is_committed(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    uint64_t committed = 1;
    uint8_t digest[SA_SHA256_SIZE];
    test_put(f.ws, "file", "old");
    struct up u = {.root = "ws", .path = "file", .sized = true, .size = 5 * MIB};
    assert_string_equal(upload_begin(&f, &u, id, &committed), "");
    assert_int_equal(committed, 0);
    assert_string_equal(upload_commit(&f, id, NULL), "INVALID_REQUEST");
    assert_string_equal(upload_part(&f, id, 0, 5 * MIB, &committed), "");
    assert_int_equal(committed, 5 * MIB);
    cleanup_free char *old = test_get(f.ws, "file");
    assert_string_equal(old, "old");
    upload_digest(5 * MIB, digest);
    digest[0] ^= 1;
    assert_string_equal(upload_commit(&f, id, digest), "DIGEST_MISMATCH");
    digest[0] ^= 1;
    assert_string_equal(upload_commit(&f, id, digest), "");
    assert_uploaded(f.ws, "file", 5 * MIB);
    assert_int_equal(temporary_files(f.ws), 0);
    assert_string_equal(upload_commit(&f, id, digest), "");
    assert_string_equal(upload_part(&f, id, 0, 1, NULL), "UPLOAD_COMMITTED");
    assert_string_equal(upload_abort(&f, id), "UPLOAD_COMMITTED");
    assert_string_equal(upload_get(&f, id, &committed), "");
    assert_int_equal(committed, 5 * MIB);
    service_kill(&f);
    service_up(&f);
    assert_string_equal(upload_commit(&f, id, NULL), "");
    end(&f);
}

static void known_bytes_are_ignored_and_missing_ones_are_told(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    uint64_t committed = 0;
    struct up u = {.root = "ws", .path = "new/dir/file", .make_parents = true};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_part(&f, id, 0, 1000, &committed), "");
    assert_string_equal(upload_part(&f, id, 1001, 1002, NULL), "OFFSET_AHEAD");
    assert_string_equal(upload_part(&f, id, 500, 1500, &committed), "");
    assert_int_equal(committed, 1500);
    assert_string_equal(upload_part(&f, id, 0, 10, &committed), "");
    assert_int_equal(committed, 1500);
    assert_string_equal(upload_part(&f, "01arz3ndektsv4rrffq69g5fav", 0, 10, NULL), "UPLOAD_NOT_FOUND");
    assert_string_equal(upload_part(&f, "x", 0, 10, NULL), "UPLOAD_NOT_FOUND");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "new/dir/file", 1500);
    u.path = "sized";
    u.sized = true;
    u.size = 10;
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_part(&f, id, 0, 11, NULL), "INVALID_REQUEST");
    assert_string_equal(upload_part(&f, id, 0, 10, NULL), "");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "sized", 10);
    end(&f);
}

static bool is_all_committed(void *user)
{
    void **p = user;
    uint64_t committed = 0;
    assert_string_equal(upload_get(p[0], p[1], &committed), "");
    return committed == 3 * MIB;
}

static bool has_arrived(void *user)
{
    struct stat st;
    return stat(user, &st) == 0 && st.st_size >= (off_t)(3 * MIB);
}

/* A stream that breaks: what had come by then needs not to be sent again. */
static void what_came_before_a_break_is_kept(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    uint64_t committed = 0;
    struct up u = {.root = "ws", .path = "file"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    struct rpc_stream *s = upload_open(&f);
    upload_send(s, id, 0, 3 * MIB);
    cleanup_free char *temp = sa_format("%s/.sa-%s.tmp", f.ws, id);
    wait_until(has_arrived, temp, "all has come");
    rpc_stream_free(s);
    wait_until(is_all_committed, (void *[]){&f, id}, "what came is committed");
    service_kill(&f);
    service_up(&f);
    assert_string_equal(upload_get(&f, id, &committed), "");
    assert_int_equal(committed, 3 * MIB);
    assert_string_equal(upload_part(&f, id, 3 * MIB, 4 * MIB, &committed), "");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "file", 4 * MIB);
    end(&f);
}

/* A client came back before its broken connection was noticed, and its upload was "in use" for minutes. */
static void a_second_stream_takes_over(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    struct up u = {.root = "ws", .path = "file"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    struct rpc_stream *first = upload_open(&f);
    upload_send(first, id, 0, MIB);
    assert_string_equal(upload_part(&f, id, 0, 2 * MIB, NULL), "");
    assert_string_equal(upload_close(first, NULL), "LEASE_LOST");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "file", 2 * MIB);
    end(&f);
}

static void a_repeated_beginning_is_the_same_upload(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT], again[UPLOAD_ID_TEXT];
    uint64_t committed = 0;
    struct up u = {.root = "ws", .path = "file", .request_id = "r"}, other = u;
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_part(&f, id, 0, 100, NULL), "");
    for (int restarts = 0; restarts < 2; restarts++) {
        assert_string_equal(upload_begin(&f, &u, again, &committed), "");
        assert_string_equal(again, id);
        assert_int_equal(committed, 100);
        service_kill(&f);
        service_up(&f);
    }
    other.path = "other";
    assert_string_equal(upload_begin(&f, &other, again, NULL), "REQUEST_ID_REUSED");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_string_equal(upload_begin(&f, &u, again, &committed), "");
    assert_string_equal(again, id);
    assert_string_equal(upload_begin(&f, &other, again, NULL), "REQUEST_ID_REUSED");
    end(&f);
}

static size_t list(struct service_fixture *f, int page, char *token, const char *root)
{
    ListUploadsRequest req = LIST_UPLOADS_REQUEST__INIT;
    req.page_size = page;
    req.page_token = token;
    req.root = (char *)(uintptr_t)root;
    ListUploadsResponse *res = list_uploads_wait(f->caller.channel, &req, &patient, NULL);
    assert_non_null(res);
    size_t n = res->n_uploads;
    snprintf(token, UPLOAD_ID_TEXT, "%s", res->next_page_token);
    rpc_message_free(res);
    return n;
}

static bool none_is_listed(void *user)
{
    char token[UPLOAD_ID_TEXT] = "";
    return list(user, 0, token, "") == 0;
}

static void uploads_are_listed_aborted_and_expire(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT], token[UPLOAD_ID_TEXT] = "";
    uint64_t committed;
    struct up u = {.root = "ws", .path = "a"};
    for (int i = 0; i < 3; i++)
        assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_int_equal(list(&f, 2, token, "ws"), 2);
    assert_int_equal(list(&f, 2, token, "ws"), 1);
    assert_string_equal(token, "");
    assert_int_equal(list(&f, 2, token, "other"), 0);
    assert_int_equal(temporary_files(f.ws), 3);
    assert_string_equal(upload_abort(&f, id), "");
    assert_string_equal(upload_get(&f, id, &committed), "UPLOAD_NOT_FOUND");
    assert_string_equal(upload_abort(&f, id), "UPLOAD_NOT_FOUND");
    assert_int_equal(temporary_files(f.ws), 2);
    service_free(&f);
    free((char *)(uintptr_t)f.extra[1]);

    f = start();
    u.expire_s = 1;
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    struct rpc_stream *s = upload_open(&f);
    upload_send(s, id, 0, 10);
    wait_until(none_is_listed, &f, "the uploads expire");
    wait_until(has_no_temporary_file, f.ws, "their files go");
    assert_string_equal(upload_close(s, NULL), "UPLOAD_NOT_FOUND");
    /* One that expired while the service was down. */
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    service_kill(&f);
    assert_int_equal(temporary_files(f.ws), 1);
    service_up(&f);
    wait_until(has_no_temporary_file, f.ws, "the file goes after the restart");
    end(&f);
}

static void the_target_is_the_one_that_was_meant(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT], create[UPLOAD_ID_TEXT];
    test_put(f.ws, "file", "old");
    StatFileRequest req = STAT_FILE_REQUEST__INIT;
    req.root = (char *)(uintptr_t) "ws";
    req.path = bytes("file");
    StatFileResponse *res = stat_file_wait(f.caller.channel, &req, &patient, NULL);
    struct up u = {.root = "ws", .path = "file", .if_match = "other"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "ETAG_MISMATCH");
    u.if_match = res->file->etag;
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    struct up fresh = {.root = "ws", .path = "fresh", .create_only = true};
    assert_string_equal(upload_begin(&f, &fresh, create, NULL), "");
    test_put(f.ws, "file", "newer");
    test_put(f.ws, "fresh", "somebody's");
    assert_string_equal(upload_part(&f, id, 0, 10, NULL), "");
    assert_string_equal(upload_commit(&f, id, NULL), "ETAG_MISMATCH");
    assert_string_equal(upload_commit(&f, create, NULL), "ALREADY_EXISTS");
    cleanup_free char *file = test_get(f.ws, "file"), *other = test_get(f.ws, "fresh");
    assert_string_equal(file, "newer");
    assert_string_equal(other, "somebody's");
    assert_string_equal(upload_abort(&f, id), "");
    assert_string_equal(upload_abort(&f, create), "");
    assert_int_equal(temporary_files(f.ws), 0);
    u = (struct up){.root = "ws", .path = "../out"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "INVALID_PATH");
    u.root = "none";
    assert_string_equal(upload_begin(&f, &u, id, NULL), "ROOT_NOT_FOUND");
    rpc_message_free(res);
    end(&f);
}

/* An agent that replaces the directory by a link meanwhile, so that the upload would end elsewhere. */
static void an_upload_does_not_follow_where_it_is_led(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    test_mkdir(f.ws, "dir");
    test_mkdir(f.ws, "victim");
    struct up u = {.root = "ws", .path = "dir/file"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_part(&f, id, 0, 10, NULL), "");
    cleanup_free char *dir = sa_format("%s/dir", f.ws), *away = sa_format("%s/away", f.ws);
    assert_int_equal(rename(dir, away), 0);
    test_link("victim", f.ws, "dir");
    assert_string_equal(upload_part(&f, id, 10, 20, NULL), "FILE_CHANGED");
    assert_string_equal(upload_commit(&f, id, NULL), "FILE_CHANGED");
    assert_string_equal(stat_path(&f, "ws", "victim/file"), "FILE_NOT_FOUND");
    unlink(dir);
    assert_int_equal(rename(away, dir), 0);
    cleanup_free char *temp = sa_format("%s/.sa-%s.tmp", dir, id), *aside = sa_format("%s/aside", dir);
    assert_int_equal(rename(temp, aside), 0);
    test_put(dir, strrchr(temp, '/') + 1, "0123456789 of another file");
    assert_string_equal(upload_commit(&f, id, NULL), "FILE_CHANGED");
    assert_int_equal(rename(aside, temp), 0);
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "dir/file", 10);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_is_in_place_when_it_is_committed),
        cmocka_unit_test(known_bytes_are_ignored_and_missing_ones_are_told),
        cmocka_unit_test(what_came_before_a_break_is_kept),
        cmocka_unit_test(a_second_stream_takes_over),
        cmocka_unit_test(a_repeated_beginning_is_the_same_upload),
        cmocka_unit_test(uploads_are_listed_aborted_and_expire),
        cmocka_unit_test(the_target_is_the_one_that_was_meant),
        cmocka_unit_test(an_upload_does_not_follow_where_it_is_led),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
