#!/bin/sh
# Joins the nodes of CLUSTER_NODES (host:port, with spaces between) to a cluster, and stays: a node that comes back under
# another address is told of the others again. Each node is given the slot of one shard of MESH_NAMESPACE, and a third of
# the others with it. It writes /tmp/joined once the cluster is whole.
set -eu
: "${CLUSTER_NODES:?host:port of each node}" "${REDISCLI_AUTH:?a password is needed}"
namespace=${MESH_NAMESPACE:-mesh}
cli=$(command -v redis-cli || command -v valkey-cli)

ask() { # node, command…
    where=$1
    shift
    "$cli" -h "${where%:*}" -p "${where#*:}" "$@"
}

address() { # the node's address: CLUSTER MEET takes no names
    case ${1%:*} in
    *[!0-9.]*) getent hosts "${1%:*}" | awk '{print $1; exit}' ;;
    *) echo "${1%:*}" ;;
    esac
}

share() { # the slots of each node, once
    first=0
    left=$(echo "$CLUSTER_NODES" | wc -w)
    number=0
    for node in $CLUSTER_NODES; do
        echo "$(ask "$node" cluster keyslot "{$namespace.$number}:") $node"
        number=$((number + 1))
    done | sort -n >/tmp/places
    while read -r slot node; do
        left=$((left - 1))
        next=$(awk -v slot="$slot" '$1 > slot {print $1; exit}' /tmp/places)
        if [ "$left" = 0 ]; then last=16383; else last=$(((slot + next) / 2)); fi
        ask "$node" cluster addslotsrange "$first" "$last"
        first=$((last + 1))
    done </tmp/places
}

rm -f /tmp/joined
while :; do
    for node in $CLUSTER_NODES; do
        for other in $CLUSTER_NODES; do
            [ "$node" = "$other" ] || ask "$node" cluster meet "$(address "$other")" "${other#*:}" >/dev/null || true
        done
    done
    set -- $CLUSTER_NODES
    if ask "$1" cluster info | grep -q '^cluster_slots_assigned:0'; then share || true; fi
    whole=yes
    for node in $CLUSTER_NODES; do
        ask "$node" cluster info | grep -q '^cluster_state:ok' || whole=no
    done
    if [ "$whole" = yes ]; then
        : >/tmp/joined
        sleep "${CLUSTER_LOOK:-10}"
    else
        rm -f /tmp/joined
        sleep 1
    fi
done
