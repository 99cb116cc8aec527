#!/bin/sh
# Writes a copy of the queue server's append-only file to stdout, as a tar archive, while the server runs:
#
#     docker compose exec -T redis sh /etc/oxbull/backup.sh > backup.tar
#
# The last command in it may be cut off, which Redis notices and drops when it starts.
set -eu

data=${REDIS_DATA:-/data}
work=$(mktemp -d "$data/backup.XXXXXX")
trap 'rm -rf "$work"' EXIT

cp -R "$data/appendonlydir" "$work/"
manifest=appendonlydir/appendonly.aof.manifest
# A rewrite replaces the files that the manifest names: then the copy may have some of each.
# shellcheck disable=SC2013 # words are what is wanted
for file in $(awk '{ print $2 }' "$work/$manifest"); do
    [ -f "$work/appendonlydir/$file" ] || missing=$file
done
if [ -n "${missing:-}" ] || ! cmp -s "$data/$manifest" "$work/$manifest"; then
    echo "error: the append-only file was rewritten meanwhile; run this again" >&2
    exit 1
fi
tar -C "$work" -cf - appendonlydir
