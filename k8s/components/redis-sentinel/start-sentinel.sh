#!/bin/sh
# Starts the Sentinel of a pod. What it learns it writes into its configuration, which lies on the volume: it is the memory of
# which server was the primary when all pods have been away.
set -eu
# shellcheck source=k8s/components/redis-sentinel/parts.sh
. "$(dirname "$0")/parts.sh"
file=$DATA/sentinel/sentinel.conf
user() { sed -n "s/^user $1 on >\([^ ]*\) .*/\1/p" "$AUTH"; }

mkdir -p "$DATA/sentinel"
if [ ! -s "$file" ]; then
    primary=$(primary_by_sentinels)
    if [ -z "$primary" ]; then primary=$(primary_by_role); fi
    if [ -z "$primary" ]; then primary=${PEERS%% *}; fi
    # The names of pods stay, their addresses do not.
    cat >"$file" <<CONFIG
port 26379
dir $DATA/sentinel
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $ME
sentinel monitor $NAME $primary 6379 2
sentinel auth-user $NAME sentinel
sentinel auth-pass $NAME $(user sentinel)
sentinel down-after-milliseconds $NAME 2000
sentinel failover-timeout $NAME 10000
sentinel parallel-syncs $NAME 1
CONFIG
    if [ -n "${BIND:-}" ]; then echo "bind $BIND" >>"$file"; fi
fi
say "watching $(primary_by_memory)"
exec redis-server "$file" --sentinel
