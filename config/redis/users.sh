#!/bin/sh
# Prints the `user` lines of redis.conf that users.acl beside this script stands for:
#
#     users.sh
#
# Each role's password is in REDIS_<ROLE>_PASSWORD, for instance REDIS_WORKER_PASSWORD. While it is being
# replaced, REDIS_<ROLE>_PASSWORD_OLD lets those in who still have the former one. Digests are printed, never
# passwords.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

die() {
    echo "error: $*" >&2
    exit 1
}

# macOS has the other.
sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

# The digest of the password in a variable, as ACL rules have it.
digest() {
    eval "password=\${$1:-}"
    # shellcheck disable=SC2154 # set by eval
    case $password in
        *[!A-Za-z0-9._~-]*)
            # It would need quoting in connection URLs, and each place would get that wrong in its own way.
            die "$1 may contain letters, digits and . _ ~ - only"
            ;;
    esac
    hash=$(printf '%s' "$password" | sha256)
    printf '#%s' "${hash%% *}"
}

for role in PRODUCER WORKER GATEWAY OPERATOR; do
    variable=REDIS_${role}_PASSWORD
    eval "given=\${$variable:-} old=\${${variable}_OLD:-}"
    # shellcheck disable=SC2154 # set by eval
    [ -n "$given" ] || die "set $variable to a strong password, for example from: openssl rand -hex 32"
    digests=$(digest "$variable")
    # shellcheck disable=SC2154 # set by eval
    [ -z "$old" ] || digests="$digests $(digest "${variable}_OLD")"
    # By the environment: command lines are seen by every user of the machine.
    export "${role}_DIGESTS=$digests"
done

# A server older than 7.2 refuses rules about a command that it does not have.
case $(redis-server --version) in
    *v=7.0.*) unknown='[+]client[|]setinfo' ;;
    *) unknown='' ;;
esac

awk -v unknown="$unknown" '
    /^[[:space:]]*(#|$)/ { next }
    /^user / {
        if (line) print line
        line = $0
        sub(/PASSWORDS/, ENVIRON[toupper($2) "_DIGESTS"], line)
        next
    }
    {
        gsub(/^[[:space:]]+|[[:space:]]+$/, "")
        if (unknown) gsub(unknown, "")
        line = line " " $0
    }
    END { print line }
' "$here/users.acl"
