#!/bin/sh
# Activates images of containers, named by their digests, with podman or docker. One container, started again at boot.
#
#   current          print the image in force
#   prepare IMAGE    pull it if it is not here (the engine checks the digest), and take its health checks out of it
#   switch IMAGE     replace the container
#   confirm IMAGE    the container stays up for SETTLE_SECONDS
#
# ENGINE: podman or docker. NAME: of the container. OPTIONS: of `run`, such as ports and volumes. PULL: of `pull`.
# PLACE: what this script owns. An image has its health checks as /etc/nixfleet/agent/health-checks.json. With podman,
# enable podman-restart.service.
set -eu
: "${ENGINE:=podman}" "${NAME:=app}" "${PLACE:=/var/lib/app}" "${OPTIONS=}" "${PULL=}" "${SETTLE_SECONDS:=5}"

# Runs the engine; ENGINE and the options are words, so they are split.
engine() {
    # shellcheck disable=SC2086
    $ENGINE "$@"
}

case $1 in
current)
    [ -e "$PLACE/current" ] || exit 3
    cat "$PLACE/current"
    ;;
prepare)
    # A tag can be moved, so what it names is not checked by anything.
    case $2 in
    *@sha256:*) ;;
    *) echo "expected an image with its digest, NAME@sha256:…, found $2" >&2; exit 1 ;;
    esac
    # The way back must not need the registry.
    if ! engine image inspect "$2" >/dev/null 2>&1; then
        # shellcheck disable=SC2086
        engine pull --quiet $PULL "$2" >/dev/null || exit 75
    fi
    mkdir -p "$3/etc/nixfleet/agent"
    created=$(engine create "$2" nixfleet-looks-into-it)
    engine cp "$created:/etc/nixfleet/agent/health-checks.json" "$3/etc/nixfleet/agent/health-checks.json" ||
        echo "the image has no health checks" >&2
    engine rm "$created" >/dev/null
    ;;
switch)
    engine rm --force "$NAME" >/dev/null 2>&1 || true
    # shellcheck disable=SC2086
    engine run --detach --restart=always --name "$NAME" $OPTIONS "$2" >/dev/null
    mkdir -p "$PLACE"
    echo "$2" >"$PLACE/current.new"
    mv "$PLACE/current.new" "$PLACE/current"
    ;;
confirm)
    # One that ends is started again, and runs for a moment each time.
    second=0
    while [ "$second" -lt "$SETTLE_SECONDS" ]; do
        sleep 1
        state=$(engine inspect --format '{{.State.Running}} {{.RestartCount}}' "$NAME")
        if [ "$state" != "true 0" ]; then
            echo "expected it to run and never to have been started again, found: $state" >&2
            engine logs --tail 20 "$NAME" >&2 || true
            exit 1
        fi
        second=$((second + 1))
    done
    ;;
*)
    echo "expected current, prepare, switch or confirm, found $1" >&2
    exit 2
    ;;
esac
