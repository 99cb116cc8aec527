#!/bin/sh
# Starts a Redis server from a configuration file beside this script, with the users of users.acl:
#
#     start.sh queue|cache [redis-server options]
#
# Passwords come from the environment, see users.sh, and reach the server as digests on its stdin: neither a
# file nor a command line shows them, and the server does not inherit them.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
config=$here/${1:?queue or cache}.conf
shift

users=$(sh "$here/users.sh")
for role in PRODUCER WORKER GATEWAY OPERATOR; do
    unset "REDIS_${role}_PASSWORD" "REDIS_${role}_PASSWORD_OLD"
done

exec redis-server "$config" "$@" - <<END
$users
END
