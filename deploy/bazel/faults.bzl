"""The list of a program's fault points, from its sources."""

def fault_points(name, srcs, **kwargs):
    """A file `name` with the name of each SA_FAULT("...") in srcs, one a line."""
    native.genrule(
        name = name + "_list",
        srcs = srcs,
        outs = [name],
        cmd = "grep -oh 'SA_FAULT(\"[a-z0-9_.]*\")' $(SRCS) | cut -d'\"' -f2 | LC_ALL=C sort -u > $@",
        **kwargs
    )
