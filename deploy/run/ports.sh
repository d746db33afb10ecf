# Which ports the cluster takes, and whether they are free. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh

# One line a port: its number, and whose it is to be.
ports() {
    local i
    echo "$port HAProxy"
    for ((i = 1; i <= replicas; i++)); do
        echo "$((port + i)) replica $i"
        echo "$((port + 1000 + i)) replica $i's management address"
    done
    if [ -n "$redis_port" ]; then echo "$redis_port Redis"; fi
}

# answers PORT: whether something on this machine listens there. By bash itself, so no tool is needed for it.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# holder PORT: " by NAME (process N)", or nothing where it cannot be told.
holder() {
    if command -v ss >/dev/null; then
        ss -Hltnp "sport = :$1" 2>/dev/null |
            sed -nE 's/.*users:\(\("([^"]+)",pid=([0-9]+).*/ by \1 (process \2)/p' | head -n 1
    elif command -v lsof >/dev/null; then
        lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { printf " by %s (process %s)", $1, $2 }'
    fi
}

# Before the build: who must choose another port should not wait for it.
check_ports() {
    local number whose
    while read -r number whose; do
        if answers "$number"; then
            die "port $number, for $whose, is taken$(holder "$number"): stop that, or choose another PORT"
        fi
    done < <(ports)
}
