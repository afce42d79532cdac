#!/bin/sh
# Starts Redis as PID 1 with the password on standard input: on the command line every `ps` would show it.
# With REDIS_CLUSTER=yes it is a node of a cluster, see cluster.sh.
set -eu
: "${REDISCLI_AUTH:?a password is needed}"
case $REDISCLI_AUTH in *[!A-Za-z0-9_-]*)
    echo "REDIS_PASSWORD: use letters, digits, - and _ only, since it is part of a URL" >&2
    exit 2
    ;;
esac
server=$(command -v redis-server || command -v valkey-server)
exec "$server" "$(dirname "$0")/redis.conf" - <<END
requirepass $REDISCLI_AUTH
maxmemory ${REDIS_MAXMEMORY:-0}
$([ "${REDIS_CLUSTER:-no}" = no ] || printf 'cluster-enabled yes\ncluster-node-timeout 5000\nmasterauth %s\n' "$REDISCLI_AUTH")
END
