#!/usr/bin/env bash
# Runs Portcullis as a cluster on this machine: one Redis, REPLICAS replicas of the program, HAProxy in front.
# `make run` calls it. In the foreground until Ctrl-C or SIGTERM; whatever ends it, it ends everything it started.
#
#   PORT=8080       the balancer; replica i is on PORT+i, its management address on PORT+1000+i, Redis on PORT+2000
#   REPLICAS=3      how many
#   PROFILE=dev     or release: a build that takes some minutes more, for anything that is measured
#   BINARY=…        a built program to run, instead of building one
#   DATA_DIR=data   what stays from run to run: Redis' file, the signing secret, the logs
#   REDIS_URL=…     a Redis that is already running, instead of one of its own
#
# All other settings in the environment or in .env reach every replica: BCRYPT_COST=4 make run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# As in install.sh, which may just have put programs there.
PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH:/usr/sbin:/sbin"

say() { printf '%s\n' "$*" || true; }
# The one line that says what is wrong; ending everything is the EXIT trap's work.
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
    # The reader of our output may be gone (`make run | head`); the work is to be finished all the same.
    trap '' PIPE
    stopping_since=$SECONDS
    end 'build' TERM 5
    end 'HAProxy' USR1 7
    end 'replica *' TERM 60
    end 'Redis' TERM 10
    if [ -n "$running" ]; then say "Stopped. Nothing is left running."; fi
}

# One request to stop often arrives twice: `make` passes SIGTERM on to a script that had it from its process group.
# Only a second one after a while means that somebody is tired of waiting.
stop() {
    if [ -n "$stopping_since" ]; then
        if [ $((SECONDS - stopping_since)) -ge 2 ]; then hurried=yes; fi
        return
    fi
    say ""
    say "Stopping. Once more ends it at once."
    # A cluster that ran and was asked to stop has done what it should; a start that was broken off has not.
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
# In the foreground, for sudo's question; a signal during it is acted upon when the package manager is done.
deploy/install.sh "${installs[@]}" 9>&-
[ -n "$binary" ] || build
start_redis
share_settings
start_replicas
start_haproxy
running=yes
welcome
watch
