"""Local stand-ins for the repositories that Bazel 4 would otherwise download."""

_RULES_CC = """
cc_binary = native.cc_binary
cc_import = native.cc_import
cc_library = native.cc_library
cc_proto_library = native.cc_proto_library
cc_test = native.cc_test
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
fdo_prefetch_hints = native.fdo_prefetch_hints
fdo_profile = native.fdo_profile
objc_import = native.objc_import
objc_library = native.objc_library
"""

_RULES_JAVA = """
java_binary = native.java_binary
java_import = native.java_import
java_library = native.java_library
java_runtime = native.java_runtime
java_toolchain = native.java_toolchain
"""

# `bazel coverage` is not offered: the tool it wants cannot be had offline.
_COVERAGE = """
package(default_visibility = ["//visibility:public"])
filegroup(name = "lcov_merger")
filegroup(name = "coverage_report_generator")
"""

def _files_impl(ctx):
    for path, text in ctx.attr.contents.items():
        ctx.file(path, text)

_files = repository_rule(implementation = _files_impl, attrs = {"contents": attr.string_dict()}, local = True)

def offline_repositories():
    _files(name = "rules_cc", contents = {"BUILD": "", "cc/BUILD": "", "cc/defs.bzl": _RULES_CC})
    _files(name = "rules_java", contents = {"BUILD": "", "java/BUILD": "", "java/defs.bzl": _RULES_JAVA})
    _files(name = "remote_coverage_tools", contents = {"BUILD": _COVERAGE})
