#!/bin/sh
# What protoc-gen-rpc refuses, and the names that it gives. $1: the plug-in.
plugin=$PWD/$1
export ASAN_OPTIONS=detect_leaks=0 # it lives for milliseconds and frees nothing
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failed=0

# generate BODY: the text of a file of package sandboxagent.test.v1
generate() {
    printf 'syntax = "proto3"; package sandboxagent.test.v1;\n%s\n' "$1" >x.proto
    rm -f x.rpc.h x.rpc.c
    protoc -I. -I/usr/include --plugin=protoc-gen-rpc="$plugin" --rpc_out=. x.proto 2>out
}

refuses() {
    if generate "$2" || ! grep -q "$1" out; then
        echo "not refused with '$1': $2"
        cat out
        failed=1
    fi
}

has() {
    if ! grep -q "$1" x.rpc.h; then
        echo "x.rpc.h lacks: $1"
        failed=1
    fi
}

refuses 'contains itself' 'service S { rpc Do(A) returns (B); } message A { A a = 1; } message B {}'
refuses 'contains itself' 'service S { rpc Do(A) returns (B); } message A { C c = 1; } message C { map<string, A> a = 1; } message B {}'
refuses 'contains itself' 'import "google/protobuf/struct.proto"; service S { rpc Do(A) returns (B); }
    message A { google.protobuf.Struct s = 1; } message B {}'
refuses 'FOO is defined' 'message A { enum E { FOO = 0; } } message B { enum E { FOO = 0; } }'
refuses 'rpc Do is defined' 'service S { rpc Do(A) returns (B); } service T { rpc Do(A) returns (B); } message A {} message B {}'

generate 'service ThingService {
    rpc GetThing(GetThingRequest) returns (GetThingResponse);
    rpc WatchThing(GetThingRequest) returns (stream GetThingResponse);
    rpc PutThing(stream GetThingRequest) returns (GetThingResponse);
    rpc TalkThing(stream GetThingRequest) returns (stream GetThingResponse);
}
enum Mode { MODE_A = 0; }
message GetThingRequest { message Inner {} oneof kind { Inner inner = 1; string word = 2; } optional string note = 3; }
message GetThingResponse { GetThingResponse again = 1; }' || { cat out; failed=1; }
has 'struct thing_service_handlers'
has 'void get_thing_reply(struct rpc_call \*call, const GetThingResponse \*res);'
has 'GetThingResponse \*get_thing_wait('
has 'bool watch_thing_send('
has 'void watch_thing_on('
has 'struct rpc_stream \*watch_thing_begin(struct rpc_channel \*ch, const GetThingRequest \*req,'
has 'void put_thing_accept(struct rpc_call \*call, const struct put_thing_events \*ev'
has 'void put_thing_reply('
has 'int talk_thing_put('
has '#define MODE_A SANDBOXAGENT__TEST__V1__MODE__MODE_A'
has '#define GET_THING_REQUEST__KIND_INNER SANDBOXAGENT__TEST__V1__GET_THING_REQUEST__KIND_INNER'
has 'typedef Sandboxagent__Test__V1__GetThingRequest__Inner GetThingRequest__Inner;'

exit $failed
