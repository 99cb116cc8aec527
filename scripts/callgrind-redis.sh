#!/bin/sh
# redis-server under valgrind's callgrind, which counts its instructions: `make bench ARGS=--instructions` starts it. Its
# timers go by the clock, to which it is slow: one tick a second instead of ten leaves the work of requests.
exec valgrind --quiet --tool=callgrind --callgrind-out-file=/dev/null "${CALLGRIND_REDIS_SERVER:-redis-server}" "$@" --hz 1
