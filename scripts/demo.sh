#!/bin/sh
# make demo: the gateway and the workers on sample input, against a private Redis server that ends with the demo.
# Arguments go to the demo program.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root"
need_cargo
need_redis
programs=${CARGO_TARGET_DIR:-target}/demo
if [ -x "$programs/demo" ]; then
    say "building the demo, the gateway and the workers: seconds, unless the library has changed"
else
    say "building the demo, the gateway and the workers from nothing: one to two minutes on two idle cores, seconds from then on"
fi
# The demo starts these programs from its own directory.
cargo build --locked --profile demo -p oxbull-demo -p oxbull-workers --bin demo --bin gateway \
    --bin post-publishing --bin webhook-processing --bin analytics-refresh
say "running the demo: about five seconds, plus a few more on a busy machine"
exec "$programs/demo" "$@"
