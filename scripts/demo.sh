#!/bin/sh
# make demo: the three workers on sample input, against a private Redis server that ends with the demo.
# Arguments go to the demo program.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root"
need_cargo
need_redis
# The demo starts the worker programs beside it: all of them must be built.
say "building the demo and the workers"
cargo build --locked --release -p oxbull-workers --bins
exec cargo run --locked --quiet --release -p oxbull-workers --bin demo -- "$@"
