#!/bin/sh
# make test: everything that must hold before a change lands. Runs every check, prints each one's own
# output, then one line a check; fails if any of them failed.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

cd "$root"
report=''
failed=0

# Runs one named check. A failure is remembered, so that one run shows all of them.
check() {
    name=$1
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    started=$(date +%s)
    if "$@"; then
        result=ok
    else
        result=FAILED
        failed=1
    fi
    note "$(printf '%-12s %s (%s s)' "$name" "$result" "$(($(date +%s) - started))")"
}

note() {
    report="$report    $1
"
}

need_node() {
    for tool in node npm; do
        have "$tool" || die "$tool is not on PATH; the tests compare Oxbull with BullMQ for Node.js: install Node.js 20 or later (https://nodejs.org)"
    done
    version=$(node --version)
    major=${version#v}
    [ "${major%%.*}" -ge 20 ] || die "Node.js 20 or later is needed, this is $version"
}

# Installs exactly what the lock file names; again only when that file has changed. No install scripts:
# the packages' native parts are optional.
install_interop() {
    lock=tests/interop/package-lock.json
    stamp=tests/interop/node_modules/.installed-from
    cmp -s "$lock" "$stamp" && return 0
    say "installing the interop tests' npm packages"
    (cd tests/interop && npm ci --ignore-scripts --no-audit --no-fund) >&2 || die "npm ci failed in tests/interop"
    cp "$lock" "$stamp"
}

need_cargo
need_node
need_redis
# The tests of the operations manual type what it says.
need_program redis-cli redis-tools redis redis redis
need_program curl curl curl curl curl
install_interop

check fmt cargo fmt --all --check
check clippy cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
# Optional layers are used one without the other.
for feature in "" tls encryption sessions oauth tower-sessions http-cache http-rate-limit metrics testing; do
    check "${feature:-no feature}" cargo clippy --locked -p oxbull --lib --no-default-features --features "$feature" -- -D warnings
done
# Unit, integration, parity and doc tests: every suite prints its own summary.
check test cargo test --locked --workspace --all-features --no-fail-fast
check rustdoc env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --all-features --no-deps
if have cargo-deny; then
    # A database of advisories that cannot be fetched says nothing about the dependencies.
    if cargo deny --locked fetch db; then
        check deny cargo deny --locked --all-features check --hide-inclusion-graph
    else
        note "deny         advisories skipped: their database cannot be fetched"
        check deny cargo deny --locked --all-features check --hide-inclusion-graph bans licenses sources
    fi
else
    note "deny         skipped: cargo-deny is not installed (cargo install cargo-deny --locked)"
fi
if have shellcheck; then
    check shellcheck shellcheck -x scripts/*.sh config/redis/*.sh .ci/run
else
    note "shellcheck   skipped: shellcheck is not installed"
fi

printf '\n==> summary\n%s' "$report"
exit "$failed"
