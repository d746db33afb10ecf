#!/bin/sh
# Starts one of the Redis servers that the Sentinels monitor, as a primary only if that is safe.
#
# A primary that comes back with an empty disk before the Sentinels have detected its absence would lose all data: its
# replicas would copy the empty data set. Therefore a server with an empty disk that the Sentinels still name as the
# primary first has them choose another one. A server with an empty disk that finds no primary waits until all other
# pods have been asked.
set -eu
# shellcheck source=k8s/components/redis-sentinel/parts.sh
. "$(dirname "$0")/parts.sh"
config=${CONFIG:-/etc/redis/redis.conf}
# Seconds that a server with an empty disk waits for other servers with data.
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
    say "this server is the primary and its disk is empty: waiting until another server takes over"
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
        # The first pod is the first primary. A server with data becomes the primary itself.
        primary=${PEERS%% *}
        if has_data; then primary=$ME; fi
    fi
    if [ -z "$primary" ]; then
        sleep 1
        waited=$((waited + 1))
    fi
done

# A copy, which Sentinels may rewrite; the next start creates it again.
cp "$config" "$DATA/redis.conf"
set -- redis-server "$DATA/redis.conf" --dir "$DATA" --include "$AUTH" \
    --replica-announce-ip "$ME" --replica-announce-port 6379 \
    --min-replicas-to-write 1 --min-replicas-max-lag 3 --repl-diskless-sync-delay 0
if [ -n "${BIND:-}" ]; then set -- "$@" --bind "$BIND"; fi
if [ "$primary" != "$ME" ]; then
    say "following $primary"
    set -- "$@" --replicaof "$primary" 6379
else
    say "this server is the primary"
fi

# A file whose end was cut within a transaction is read, and would be refused at the start after the next: a rewritten one is whole.
# Nothing of it is lost: a server that could not read all of its file does not run (`propagation-error-behavior panic`).
(
    for _ in $(seq 300); do
        if [ "$(ask_redis "$ME" PING)" = PONG ]; then break; fi
        sleep 1
    done
    ask_redis "$ME" BGREWRITEAOF >/dev/null
) &
exec "$@"
