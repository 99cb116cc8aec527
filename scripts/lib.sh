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

can_be_root() {
    [ "$(id -u)" -eq 0 ] || have sudo
}

# Runs a command as root: already root, or by sudo, which may ask only where somebody can answer.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@"
}

# Package lists are missing in fresh containers and stale elsewhere: they are refreshed only when needed.
apt_install() {
    apt_get install -y --no-install-recommends "$@" || {
        apt_get update && apt_get install -y --no-install-recommends "$@"
    }
}

# Installs a program that is not there, by the package that has it: program, then the package's name for
# apt-get, dnf, apk and brew.
need_program() {
    have "$1" && return 0
    say "$1 is not on PATH: installing it"
    if have apt-get && can_be_root; then
        apt_install "$2"
    elif have dnf && can_be_root; then
        as_root dnf install -y "$3"
    elif have apk && can_be_root; then
        as_root apk add --no-cache "$4"
    elif have brew; then
        brew install "$5"
    fi >&2 || say "its package could not be installed"
    have "$1" || die "$1 is needed and could not be installed"
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
