/* The files of ui/, embedded: asset_<name> and asset_<name>_end. */
    .section .rodata
    .macro asset name, file
    .global asset_\name
    .global asset_\name\()_end
    .hidden asset_\name
    .hidden asset_\name\()_end
    .balign 16
asset_\name:
    .incbin "services/gateway-svc/ui/\file"
asset_\name\()_end:
    .byte 0
    .endm

    asset index, "index.html"
    asset style, "style.css"
    asset app, "app.js"
    asset api, "api.js"
    asset log, "log.js"
    asset view, "view.js"

    .section .note.GNU-stack, "", %progbits
