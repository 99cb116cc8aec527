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
# The demo starts the programs beside it, and nothing else is needed.
say "building the demo, the gateway and the workers"
cargo build --locked --release -p oxbull-demo -p oxbull-workers --bin demo --bin gateway \
    --bin post-publishing --bin webhook-processing --bin analytics-refresh
exec "${CARGO_TARGET_DIR:-target}/release/demo" "$@"
