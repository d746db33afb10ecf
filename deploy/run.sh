#!/usr/bin/env bash
# Runs Portcullis as a cluster on this machine: one Redis, REPLICAS replicas of the program, and HAProxy in front.
# `make run` calls it. It stays in the foreground until Ctrl-C or SIGTERM; however it ends, it stops everything that it
# started.
#
#   PORT=8080       the balancer; replica i is on PORT+i, its management address on PORT+1000+i, Redis on PORT+2000
#   REPLICAS=3      number of replicas
#   PROFILE=dev     or release: a slower build, for any measurement
#   BINARY=…        a built program to run; without it the program is built
#   DATA_DIR=data   data that persists between runs: Redis' file, the signing secret, the logs
#   REDIS_URL=…     a running Redis; without it the script starts one
#
# All other settings in the environment or in .env reach every replica: BCRYPT_COST=4 make run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# As in install.sh, which may have just installed programs there.
PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" || true; }
# Prints the one line that names the error; the EXIT trap stops everything.
die() {
    printf 'make run: %s\n' "$*" >&2 || true
    exit 1
}

# shellcheck source=deploy/run/settings.sh
. deploy/run/settings.sh
# shellcheck source=deploy/run/ports.sh
. deploy/run/ports.sh
# shellcheck source=deploy/run/processes.sh
. deploy/run/processes.sh
# shellcheck source=deploy/run/parts.sh
. deploy/run/parts.sh
# shellcheck source=deploy/run/welcome.sh
. deploy/run/welcome.sh

end_everything() {
    set +e
    # The reader of our output may be gone (`make run | head`); the cleanup must finish nevertheless.
    trap '' PIPE
    stopping_since=$SECONDS
    end 'build' TERM 5
    end 'HAProxy' USR1 7
    end 'replica *' TERM 60
    end 'Redis' TERM 10
    if [ -n "$running" ]; then say "Stopped. All processes have exited."; fi
}

# One request to stop often arrives twice: `make` passes SIGTERM on to a script that had it from its process group. A
# second request after a while means that the user no longer wants to wait.
stop() {
    if [ -n "$stopping_since" ]; then
        if [ $((SECONDS - stopping_since)) -ge 2 ]; then hurried=yes; fi
        return
    fi
    say ""
    say "Stopping. Press Ctrl-C again to stop at once."
    # Stopping a running cluster is a success; an interrupted start is not.
    if [ -n "$running" ]; then exit 0; fi
    exit "$1"
}

stopping_since='' hurried='' running=''
trap end_everything EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
trap 'exit 141' PIPE

read_settings
claim_data_dir
check_ports
# In the foreground, for sudo's question; bash handles a signal after the package manager has finished.
deploy/install.sh "${installs[@]}" 9>&-
[ -n "$binary" ] || build
start_redis
share_settings
start_replicas
start_haproxy
running=yes
welcome
watch
