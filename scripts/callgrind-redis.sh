#!/bin/sh
# redis-server under valgrind's callgrind, which counts its instructions: `make bench ARGS=--instructions` starts it.
exec valgrind --quiet --tool=callgrind --callgrind-out-file=/dev/null "${CALLGRIND_REDIS_SERVER:-redis-server}" "$@"
