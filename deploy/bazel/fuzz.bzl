"""Fuzzers of parsers."""

def fuzz_test(name, srcs, corpus = [], deps = [], **kwargs):
    """A fuzzer that defines LLVMFuzzerTestOneInput; it is also a test.

    As a test it runs the corpus and a fixed number of mutations (tests/fuzz/driver.c). For a long run:
    `bazel build --config=fuzz <target>`, then `bazel-bin/<target> -max_total_time=600 <corpus directory>`.

    Args:
      name: the test.
      srcs: the fuzzer.
      corpus: files to start from.
      deps: what it tests.
      **kwargs: of cc_test.
    """
    native.cc_test(
        name = name,
        srcs = srcs,
        data = corpus,
        args = ["$(locations %s)" % c for c in corpus],
        deps = deps + select({
            "//tests/fuzz:libfuzzer": [],
            "//conditions:default": ["//tests/fuzz:driver"],
        }),
        linkopts = select({
            "//tests/fuzz:libfuzzer": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        **kwargs
    )
