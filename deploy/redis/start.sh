#!/bin/sh
# Starts Redis as PID 1 with the password on standard input: on the command line every `ps` would show it.
# With REDIS_CLUSTER=yes it is a node of a cluster, see cluster.sh. With REDIS_USERS=yes each container has a user of its
# own, of users.acl, see deploy/compose/users.yml.
set -eu
: "${REDISCLI_AUTH:?a password is needed}"
fits() {
    case $2 in "" | *[!A-Za-z0-9_-]*)
        echo "$1: use letters, digits, - and _ only, since it is part of a URL" >&2
        exit 2
        ;;
    esac
}
fits REDIS_PASSWORD "$REDISCLI_AUTH"
users=
if [ "${REDIS_USERS:-no}" != no ]; then
    namespace=${MESH_NAMESPACE:-mesh}
    case $namespace in *[!A-Za-z0-9_.-]*)
        echo "MESH_NAMESPACE: use letters, digits, _, . and - only" >&2
        exit 2
        ;;
    esac
    users=$(sed "/^#/d; s/{mesh}/{$namespace}/g" "$(dirname "$0")/users.acl")
    for name in $(printf '%s\n' "$users" | sed 's/.*@\(REDIS_PASSWORD_[A-Z_]*\)@.*/\1/'); do
        eval "password=\${$name:-}"
        fits "$name" "$password"
        users=$(printf '%s\n' "$users" | sed "s/@$name@/$password/")
    done
fi
server=$(command -v redis-server || command -v valkey-server)
exec "$server" "$(dirname "$0")/redis.conf" - <<END
requirepass $REDISCLI_AUTH
maxmemory ${REDIS_MAXMEMORY:-0}
$([ "${REDIS_CLUSTER:-no}" = no ] || printf 'cluster-enabled yes\ncluster-node-timeout 5000\ncluster-require-full-coverage no\nmasterauth %s\n' "$REDISCLI_AUTH")
$users
END
