#!/bin/sh
# Starts the Sentinel of a pod. The Sentinel writes its state into its configuration on the volume, which records the
# primary for a restart of all pods.
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
    # Pods keep their names, but not their addresses.
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
say "monitoring $(primary_by_memory)"
exec redis-server "$file" --sentinel
