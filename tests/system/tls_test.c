/* The command line over TLS: against a server with a certificate, and one that wants the caller's, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/harness.h"

static struct {
    char *ca, *other_ca, *cert, *key, *client_cert, *client_key;
} pem;

/* An authority, a server on loopback, a client; and an authority that signed nothing. */
static const char certificates[] =
    "set -e; cd '%s'; key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'\n"
    "for ca in ca other; do openssl req -x509 $key -days 30 -subj /CN=$ca -keyout $ca.key -out $ca.pem; "
    "done\n"
    "echo 'subjectAltName=IP:127.0.0.1' > san\n"
    "for who in server client; do openssl req $key -subj /CN=$who -keyout $who.key -out $who.csr\n"
    "openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile san -out "
    "$who.pem; done";

static int make_certificates(void **state)
{
    (void)state;
    const char *dir = harness_dir();
    cleanup_free char *script = sa_format(certificates, dir);
    int code;
    cleanup_free char *output = program_run(WORDS("/bin/sh", "-c", script), NULL, &code);
    if (code != 0)
        fail_msg("openssl:\n%s", output);
    pem.ca = sa_format("%s/ca.pem", dir);
    pem.other_ca = sa_format("%s/other.pem", dir);
    pem.cert = sa_format("%s/server.pem", dir);
    pem.key = sa_format("%s/server.key", dir);
    pem.client_cert = sa_format("%s/client.pem", dir);
    pem.client_key = sa_format("%s/client.key", dir);
    return 0;
}

static int forget_certificates(void **state)
{
    (void)state;
    free(pem.ca);
    free(pem.other_ca);
    free(pem.cert);
    free(pem.key);
    free(pem.client_cert);
    free(pem.client_key);
    return 0;
}

static void assert_runs(const struct system *s, int code, const char *part, const char *const *words)
{
    int got;
    cleanup_free char *output = system_cli(s, words, &got);
    if (got != code || !strstr(output, part))
        fail_msg("exit code %d, wanted %d and `%s`:\n%s", got, code, part, output);
}

static void a_caller_verifies_the_server(void **state)
{
    (void)state;
    struct system s = system_start(WORDS("--tls-cert", pem.cert, "--tls-key", pem.key));
    assert_runs(&s, 0, "turn ended: end_turn", WORDS("prompt", "--tls-ca", pem.ca, "over TLS"));
    assert_runs(&s, 1, "no answer from", WORDS("sessions", "--tls-ca", pem.other_ca));
    assert_runs(&s, 1, "no answer from", WORDS("sessions"));
    assert_runs(&s, 1, "/nonexistent", WORDS("sessions", "--tls-ca", "/nonexistent"));
    system_stop(&s);
    system_free(&s);
}

static void a_server_may_verify_its_callers(void **state)
{
    (void)state;
    struct system s = system_start(WORDS("--tls-cert", pem.cert, "--tls-key", pem.key, "--tls-ca", pem.ca));
    assert_runs(&s, 0, "turn ended: end_turn",
                WORDS("prompt", "--tls-ca", pem.ca, "--tls-cert", pem.client_cert, "--tls-key",
                      pem.client_key, "both"));
    assert_runs(&s, 1, "no answer from", WORDS("sessions", "--tls-ca", pem.ca));
    system_stop(&s);
    system_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_caller_verifies_the_server),
        cmocka_unit_test(a_server_may_verify_its_callers),
    };
    return cmocka_run_group_tests(tests, make_certificates, forget_certificates);
}
