# Starts, watches and ends the processes of the cluster. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh
#
# Guarantee: a process started here is asked to end exactly once, by us, and in order. Each process therefore has a
# session of its own: Ctrl-C and a closing terminal signal a whole process group, and a replica takes a second signal as
# "at once".

# One entry for each process, in the order of their start.
names=() pids=() logs=()

# macOS has no setsid, but perl.
launcher=(setsid)
# shellcheck disable=SC2016 # the dollars are perl's
command -v setsid >/dev/null || launcher=(perl -e 'use POSIX (); POSIX::setsid(); exec @ARGV or die "$ARGV[0]: $!\n"')
# If this script is killed outright, the kernel ends the processes. Linux only.
if setpriv --pdeathsig TERM true 2>/dev/null; then launcher+=(setpriv --pdeathsig TERM --); fi

# start NAME LOG COMMAND…: starts it in the background. LOG is a file, or - for this terminal. The process does not
# inherit the lock on the data folder (9): a process that it leaves behind, such as a compiler's server, would keep the
# lock.
start() {
    local name=$1 log=$2
    shift 2
    if [ "$log" = - ]; then
        "${launcher[@]}" "$@" </dev/null 9>&- &
    else
        if [ -e "$log" ]; then mv "$log" "$log.previous"; fi
        "${launcher[@]}" "$@" </dev/null >"$log" 2>&1 9>&- &
    fi
    names+=("$name") pids+=("$!") logs+=("$log")
}

# The shell reaps its children as they die, so a dead child is not mistaken for a living one.
alive() { kill -0 "$1" 2>/dev/null; }

# all_alive: exits if a process has died, and says which, how, and with which last lines.
all_alive() {
    local i
    for ((i = 0; i < ${#pids[@]}; i++)); do
        alive "${pids[i]}" || died "$i"
    done
}

died() {
    local i=$1 status=0 how
    wait "${pids[i]}" 2>/dev/null || status=$?
    how="ended with exit code $status"
    if [ "$status" -gt 128 ]; then how="was killed by signal $((status - 128))"; fi
    last_words "${logs[i]}"
    die "${names[i]} $how; its last lines are above, the whole log is ${logs[i]#"$PWD"/}"
}

last_words() { tail -n 10 "$1" 2>/dev/null | sed 's/^/  | /' >&2 || true; }

# until_true SECONDS COMMAND…: repeats the command while all processes live; fails when the time is up.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        all_alive
        stop_if_deserted
        if [ "$SECONDS" -ge "$deadline" ]; then return 1; fi
        pause 0.1
    done
}

# Silenced because the shell may report a killed child at this moment in its own words.
pause() { { sleep "$1"; } 2>/dev/null; }

# Stops if no user or program is left that could stop us. A closing terminal signals its first process alone. If that is
# make (`tmux new make run`), make waits for us silently; if make is killed outright, it cannot signal us either.
had_terminal='' had_make=${MAKELEVEL:-}
if [ -t 0 ]; then had_terminal=yes; fi
stop_if_deserted() {
    if [ -n "$had_terminal" ] && ! [ -t 0 ]; then stop 129; fi
    if [ -n "$had_make" ] && ! alive "$PPID"; then stop 129; fi
}

watch() {
    while true; do
        all_alive
        stop_if_deserted
        pause 0.5
    done
}

# end NAMES SIGNAL PATIENCE: signals all processes that match the pattern at once, waits that many seconds, then kills
# the rest. The minus before a number addresses the whole group, such as the compilers of cargo.
end() {
    local i asked=() deadline=$((SECONDS + $3))
    for ((i = 0; i < ${#pids[@]}; i++)); do
        # shellcheck disable=SC2053  # a pattern, on purpose
        if [[ ${names[i]} == $1 ]] && alive "${pids[i]}"; then
            # A process that was just forked has no group yet.
            kill -s "$2" -- "-${pids[i]}" 2>/dev/null || kill -s "$2" "${pids[i]}" 2>/dev/null
            asked+=("$i")
        fi
    done
    for i in ${asked[@]+"${asked[@]}"}; do
        while alive "${pids[i]}"; do
            if [ -n "$hurried" ] || [ "$SECONDS" -ge "$deadline" ]; then
                kill -s KILL -- "-${pids[i]}"
                wait "${pids[i]}"
                break
            fi
            sleep 0.1
        done
    done 2>/dev/null
}
