#!/bin/sh
# Runs before a pod ends. A primary first switches over, so that no acknowledged write is lost and no request waits
# until the Sentinels detect the loss. A failure does not keep the pod: the Sentinels fail over then.
set -eu
# shellcheck source=k8s/components/redis-sentinel/parts.sh
. "$(dirname "$0")/parts.sh"
if [ "$(ask_redis "$ME" ROLE | head -n 1)" != master ]; then exit 0; fi
for peer in $PEERS; do
    if [ "$peer" != "$ME" ] && [ "$(ask "$peer" 26379 PING)" = PONG ]; then
        REDISCLI_AUTH=$(password) REDISCLI_OPTIONS='--user admin --no-auth-warning' SENTINELCLI_AUTH='' \
            bash "$(dirname "$0")/switchover.sh" sentinel "$peer:26379" "$NAME" && exit 0
    fi
done
exit 0
