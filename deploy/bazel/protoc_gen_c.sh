#!/bin/sh
# protoc-c 1.4.1 refuses proto3 `optional`, though its plug-in handles it (a one-field oneof `_name`).
# So call the plug-in and append supported_features = FEATURE_PROTO3_OPTIONAL to its answer
# (CodeGeneratorResponse field 2, varint 1).
/usr/bin/protoc-gen-c && printf '\020\001'
