"""C code for .proto files: protoc-gen-c (messages) and protoc-gen-rpc (names, services, descriptors)."""

def proto_c_library(name, srcs, deps = [], root = None, rpc = True, runtime = True, **kwargs):
    """A cc_library with X.pb-c.h and X.rpc.h for each X.proto; include "X.rpc.h".

    Args:
      name: the library; `<name>_protos` are its .proto files and those of deps.
      srcs: .proto files of this package, which is the import root; //proto is one too.
      deps: proto_c_library targets whose files srcs import.
      root: "/usr/include" for files that Debian installs there; then srcs are names below it.
      rpc: False: messages only.
      runtime: False: leaves out the runtime that services need (for what the runtime itself uses).
      **kwargs: of cc_library.
    """
    here = native.package_name()
    protos = [] if root else srcs
    native.filegroup(
        name = name + "_protos",
        srcs = protos + [d + "_protos" for d in deps],
        visibility = ["//visibility:public"],
    )
    stems = [s[:-len(".proto")] for s in srcs]
    outs = [s + e for s in stems for e in [".pb-c.c", ".pb-c.h"] + ([".rpc.c", ".rpc.h"] if rpc else [])]
    plugin = "//adapters/grpc/plugin:protoc-gen-rpc"
    wrapper = "//deploy/bazel:protoc_gen_c.sh"
    native.genrule(
        name = name + "_gen",
        srcs = [":%s_protos" % name],
        outs = outs,
        tools = [wrapper] + ([plugin] if rpc else []),
        cmd = " ".join([
            "protoc",
            "-I" + (root or here),
            "-Iproto",
            "-I/usr/include",
            "--plugin=protoc-gen-c=$(execpath %s)" % wrapper,
            "--c_out=$(RULEDIR)",
        ] + ([
            "--plugin=protoc-gen-rpc=$(execpath %s)" % plugin,
            "--rpc_out=$(RULEDIR)",
        ] if rpc else []) + (srcs if root else [here + "/" + s for s in srcs])),
        message = "Generating C for " + name,
    )
    libs = ["//deploy/bazel/libs:protobuf_c"]
    if rpc:
        libs.append("//adapters/grpc:message")
    if rpc and runtime:
        libs.append("//adapters/grpc")
    native.cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".c")],
        hdrs = [o for o in outs if o.endswith(".h")],
        copts = ["-w"],
        includes = ["."],
        deps = deps + libs,
        **kwargs
    )
