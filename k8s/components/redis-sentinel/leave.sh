#!/bin/sh
# Before a pod ends: a primary hands over first, so that nothing that was acknowledged is lost and nobody waits for it to be
# missed. A failure is no reason to stay: Sentinels fail over then.
set -eu
# shellcheck source=k8s/components/redis-sentinel/parts.sh
. "$(dirname "$0")/parts.sh"
if [ "$(ask_redis "$ME" ROLE | head -n 1)" != master ]; then exit 0; fi
for peer in $PEERS; do
    if [ "$peer" != "$ME" ] && [ "$(ask "$peer" 26379 PING)" = PONG ]; then
        REDISCLI_AUTH=$(password) REDISCLI_OPTIONS='--user admin --no-auth-warning' SENTINELCLI_AUTH='' \
            bash "$(dirname "$0")/handover.sh" sentinel "$peer:26379" "$NAME" && exit 0
    fi
done
exit 0
