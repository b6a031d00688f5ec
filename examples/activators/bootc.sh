#!/bin/sh
# Activates bootable containers (bootc): an image is the whole system, and takes effect at the next boot.
#
#   current          print the image that booted
#   prepare IMAGE    nothing: bootc fetches when it stages
#   switch IMAGE     stage it for the next boot: exit code 100
#   rollback IMAGE   the same for an older one; the image that booted before is at hand, so nothing is fetched
#
# Who reboots is up to you: a timer in a window, or the host's user. Source: bootc(8), `bootc status --json`.
set -eu

# Prints IMAGE@DIGEST of an entry (booted, staged or rollback) of `bootc status`, or nothing.
image_of() {
    bootc status --json | jq -r --arg entry "$1" \
        '.status[$entry].image // empty | .image.image + "@" + .imageDigest'
}

case $1 in
current)
    image=$(image_of booted)
    [ -n "$image" ] || exit 3
    echo "$image"
    ;;
prepare) ;;
switch | rollback)
    [ "$(image_of booted)" != "$2" ] || exit 0
    if [ "$(image_of staged)" != "$2" ]; then
        if [ "$1" = rollback ] && [ "$(image_of rollback)" = "$2" ]; then
            bootc rollback
        else
            # Nothing has changed when the registry is away.
            bootc switch --quiet "$2" || exit 75
        fi
    fi
    echo "the image of the system"
    exit 100
    ;;
*)
    echo "expected current, prepare, switch or rollback, found $1" >&2
    exit 2
    ;;
esac
