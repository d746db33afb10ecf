# Builds or starts each part of the cluster, and waits for it. Sourced by run.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # the variables are shared among the files of run.sh

# Sets: binary
build() {
    say "Building (profile $profile); the first time takes some minutes."
    # `make -j` leaves variables for sub-makes in the environment, which would only make cargo complain.
    unset MAKEFLAGS MFLAGS MAKELEVEL
    # In the background, so that bash handles a signal at once and stops cargo with its compilers.
    start build - cargo build --locked --profile "$profile" --bin portcullis
    while alive "${pids[0]}"; do
        stop_if_deserted
        pause 0.2
    done
    wait "${pids[0]}" || die "the build failed; the reason is above"
    names=() pids=() logs=()

    local target folder=$profile
    target=$(cargo metadata --locked --offline --no-deps --format-version 1 |
        sed -E 's/.*"target_directory":"([^"]*)".*/\1/')
    if [ "$profile" = dev ]; then folder=debug; fi
    binary=$target/$folder/portcullis
}

start_redis() {
    if [ -z "$redis_port" ]; then
        say "Using the Redis of REDIS_URL; none is started here."
        return
    fi
    say "Starting Redis."
    # A port and not a socket: a path under a deep data folder would exceed the 108 bytes of a socket's name, and
    # `redis-cli -p` can inspect it. Redis shares the lock, as descriptor 8: if Redis outlives us, no other cluster
    # opens its file.
    exec 8>&9
    start Redis "$data/logs/redis.log" redis-server deploy/redis.conf \
        --bind 127.0.0.1 --port "$redis_port" --dir "$data/redis" --daemonize no --logfile ''
    exec 8>&-
    until_true 60 redis_ready || die "Redis is not ready after 60 s; see ${data#"$PWD"/}/logs/redis.log"
    # A file whose end was cut within a transaction is read, and would be refused at the start after the next.
    redis-cli -h 127.0.0.1 -p "$redis_port" bgrewriteaof >/dev/null
}

# Redis answers LOADING, not PONG, until the append-only file is read.
redis_ready() { [ "$(redis-cli -h 127.0.0.1 -p "$redis_port" ping 2>/dev/null)" = PONG ]; }

start_replicas() {
    local i
    say "Starting $replicas replicas."
    for ((i = 1; i <= replicas; i++)); do
        start "replica $i" "$data/logs/replica-$i.log" \
            env PORT="$((port + i))" LISTEN="127.0.0.1:$((port + i))" MANAGEMENT_LISTEN="127.0.0.1:$((port + 1000 + i))" \
            "$binary" serve
    done
    for ((i = 1; i <= replicas; i++)); do
        if ! until_true 60 succeeds "$((port + 1000 + i))" /readyz; then
            last_words "$data/logs/replica-$i.log"
            die "replica $i is not ready after 60 s; its last lines are above, the whole log is ${data#"$PWD"/}/logs/replica-$i.log"
        fi
        say "Replica $i is ready."
    done
}

# succeeds PORT PATH: succeeds on a 2xx answer. On loopback, neither ~/.curlrc (-q) nor a proxy may interfere.
succeeds() { curl -q -fs --noproxy '*' -m 2 -o /dev/null "http://127.0.0.1:$1$2"; }

start_haproxy() {
    local i
    {
        echo "# Written by deploy/run.sh at every start."
        echo "backend replicas"
        for ((i = 1; i <= replicas; i++)); do
            echo "    server replica-$i 127.0.0.1:$((port + i)) check port $((port + 1000 + i))"
        done
    } >"$data/haproxy-replicas.cfg"
    say "Starting HAProxy."
    start HAProxy "$data/logs/haproxy.log" \
        env PORT="$port" haproxy -db -f deploy/haproxy.cfg -f "$data/haproxy-replicas.cfg"
    until_true 10 answers "$port" || die "HAProxy does not answer on port $port; see ${data#"$PWD"/}/logs/haproxy.log"
}
