#!/bin/sh
# make bench: throughput and CPU per job on a private Redis server. Arguments go to the benchmark. With --instructions as
# the first one, Redis runs under callgrind (from valgrind), and its instructions per job are printed: slow, and the same
# from run to run, whatever else the machine does.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root"
need_cargo
need_redis
if [ "${1:-}" = --instructions ]; then
    shift
    export CALLGRIND_REDIS_SERVER="$OXBULL_REDIS_SERVER" OXBULL_REDIS_SERVER="$root/scripts/callgrind-redis.sh"
fi
exec cargo bench --locked -p oxbull --bench throughput -- "$@"
