# Shared by the scripts beside it; sourced, never run. The caller sets `root`.
# shellcheck shell=sh

# Messages go to stderr, so that a script's stdout stays its answer.
say() {
    printf '==> %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Puts cargo on PATH. rustup's installer edits shell profiles, which a
# non-interactive shell with a bare environment never reads.
need_cargo() {
    have cargo && return 0
    cargo_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    [ -x "$cargo_bin/cargo" ] ||
        die "cargo is neither on PATH nor in $cargo_bin; install Rust from https://rustup.rs"
    PATH=$cargo_bin:$PATH
    export PATH
}

# Exports OXBULL_REDIS_SERVER, the server that the demo, the tests and the
# benchmark start private copies of.
need_redis() {
    # shellcheck disable=SC2154 # root is the caller's
    OXBULL_REDIS_SERVER=$("$root/scripts/find-redis-server.sh") || exit 1
    export OXBULL_REDIS_SERVER
    say "Redis server: $OXBULL_REDIS_SERVER"
}
