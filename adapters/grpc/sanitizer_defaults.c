/* What Debian's gRPC makes of itself under the sanitizers. Read by their runtimes; nothing without them. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libcares\n"; /* 20 bytes per name that it resolves */
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1"; /* libgrpc, libabsl and libcrypto synchronize unseen */
}
