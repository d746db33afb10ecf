# Functions of the start scripts, which source this file.
# shellcheck shell=sh
#
#   ME      this pod's name in the network      PEERS   the names of all pods, in order, its own among them
#   DATA    the volume                          AUTH    the configuration with users and passwords
#   NAME    the Sentinels' name of the primary

: "${ME:?}" "${PEERS:?}" "${DATA:=/data}" "${AUTH:=/run/secrets/redis/redis-auth.conf}" "${NAME:=portcullis}"

say() { echo "$(basename "$0"): $*"; }

# ask HOST PORT WORD…: the reply to a command; empty if there is none.
ask() {
    host=$1 port=$2
    shift 2
    timeout 2 redis-cli -h "$host" -p "$port" "$@" 2>/dev/null | tr -d '\r'
}

# Prints the primary by the first Sentinel that answers.
primary_by_sentinels() {
    for peer in $PEERS; do
        found=$(ask "$peer" 26379 SENTINEL GET-MASTER-ADDR-BY-NAME "$NAME" | head -n 1)
        case $found in
            '' | *ERR* | *rror*) ;;
            *)
                echo "$found"
                return
                ;;
        esac
    done
}

# Prints the primary that the Sentinel of this pod recorded in an earlier run.
primary_by_memory() {
    if [ -f "$DATA/sentinel/sentinel.conf" ]; then
        sed -n "s/^sentinel monitor $NAME \([^ ]*\) .*/\1/p" "$DATA/sentinel/sentinel.conf"
    fi
}

# Prints another pod that runs as a primary.
primary_by_role() {
    for peer in $PEERS; do
        if [ "$peer" != "$ME" ] && [ "$(ask_redis "$peer" ROLE | head -n 1)" = master ]; then
            echo "$peer"
            return
        fi
    done
}

# Prints the password of the user `admin` in the configuration; empty if there is none.
password() { sed -n 's/^user admin on >\([^ ]*\) .*/\1/p' "$AUTH"; }

ask_redis() {
    host=$1
    shift
    REDISCLI_AUTH=$(password) ask "$host" 6379 --user admin --no-auth-warning "$@"
}
