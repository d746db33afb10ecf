# Settings of the cluster itself, and settings that all replicas share. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh

# given NAME: succeeds if the user has set it, in the environment or in .env (which the program reads by itself).
given() { [ -n "${!1:-}" ] || grep -qsE "^[[:space:]]*(export[[:space:]]+)?$1=." .env; }

# setting NAME DEFAULT: its value from the environment, else from .env, else the default.
setting() {
    local value=${!1:-}
    if [ -z "$value" ] && [ -f .env ]; then
        value=$(sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$1=[\"']?([^\"'#]*[^\"'#[:space:]]).*/\2/p" .env | head -n 1)
    fi
    printf '%s' "${value:-$2}"
}

# number NAME DEFAULT LEAST MOST
number() {
    local value
    value=$(setting "$1" "$2")
    # 10# because a leading zero would make it octal.
    if ! [[ $value =~ ^[0-9]{1,5}$ ]] || ((10#$value < $3 || 10#$value > $4)); then
        die "$1 must be a number from $3 to $4, not '$value'"
    fi
    printf '%d' "$((10#$value))"
}

# Sets: port replicas profile binary data redis_port installs
read_settings() {
    port=$(number PORT 8080 1 63535)
    # Fewer than 1000, so that the ranges of ports cannot overlap.
    replicas=$(number REPLICAS 3 1 99)
    data=$(setting DATA_DIR data)
    case $data in /*) ;; *) data=$PWD/$data ;; esac

    installs=(balance)
    profile=$(setting PROFILE dev)
    binary=$(setting BINARY '')
    if [ -z "$binary" ]; then
        installs+=(build)
    elif ! [ -f "$binary" ] || ! [ -x "$binary" ]; then
        die "BINARY is '$binary', which is not an executable program"
    fi
    case $binary in */*) ;; ?*) binary=./$binary ;; esac

    redis_port=''
    if ! given REDIS_URL && ! given REDIS_URL_FILE; then
        redis_port=$((port + 2000))
        installs+=(redis)
    fi

    local name
    for name in LISTEN MANAGEMENT_LISTEN; do
        if given "$name"; then say "make run derives $name from PORT; your value is ignored."; fi
    done
}

# Sets the values that replicas must share and that a balancer in front requires, unless the user has set them. One
# secret signs for all.
share_settings() {
    export DATA_DIR=$data
    if ! given JWT_SECRET && ! given JWT_SECRET_FILE && ! given JWT_KEYS_DIR; then
        export JWT_SECRET_FILE=$data/jwt-secret
        # A variable that is set but empty would contradict the file.
        unset JWT_SECRET JWT_KEYS_DIR
        keep_secret "$JWT_SECRET_FILE"
    fi
    given ISSUER || export ISSUER=http://localhost:$port
    given TRUSTED_PROXIES || export TRUSTED_PROXIES=127.0.0.1/32
    # HAProxy stops before the replicas do, so no delay is needed.
    given DRAIN_DELAY || export DRAIN_DELAY=0s
    if [ -n "$redis_port" ]; then
        unset REDIS_URL_FILE
        export REDIS_URL=redis://127.0.0.1:$redis_port
    fi
}

# keep_secret FILE: creates 48 random bytes once. Tokens outlive a restart because the secret does.
keep_secret() {
    if [ -s "$1" ]; then return; fi
    (
        umask 077
        # Renamed when complete, so that a partial secret is never used.
        head -c 48 /dev/urandom | base64 | tr -d '\n' >"$1.new"
        mv "$1.new" "$1"
    )
}

# Locks the data folder: two Redis servers on one append-only file would destroy it. A replica with a private Redis
# (`cargo run`) takes the same lock. The lock lasts as long as this script and Redis have the file open, however they
# end.
claim_data_dir() {
    if ! { mkdir -p "$data/logs" "$data/redis" && chmod 700 "$data" && : >>"$data/redis/lock"; }; then
        die "the data folder $data cannot be created, or belongs to another user: choose another DATA_DIR"
    fi
    exec 9>>"$data/redis/lock"
    # A process that was just killed may still be writing its file.
    until_true 10 lock_9 ||
        die "the data folder $data is in use by another cluster or replica: stop the other one, or choose another DATA_DIR and PORT"
}

# macOS has no flock, but perl. Either locks the open descriptor 9, and leaves it locked when it exits.
lock_9() {
    if command -v flock >/dev/null; then
        flock --nonblock 9
    else
        perl -e 'use Fcntl ":flock"; open(my $f, ">&=", 9) && flock($f, LOCK_EX | LOCK_NB) or exit 1'
    fi
}
