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

# Compiles the library with the oldest Rust that it promises, where rustup has that toolchain or gets it. What needs no
# toolchain is checked anyway: clippy knows the version (`incompatible_msrv`), `it manifest` asks the dependencies.
check_msrv() {
    msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    if ! have rustup; then
        note "msrv         skipped: rustup is not installed"
    elif rustup run "$msrv.0" rustc --version >&2 || rustup toolchain install "$msrv.0" --profile minimal --no-self-update; then
        check msrv rustup run "$msrv.0" cargo check --locked -p oxbull --lib --all-features --target-dir target/msrv
    else
        note "msrv         skipped: the toolchain $msrv.0 cannot be installed"
    fi
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
# Without any feature, and each alone: nobody is to need one for another's sake.
features=$(sed -n '/^\[features\]/,/^\[dependencies\]/s/^\([a-z][a-z-]*\) = .*/\1/p' Cargo.toml | grep -vx default)
check "no feature" cargo clippy --locked -p oxbull --lib --no-default-features -- -D warnings
for feature in $features; do
    check "$feature" cargo clippy --locked -p oxbull --lib --no-default-features --features "$feature" -- -D warnings
done
# The refusal of encrypted connections exists without TLS only.
check "no tls" cargo test --locked -p oxbull --no-default-features --lib client::tls
check_msrv
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
