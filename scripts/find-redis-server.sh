#!/bin/sh
# Prints the path of a server that speaks Redis' protocol and takes redis-server's options.
#
# In this order: OXBULL_REDIS_SERVER, redis-server or valkey-server on PATH, an earlier local build, one
# installed with the platform's package manager, a local build of the development server meebis. Only the
# path goes to stdout.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/lib.sh
. "$root/scripts/lib.sh"

meebis_version=0.15.0
meebis=$root/scripts/meebis-server.sh

on_path() {
    command -v redis-server || command -v valkey-server
}

install_apt() {
    apt_install redis-server || return 1
    # Debian starts and enables the service that the package brings. It was not asked for.
    if [ -d /run/systemd/system ] && have systemctl; then
        as_root systemctl disable --now redis-server.service
    elif have service; then
        as_root service redis-server stop
    fi || say "the redis-server service could not be stopped; it may be listening on port 6379"
}

install_with_package_manager() {
    for manager in apt-get dnf apk brew; do
        have "$manager" || continue
        # Homebrew refuses to run as root and needs no rights of its own.
        [ "$manager" = brew ] || can_be_root || {
            say "no redis-server or valkey-server on PATH, and $manager needs root or sudo"
            continue
        }
        say "no redis-server or valkey-server on PATH: installing one with $manager"
        case $manager in
            apt-get) install_apt ;;
            dnf) as_root dnf install -y redis || as_root dnf install -y valkey ;;
            apk) as_root apk add --no-cache redis || as_root apk add --no-cache valkey ;;
            brew) brew install redis && PATH=$(brew --prefix)/bin:$PATH ;;
        esac >&2 && on_path && return 0
        say "$manager did not provide a server"
    done
    return 1
}

# Where installing failed once, every later run would try and wait again: a build that is there is used.
built_meebis() {
    [ -x "$root/.redis/bin/meebis" ] || return 1
    say "no redis-server or valkey-server on PATH: using meebis, built earlier under .redis/"
    printf '%s\n' "$meebis"
}

build_meebis() {
    need_cargo
    say "building the in-memory development server meebis $meebis_version under .redis/"
    say "it keeps nothing on disk and implements part of Redis: fit for the demo, not for every test"
    cargo install meebis --version "=$meebis_version" --locked --root "$root/.redis" >&2 ||
        die "no Redis server: install redis-server or valkey-server, or set OXBULL_REDIS_SERVER to one"
    printf '%s\n' "$meebis"
}

if [ -n "${OXBULL_REDIS_SERVER:-}" ]; then
    command -v "$OXBULL_REDIS_SERVER" || die "OXBULL_REDIS_SERVER is not a program: $OXBULL_REDIS_SERVER"
    exit 0
fi
on_path || built_meebis || install_with_package_manager || build_meebis
