#!/usr/bin/env bash
# Runs the image as it is meant to be run, and checks what it promises. `make image-test` calls it, where Docker runs.
#
#   deploy/image-test.sh [IMAGE]     portcullis:local unless another is named
#
# Read-only, without capabilities or root, against a real Redis of this machine: size, user, health, end by SIGTERM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=${1:-portcullis:local}
most=$((25 * 1000 * 1000))
redis_port=17379 port=17380 management=17390
name=portcullis-image-test-$$
folder=$(mktemp -d)

say() { printf 'image-test: %s\n' "$*"; }
die() {
    printf 'image-test: %s\n' "$*" >&2
    docker logs "$name" 2>&1 | tail -n 10 >&2 || true
    exit 1
}
redis=''
# shellcheck disable=SC2329 # the trap calls it
clean_up() {
    docker rm --force "$name" >/dev/null 2>&1 || true
    if [ -n "$redis" ]; then kill "$redis" 2>/dev/null || true; wait "$redis" || true; fi
    rm -rf "$folder"
}
trap clean_up EXIT

size=$(docker image inspect --format '{{.Size}}' "$image")
((size < most)) || die "$size bytes, more than $most"
user=$(docker image inspect --format '{{.Config.User}}' "$image")
[ "$user" = 65532:65532 ] || die "it runs as '$user'"
title=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.title"}}' "$image")
[ "$title" = Portcullis ] || die "it has no labels"
say "$size bytes, user $user"

bom=$(docker create "$image")
docker cp "$bom:/portcullis.cdx.json" "$folder/bom.json" >/dev/null
docker rm "$bom" >/dev/null
python3 - "$folder/bom.json" <<'PYTHON' || die "it has no bill of materials"
import json, sys
bom = json.load(open(sys.argv[1]))
names = {part["name"] for part in bom["components"]}
assert bom["bomFormat"] == "CycloneDX" and {"poem", "tokio", "jsonwebtoken", "redis"} <= names, names
print(f"image-test: a bill of materials of {len(names)} parts")
PYTHON

redis-server deploy/redis.conf --dir "$folder" --port $redis_port --bind 127.0.0.1 >"$folder/redis.log" 2>&1 &
redis=$!
docker run --detach --name "$name" --network host --read-only --tmpfs /tmp:uid=65532,size=16m \
    --cap-drop ALL --security-opt no-new-privileges \
    --env LISTEN=127.0.0.1:$port --env MANAGEMENT_LISTEN=127.0.0.1:$management \
    --env REDIS_URL=redis://127.0.0.1:$redis_port/ --env JWT_SECRET="$(head -c 48 /dev/urandom | base64 | tr -d '\n')" \
    "$image" >/dev/null

for attempt in {1..30}; do
    if docker exec "$name" /portcullis healthcheck >/dev/null 2>&1; then break; fi
    [ "$attempt" -lt 30 ] || die "it does not become ready"
    sleep 1
done
say "ready; its own healthcheck says so"

body='{"username": "alice", "password": "teal-otter-harbour-42"}'
for route in register login; do
    answer=$(curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/$route" -H 'content-type: application/json' -d "$body")
    case $answer in 20[01]) ;; *) die "$route answers $answer" ;; esac
done
say "a registration and a login"

for attempt in {1..15}; do
    health=$(docker inspect --format '{{.State.Health.Status}}' "$name")
    if [ "$health" = healthy ]; then break; fi
    [ "$attempt" -lt 15 ] || die "Docker calls it $health"
    sleep 1
done

begun=$SECONDS
docker stop --time 45 "$name" >/dev/null
status=$(docker inspect --format '{{.State.ExitCode}}' "$name")
[ "$status" = 0 ] || die "SIGTERM ended it with $status"
((SECONDS - begun < 40)) || die "it took $((SECONDS - begun)) s to end"
say "ended by SIGTERM with 0 after $((SECONDS - begun)) s"
