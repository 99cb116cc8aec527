#!/bin/sh
# make bench: throughput and CPU per job on a private Redis server. Arguments go to the benchmark.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root"
need_cargo
need_redis
exec cargo bench --locked -p oxbull --bench throughput -- "$@"
