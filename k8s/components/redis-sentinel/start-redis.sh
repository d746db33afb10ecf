#!/bin/sh
# Starts one of the Redis servers that Sentinels watch, as a primary only where it may be one.
#
# A primary that comes back with an empty disk before anybody has missed it is the one way to lose everything: its replicas
# would copy the emptiness. So whoever has nothing on its disk, and is the primary by what the Sentinels say, first has them
# choose another one; and whoever has nothing and hears of no primary waits until all have been asked.
set -eu
# shellcheck source=k8s/components/redis-sentinel/parts.sh
. "$(dirname "$0")/parts.sh"
config=${CONFIG:-/etc/redis/redis.conf}
# How long one that has nothing waits for others to show that they have something.
patience=${PATIENCE:-60}

# If every other pod runs a Redis that is empty, nothing can be lost: this is a first start, and a Sentinel of it was faster.
others_are_empty() {
    for peer in $PEERS; do
        if [ "$peer" != "$ME" ] && [ "$(ask_redis "$peer" DBSIZE)" != 0 ]; then return 1; fi
    done
}

has_data() { [ -n "$(find "$DATA" -name '*.aof' -size +0 2>/dev/null | head -n 1)" ]; }

mkdir -p "$DATA"
primary=$(primary_by_sentinels)
if [ "$primary" = "$ME" ] && ! has_data; then
    say "this is the primary, and its disk is empty: another one must take over first"
    while [ "$primary" = "$ME" ] || [ -z "$primary" ]; do
        if others_are_empty; then
            say "the others are as empty"
            primary=$ME
            break
        fi
        for peer in $PEERS; do
            if [ "$peer" != "$ME" ]; then ask "$peer" 26379 SENTINEL FAILOVER "$NAME" >/dev/null; fi
        done
        sleep 1
        primary=$(primary_by_sentinels)
    done
fi
if [ -z "$primary" ]; then primary=$(primary_by_memory); fi
waited=0
while [ -z "$primary" ]; do
    primary=$(primary_by_role)
    if [ -z "$primary" ] && { has_data || [ "$waited" -ge "$patience" ]; }; then
        # The first pod is the first primary. One that has data is what there is.
        primary=${PEERS%% *}
        if has_data; then primary=$ME; fi
    fi
    if [ -z "$primary" ]; then
        sleep 1
        waited=$((waited + 1))
    fi
done

# A copy, which Sentinels may have rewritten; the next start makes it anew.
cp "$config" "$DATA/redis.conf"
set -- redis-server "$DATA/redis.conf" --dir "$DATA" --include "$AUTH" \
    --replica-announce-ip "$ME" --replica-announce-port 6379 \
    --min-replicas-to-write 1 --min-replicas-max-lag 3 --repl-diskless-sync-delay 0
if [ -n "${BIND:-}" ]; then set -- "$@" --bind "$BIND"; fi
if [ "$primary" != "$ME" ]; then
    say "following $primary"
    set -- "$@" --replicaof "$primary" 6379
else
    say "this is the primary"
fi
exec "$@"
