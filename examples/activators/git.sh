#!/bin/sh
# Activates commits of a git repository: a checkout per commit, a link to the one in force, and a service that reads it.
#
#   current          print the commit in force
#   prepare COMMIT   fetch it; git checks it against its name
#   switch COMMIT    let the link point to it, and restart the service
#
# REPOSITORY: where commits are fetched from. PLACE: what this script owns. SERVICE: the unit that is restarted; empty:
# none. The health checks of a commit are in the repository, as etc/nixfleet/agent/health-checks.json.
set -eu
: "${REPOSITORY:?}" "${PLACE:=/srv/app}" "${SERVICE=app.service}"
mirror=$PLACE/mirror.git
link=$PLACE/current

case $1 in
current)
    [ -L "$link" ] || exit 3
    basename "$(readlink "$link")"
    ;;
prepare)
    # A branch or a tag moves, so nothing would check what it names.
    if ! printf '%s\n' "$2" | grep -qxE '[0-9a-f]{40}|[0-9a-f]{64}'; then
        echo "expected a whole commit, found $2" >&2
        exit 1
    fi
    checkout=$PLACE/checkouts/$2
    [ ! -d "$checkout" ] || exit 0
    mkdir -p "$PLACE/checkouts"
    [ -d "$mirror" ] || git init --quiet --bare "$mirror"
    if ! git -C "$mirror" cat-file -e "$2^{commit}" 2>/dev/null; then
        # A server that is away, or a commit that was not pushed yet: the agent asks again.
        git -C "$mirror" fetch --quiet "$REPOSITORY" '+refs/*:refs/fetched/*' || exit 75
        git -C "$mirror" cat-file -e "$2^{commit}" || exit 75
    fi
    new=$(mktemp -d "$PLACE/checkouts/.new-XXXXXX")
    git -C "$mirror" archive "$2" | tar -x -C "$new"
    chmod 0755 "$new"
    mv -T "$new" "$checkout"
    ;;
switch)
    ln -sfn "checkouts/$2" "$link.new"
    mv -T "$link.new" "$link"
    [ -z "$SERVICE" ] || systemctl restart "$SERVICE"
    ;;
*)
    echo "expected current, prepare or switch, found $1" >&2
    exit 2
    ;;
esac
