#!/bin/sh
# make compare: Oxbull and other job queues through the same workloads (benches/compare/README.md). Arguments go to the
# harness.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root/benches/compare"
need_cargo
need_redis
have node || die "node is not on PATH; one of the contestants is BullMQ for Node.js: install Node.js 20 or later (https://nodejs.org)"
[ -d "$root/tests/interop/node_modules/bullmq" ] ||
    die "BullMQ is not installed: run npm ci --ignore-scripts in tests/interop"

CARGO_TARGET_DIR=$PWD/target
export CARGO_TARGET_DIR
# One at a time: together, each would be built with the features of the others' dependencies.
for package in compare contestant-oxbull contestant-bullmq-official contestant-apalis; do
    cargo build --locked --release -p "$package" >&2
done
exec target/release/compare "$@"
