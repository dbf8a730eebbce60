"""Tests in Node."""

def node_test(name, src, data = [], env = {}, **kwargs):
    """A test file for `node --test`.

    Args:
      name: name of the test.
      src: the test file (.test.mjs).
      data: what it imports, reads and runs.
      env: environment; $(location ...) is expanded.
      **kwargs: as for sh_test (size, tags, ...).
    """
    native.sh_test(
        name = name,
        srcs = ["//deploy/bazel:node_test.sh"],
        args = ["$(rootpath %s)" % src],
        data = [src] + data,
        env = env,
        **kwargs
    )
