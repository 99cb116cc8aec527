#!/bin/sh
# Starts a Redis server from a configuration file beside this script, with the password of REDIS_PASSWORD:
#
#     start.sh queue|cache [redis-server options]
#
# The password reaches the server as a digest on its stdin: neither a file nor a command line shows it.
set -eu

config=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/${1:?queue or cache}.conf
shift

case ${REDIS_PASSWORD:?set REDIS_PASSWORD to a strong password, for example from: openssl rand -hex 32} in
    *[!A-Za-z0-9._~-]*)
        # It would need quoting in connection URLs, and each place would get that wrong in its own way.
        echo "error: REDIS_PASSWORD may contain letters, digits and . _ ~ - only" >&2
        exit 1
        ;;
esac
digest=$(printf '%s' "$REDIS_PASSWORD" | sha256sum)
digest=${digest%% *}
unset REDIS_PASSWORD

# The applications' user can do all but take the server over or wipe it. FLUSHDB stays: the client offers it
# behind an explicit confirmation.
exec redis-server "$config" "$@" - <<END
user default on #$digest ~* &* +@all -acl -config -debug -failover -flushall -module -replicaof -slaveof -shutdown
END
