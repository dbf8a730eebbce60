/* Uploads and partial writes on a disk that is full: needs root to mount one. Elsewhere it says so and skips.
 */
#include "services/fs-svc/upload_fixture.h"

#include <sched.h>
#include <sys/mount.h>

#define MIB ((uint64_t)1 << 20)

static struct service_fixture start(void)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        print_message("skipped: no mounts here\n");
        skip();
    }
    struct service_fixture f = service_new(NULL);
    assert_int_equal(mount("tmpfs", f.ws, "tmpfs", 0, "size=8m"), 0);
    test_put(f.ws, "file", "old");
    f.extra[0] = "--fs-root";
    f.extra[1] = sa_format("ws=%s", f.ws);
    service_up(&f);
    return f;
}

static void end(struct service_fixture *f)
{
    cleanup_free char *content = test_get(f->ws, "file");
    assert_string_equal(content, "old");
    service_down(f);
    assert_int_equal(umount(f->ws), 0);
    free((char *)(uintptr_t)f->extra[1]);
    free(f->data);
    free(f->home);
    free(f->ws);
}

static void an_upload_that_does_not_fit_is_told_at_once(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    struct up u = {.root = "ws", .path = "file", .sized = true, .size = 9 * MIB};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "NO_SPACE");
    assert_int_equal(temporary_files(f.ws), 0);
    end(&f);
}

static void a_full_disk_stops_an_upload_until_there_is_room(void **state)
{
    (void)state;
    struct service_fixture f = start();
    char id[UPLOAD_ID_TEXT];
    uint64_t committed = 0;
    cleanup_free char *ballast = sa_format("%s/ballast", f.ws);
    int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(fallocate(fd, 0, 0, 5 * MIB), 0);
    struct up u = {.root = "ws", .path = "new"};
    assert_string_equal(upload_begin(&f, &u, id, NULL), "");
    assert_string_equal(upload_part(&f, id, 0, 4 * MIB, NULL), "NO_SPACE");
    unlink(ballast);
    sa_close(fd);
    assert_string_equal(upload_part(&f, id, 0, 0, &committed), "");
    assert_true(committed < 4 * MIB);
    assert_string_equal(upload_part(&f, id, committed, 4 * MIB, &committed), "");
    assert_string_equal(upload_commit(&f, id, NULL), "");
    assert_uploaded(f.ws, "new", 4 * MIB);
    end(&f);
}

/* Half of the data was in the file when the disk was full: the space is asked for before the first byte. */
static void a_change_in_place_that_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    struct service_fixture f = start();
    static uint8_t data[UPLOAD_MESSAGE];
    for (int in_place = 0; in_place < 2; in_place++) {
        struct rpc_stream *s = write_file_begin(f.caller.channel, &patient);
        WriteFileRequest msg = WRITE_FILE_REQUEST__INIT;
        WriteFileOpen open = WRITE_FILE_OPEN__INIT;
        open.root = (char *)(uintptr_t) "ws";
        open.path = bytes("file");
        open.method = WRITE_METHOD_APPEND;
        open.in_place = in_place;
        msg.kind_case = WRITE_FILE_REQUEST__KIND_OPEN;
        msg.open = &open;
        write_file_put(s, &msg, NULL);
        int n = in_place ? 5 : 9; /* in place the data is there twice */
        while (n-- && write_data(s, data, sizeof data) == 0)
            ;
        assert_string_equal(write_end(s, NULL), "NO_SPACE");
        wait_until(has_no_temporary_file, f.ws, "the temporary file goes");
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_upload_that_does_not_fit_is_told_at_once),
        cmocka_unit_test(a_full_disk_stops_an_upload_until_there_is_room),
        cmocka_unit_test(a_change_in_place_that_does_not_fit_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
