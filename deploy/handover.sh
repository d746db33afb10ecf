#!/usr/bin/env bash
# Hands Redis over to another primary, so that nothing that was acknowledged is lost, whatever REDIS_ACK_REPLICAS is:
# writes pause, the replicas catch up, one of them takes over. Portcullis answers 503 meanwhile, for some seconds.
#
#   deploy/handover.sh sentinel HOST:PORT NAME    the primary that Sentinels call NAME, of which one listens there
#   deploy/handover.sh cluster HOST:PORT          the replica of a Cluster that listens there takes over from its primary
#
# REDISCLI_AUTH is the password, REDISCLI_OPTIONS what else redis-cli needs: --user admin --tls --cacert ca.crt.
# SENTINELCLI_OPTIONS and SENTINELCLI_AUTH are the same for Sentinels, where they differ.
set -euo pipefail

# How long writes pause at most, in seconds; if it is not done by then, all stays as it was.
pause=20

die() {
    echo "handover: $*" >&2
    exit 1
}

say() { echo "handover: $*"; }

# HOST:PORT, then words of a command.
ask() {
    local at=$1
    shift
    # shellcheck disable=SC2086
    redis-cli -h "${at%:*}" -p "${at##*:}" ${REDISCLI_OPTIONS:-} "$@" | tr -d '\r'
}

ask_sentinel() {
    # shellcheck disable=SC2086
    REDISCLI_AUTH=${SENTINELCLI_AUTH-${REDISCLI_AUTH-}} redis-cli -h "${sentinel%:*}" -p "${sentinel##*:}" ${SENTINELCLI_OPTIONS:-} SENTINEL "$@" | tr -d '\r'
}

# The same for a command that answers OK. redis-cli succeeds also where the server refuses.
order() {
    local answer
    answer=$(ask "$@")
    [ "$answer" = OK ] || die "$1 answers to ${*:2:2}: $answer"
}

# How far the primary has written.
offset_of() { ask "$1" INFO replication | sed -n 's/^master_repl_offset://p'; }

# Whether every replica of the primary has all that was written up to an offset.
caught_up() {
    ask "$1" INFO replication | awk -F'[:,=]' -v wanted="$2" '
        /^slave[0-9]+:/ { for (i = 1; i < NF; i++) if ($i == "offset") { n++; if ($(i + 1) + 0 < wanted + 0) late = 1 } }
        END { exit !n || late }'
}

# Seconds, then a command that is tried until it succeeds.
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$until" ]; then return 1; fi
        sleep 0.1
    done
}

primary_of() { ask_sentinel GET-MASTER-ADDR-BY-NAME "$1" | paste -sd: -; }

moved() { [ "$(primary_of "$name")" != "$old" ]; }

by_sentinels() {
    sentinel=$1 name=$2
    old=$(primary_of "$name")
    case $old in *:*) ;; *) die "no Sentinel at $sentinel knows $name" ;; esac
    say "the primary is $old; writes pause for $pause s at most"
    order "$old" CLIENT PAUSE $((pause * 1000)) WRITE
    trap 'ask "$old" CLIENT UNPAUSE >/dev/null' EXIT
    # Writes pause by now: beyond this there is nothing but pings.
    within $((pause / 3)) caught_up "$old" "$(offset_of "$old")" || die "the replicas do not catch up; nothing was changed"
    say "the replicas have all it has"
    # They may have begun by themselves (INPROG): they cannot write to it either.
    answer=$(ask_sentinel FAILOVER "$name")
    case $answer in OK | INPROG*) ;; *) die "the Sentinels refuse: $answer" ;; esac
    within $((pause / 3)) moved || die "the Sentinels chose no other; nothing was changed"
    new=$(primary_of "$name")
    # Before it takes writes again: whoever still speaks to it is refused.
    order "$old" REPLICAOF "${new%:*}" "${new##*:}"
    say "the primary is $new"
}

in_cluster() {
    ask "$1" INFO replication | grep -q '^role:slave' || die "$1 is no replica"
    # It pauses the primary's writes and waits for its offset by itself.
    order "$1" CLUSTER FAILOVER
    is_primary() { ask "$1" INFO replication | grep -q '^role:master'; }
    within "$pause" is_primary "$1" || die "$1 has not taken over"
    say "the primary is $1"
}

case "${1:-} $#" in
    'sentinel 3') by_sentinels "$2" "$3" ;;
    'cluster 2') in_cluster "$2" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 64 ;;
esac
