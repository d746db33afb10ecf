# Ports of the cluster, and the check that they are free. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh

# One line for each port: its number and its user.
ports() {
    local i
    echo "$port HAProxy"
    for ((i = 1; i <= replicas; i++)); do
        echo "$((port + i)) replica $i"
        echo "$((port + 1000 + i)) replica $i's management address"
    done
    if [ -n "$redis_port" ]; then echo "$redis_port Redis"; fi
}

# answers PORT: succeeds if a program on this machine listens there. By bash itself, without another tool.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# holder PORT: " by NAME (process N)", or nothing if that is unknown.
holder() {
    if command -v ss >/dev/null; then
        ss -Hltnp "sport = :$1" 2>/dev/null |
            sed -nE 's/.*users:\(\("([^"]+)",pid=([0-9]+).*/ by \1 (process \2)/p' | head -n 1
    elif command -v lsof >/dev/null; then
        lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { printf " by %s (process %s)", $1, $2 }'
    fi
}

# Before the build: a user who must choose another port should not wait for it.
check_ports() {
    local number whose
    while read -r number whose; do
        if answers "$number"; then
            die "port $number, for $whose, is taken$(holder "$number"): stop that program, or choose another PORT"
        fi
    done < <(ports)
}
