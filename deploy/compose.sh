#!/usr/bin/env bash
# Runs `docker compose` 2 or docker-compose 1.29, whichever is installed, on the compose file. `make compose` calls it.
#
#   deploy/compose.sh up --scale portcullis=3
#   deploy/compose.sh down
#
# Before the first start it creates the secret that signs tokens, and keeps it in data/compose.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

secret=data/compose/jwt-secret
if [ ! -s "$secret" ]; then
    (umask 077 && mkdir -p data/compose)
    head -c 48 /dev/urandom | base64 | tr -d '\n' >"$secret"
    # The image runs as another user, which must read the file; only the owner can enter the folder.
    chmod 444 "$secret"
fi

compose=(docker compose)
if ! docker compose version >/dev/null 2>&1; then compose=(docker-compose); fi
exec "${compose[@]}" -f deploy/compose.yaml "$@"
