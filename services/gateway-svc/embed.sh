#!/bin/sh
# Prints assembly that embeds files: <dir>/app.js becomes the bytes from asset_app to asset_app_end. Not .incbin:
# Bazel does not see what that reads.
set -eu
echo '    .section .rodata'
for file in "$@"; do
    name=asset_$(basename "${file%.*}")
    printf '    .global %s, %s_end\n    .hidden %s, %s_end\n    .balign 16\n%s:\n' $name $name $name $name $name
    od -An -v -tx1 "$file" | sed 's/ /, 0x/g; s/^,/    .byte/'
    printf '%s_end:\n    .byte 0\n' $name
done
echo '    .section .note.GNU-stack, "", %progbits'
