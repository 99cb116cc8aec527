#!/bin/sh
# Starts meebis with redis-server's command line, so that whoever starts a private server need not know
# which one it is. Options that meebis knows are passed on; the others set what it does not have
# (persistence, eviction, logging) and are dropped.
set -eu

meebis=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)/.redis/bin/meebis

case ${1:-} in
    --version | -v) exec "$meebis" --version ;;
    --* | '') ;;
    *)
        # A configuration file: its lines as options, before those of the command line.
        file=$1
        shift
        for line in port bind requirepass maxclients databases unixsocket; do
            value=$(sed -n "s/^[[:space:]]*${line}[[:space:]][[:space:]]*\([^[:space:]]*\).*/\1/p" "$file" | tail -n 1)
            value=${value#\"}
            value=${value%\"}
            [ -z "$value" ] || set -- "--$line" "$value" "$@"
        done
        # Passing over access rules could mean a server without the password that they set.
        if grep -Eq '^[[:space:]]*(include|aclfile|user|tls-port)[[:space:]]' "$file"; then
            echo "error: meebis has no include, aclfile, user or tls-port: $file" >&2
            exit 1
        fi
        ;;
esac

# Rotates the arguments once: each one read is removed in front, each one kept is appended.
count=$#
keep=no
while [ "$count" -gt 0 ]; do
    case $1 in
        --port | --bind | --requirepass | --maxclients | --databases | --unixsocket)
            keep=yes
            set -- "$@" "$1"
            ;;
        --*) keep=no ;;
        *)
            if [ "$keep" = yes ]; then
                # meebis takes one value an option, redis-server's --bind may have several.
                set -- "$@" "$1"
                keep=no
            fi
            ;;
    esac
    shift
    count=$((count - 1))
done
exec "$meebis" "$@"
