#!/bin/sh
# Activates images of a compose file: `image: ${IMAGE}` in it is the image in force, named by its digest.
#
#   current          print the image in force
#   prepare IMAGE    pull it if it is not here; the engine checks the digest
#   switch IMAGE     write it into the file .env, and let compose replace what changed
#   confirm IMAGE    every service of the file is up
#
# ENGINE and COMPOSE: `docker` and `docker compose`, or `podman` and `podman-compose`. PROJECT: the directory of the compose file. Services need
# `restart: always`. Health checks are beside the compose file, in etc/nixfleet/agent: files = "PROJECT".
set -eu
: "${ENGINE:=docker}" "${COMPOSE:=docker compose}" "${PROJECT:=/srv/app}"
cd "$PROJECT"

# Runs compose with an image; COMPOSE is several words.
compose() {
    # shellcheck disable=SC2086
    IMAGE=$image $COMPOSE "$@"
}

case $1 in
current)
    [ -e .env ] || exit 3
    sed -n 's/^IMAGE=//p' .env
    ;;
prepare)
    case $2 in
    *@sha256:*) ;;
    *) echo "expected an image with its digest, NAME@sha256:…, found $2" >&2; exit 1 ;;
    esac
    # The way back must not need the registry.
    if ! $ENGINE image inspect "$2" >/dev/null 2>&1; then
        image=$2
        compose pull --quiet || exit 75
    fi
    ;;
switch)
    image=$2
    compose up --detach --remove-orphans
    { grep -v '^IMAGE=' .env || true; echo "IMAGE=$2"; } >.env.new 2>/dev/null
    mv .env.new .env
    ;;
confirm)
    image=$2
    wanted=$(compose config --services | sort)
    up=$(compose ps --services --status running | sort)
    [ "$wanted" = "$up" ] || { echo "expected these up: $wanted; found $up" >&2; exit 1; }
    ;;
*)
    echo "expected current, prepare, switch or confirm, found $1" >&2
    exit 2
    ;;
esac
