#!/usr/bin/env bash
# Runs the image as it is meant to be run, and checks its guarantees. `make image-test` calls it; it needs Docker.
#
#   deploy/image-test.sh [IMAGE]     portcullis:local unless another is named
#
# Read-only, without capabilities or root, against a real Redis of this machine: size, user, health, end by SIGTERM.
# Then the compose file with that image, if all its images are present or can be pulled: three replicas, a balancer, a
# logout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image=${1:-portcullis:local}
most=$((25 * 1000 * 1000))
redis_port=17379 port=17380 management=17390 grafana=17391
name=portcullis-image-test-$$
folder=$(mktemp -d)

say() { printf 'image-test: %s\n' "$*"; }
compose() { PORTCULLIS_IMAGE=$image PORT=$port GRAFANA_PORT=$grafana deploy/compose.sh --project-name "$name" "$@"; }
die() {
    printf 'image-test: %s\n' "$*" >&2
    docker logs "$name" 2>&1 | tail -n 10 >&2 || true
    exit 1
}
redis='' composed=''
# shellcheck disable=SC2329 # the trap calls it
clean_up() {
    docker rm --force "$name" >/dev/null 2>&1 || true
    if [ -n "$composed" ]; then compose down --volumes --timeout 10 >"$folder/down.log" 2>&1 || cat "$folder/down.log" >&2; fi
    if [ -n "$redis" ]; then kill "$redis" 2>/dev/null || true; wait "$redis" || true; fi
    rm -rf "$folder"
}
trap clean_up EXIT

size=$(docker image inspect --format '{{.Size}}' "$image")
((size < most)) || die "$size bytes, more than $most"
user=$(docker image inspect --format '{{.Config.User}}' "$image")
[ "$user" = 65532:65532 ] || die "the image runs as '$user'"
title=$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.title"}}' "$image")
[ "$title" = Portcullis ] || die "the image has no labels"
say "$size bytes, user $user"

binary=$folder/portcullis
bom=$(docker create "$image")
docker cp "$bom:/portcullis" "$binary" >/dev/null
docker cp "$bom:/portcullis.cdx.json" "$folder/bom.json" >/dev/null
docker rm "$bom" >/dev/null
objcopy --dump-section .dep-v0="$folder/dependencies" "$binary" /dev/null || die "the binary does not name its dependencies"
python3 - "$folder/bom.json" "$folder/dependencies" <<'PYTHON' || die "the bill of materials is incomplete"
import json, sys, zlib
bom = json.load(open(sys.argv[1]))
names = {part["name"] for part in bom["components"]}
wanted = {"poem", "tokio", "jsonwebtoken", "redis"}
assert bom["bomFormat"] == "CycloneDX" and wanted <= names, names
# The record that cargo-auditable stores in the binary: JSON, deflated.
inside = open(sys.argv[2], "rb").read()
packages = {part["name"] for part in json.loads(zlib.decompress(inside))["packages"]}
assert wanted <= packages, packages
print(f"image-test: a bill of materials of {len(names)} parts, and {len(packages)} named in the binary itself")
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
    [ "$attempt" -lt 30 ] || die "the container does not become ready"
    sleep 1
done
say "ready by its own healthcheck"

body='{"username": "alice", "password": "teal-otter-harbour-42"}'
for route in register login; do
    answer=$(curl -sS -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/$route" -H 'content-type: application/json' -d "$body")
    case $answer in 20[01]) ;; *) die "$route answers $answer" ;; esac
done
say "a registration and a login"

for attempt in {1..15}; do
    health=$(docker inspect --format '{{.State.Health.Status}}' "$name")
    if [ "$health" = healthy ]; then break; fi
    [ "$attempt" -lt 15 ] || die "Docker reports its health as $health"
    sleep 1
done

begun=$SECONDS
docker stop --time 45 "$name" >/dev/null
status=$(docker inspect --format '{{.State.ExitCode}}' "$name")
[ "$status" = 0 ] || die "after SIGTERM the container exited with $status"
((SECONDS - begun < 40)) || die "the container took $((SECONDS - begun)) s to exit"
say "exited with 0 after SIGTERM, in $((SECONDS - begun)) s"

mapfile -t wanted < <(compose config | sed -n 's/^ *image: //p' | sort -u)
missing=()
for one in "${wanted[@]}"; do
    docker image inspect "$one" >/dev/null 2>&1 || docker pull --quiet "$one" >/dev/null 2>&1 || missing+=("$one")
done
if [ "${#missing[@]}" != 0 ]; then
    say "the compose file is not tested: ${missing[*]} cannot be pulled here"
    exit 0
fi
composed=yes
compose up --detach --scale portcullis=3 >"$folder/compose.log" 2>&1 || die "compose: $(tail -n 5 "$folder/compose.log")"
# ask PATH OPTION…: the status; 000 if there is no answer
ask() { curl -s -o "$folder/answer" -D "$folder/head" -w '%{http_code}' "http://127.0.0.1:$port/$1" "${@:2}"; }
served_by() { sed -n 's/^x-served-by: *//Ip' "$folder/head" | tr -d '\r'; }
for attempt in {1..60}; do
    if [ "$(ask register -H 'content-type: application/json' -d "$body")" = 201 ]; then break; fi
    [ "$attempt" -lt 60 ] || die "no registration behind the balancer: $(compose logs --tail 5)"
    sleep 1
done
sleep 5
[ "$(ask login -H 'content-type: application/json' -d "$body")" = 200 ] || die "no login behind the balancer"
bearer="authorization: Bearer $(sed 's/.*"token":"\([^"]*\).*/\1/' "$folder/answer")"
# asked STATUS: each replica answers the dashboard with that status
asked() {
    local replicas=''
    for _ in {1..30}; do
        [ "$(ask dashboard -H "$bearer")" = "$1" ] || die "the dashboard is not $1: $(cat "$folder/answer")"
        replicas+=$(served_by)$'\n'
    done
    [ "$(sort -u <<<"$replicas" | grep -c .)" = 3 ] || die "not three replicas: $(sort -u <<<"$replicas")"
}
asked 200
[ "$(ask logout -X POST -H "$bearer")" = 204 ] || die "no logout behind the balancer"
asked 401
say "the compose file: three replicas, 30 dashboards each answered, and refused after the logout by all of them"
for service in redis collector prometheus grafana; do
    [ -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$name" --filter "label=com.docker.compose.service=$service" --filter status=running)" ] ||
        die "$service has exited: $(compose logs --tail 5 "$service")"
done
say "the other services of the compose file run"
