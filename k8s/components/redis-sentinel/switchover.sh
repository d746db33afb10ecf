#!/usr/bin/env bash
# Planned switchover of Redis to another primary without the loss of an acknowledged write, whatever REDIS_ACK_REPLICAS
# is: writes pause, the replicas catch up, and one of them takes over. Portcullis answers 503 meanwhile, for some
# seconds.
#
#   deploy/switchover.sh sentinel HOST:PORT NAME    the primary that Sentinels call NAME; one of them listens at HOST:PORT
#   deploy/switchover.sh cluster HOST:PORT          the replica of a Cluster at HOST:PORT takes over from its primary
#
# REDISCLI_AUTH is the password, REDISCLI_OPTIONS holds other options of redis-cli: --user admin --tls --cacert ca.crt.
# SENTINELCLI_OPTIONS and SENTINELCLI_AUTH are the same for Sentinels, if they differ.
set -euo pipefail

# Maximum pause of writes, in seconds; if the switchover takes longer, nothing changes.
pause=20

die() {
    echo "switchover: $*" >&2
    exit 1
}

say() { echo "switchover: $*"; }

# ask HOST:PORT WORD…: the reply to a command.
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

# order HOST:PORT WORD…: the same for a command that must reply OK. redis-cli succeeds even if the server refuses.
order() {
    local answer
    answer=$(ask "$@")
    [ "$answer" = OK ] || die "$1 replies to ${*:2:2}: $answer"
}

# offset_of HOST:PORT: the primary's replication offset.
offset_of() { ask "$1" INFO replication | sed -n 's/^master_repl_offset://p'; }

# caught_up HOST:PORT OFFSET: succeeds if every replica of the primary has reached the offset.
caught_up() {
    ask "$1" INFO replication | awk -F'[:,=]' -v wanted="$2" '
        /^slave[0-9]+:/ { for (i = 1; i < NF; i++) if ($i == "offset") { n++; if ($(i + 1) + 0 < wanted + 0) late = 1 } }
        END { exit !n || late }'
}

# within SECONDS COMMAND…: repeats the command until it succeeds; fails when the time is up.
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
    # Writes pause by now: beyond this offset there are only pings.
    within $((pause / 3)) caught_up "$old" "$(offset_of "$old")" || die "the replicas do not catch up; nothing was changed, try again under less load"
    say "the replicas have caught up"
    # The Sentinels may have started a failover by themselves (INPROG): they cannot write to the old primary either.
    answer=$(ask_sentinel FAILOVER "$name")
    case $answer in OK | INPROG*) ;; *) die "the Sentinels refuse: $answer" ;; esac
    within $((pause / 3)) moved || die "the Sentinels chose no other primary; nothing was changed"
    new=$(primary_of "$name")
    # Before the old primary takes writes again, it becomes a replica: clients that still use it are refused.
    order "$old" REPLICAOF "${new%:*}" "${new##*:}"
    say "the primary is $new"
}

in_cluster() {
    ask "$1" INFO replication | grep -q '^role:slave' || die "$1 is no replica"
    # The command pauses the primary's writes and waits for its offset by itself.
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
